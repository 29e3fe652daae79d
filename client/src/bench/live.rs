//! What the reader has seen so far.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ksched_core::message::Content;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    ledger::Ledger,
    notes::{Note, Notes, Starts},
    payload::{self, RunId},
    plan::Plan,
};
use crate::{
    reader::Received,
    verify::{Lateness, Observed, Percentiles},
};

/// How far a run is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Since the first message was to be sent; zero before.
    pub elapsed: Duration,
    pub planned: u64,
    pub sent: u64,
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    /// Different messages of the plan.
    pub delivered: u64,
    /// Until the last message is due; zero after.
    pub left: Duration,
    /// Of what was delivered in the last seconds; not numbers if nothing was.
    pub visible_ms: Percentiles,
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) records: Vec<Observed>,
    /// Records of other runs on the same topic; no business of this one.
    pub(super) foreign: u64,
    /// Records by how often they were promoted, where they tell.
    pub(super) hops: BTreeMap<u32, u64>,
    /// Key, value and headers of all records.
    pub(super) bytes: u64,
    /// Seconds between the first and the last record received, or appended if they were read afterwards.
    pub(super) span_s: f64,
}

/// Filled by the reader's thread.
#[derive(Debug)]
pub(super) struct Live {
    plan: Arc<Plan>,
    run: OnceLock<Begun>,
    notes: Option<Notes>,
    delivered: Box<[AtomicBool]>,
    distinct: AtomicU64,
    seen: Mutex<Seen>,
    recent: Mutex<Recent>,
    /// After message 0 was to be sent.
    last_due_in: Duration,
}

/// Lateness of the last five to ten seconds: two histograms, both filled, each emptied in its turn.
#[derive(Debug)]
struct Recent {
    older: Lateness,
    younger: Lateness,
    turned: Instant,
}

/// How long a histogram is the younger one.
const TURN: Duration = Duration::from_secs(5);

impl Recent {
    fn new(now: Instant) -> Self {
        Self { older: Lateness::new(), younger: Lateness::new(), turned: now }
    }

    fn record_us(&mut self, late_us: i64) {
        self.older.record_us(late_us);
        self.younger.record_us(late_us);
    }

    fn percentiles(&mut self, now: Instant) -> Percentiles {
        if now.saturating_duration_since(self.turned) >= TURN {
            self.turned = now;
            self.older = std::mem::take(&mut self.younger);
        }
        self.older.percentiles(0)
    }
}

/// Which records are looked for.
#[derive(Debug)]
struct Begun {
    run: RunId,
    starts: Starts,
    /// Records from before this came while nobody read: when they became visible is not known.
    reading_since_ms: i64,
}

impl Live {
    /// What is read is also told to `notes`. The last message is due so long after the start.
    pub(super) fn new(plan: Arc<Plan>, last_due_in: Duration, notes: Option<Notes>) -> Self {
        Self {
            delivered: (0..plan.len()).map(|_| AtomicBool::new(false)).collect(),
            plan,
            notes,
            run: OnceLock::new(),
            distinct: AtomicU64::new(0),
            seen: Mutex::default(),
            recent: Mutex::new(Recent::new(Instant::now())),
            last_due_in,
        }
    }

    /// From now on records of this run are looked for; until then the reader waits. What was delivered before is
    /// taken up.
    pub(super) fn begin(&self, run: RunId, starts: Starts, reading_since_ms: i64, delivered: Vec<Observed>) {
        let begun = Begun { run, starts, reading_since_ms };
        for record in &delivered {
            self.count(&begun, record);
        }
        self.seen.lock().records = delivered;
        // The first one stays.
        let _ = self.run.set(begun);
    }

