//! A read_committed reader. It fetches when it has nothing left, and only when polled.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::caller::lasted;
use crate::{
    log::{Error, Reader, Record, TopicPartition},
    memory::{Fetched, Link, Request, Response},
};

/// Reads committed records of assigned partitions.
pub struct MemoryReader {
    link: Arc<dyn Link>,
    fetch_bytes: usize,
    /// Between two fetches that bring nothing.
    step: Duration,
    assigned: BTreeMap<TopicPartition, Assigned>,
    buffer: VecDeque<Record>,
    /// The partition that comes first in the next fetch's budget, so that none starves.
    turn: usize,
}

#[derive(Debug)]
struct Assigned {
    /// Where the next fetch begins.
    fetched_to: i64,
    /// Past the last record handed over and, as of the last poll that came up empty, what is hidden behind it.
    returned_to: i64,
    paused: bool,
}

/// What a fetch brought.
enum Came {
    Something,
    Nothing,
    /// No answer, after so long.
    Lost(Duration),
}

impl std::fmt::Debug for MemoryReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryReader").field("assigned", &self.assigned).finish_non_exhaustive()
    }
}

impl MemoryReader {
    pub(super) fn new(link: Arc<dyn Link>, fetch_bytes: usize, step: Duration) -> Self {
        let (assigned, buffer) = (BTreeMap::new(), VecDeque::new());
        Self { link, fetch_bytes, step, assigned, buffer, turn: 0 }
    }

    fn take(&mut self) -> Option<Record> {
        let record = self.buffer.pop_front()?;
        if let Some(assigned) = self.assigned.get_mut(&record.source) {
            assigned.returned_to = record.offset + 1;
        }
        Some(record)
    }

    fn fetch(&mut self) -> Result<Came, Error> {
        let readable = self.assigned.iter().filter(|(_, each)| !each.paused);
        let mut from: Vec<_> = readable.map(|(at, each)| (at.clone(), each.fetched_to)).collect();
        if from.is_empty() {
            return Ok(Came::Nothing);
        }
        let first = self.turn % from.len();
        from.rotate_left(first);
        self.turn = self.turn.wrapping_add(1);
        let found = match self.link.call(Request::Fetch { from, max_bytes: self.fetch_bytes }) {
            Ok(Response::Fetched(found)) => found,
            Ok(Response::Failed(failure)) => return Err(failure.into()),
            Ok(_) => return Err(Error::Unavailable("unexpected answer".to_owned())),
            Err(error) => return Ok(Came::Lost(lasted(error, &*self.link))),
        };
        let mut failed = None;
        for (at, fetched) in found {
            match fetched {
                Ok(fetched) => self.buffer(at, fetched),
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        // An error waits until the others' records are read: it comes back with the next fetch.
        match failed {
            _ if !self.buffer.is_empty() => Ok(Came::Something),
            Some(failure) => Err(failure.into()),
            None => Ok(Came::Nothing),
        }
    }

    fn buffer(&mut self, at: TopicPartition, fetched: Fetched) {
        let Some(assigned) = self.assigned.get_mut(&at) else { return };
        assigned.fetched_to = fetched.next_offset;
        let record =
            |(offset, timestamp_ms, content)| Record { source: at.clone(), offset, timestamp_ms, content };
        self.buffer.extend(fetched.records.into_iter().map(record));
    }

    fn each(&mut self, partitions: &[TopicPartition], act: impl Fn(&mut Assigned)) -> Result<(), Error> {
        for at in partitions {
            self.assigned.get_mut(at).map(&act).ok_or_else(|| unassigned(at))?;
        }
        Ok(())
    }
}

impl Reader for MemoryReader {
    fn assign(&mut self, from: &[(TopicPartition, i64)]) -> Result<(), Error> {
        self.buffer.clear();
        let assigned = |offset| Assigned { fetched_to: offset, returned_to: offset, paused: false };
        self.assigned = from.iter().map(|(at, offset)| (at.clone(), assigned(*offset))).collect();
        Ok(())
    }

    fn poll(&mut self, wait: Duration) -> Result<Option<Record>, Error> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(record) = self.take() {
                return Ok(Some(record));
            }
            match self.fetch()? {
                Came::Something => continue,
                Came::Nothing => {}
                Came::Lost(after) => waited += after,
            }
            if waited >= wait {
                self.assigned.values_mut().for_each(|assigned| assigned.returned_to = assigned.fetched_to);
                return Ok(None);
            }
            let step = (wait - waited).min(self.step);
            self.link.pause(step);
            waited += step;
        }
    }

    fn position(&mut self, partition: &TopicPartition) -> Result<i64, Error> {
        self.assigned.get(partition).map(|assigned| assigned.returned_to).ok_or_else(|| unassigned(partition))
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.each(partitions, |assigned| assigned.paused = true)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.each(partitions, |assigned| assigned.paused = false)
    }
}

fn unassigned(at: &TopicPartition) -> Error {
    Error::Refused(format!("{at} is not assigned"))
}
