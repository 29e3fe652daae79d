//! When is a bucket's first unread record due?

use std::{collections::HashMap, time::Duration};

use ksched_core::envelope::{self, Envelope};
use ksched_kafka::{Error, Log, Reader, Record, TopicPartition};
use tokio::time::Instant;

/// What the reader holds back: a first record each, and what comes with it.
const FETCH_BYTES: usize = 1 << 20;
/// All first records of a tick are there by then, or are looked at in the next.
const PEEK_FOR: Duration = Duration::from_millis(700);

/// What was seen of a bucket from one position on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peeked {
    /// The first record from this offset on is due then.
    Record { from: i64, due_ms: i64 },
    /// There is none between these offsets, only markers and aborted records.
    Nothing { from: i64, to: i64 },
}

impl Peeked {
    /// When the first unread record is due, if this still tells; `i64::MAX` if there
    /// is none.
    pub(super) fn due_ms(self, committed: i64, stable_end: i64) -> Option<i64> {
        match self {
            Self::Record { from, due_ms } if from == committed => Some(due_ms),
            Self::Nothing { from, to } if from == committed && stable_end <= to => Some(i64::MAX),
            Self::Record { .. } | Self::Nothing { .. } => None,
        }
    }
}

/// Looks at the first records of these: index, position, stable end. What takes too
/// long is not in the answer. After an error the reader is not to be used again.
pub(super) fn peek<L: Log>(
    log: &L,
    reader: &mut Option<L::Reader>,
    all: &[TopicPartition],
    wanted: &[(usize, i64, i64)],
) -> Result<Vec<(usize, Peeked)>, Error> {
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(log.reader(FETCH_BYTES)?),
    };
    let from: Vec<_> = wanted.iter().map(|(index, from, _)| (all[*index].clone(), *from)).collect();
    reader.assign(&from)?;
    let mut open: HashMap<&TopicPartition, (usize, i64, i64)> =
        wanted.iter().map(|want| (&all[want.0], *want)).collect();
    let (until, mut found) = (Instant::now() + PEEK_FOR, Vec::new());
    while !open.is_empty() && Instant::now() < until {
        let seen = match reader.poll(Duration::from_millis(20)) {
            Ok(Some(record)) => Some((due_ms(&record), record)),
            Ok(None) => None,
            // None of ours either, and the others' first records are still to be seen.
            Err(Error::Unreadable(record)) => Some((i64::MIN, *record)),
            Err(error) => return Err(error),
        };
        if let Some((due_ms, record)) = seen {
            if let Some((index, from, _)) = open.remove(&record.source) {
                reader.pause(std::slice::from_ref(&record.source))?;
                found.push((index, Peeked::Record { from, due_ms }));
            }
            continue;
        }
        // Quiet: perhaps there is no record where a position has moved on.
        let mut passed = Vec::new();
        for (partition, (_, _, to)) in &open {
            if reader.position(partition)? >= *to {
                passed.push(*partition);
            }
        }
        for partition in passed {
            if let Some((index, from, to)) = open.remove(partition) {
                found.push((index, Peeked::Nothing { from, to }));
            }
        }
    }
    // Nothing is fetched until the next time.
    reader.assign(&[])?;
    Ok(found)
}

/// A record that is none of ours is due at once: its drain puts it away.
fn due_ms(record: &Record) -> i64 {
    let header = record.content.headers.first().filter(|header| &*header.name == envelope::NAME);
    let value = header.and_then(|header| header.value.as_deref());
    let envelope = value.and_then(|bytes| Envelope::decode(bytes).ok());
    envelope.map_or(i64::MIN, |envelope| envelope.effective_due_ms())
}
