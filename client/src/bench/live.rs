//! What the reader has seen so far.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    ledger::Ledger,
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
    /// Seconds between the first and the last record received.
    pub(super) span_s: f64,
}

/// Filled by the reader's thread.
#[derive(Debug)]
pub(super) struct Live {
    plan: Arc<Plan>,
    run: OnceLock<RunId>,
    delivered: Box<[AtomicBool]>,
    distinct: AtomicU64,
    seen: Mutex<Seen>,
    lateness: Mutex<Lateness>,
}

impl Live {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self {
            delivered: (0..plan.len()).map(|_| AtomicBool::new(false)).collect(),
            plan,
            run: OnceLock::new(),
            distinct: AtomicU64::new(0),
            seen: Mutex::default(),
            lateness: Mutex::default(),
        }
    }

    /// From now on records of this run are looked for.
    pub(super) fn begin(&self, run: RunId) {
        // The first one stays.
        let _ = self.run.set(run);
    }

    /// One record; called on the reader's thread.
    pub(super) fn take_in(&self, received: Received) -> ControlFlow<()> {
        let mark = payload::read(&received.record.content);
        let mine = match (mark, self.run.get()) {
            (Some(mark), Some(run)) => mark.run == *run,
            (Some(_), None) => false,
            // Not of any run: it must not be there.
            (None, _) => true,
        };
        let mut seen = self.seen.lock();
        if !mine {
            seen.foreign += 1;
            return ControlFlow::Continue(());
        }
        let number = mark.map(|mark| mark.number);
        if let (Some(number), Some(run)) = (number, self.run.get())
            && let Some(flag) = usize::try_from(number).ok().and_then(|n| self.delivered.get(n))
        {
            let due_us = self.plan.due_ms(number, run.start_ms).saturating_mul(1000);
            self.lateness.lock().record_us(received.at_us.saturating_sub(due_us));
            if !flag.swap(true, Ordering::Relaxed) {
                self.distinct.fetch_add(1, Ordering::Relaxed);
            }
        }
        seen.records.push(Observed {
            number,
            checksum: mark.map_or(0, |mark| mark.checksum),
            partition: received.record.source.partition,
            offset: received.record.offset,
            append_ms: received.record.timestamp_ms,
            received_at_us: Some(received.at_us),
        });
        ControlFlow::Continue(())
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
        let at_us = |record: Option<&Observed>| record.and_then(|r| r.received_at_us).unwrap_or(0);
        let span_us = at_us(seen.records.last()) - at_us(seen.records.first());
        seen.span_s = span_us as f64 / 1e6;
        seen
    }
}
