//! What only Kafka can tell the page: how far the intake is behind, and the last records of
//! the dead-letter topic and of the job log. Few small requests a look, and of the records
//! only the new ones are read. Blocking.

use std::sync::Arc;

use ksched_core::{cluster::Cluster, jobs::Finished, message::Content};
use ksched_kafka::{Error, Log, Offset, Reader, Record, TopicPartition};
use tokio::time::{Duration, Instant};

use super::status::DeadLetter;
use crate::backlog;

/// They may hold a megabyte each, so not many are read.
const DEAD_LETTERS_KEPT: usize = 20;
/// Four lanes' drains of some 40 minutes.
const JOBS_KEPT: usize = 1_000;
const FETCH_BYTES: usize = 1 << 20;
/// What has not come by then is read at the next look.
const READ_FOR: Duration = Duration::from_secs(2);
/// Of a reason that is shown.
const REASON_CHARS: usize = 200;

/// What was seen last; `None`: nothing yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Glance {
    pub(super) intake_lag: Option<i64>,
    pub(super) dead_letter_count: Option<i64>,
    /// The newest first.
    pub(super) dead_letters: Option<Arc<[DeadLetter]>>,
    /// The newest first.
    pub(super) job_log: Option<Arc<[Finished]>>,
}

/// Looks, and remembers what need not be read again.
pub(super) struct Onlooker<L> {
    log: L,
    intake: Topic,
    dead_letters: Tail<DeadLetter>,
    job_log: Tail<Finished>,
    seen: Glance,
}

/// At one topic.
type Look<T> = fn(&mut T) -> Result<(), Error>;

/// A topic and, once it was asked for them, its partitions.
struct Topic {
    name: Arc<str>,
    partitions: Vec<TopicPartition>,
}

/// What was read of one record.
struct Item<T> {
    at_ms: i64,
    partition: i32,
    offset: i64,
    item: T,
}

/// The end of a topic.
struct Tail<T> {
    topic: Topic,
    parse: fn(&Record) -> Option<T>,
    kept: usize,
    /// Of each partition, the next offset to read; nothing before the first look.
    next: Vec<i64>,
    /// The oldest first.
    items: Vec<Item<T>>,
    /// Whether `items` is what there is.
    is_read: bool,
}

impl<L: Log> Onlooker<L> {
    pub(super) fn new(log: L, cluster: &Cluster) -> Self {
        Self {
            log,
            intake: Topic::new(cluster.intake_topic.as_str().into()),
            dead_letters: Tail::new(
                cluster.dead_letter_topic.as_str().into(),
                |record| Some(dead_letter(record)),
                DEAD_LETTERS_KEPT,
            ),
            job_log: Tail::new(cluster.job_log_topic().into(), finished, JOBS_KEPT),
            seen: Glance::default(),
        }
    }

    /// Looks. What was seen before stands in the answer where Kafka does not tell, and why
    /// it does not.
    pub(super) fn look(&mut self) -> (Glance, Vec<String>) {
        let looks: [Look<Self>; 3] =
            [Self::look_at_intake, Self::look_at_dead_letters, Self::look_at_job_log];
        let topics = [&self.intake, &self.dead_letters.topic, &self.job_log.topic];
        let topics = topics.map(|topic| Arc::clone(&topic.name));
        let mut complaints = Vec::new();
        for (topic, look) in topics.into_iter().zip(looks) {
            let Err(error) = look(self) else { continue };
            complaints.push(format!("{topic}: {error}"));
            if matches!(error, Error::Unavailable(_)) {
                // It would be so with the others.
                break;
            }
        }
        (self.seen.clone(), complaints)
    }

    fn look_at_intake(&mut self) -> Result<(), Error> {
        let intake = self.intake.partitions(&self.log)?;
        self.seen.intake_lag = backlog::behind(&self.log, intake)?;
        match self.seen.intake_lag {
            Some(_) => Ok(()),
            None => Err(Error::Refused("a partition has no committed position".to_owned())),
        }
    }

