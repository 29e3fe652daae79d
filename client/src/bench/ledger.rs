//! What became of each message of a run on the sending side.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::{
    notes::{Note, Notes, Starts},
    plan::Plan,
};
use crate::{
    clock,
    verify::{Acceptance, Planned},
};

/// Not settled yet.
const PENDING: i64 = 0;
/// Settled without an acknowledgement; those have an instant instead.
const REFUSED: i64 = -1;
const UNKNOWN: i64 = -2;

/// Two instants a message, written by the sending tasks.
#[derive(Debug)]
pub(super) struct Ledger {
    /// µs of epoch time; 0: not sent.
    sent_at_us: Box<[AtomicI64]>,
    settled: Box<[AtomicI64]>,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    first_error: parking_lot::Mutex<Option<String>>,
    notes: Option<Notes>,
}

impl Ledger {
    /// What becomes of messages is also told to `notes`.
    pub(super) fn new(count: u64, notes: Option<Notes>) -> Self {
        let zeros = || (0..count).map(|_| AtomicI64::new(0)).collect();
        Self {
            sent_at_us: zeros(),
            settled: zeros(),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            first_error: parking_lot::Mutex::new(None),
            notes,
        }
    }

    /// Takes up what is known of messages below `may_have_sent`; of whatever is not known, it may have happened.
    pub(super) fn remembers(&self, may_have_sent: u64, settled: &[(u64, i64, i64)]) {
        for (number, sent_at_us, outcome) in settled {
            let Some(place) = usize::try_from(*number).ok().filter(|place| *place < self.settled.len())
            else {
                continue;
            };
            self.sent_at_us[place].store(*sent_at_us, Ordering::Relaxed);
            self.settled[place].store(*outcome, Ordering::Release);
            let count = match *outcome {
                REFUSED => &self.refused,
                UNKNOWN => &self.unknown,
                _ => &self.acknowledged,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        for slot in self.settled.iter().take(usize::try_from(may_have_sent).unwrap_or(usize::MAX)) {
            if slot.load(Ordering::Acquire) == PENDING {
                slot.store(UNKNOWN, Ordering::Release);
                self.unknown.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.sent.store(may_have_sent, Ordering::Relaxed);
    }

    /// Notes that a message is being handed over now.
    pub(super) fn sends(&self, number: u64) {
        if let Some(slot) = self.sent_at_us.get(number as usize) {
            slot.store(clock::now_us(), Ordering::Relaxed);
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes how handing it over ended.
    pub(super) fn settles(&self, number: u64, result: Result<(), &crate::Error>) {
        match result {
            Ok(()) => self.acknowledges(number, clock::now_us()),
            Err(error) if error.may_have_happened() => self.loses_sight(number, error),
            Err(error) => self.refuses(number, error),
        }
    }

    pub(super) fn acknowledges(&self, number: u64, at_us: i64) {
        self.put(number, at_us, &self.acknowledged);
    }

    /// It may have been scheduled.
    pub(super) fn loses_sight(&self, number: u64, why: &dyn std::fmt::Display) {
        self.put(number, UNKNOWN, &self.unknown);
        self.first_error.lock().get_or_insert_with(|| why.to_string());
    }

    pub(super) fn refuses(&self, number: u64, why: &dyn std::fmt::Display) {
        self.put(number, REFUSED, &self.refused);
        self.first_error.lock().get_or_insert_with(|| why.to_string());
    }

    fn put(&self, number: u64, value: i64, count: &AtomicU64) {
        if let Some(slot) = self.settled.get(number as usize) {
            slot.store(value, Ordering::Release);
            count.fetch_add(1, Ordering::Relaxed);
            if let (Some(notes), Some(sent)) = (&self.notes, self.sent_at_us.get(number as usize)) {
                let sent_at_us = sent.load(Ordering::Relaxed);
                notes.put(Note::Settled { number, sent_at_us, settled: value });
            }
        }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    pub(super) fn first_error(&self) -> Option<String> {
        self.first_error.lock().clone()
    }

    pub(super) fn is_acknowledged(&self, number: u64) -> bool {
        self.settled.get(number as usize).is_some_and(|slot| slot.load(Ordering::Acquire) > PENDING)
    }

    /// The plan with what became of it, for the verifier.
    pub(super) fn planned(&self, plan: &Plan, starts: &Starts) -> Vec<Planned> {
        let slots = self.sent_at_us.iter().zip(&self.settled);
        let each = (0_u64..).zip(slots).map(|(number, (sent, settled))| {
            let sent_at_us = sent.load(Ordering::Relaxed);
            let acceptance = match settled.load(Ordering::Acquire) {
                REFUSED => Acceptance::Not,
                PENDING if sent_at_us == 0 => Acceptance::Not,
                PENDING | UNKNOWN => Acceptance::Unknown,
                at_us => Acceptance::Acknowledged { at_us },
            };
            Planned {
                due_ms: plan.due_ms(number, starts.of(number)),
                key: plan.key(number),
                checksum: plan.checksum(number),
                sent_at_us,
                acceptance,
            }
        });
        each.collect()
    }
}
