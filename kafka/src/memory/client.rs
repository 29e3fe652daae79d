//! The client: the log's contract over a [`Link`].

mod caller;
mod outbox;
mod plain;
mod reader;
mod transactional;

use std::{sync::Arc, time::Duration};

use self::caller::{CallError, Caller, Disconnects};
pub use self::{plain::MemoryPlain, reader::MemoryReader, transactional::MemoryTransactional};
use super::{Direct, GroupPosition, Link, MemoryBroker, Request, Response};
use crate::log::{Error, Log, Offset, Position, TopicInfo, TopicPartition};

/// For a question to a broker.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at a position whose commit is pending.
const PENDING_BACKOFF: Duration = Duration::from_millis(5);
/// Between two fetches that bring nothing, if not told otherwise.
const FETCH_STEP: Duration = Duration::from_millis(5);

/// A log in memory, seen by one group; cloning shares it.
#[derive(Clone)]
pub struct MemoryLog {
    link: Arc<dyn Link>,
    group: Arc<str>,
    disconnects: Disconnects,
    fetch_step: Duration,
}

impl std::fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryLog").field("group", &self.group).finish_non_exhaustive()
    }
}

impl MemoryLog {
    /// Over a link, with the group that holds every position.
    pub fn new(link: Arc<dyn Link>, group: &str) -> Self {
        Self { link, group: group.into(), disconnects: Disconnects::Noted, fetch_step: FETCH_STEP }
    }

    /// Over a link on which nothing goes wrong.
    pub fn direct(broker: &MemoryBroker, group: &str) -> Self {
        Self::new(Arc::new(Direct::new(broker.clone())), group)
    }

    /// Takes away what keeps ksched safe from late requests (design §4.2): no disconnect
    /// is noted, and a commit that was repeated inside is `Ok`, as in bare librdkafka.
    #[must_use]
    pub fn ignoring_disconnects(mut self) -> Self {
        self.disconnects = Disconnects::Ignored;
        self
    }

    /// How long a reader pauses between two fetches that bring nothing; 1 ms at least.
    #[must_use]
    pub fn fetching_every(mut self, step: Duration) -> Self {
        self.fetch_step = step.max(Duration::from_millis(1));
        self
    }

    /// For a question; what goes wrong on the way is no producer's business.
    fn asker(&self) -> Caller {
        Caller::new(Arc::clone(&self.link), Disconnects::Ignored)
    }

    fn ask(&self, request: &Request) -> Result<Response, Error> {
        Ok(self.asker().call(request, ASK_LIMIT)?)
    }

    fn positions(&self, partitions: &[TopicPartition]) -> Result<Vec<GroupPosition>, Error> {
        let (group, partitions) = (Arc::clone(&self.group), partitions.to_vec());
        match self.ask(&Request::OffsetFetch { group, partitions })? {
            Response::Positions(found) => Ok(found),
            _ => Err(CallError::unexpected().into()),
        }
    }
}

impl Log for MemoryLog {
    type Reader = MemoryReader;
    type Transactional = MemoryTransactional;
    type Producer = MemoryPlain;

    fn reader(&self, fetch_bytes: usize) -> Result<MemoryReader, Error> {
        Ok(MemoryReader::new(Arc::clone(&self.link), fetch_bytes, self.fetch_step))
    }

    fn transactional(&self, transactional_id: &str) -> Result<MemoryTransactional, Error> {
        let caller = Caller::new(Arc::clone(&self.link), self.disconnects);
        Ok(MemoryTransactional::new(caller, transactional_id, Arc::clone(&self.group)))
    }

    fn producer(&self) -> Result<MemoryPlain, Error> {
        Ok(MemoryPlain::new(self.asker()))
    }

    fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<Position>>, Error> {
        let mut waited = Duration::ZERO;
        loop {
            let found = self.positions(partitions)?;
            if !found.iter().any(|each| each.pending) {
                return Ok(found.into_iter().map(|each| each.position).collect());
            }
            if waited >= ASK_LIMIT {
                return Err(Error::Unavailable("a transactional commit is pending".to_owned()));
            }
            self.link.pause(PENDING_BACKOFF);
            waited += PENDING_BACKOFF;
        }
    }

    fn committed_before_pending(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<Position>>, Error> {
        Ok(self.positions(partitions)?.into_iter().map(|each| each.position).collect())
    }

    fn offsets(&self, partitions: &[TopicPartition], which: Offset) -> Result<Vec<i64>, Error> {
        match self.ask(&Request::ListOffsets { partitions: partitions.to_vec(), which })? {
            Response::Offsets(found) => Ok(found),
            _ => Err(CallError::unexpected().into()),
        }
    }

    fn commit(&self, positions: &[(TopicPartition, Position)]) -> Result<(), Error> {
        if positions.is_empty() {
            return Ok(());
        }
        let (group, positions) = (Arc::clone(&self.group), positions.to_vec());
        self.ask(&Request::OffsetCommit { group, positions }).map(drop)
    }

    fn partitions(&self, topic: &str) -> Result<Option<i32>, Error> {
        Ok(self.topics(&[topic])?.into_iter().flatten().find_map(|info| info.partitions))
    }

    fn topics(&self, names: &[&str]) -> Result<Vec<Option<TopicInfo>>, Error> {
        match self
            .ask(&Request::DescribeTopics { topics: names.iter().map(|name| (*name).into()).collect() })?
        {
            Response::Topics(found) => Ok(found),
            _ => Err(CallError::unexpected().into()),
        }
    }
}
