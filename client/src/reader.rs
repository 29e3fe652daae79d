//! Reads a target topic as its users do: read_committed, on a thread of its own
//! that stamps each record with the clock the moment it has it.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use ksched_kafka::{Error, Log, Offset, Reader as _, Record, TopicPartition};

use crate::clock;

/// Bytes fetched ahead.
const FETCH_BYTES: usize = 8 << 20;
/// How long a poll waits before it looks whether to stop.
const POLL: Duration = Duration::from_millis(100);
/// Pause after an error, so that a dead broker costs no processor.
const AFTER_ERROR: Duration = Duration::from_millis(50);
/// The Kafka client reconnects by itself; after this long with nothing but errors
/// it is built anew all the same.
const REBUILD_AFTER: Duration = Duration::from_secs(15);

/// Where reading starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// At the first record kept.
    Start,
    /// At the end as it is now: only what comes later.
    End,
    /// At the first record whose timestamp is at or after this many ms.
    At(i64),
    /// At these offsets, by partition.
    Offsets(Arc<[i64]>),
}

/// When reading ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Never: when told to stop.
    Stopped,
    /// At the end of what is committed when reading starts.
    End,
}

/// A record and when it was received, in µs of epoch time.
#[derive(Debug)]
pub struct Received {
    pub record: Record,
    pub at_us: i64,
}

/// A thread that reads a topic.
#[derive(Debug)]
pub struct TopicReader {
    stop: Arc<AtomicBool>,
    starts: Vec<i64>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl TopicReader {
    /// Starts to read all partitions the topic has now. When this returns, the
    /// offsets to start from are fixed: what is appended later is read. Blocks for
    /// some round trips to Kafka; `on_record` runs on the reader's thread.
    ///
    /// # Errors
    /// [`Error::Unknown`] if there is no such topic, and those of Kafka.
    pub fn start<L: Log>(
        log: Arc<L>,
        topic: &str,
        from: Since,
        until: Until,
        mut on_record: impl FnMut(Received) -> ControlFlow<()> + Send + 'static,
    ) -> Result<Self, Error> {
        let mut cursor = patiently(|| Cursor::new(log.as_ref(), topic, &from, until))?;
        let starts = cursor.next.iter().map(|(_, offset)| *offset).collect();
        let mut reader = cursor.reader(log.as_ref())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let read = move || {
            let mut broken_since = None;
            while !stopped.load(Ordering::Relaxed) {
                // Stamped at once, whatever becomes of it.
                let (polled, at_us) = (reader.poll(POLL), clock::now_us());
                let record = match polled {
                    Ok(Some(record)) => record,
                    // With a header name that is not text: it is there all the same.
                    Err(Error::Unreadable(record)) => *record,
                    Ok(None) => {
                        broken_since = None;
                        if cursor.is_at_end(&mut reader) {
                            return Ok(());
                        }
                        continue;
                    }
                    Err(Error::Unavailable(_)) => {
                        thread::sleep(AFTER_ERROR);
                        let since = *broken_since.get_or_insert_with(Instant::now);
                        if since.elapsed() > REBUILD_AFTER
                            && let Ok(anew) = cursor.reader(log.as_ref())
                        {
                            (reader, broken_since) = (anew, None);
                        }
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                broken_since = None;
                cursor.passed(&record);
                if on_record(Received { record, at_us }).is_break() {
                    return Ok(());
                }
            }
            Ok(())
        };
        let thread = thread::Builder::new()
            .name("topic-reader".to_owned())
            .spawn(read)
            .map_err(|error| Error::Unavailable(format!("no thread: {error}")))?;
        Ok(Self { stop, starts, thread: Some(thread) })
    }

    /// Where reading began, by partition.
    pub fn starts(&self) -> &[i64] {
        &self.starts
    }

    /// Whether the thread has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops reading and waits for the thread: at most a poll's time.
    ///
    /// # Errors
    /// What reading ended with, if it was an error.
    pub fn stop(mut self) -> Result<(), Error> {
        self.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits until reading has ended by itself.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub fn wait(&mut self) -> Result<(), Error> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_panic)) => Err(Error::Refused("the reader's thread died".to_owned())),
            None => Ok(()),
        }
    }
}

impl Drop for TopicReader {
    fn drop(&mut self) {
        // The thread ends with its next poll.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Where each partition of a topic ends for a `read_committed` reader, for one that comes later. Blocks for some round
/// trips to Kafka.
///
/// # Errors
/// As [`TopicReader::start`].
pub fn ends<L: Log>(log: &L, topic: &str) -> Result<Vec<i64>, Error> {
    let cursor = patiently(|| Cursor::new(log, topic, &Since::End, Until::Stopped))?;
    Ok(cursor.next.into_iter().map(|(_, offset)| offset).collect())
}

/// Asks again for a while: a topic just made has no leaders yet, a broker just
/// started has no answers.
fn patiently<T>(ask: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let deadline = Instant::now() + REBUILD_AFTER;
    loop {
        match ask() {
            Err(Error::Unavailable(_)) if Instant::now() < deadline => thread::sleep(AFTER_ERROR),
            result => return result,
        }
    }
}

/// Where reading stands.
struct Cursor {
    next: Vec<(TopicPartition, i64)>,
    /// In the order of `next`; empty if reading has no end.
    ends: Vec<i64>,
}

impl Cursor {
    fn new<L: Log>(log: &L, topic: &str, from: &Since, until: Until) -> Result<Self, Error> {
        let count = log.partitions(topic)?.ok_or_else(|| Error::Unknown(topic.to_owned()))?;
        let topic: Arc<str> = topic.into();
        let partitions: Vec<_> =
            (0..count).map(|partition| TopicPartition { topic: Arc::clone(&topic), partition }).collect();
        let starts = match from {
            Since::Start => log.offsets(&partitions, Offset::Start)?,
            Since::End => log.offsets(&partitions, Offset::StableEnd)?,
            Since::At(ms) => log.offsets(&partitions, Offset::At(*ms))?,
            Since::Offsets(offsets) if offsets.len() == partitions.len() => offsets.to_vec(),
            Since::Offsets(_) => {
                return Err(Error::Refused(format!("{topic} has other partitions than it had")));
            }
        };
        let ends = match until {
            Until::Stopped => Vec::new(),
            Until::End => log.offsets(&partitions, Offset::StableEnd)?,
        };
        Ok(Self { next: partitions.into_iter().zip(starts).collect(), ends })
    }

    fn reader<L: Log>(&self, log: &L) -> Result<L::Reader, Error> {
        let mut reader = log.reader(FETCH_BYTES)?;
        reader.assign(&self.next)?;
        Ok(reader)
    }

    fn passed(&mut self, record: &Record) {
        let index = usize::try_from(record.source.partition).ok();
        if let Some((_, next)) = index.and_then(|i| self.next.get_mut(i)) {
            *next = record.offset + 1;
        }
    }

    /// Whether all partitions are read to their ends; asked when nothing came.
    fn is_at_end<R: ksched_kafka::Reader>(&self, reader: &mut R) -> bool {
        // The reader's own position passes markers and aborted records; before
        // its first fetch it may have none.
        let mut at = |(partition, next): &(TopicPartition, i64)| {
            reader.position(partition).map_or(*next, |position| position.max(*next))
        };
        !self.ends.is_empty() && self.next.iter().zip(&self.ends).all(|(next, end)| at(next) >= *end)
    }
}
