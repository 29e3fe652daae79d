//! The broker: a state and one way in, [`MemoryBroker::handle`].

mod coordinator;
mod group;
mod partition;
mod topics;
mod transactions;

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

pub(super) use self::partition::record_bytes;
pub use self::partition::{Entry, Standing, What};
use self::{
    coordinator::{Coordinator, MarkerDelay, Touched},
    group::Group,
    partition::Partition,
};
use super::protocol::{Failure, GroupPosition, Request, Response, TopicConfig};
use crate::log::{Position, TopicPartition};

/// Kafka's `offset.metadata.max.bytes`.
const METADATA_MAX_BYTES: usize = 4_096;

/// Now, in Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A broker in memory; cloning shares it.
#[derive(Clone)]
pub struct MemoryBroker {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

/// Whether the broker asks the coordinator before it takes the first record of a
/// transaction for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// As before Kafka 3.6: a record that comes after its transaction has ended is
    /// appended and open for ever (a hanging transaction), until this producer id ends
    /// another transaction in the same partition.
    Off,
    /// KIP-890's first part: such a record is refused.
    On,
}

struct State {
    topics: BTreeMap<Arc<str>, Topic>,
    groups: BTreeMap<Arc<str>, Group>,
    coordinator: Coordinator,
    marker_delay: Arc<MarkerDelay>,
    verification: Verification,
}

struct Topic {
    config: TopicConfig,
    partitions: Vec<Partition>,
}

impl std::fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBroker").finish_non_exhaustive()
    }
}

impl MemoryBroker {
    /// An empty broker with a clock of its own, which it reads once a request.
    pub fn new(clock: Clock) -> Self {
        let state = State {
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            coordinator: Coordinator::default(),
            marker_delay: Arc::new(|| 0),
            verification: Verification::Off,
        };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    /// From now on markers are written so many ms after a transaction was decided, asked
    /// anew for each marker: readers of two partitions see one commit at two moments.
    /// Must not call the broker.
    pub fn set_marker_delay(&self, delay_ms: impl Fn() -> i64 + Send + Sync + 'static) {
        self.state.lock().marker_delay = Arc::new(delay_ms);
    }

    /// From now on; off at first.
    pub fn set_verification(&self, verification: Verification) {
        self.state.lock().verification = verification;
    }

    /// Answers one request, at once.
    pub fn handle(&self, request: &Request) -> Response {
        let now_ms = (self.clock)();
        let mut state = self.state.lock();
        state.advance(now_ms);
        let answer = state.answer(request, now_ms);
        state.advance(now_ms);
        answer.unwrap_or_else(Response::Failed)
    }

    /// Does what is due by itself: transactions time out, markers are written. Every
    /// request does that first, too.
    pub fn tick(&self) {
        let now_ms = (self.clock)();
        self.state.lock().advance(now_ms);
    }

    /// Everything in a partition, whoever may see it; empty if there is none such.
    pub fn entries(&self, at: &TopicPartition) -> Vec<Entry> {
        self.state.lock().partition(at).map(Partition::entries).unwrap_or_default()
    }

    /// All committed positions of a group, in order of topic and partition.
    pub fn positions(&self, group: &str) -> Vec<(TopicPartition, Position)> {
        self.state.lock().groups.get(group).map(Group::all).unwrap_or_default()
    }
}

/// Requests that no client of the log's contract makes, as calls.
impl MemoryBroker {
    pub fn create_topic(&self, topic: &str, partitions: i32, config: TopicConfig) -> Result<(), Failure> {
        self.done(&Request::CreateTopic { topic: topic.into(), partitions, config })
    }

    pub fn create_partitions(&self, topic: &str, partitions: i32) -> Result<(), Failure> {
        self.done(&Request::CreatePartitions { topic: topic.into(), partitions })
    }

    pub fn delete_topic(&self, topic: &str) -> Result<(), Failure> {
        self.done(&Request::DeleteTopic { topic: topic.into() })
    }

    pub fn delete_records(&self, before: &[(TopicPartition, i64)]) -> Result<(), Failure> {
        self.done(&Request::DeleteRecords { before: before.to_vec() })
    }