    /// One record; called on the reader's thread.
    pub(super) fn take_in(&self, received: Received) -> ControlFlow<()> {
        let mark = payload::read(&received.record.content);
        let begun = self.run.wait();
        // What is of no run at all must not be there.
        if mark.is_some_and(|mark| mark.run != begun.run) {
            self.seen.lock().foreign += 1;
            return ControlFlow::Continue(());
        }
        let append_ms = received.record.timestamp_ms;
        let seen_live = append_ms >= begun.reading_since_ms;
        let observed = Observed {
            number: mark.map(|mark| mark.number),
            checksum: mark.map_or(0, |mark| mark.checksum),
            partition: received.record.source.partition,
            offset: received.record.offset,
            append_ms,
            received_at_us: seen_live.then_some(received.at_us),
        };
        self.count(begun, &observed);
        if let Some(notes) = &self.notes {
            notes.put(Note::Delivered(observed));
        }
        let bytes = size(&received.record.content);
        let mut seen = self.seen.lock();
        seen.bytes += bytes;
        if let Some(hops) = payload::told(&received.record.content, "ksched-hops") {
            *seen.hops.entry(hops).or_default() += 1;
        }
        seen.records.push(observed);
        ControlFlow::Continue(())
    }

    fn count(&self, begun: &Begun, record: &Observed) {
        if let Some(number) = record.number
            && let Some(flag) = usize::try_from(number).ok().and_then(|n| self.delivered.get(n))
        {
            if let Some(at_us) = record.received_at_us {
                let due_us = self.plan.due_ms(number, begun.starts.of(number)).saturating_mul(1000);
                self.recent.lock().record_us(at_us.saturating_sub(due_us));
            }
            if !flag.swap(true, Ordering::Relaxed) {
                self.distinct.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn progress(&self, ledger: &Ledger, start: Instant) -> Progress {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(start);
        Progress {
            elapsed,
            planned: self.plan.len(),
            sent: ledger.sent(),
            acknowledged: ledger.acknowledged(),
            refused: ledger.refused(),
            unknown: ledger.unknown(),
            delivered: self.distinct.load(Ordering::Relaxed),
            left: self.last_due_in.saturating_sub(elapsed),
            visible_ms: self.recent.lock().percentiles(now),
        }
    }

    /// Whether every acknowledged message was delivered.
    pub(super) fn has_all(&self, ledger: &Ledger) -> bool {
        // Counting first keeps the long way for the end of the run.
        self.distinct.load(Ordering::Relaxed) >= ledger.acknowledged()
            && (0_u64..)
                .zip(&self.delivered)
                .all(|(number, flag)| flag.load(Ordering::Relaxed) || !ledger.is_acknowledged(number))
    }

    /// All that was read, once.
    pub(super) fn take(&self) -> Seen {
        let mut seen = std::mem::take(&mut *self.seen.lock());
        let at_us = |r: &Observed| r.received_at_us.unwrap_or(r.append_ms.saturating_mul(1000));
        let (first, last) = (seen.records.iter().map(at_us).min(), seen.records.iter().map(at_us).max());
        seen.span_s = last.zip(first).map_or(0.0, |(last, first)| (last - first) as f64 / 1e6);
        seen
    }
}

/// What a user gets of it.
fn size(content: &Content) -> u64 {
    let Content { key, value, headers } = content;
    let values = headers.iter().filter_map(|header| header.value.as_ref());
    let names: usize = headers.iter().map(|header| header.name.len()).sum();
    (names + [key, value].into_iter().flatten().chain(values).map(|bytes| bytes.len()).sum::<usize>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_late_a_while_ago_is_forgotten() {
        let start = Instant::now();
        let mut recent = Recent::new(start);
        recent.record_us(50_000);
        assert!((recent.percentiles(start).max - 50.0).abs() < 0.1);
        assert!((recent.percentiles(start + TURN).max - 50.0).abs() < 0.1, "not all at once");
        recent.record_us(1_000);
        assert!((recent.percentiles(start + 2 * TURN).max - 1.0).abs() < 0.1);
        assert!(recent.percentiles(start + 3 * TURN).p99.is_infinite(), "nothing is left");
    }
}
