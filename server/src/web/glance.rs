//! What only Kafka can tell the page: how far the intake is behind, and the last records of
//! the dead-letter topic and of the job log. Three small requests a look, and records are read
//! only when there are new ones. Blocking.

use std::sync::Arc;

use ksched_core::{cluster::Cluster, message::Content};
use ksched_kafka::{Error, Log, Offset, Reader, Record, TopicPartition};
use tokio::time::{Duration, Instant};

use super::status::DeadLetter;
use crate::job_log::{self, Finished};

/// Records shown of each topic.
const SHOWN: usize = 50;
/// Offsets looked back in a partition; some are transaction markers.
const LOOK_BACK: i64 = 2 * SHOWN as i64;
const FETCH_BYTES: usize = 1 << 20;
/// What has not come by then is shown next time.
const READ_FOR: Duration = Duration::from_secs(2);
/// Of a reason that is shown.
const REASON_CHARS: usize = 200;

/// What was seen last.
#[derive(Clone, Debug, Default)]
pub(super) struct Glance {
    pub(super) intake_lag: Option<i64>,
    pub(super) dead_letter_count: Option<i64>,
    /// The newest first.
    pub(super) dead_letters: Vec<DeadLetter>,
    pub(super) job_log: Vec<Finished>,
}

/// Looks, and remembers what need not be read again.
pub(super) struct Onlooker<L: Log> {
    log: L,
    intake: Topic,
    dead_letters: Tail,
    job_log: Tail,
    reader: Option<L::Reader>,
    seen: Glance,
}

/// A topic and, once it was asked for them, its partitions.
struct Topic {
    name: Arc<str>,
    partitions: Vec<TopicPartition>,
}

/// A topic of which the end is shown, and its ends as last read.
struct Tail {
    topic: Topic,
    read_to: Vec<i64>,
}

impl<L: Log> Onlooker<L> {
    pub(super) fn new(log: L, cluster: &Cluster) -> Self {
        let tail = |name| Tail { topic: Topic::new(name), read_to: Vec::new() };
        Self {
            log,
            intake: Topic::new(cluster.intake_topic.as_str().into()),
            dead_letters: tail(cluster.dead_letter_topic.as_str().into()),
            job_log: tail(job_log::topic(cluster)),
            reader: None,
            seen: Glance::default(),
        }
    }

    /// Looks. What was seen before stands in the answer where Kafka does not tell.
    pub(super) fn look(&mut self) -> (Glance, Result<(), Error>) {
        let outcome = self.try_look();
        if outcome.is_err() {
            self.reader = None;
        }
        (self.seen.clone(), outcome)
    }

    fn try_look(&mut self) -> Result<(), Error> {
        let intake = self.intake.partitions(&self.log)?;
        let ends = self.log.offsets(intake, Offset::StableEnd)?;
        let committed = self.log.committed_before_pending(intake)?;
        let behind =
            ends.iter().zip(&committed).map(|(end, at)| end - at.as_ref().map_or(*end, |p| p.offset));
        self.seen.intake_lag = Some(behind.map(|lag| lag.max(0)).sum());

        let (starts, ends) = self.dead_letters.bounds(&self.log)?;
        self.seen.dead_letter_count = Some(ends.iter().zip(&starts).map(|(end, start)| end - start).sum());
        if let Some(records) = self.dead_letters.news(&self.log, &mut self.reader, &starts, ends)? {
            self.seen.dead_letters = records.iter().map(dead_letter).collect();
        }
        let (starts, ends) = self.job_log.bounds(&self.log)?;
        if let Some(records) = self.job_log.news(&self.log, &mut self.reader, &starts, ends)? {
            self.seen.job_log = records.iter().filter_map(finished).collect();
        }
        Ok(())
    }
}

impl Topic {
    fn new(name: Arc<str>) -> Self {
        Self { name, partitions: Vec::new() }
    }

    fn partitions(&mut self, log: &impl Log) -> Result<&[TopicPartition], Error> {
        if self.partitions.is_empty() {
            let info = log.topic(&self.name)?.ok_or_else(|| Error::Unknown(self.name.to_string()))?;
            let partition = |partition| TopicPartition { topic: Arc::clone(&self.name), partition };
            self.partitions = (0..info.partitions).map(partition).collect();
        }
        Ok(&self.partitions)
    }
}

impl Tail {
    fn bounds(&mut self, log: &impl Log) -> Result<(Vec<i64>, Vec<i64>), Error> {
        let partitions = self.topic.partitions(log)?;
        Ok((log.offsets(partitions, Offset::Start)?, log.offsets(partitions, Offset::StableEnd)?))
    }

    /// The newest records first, if there are any that were not read before.
    fn news<L: Log>(
        &mut self,
        log: &L,
        reader: &mut Option<L::Reader>,
        starts: &[i64],
        ends: Vec<i64>,
    ) -> Result<Option<Vec<Record>>, Error> {
        if self.read_to == ends {
            return Ok(None);
        }
        let reader = match reader {
            Some(reader) => reader,
            None => reader.insert(log.reader(FETCH_BYTES)?),
        };
        let from = ends.iter().zip(starts).map(|(end, start)| (end - LOOK_BACK).max(*start));
        let from: Vec<_> = self.topic.partitions.iter().cloned().zip(from).collect();
        reader.assign(&from)?;
        let (mut records, until) = (Vec::new(), Instant::now() + READ_FOR);
        let mut complete = false;
        while !complete && Instant::now() < until {
            match reader.poll(Duration::from_millis(50)) {
                Ok(Some(record)) => records.push(record),
                Err(Error::Unreadable(record)) => records.push(*record),
                Ok(None) => {
                    complete = true;
                    for (partition, end) in self.topic.partitions.iter().zip(&ends) {
                        complete &= reader.position(partition)? >= *end;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        reader.assign(&[])?;
        if complete {
            self.read_to = ends;
        }
        records.sort_by_key(|record| std::cmp::Reverse((record.timestamp_ms, record.offset)));
        records.truncate(SHOWN);
        Ok(Some(records))
    }
}

fn dead_letter(record: &Record) -> DeadLetter {
    let header = |name| last(&record.content, name).unwrap_or_default();
    let (topic, partition, offset) =
        (header("ksched-origin-topic"), header("ksched-origin-partition"), header("ksched-origin-offset"));
    DeadLetter {
        at_ms: record.timestamp_ms,
        code: header("ksched-error-code"),
        reason: header("ksched-error"),
        origin: format!("{topic}/{partition}@{offset}"),
        place: format!("{}@{}", record.source, record.offset),
    }
}

/// The last header of that name is ours; a user's of the same name would stand before it.
fn last(content: &Content, name: &str) -> Option<String> {
    let header = content.headers.iter().rev().find(|header| &*header.name == name)?;
    let text = String::from_utf8_lossy(header.value.as_deref()?).into_owned();
    Some(text.chars().take(REASON_CHARS).collect())
}

fn finished(record: &Record) -> Option<Finished> {
    serde_json::from_slice(record.content.value.as_deref()?).ok()
}