    fn done(&self, request: &Request) -> Result<(), Failure> {
        match self.handle(request) {
            Response::Failed(failure) => Err(failure),
            _ => Ok(()),
        }
    }
}

impl State {
    fn answer(&mut self, request: &Request, now_ms: i64) -> Result<Response, Failure> {
        match request {
            Request::InitProducerId { transactional_id, timeout_ms } => {
                self.init(transactional_id.as_ref(), *timeout_ms, now_ms).map(Response::Producer)
            }
            Request::AddPartitions { session, partitions } => {
                self.check_known(partitions)?;
                let touched = partitions.iter().cloned().map(Touched::Partition);
                self.coordinator.add(session, touched, now_ms).map(|()| Response::Done)
            }
            Request::AddOffsets { session, group } => {
                let touched = [Touched::Group(Arc::clone(group))];
                self.coordinator.add(session, touched, now_ms).map(|()| Response::Done)
            }
            Request::TxnOffsetCommit { session, group, positions } => {
                self.commit_pending(session, group, positions).map(|()| Response::Done)
            }
            Request::EndTxn { session, outcome } => {
                let delay = Arc::clone(&self.marker_delay);
                self.coordinator.end(session, *outcome, now_ms, &*delay).map(|()| Response::Done)
            }
            Request::Produce(batch) => {
                self.produce(batch, now_ms).map(|base_offset| Response::Appended { base_offset })
            }
            Request::Fetch { from, max_bytes } => Ok(self.fetch(from, *max_bytes)),
            Request::ListOffsets { partitions, which } => {
                self.check_known(partitions)?;
                let offset = |at| self.partition(at).map(|partition| partition.offset(*which));
                partitions.iter().map(offset).collect::<Result<_, _>>().map(Response::Offsets)
            }
            Request::OffsetFetch { group, partitions } => {
                let none = || GroupPosition { position: None, pending: false };
                let group = self.groups.get(group);
                let position = |at| group.map_or_else(none, |group| group.position(at));
                Ok(Response::Positions(partitions.iter().map(position).collect()))
            }
            Request::OffsetCommit { group, positions } => {
                self.check_positions(positions)?;
                self.group(group).commit(positions);
                Ok(Response::Done)
            }
            Request::DescribeTopics { topics } => {
                let info = |topic: &Arc<str>| self.topics.get(topic).map(Topic::info);
                Ok(Response::Topics(topics.iter().map(info).collect()))
            }
            Request::DeleteRecords { before } => self.delete_records(before).map(|()| Response::Done),
            Request::CreateTopic { topic, partitions, config } => {
                self.create_topic(topic, *partitions, *config).map(|()| Response::Done)
            }
            Request::CreatePartitions { topic, partitions } => {
                self.create_partitions(topic, *partitions).map(|()| Response::Done)
            }
            Request::DeleteTopic { topic } => self.delete_topic(topic).map(|()| Response::Done),
        }
    }

    fn fetch(&self, from: &[(TopicPartition, i64)], max_bytes: usize) -> Response {
        let mut budget = max_bytes.max(1);
        let mut found = Vec::with_capacity(from.len());
        for (at, offset) in from {
            let fetched = self.partition(at).and_then(|partition| partition.fetch(*offset, &mut budget));
            found.push((at.clone(), fetched));
        }
        Response::Fetched(found)
    }

    fn check_known(&self, partitions: &[TopicPartition]) -> Result<(), Failure> {
        let unknown: Vec<_> = partitions.iter().filter(|at| self.partition(at).is_err()).cloned().collect();
        if unknown.is_empty() { Ok(()) } else { Err(Failure::Unknown(unknown)) }
    }

    fn check_positions(&self, positions: &[(TopicPartition, Position)]) -> Result<(), Failure> {
        let partitions: Vec<_> = positions.iter().map(|(at, _)| at.clone()).collect();
        self.check_known(&partitions)?;
        if positions.iter().any(|(_, position)| position.metadata.len() > METADATA_MAX_BYTES) {
            return Err(Failure::MetadataTooLarge);
        }
        Ok(())
    }

    fn group(&mut self, group: &Arc<str>) -> &mut Group {
        self.groups.entry(Arc::clone(group)).or_default()
    }

    fn partition(&self, at: &TopicPartition) -> Result<&Partition, Failure> {
        let found = self.topics.get(&at.topic).zip(usize::try_from(at.partition).ok());
        let found = found.and_then(|(topic, index)| topic.partitions.get(index));
        found.ok_or_else(|| Failure::Unknown(vec![at.clone()]))
    }

    fn partition_mut(&mut self, at: &TopicPartition) -> Result<&mut Partition, Failure> {
        self.topic_and_partition(at).map(|(_, partition)| partition)
    }

    fn topic_and_partition(&mut self, at: &TopicPartition) -> Result<(TopicConfig, &mut Partition), Failure> {
        let found = self.topics.get_mut(&at.topic).zip(usize::try_from(at.partition).ok());
        let found = found.and_then(|(topic, index)| Some((topic.config, topic.partitions.get_mut(index)?)));
        found.ok_or_else(|| Failure::Unknown(vec![at.clone()]))
    }
}
