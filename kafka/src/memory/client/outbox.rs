//! What both kinds of producers do: choose partitions, gather records into batches,
//! number them, and tell what became of those that were refused.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ksched_core::wheel::murmur2;

use super::caller::{CallError, Caller, Persistence};
use crate::{
    log::{Outgoing, Refusal, RefusalReason, TopicPartition},
    memory::{Batch, Failure, NewRecord, ProducerId, Request, Response, broker::record_bytes},
};

/// So many records are gathered before they are sent without being asked to.
pub(super) const QUEUE_MAX: usize = 1_000;
/// librdkafka's `batch.size`.
const BATCH_MAX_BYTES: usize = 1_000_000;
/// Our `message.timeout.ms`.
const DELIVERY_LIMIT: Duration = Duration::from_secs(8);

/// A record that waits to be sent.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) tag: usize,
    record: NewRecord,
}

/// A record that was not acknowledged.
#[derive(Debug)]
struct Undelivered {
    tag: usize,
    at: TopicPartition,
    why: Why,
}

#[derive(Clone, Debug)]
pub(super) enum Why {
    Failed(Failure),
    /// Not acknowledged in time, or never sent because of another.
    Collateral(String),
}

impl From<CallError> for Why {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Failed(failure) => Self::Failed(failure),
            CallError::Lost(why) => Self::Collateral(why),
        }
    }
}

/// Records on their way.
pub(super) struct Outbox {
    pub(super) caller: Caller,
    transactional_id: Option<Arc<str>>,
    producer: Option<ProducerId>,
    /// The next one of each partition.
    sequences: BTreeMap<TopicPartition, i32>,
    queues: BTreeMap<TopicPartition, Vec<Queued>>,
    queued: usize,
    /// Partitions of topics, as looked up for records that name none.
    counts: BTreeMap<Arc<str>, i32>,
    /// Records so far with neither partition nor key: they go round in turn.
    keyless: u32,
    undelivered: Vec<Undelivered>,
}

impl Outbox {
    pub(super) fn new(caller: Caller, transactional_id: Option<Arc<str>>) -> Self {
        Self {
            caller,
            transactional_id,
            producer: None,
            sequences: BTreeMap::new(),
            queues: BTreeMap::new(),
            queued: 0,
            counts: BTreeMap::new(),
            keyless: 0,
            undelivered: Vec::new(),
        }
    }

    pub(super) fn producer(&self) -> Option<ProducerId> {
        self.producer
    }

    /// Asks for a producer id; sequence numbers begin anew.
    pub(super) fn init(&mut self, timeout_ms: i64, limit: Duration) -> Result<ProducerId, CallError> {
        let transactional_id = self.transactional_id.clone();
        let request = Request::InitProducerId { transactional_id, timeout_ms };
        let Response::Producer(producer) = self.caller.call(&request, limit)? else {
            return Err(CallError::unexpected());
        };
        self.sequences.clear();
        self.producer = Some(producer);
        Ok(producer)
    }

    /// Forgets the producer id: after a batch of unknown outcome there is no telling
    /// which sequence number would be the next.
    pub(super) fn forget_producer(&mut self) {
        self.producer = None;
    }

    /// Puts a record into its partition's queue.
    pub(super) fn push(&mut self, tag: usize, outgoing: Outgoing<'_>) {
        let topic: Arc<str> = outgoing.topic.into();
        let partition = match outgoing.partition {
            Some(partition) => Ok(partition),
            None => self.choose(&topic, outgoing.content.key.as_deref()),
        };
        match partition {
            Ok(partition) => {
                let record =
                    NewRecord { timestamp_ms: outgoing.timestamp_ms, content: outgoing.content.clone() };
                let at = TopicPartition { topic, partition };
                self.queues.entry(at).or_default().push(Queued { tag, record });
                self.queued += 1;
            }
            Err(error) => {
                let at = TopicPartition { topic, partition: -1 };
                self.undelivered.push(Undelivered { tag, at, why: error.into() });
            }
        }
    }

    fn choose(&mut self, topic: &Arc<str>, key: Option<&[u8]>) -> Result<i32, CallError> {
        let count = self.count(topic)?;
        let hash = key.map_or_else(
            || {
                self.keyless = self.keyless.wrapping_add(1);
                self.keyless
            },
            murmur2,
        );
        Ok((hash & 0x7fff_ffff).cast_signed() % count.max(1))
    }

    fn count(&mut self, topic: &Arc<str>) -> Result<i32, CallError> {
        if let Some(count) = self.counts.get(topic) {
            return Ok(*count);
        }
        let request = Request::DescribeTopics { topics: vec![Arc::clone(topic)] };
        let Response::Topics(found) = self.caller.call(&request, DELIVERY_LIMIT)? else {
            return Err(CallError::unexpected());
        };
        let nowhere = || TopicPartition { topic: Arc::clone(topic), partition: -1 };
        let count = found.into_iter().flatten().find_map(|info| info.partitions);
        let count = count.ok_or_else(|| CallError::Failed(Failure::Unknown(vec![nowhere()])))?;
        self.counts.insert(Arc::clone(topic), count);
        Ok(count)
    }

