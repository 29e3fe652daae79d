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
    /// Of what was delivered so far.
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
    lateness: Mutex<Lateness>,
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
    /// What is read is also told to `notes`.
    pub(super) fn new(plan: Arc<Plan>, notes: Option<Notes>) -> Self {
        Self {
            delivered: (0..plan.len()).map(|_| AtomicBool::new(false)).collect(),
            plan,
            notes,
            run: OnceLock::new(),
            distinct: AtomicU64::new(0),
            seen: Mutex::default(),
            lateness: Mutex::default(),
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
        if let Some(hops) = hops(&received.record.content) {
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
                self.lateness.lock().record_us(at_us.saturating_sub(due_us));
            }
            if !flag.swap(true, Ordering::Relaxed) {
                self.distinct.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn progress(&self, ledger: &Ledger, start: Instant) -> Progress {
        Progress {
            elapsed: Instant::now().saturating_duration_since(start),
            planned: self.plan.len(),
            sent: ledger.sent(),
            acknowledged: ledger.acknowledged(),
            refused: ledger.refused(),
            unknown: ledger.unknown(),
            delivered: self.distinct.load(Ordering::Relaxed),
            visible_ms: self.lateness.lock().percentiles(0),
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

/// What a delivered record says of its way, if it is to say it.
fn hops(content: &Content) -> Option<u32> {
    let header = content.headers.iter().find(|header| &*header.name == "ksched-hops")?;
    std::str::from_utf8(header.value.as_deref()?).ok()?.parse().ok()
}
