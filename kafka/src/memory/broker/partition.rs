//! One partition: what was appended, by whom, and how far readers may see.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ksched_core::message::Content;

use crate::memory::protocol::{Batch, Failure, Fetched, NewRecord, Outcome, ProducerId, TopicConfig};

/// Kafka's `message.timestamp.after.max.ms` (KIP-1030).
const AHEAD_MAX_MS: i64 = 3_600_000;
/// So many batches of a producer a broker knows again.
const REMEMBERED_BATCHES: usize = 5;
/// What a batch takes before its records.
const BATCH_HEADER_BYTES: usize = 61;

/// One offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub producer: ProducerId,
    pub what: What,
}

/// What is at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Record { content: Content, standing: Standing },
    Marker(Outcome),
}

/// Whether a record counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Appended without a transaction.
    Plain,
    /// Of a transaction that has not ended.
    Open,
    Committed,
    Aborted,
}

/// What a partition knows of one producer id.
#[derive(Debug)]
struct Known {
    epoch: i16,
    /// Sequence numbers and base offset of the last batches.
    recent: VecDeque<Remembered>,
    /// First offset of the open transaction.
    open_from: Option<i64>,
}

#[derive(Debug)]
struct Remembered {
    first: i32,
    last: i32,
    base_offset: i64,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Without gaps, from `start` on.
    entries: VecDeque<Entry>,
    start: i64,
    producers: BTreeMap<i64, Known>,
}

impl Partition {
    /// Appends a batch, or finds that it was appended before; its base offset.
    pub(super) fn append(
        &mut self,
        batch: &Batch,
        config: &TopicConfig,
        now_ms: i64,
    ) -> Result<i64, Failure> {
        if let Some(base_offset) = self.check_sequence(batch)? {
            return Ok(base_offset);
        }
        if batch_bytes(&batch.records) > config.max_message_bytes {
            return Err(Failure::TooLarge);
        }
        if config.compacted && batch.records.iter().any(|each| each.content.key.is_none()) {
            return Err(Failure::InvalidRecord);
        }
        let too_late = now_ms.saturating_add(AHEAD_MAX_MS);
        let is_too_late = |each: &NewRecord| each.timestamp_ms.is_some_and(|at_ms| at_ms > too_late);
        if !config.log_append_time && batch.records.iter().any(is_too_late) {
            return Err(Failure::InvalidTimestamp);
        }
        let base_offset = self.end();
        let standing = if batch.transactional_id.is_some() { Standing::Open } else { Standing::Plain };
        for record in &batch.records {
            let given_ms = record.timestamp_ms.filter(|_| !config.log_append_time);
            let what = What::Record { content: record.content.clone(), standing };
            self.push(given_ms.unwrap_or(now_ms), batch.producer, what);
        }
        self.remember(batch, base_offset);
        Ok(base_offset)
    }

    /// The base offset if the batch is here already. A producer of which nothing is
    /// known may start anywhere, as in Kafka, which cannot tell whether it has forgotten
    /// it; that happens here with a topic that was deleted and made anew.
    fn check_sequence(&self, batch: &Batch) -> Result<Option<i64>, Failure> {
        let known = self.producers.get(&batch.producer.id);
        let next = match known {
            Some(known) if known.epoch > batch.producer.epoch => return Err(Failure::Fenced),
            Some(known) if known.epoch == batch.producer.epoch => {
                let (first, last) = (batch.base_sequence, last_sequence(batch));
                let same = |each: &&Remembered| each.first == first && each.last == last;
                if let Some(same) = known.recent.iter().find(same) {
                    return Ok(Some(same.base_offset));
                }
                known.recent.back().map_or(0, |last| last.last + 1)
            }
            Some(_) => 0,
            None => return Ok(None),
        };
        if next == batch.base_sequence { Ok(None) } else { Err(Failure::OutOfOrderSequence) }
    }

    fn remember(&mut self, batch: &Batch, base_offset: i64) {
        let known = self.know(batch.producer);
        let last = last_sequence(batch);
        known.recent.push_back(Remembered { first: batch.base_sequence, last, base_offset });
        if known.recent.len() > REMEMBERED_BATCHES {
            known.recent.pop_front();
        }
        if batch.transactional_id.is_some() {
            known.open_from.get_or_insert(base_offset);
        }
    }

    /// Whether a transaction of this producer is open here: Kafka asks the coordinator
    /// about the first batch of each only.
    pub(super) fn is_open(&self, producer: ProducerId) -> bool {
        self.producers.get(&producer.id).is_some_and(|known| known.open_from.is_some())
    }