    pub(super) fn is_full(&self) -> bool {
        self.queued >= QUEUE_MAX
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.queues.keys()
    }

    /// Empties the queues into batches, in order of partitions.
    pub(super) fn take_batches(&mut self) -> Vec<(TopicPartition, Vec<Queued>)> {
        self.queued = 0;
        let mut batches = Vec::new();
        for (at, queue) in std::mem::take(&mut self.queues) {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            for queued in queue {
                let size = record_bytes(&queued.record.content);
                if !batch.is_empty() && bytes + size > BATCH_MAX_BYTES {
                    batches.push((at.clone(), std::mem::take(&mut batch)));
                    bytes = 0;
                }
                bytes += size;
                batch.push(queued);
            }
            batches.push((at, batch));
        }
        batches
    }

    /// Appends a batch, with the same numbers however often it takes. What was not
    /// acknowledged is remembered, and why.
    pub(super) fn produce(
        &mut self,
        at: TopicPartition,
        queued: Vec<Queued>,
        persistence: Persistence,
    ) -> Result<(), CallError> {
        let Some(producer) = self.producer else {
            return Err(self.refuse(&at, &queued, CallError::Lost("no producer id".to_owned())));
        };
        let base_sequence = self.sequences.get(&at).copied().unwrap_or(0);
        let (tags, records): (Vec<_>, Vec<_>) =
            queued.into_iter().map(|each| (each.tag, each.record)).unzip();
        let count = i32::try_from(records.len()).unwrap_or(i32::MAX);
        let transactional_id = self.transactional_id.clone();
        let batch = Batch { at, producer, transactional_id, base_sequence, records };
        let request = Request::Produce(batch);
        let error = match self.caller.call_with(&request, DELIVERY_LIMIT, persistence) {
            Ok(Response::Appended { .. }) => None,
            Ok(_) => Some(CallError::unexpected()),
            Err(error) => Some(error),
        };
        let Request::Produce(Batch { at, .. }) = request else { return Err(CallError::unexpected()) };
        match error {
            None => {
                self.sequences.insert(at, base_sequence.saturating_add(count));
                Ok(())
            }
            Some(error) => {
                self.refuse_tags(&at, tags, &error.clone().into());
                Err(error)
            }
        }
    }

    fn refuse(&mut self, at: &TopicPartition, queued: &[Queued], error: CallError) -> CallError {
        self.refuse_tags(at, queued.iter().map(|each| each.tag), &error.clone().into());
        error
    }

    pub(super) fn refuse_tags(
        &mut self,
        at: &TopicPartition,
        tags: impl IntoIterator<Item = usize>,
        why: &Why,
    ) {
        // What was known of the topic may be what was wrong.
        self.counts.remove(&at.topic);
        let undelivered = |tag| Undelivered { tag, at: at.clone(), why: why.clone() };
        self.undelivered.extend(tags.into_iter().map(undelivered));
    }

    /// Gives up all that is queued. Where it is known to be without a target that is said.
    pub(super) fn purge(&mut self, unknown: &[TopicPartition], why: &str) {
        for (at, batch) in self.take_batches() {
            let why = if unknown.contains(&at) {
                Why::Failed(Failure::Unknown(vec![at.clone()]))
            } else {
                Why::Collateral(why.to_owned())
            };
            self.refuse_tags(&at, batch.iter().map(|each| each.tag), &why);
        }
    }

    /// What was not acknowledged since the last call. Only a record alone in its
    /// partition is told that it is too large: a batch fails as one (see `deliveries`).
    pub(super) fn take_refusals(&mut self) -> Vec<Refusal> {
        let undelivered = std::mem::take(&mut self.undelivered);
        let mut batch_wide: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        for each in undelivered.iter().filter(|each| is_batch_wide(&each.why)) {
            *batch_wide.entry(&each.at).or_default() += 1;
        }
        let reason = |each: &Undelivered| match &each.why {
            Why::Collateral(why) => RefusalReason::Collateral(why.clone()),
            Why::Failed(failure) => {
                if batch_wide.get(&each.at).is_some_and(|&count| count > 1) {
                    return RefusalReason::Collateral(format!("{failure} (of its batch)"));
                }
                match failure {
                    Failure::Unknown(_) => RefusalReason::UnknownTarget,
                    Failure::TooLarge => RefusalReason::TooLarge,
                    Failure::InvalidTimestamp | Failure::InvalidRecord => {
                        RefusalReason::Invalid(failure.to_string())
                    }
                    other => RefusalReason::Collateral(other.to_string()),
                }
            }
        };
        undelivered.iter().map(|each| Refusal { tag: each.tag, reason: reason(each) }).collect()
    }
}

fn is_batch_wide(why: &Why) -> bool {
    matches!(why, Why::Failed(Failure::TooLarge | Failure::InvalidTimestamp | Failure::InvalidRecord))
}