    fn look_at_dead_letters(&mut self) -> Result<(), Error> {
        let outcome = self.dead_letters.look(&self.log);
        self.seen.dead_letters = self.dead_letters.newest_first();
        // Exact while they are few.
        let read = self.dead_letters.items.len();
        let with_markers = outcome?;
        self.seen.dead_letter_count = Some(if read < DEAD_LETTERS_KEPT { read as i64 } else { with_markers });
        Ok(())
    }

    fn look_at_job_log(&mut self) -> Result<(), Error> {
        let outcome = self.job_log.look(&self.log);
        self.seen.job_log = self.job_log.newest_first();
        outcome.map(|_| ())
    }
}

impl Topic {
    fn new(name: Arc<str>) -> Self {
        Self { name, partitions: Vec::new() }
    }

    fn partitions(&mut self, log: &impl Log) -> Result<&[TopicPartition], Error> {
        if self.partitions.is_empty() {
            let count = log.partitions(&self.name)?.ok_or_else(|| Error::Unknown(self.name.to_string()))?;
            let partition = |partition| TopicPartition { topic: Arc::clone(&self.name), partition };
            self.partitions = (0..count).map(partition).collect();
        }
        Ok(&self.partitions)
    }
}

impl<T: Clone> Tail<T> {
    fn new(name: Arc<str>, parse: fn(&Record) -> Option<T>, kept: usize) -> Self {
        Self { topic: Topic::new(name), parse, kept, next: Vec::new(), items: Vec::new(), is_read: false }
    }

    /// `None` before anything was read.
    fn newest_first(&self) -> Option<Arc<[T]>> {
        let items = self.items.iter().rev().map(|item| item.item.clone());
        self.is_read.then(|| items.collect())
    }

    /// Reads what is new; how many records there are, markers of transactions included.
    fn look(&mut self, log: &impl Log) -> Result<i64, Error> {
        let partitions = self.topic.partitions(log)?;
        let starts = log.offsets(partitions, Offset::Start)?;
        let ends = log.offsets(partitions, Offset::StableEnd)?;
        let count = ends.iter().zip(&starts).map(|(end, start)| end - start).sum();
        if self.next.iter().zip(&ends).any(|(next, end)| next > end) {
            // The topic is another one.
            self.next.clear();
            self.items.clear();
        }
        // What was deleted is none any more.
        self.items
            .retain(|item| starts.get(item.partition as usize).is_none_or(|start| item.offset >= *start));
        // About every second offset may be a marker's.
        let back = 2 * self.kept as i64;
        let next = self.next.iter().copied().chain(std::iter::repeat(0));
        let from = ends.iter().zip(&starts).zip(next);
        self.next = from.map(|((end, start), next)| (end - back).max(*start).max(next)).collect();
        if self.next != ends {
            self.read(log, &ends)?;
        }
        self.is_read = true;
        Ok(count)
    }

    fn read(&mut self, log: &impl Log, ends: &[i64]) -> Result<(), Error> {
        // Not kept: it would fetch while nobody looks.
        let mut reader = log.reader(FETCH_BYTES)?;
        let behind: Vec<usize> = (0..ends.len()).filter(|p| self.next[*p] < ends[*p]).collect();
        let from: Vec<_> =
            behind.iter().map(|p| (self.topic.partitions[*p].clone(), self.next[*p])).collect();
        reader.assign(&from)?;
        let until = Instant::now() + READ_FOR;
        while behind.iter().any(|p| self.next[*p] < ends[*p]) && Instant::now() < until {
            match reader.poll(Duration::from_millis(50)) {
                Ok(Some(record)) => self.take(&record),
                Err(Error::Unreadable(record)) => self.take(&record),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
            for p in &behind {
                self.next[*p] = reader.position(&self.topic.partitions[*p])?.max(self.next[*p]);
            }
        }
        self.items.sort_by_key(|item| item.at_ms);
        self.items.drain(..self.items.len().saturating_sub(self.kept));
        Ok(())
    }

    fn take(&mut self, record: &Record) {
        if let Some(item) = (self.parse)(record) {
            let (at_ms, partition, offset) = (record.timestamp_ms, record.source.partition, record.offset);
            self.items.push(Item { at_ms, partition, offset, item });
        }
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
        topic: last(&record.content, "ksched-topic"),
        message_id: last(&record.content, "ksched-id"),
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