    /// Ends the producer's transaction here. The epoch of a marker fences what comes
    /// later with an older one, whether or not anything was appended.
    pub(super) fn mark(&mut self, producer: ProducerId, outcome: Outcome, now_ms: i64) {
        if self.producers.get(&producer.id).is_some_and(|known| known.epoch > producer.epoch) {
            return;
        }
        if let Some(from) = self.know(producer).open_from.take() {
            let ended = match outcome {
                Outcome::Commit => Standing::Committed,
                Outcome::Abort => Standing::Aborted,
            };
            let skip = usize::try_from(from - self.start).unwrap_or(0);
            for entry in self.entries.iter_mut().skip(skip) {
                match &mut entry.what {
                    What::Record { standing, .. }
                        if entry.producer.id == producer.id && *standing == Standing::Open =>
                    {
                        *standing = ended;
                    }
                    _ => {}
                }
            }
        }
        self.push(now_ms, producer, What::Marker(outcome));
    }

    /// What is known of a producer; sequence numbers begin anew with each epoch.
    fn know(&mut self, producer: ProducerId) -> &mut Known {
        let fresh = || Known { epoch: producer.epoch, recent: VecDeque::new(), open_from: None };
        let known = self.producers.entry(producer.id).or_insert_with(fresh);
        if known.epoch < producer.epoch {
            known.epoch = producer.epoch;
            known.recent.clear();
        }
        known
    }

    fn push(&mut self, timestamp_ms: i64, producer: ProducerId, what: What) {
        let offset = self.end();
        self.entries.push_back(Entry { offset, timestamp_ms, producer, what });
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The high watermark.
    pub(super) fn end(&self) -> i64 {
        self.start + i64::try_from(self.entries.len()).unwrap_or(i64::MAX)
    }

    /// The last stable offset.
    pub(super) fn stable_end(&self) -> i64 {
        let open = self.producers.values().filter_map(|known| known.open_from).min();
        open.map_or_else(|| self.end(), |open| open.max(self.start))
    }

    /// The first stable offset whose timestamp is at or after `ms`.
    pub(super) fn at_or_after(&self, ms: i64) -> Option<i64> {
        let end = self.stable_end();
        self.entries
            .iter()
            .take_while(|each| each.offset < end)
            .find(|e| e.timestamp_ms >= ms)
            .map(|e| e.offset)
    }

    /// Committed records from `from` on, as many as fit into what is left of
    /// `budget`, and one at least unless the budget was used up before.
    pub(super) fn fetch(&self, from: i64, budget: &mut usize) -> Result<Fetched, Failure> {
        if from < self.start || from > self.end() {
            return Err(Failure::OffsetOutOfRange);
        }
        let end = self.stable_end();
        let mut found = Fetched { records: Vec::new(), next_offset: from };
        let skip = usize::try_from(from - self.start).unwrap_or(0);
        for entry in self.entries.iter().skip(skip).take_while(|each| each.offset < end) {
            if let What::Record { content, standing: Standing::Plain | Standing::Committed } = &entry.what {
                if *budget == 0 {
                    break;
                }
                *budget = budget.saturating_sub(record_bytes(content));
                found.records.push((entry.offset, entry.timestamp_ms, content.clone()));
            }
            found.next_offset = entry.offset + 1;
        }
        Ok(found)
    }

    pub(super) fn delete_before(&mut self, offset: i64) {
        let count = usize::try_from(offset - self.start).unwrap_or(0).min(self.entries.len());
        self.entries.drain(..count);
        self.start = self.start.max(offset);
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.iter().cloned().collect()
    }
}

fn last_sequence(batch: &Batch) -> i32 {
    let count = i32::try_from(batch.records.len()).unwrap_or(i32::MAX);
    batch.base_sequence.saturating_add(count).saturating_sub(1)
}

/// Size of a batch on the wire, uncompressed.
pub(in crate::memory) fn batch_bytes(records: &[NewRecord]) -> usize {
    BATCH_HEADER_BYTES + records.iter().map(|each| record_bytes(&each.content)).sum::<usize>()
}

/// Size of a record on the wire (Kafka's record format, version 2), with the most that
/// its offset and time can take within a batch of ours.
pub(in crate::memory) fn record_bytes(content: &Content) -> usize {
    let bytes = |part: &Option<Bytes>| part.as_ref().map_or(1, |part| sized(part.len()));
    let headers: usize = content.headers.iter().map(|each| sized(each.name.len()) + bytes(&each.value)).sum();
    // Attributes 1, time difference up to 5, offset difference up to 2, number of headers up to 2.
    sized(10 + bytes(&content.key) + bytes(&content.value) + headers)
}

/// So many bytes with their number, a zigzag varint, before them.
fn sized(bytes: usize) -> usize {
    let bits = (usize::BITS - (bytes << 1).leading_zeros()).max(1) as usize;
    bits.div_ceil(7) + bytes
}
