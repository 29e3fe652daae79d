//! What a run tells whoever keeps a ledger of it on disk, and what an interrupted run is continued with.
//!
//! A message counts as sent from the moment it *may* be sent: the generator asks for numbers ahead of time and
//! sends none before the ledger has them on disk. So a run that is killed knows of no message that it sent
//! without a note; what has a number and no outcome may have been scheduled, and is never sent again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
    mpsc::{Receiver, SyncSender, sync_channel},
};

use super::payload::RunId;
use crate::verify::Observed;

/// Notes on their way to the disk. When they are this many, the run waits for the disk.
const QUEUE: usize = 65_536;

/// Something that is to be kept.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// From this message on, the run's clock begins at `start_ms`; the target is read from these offsets on.
    Begins {
        run: RunId,
        start: Start,
        offsets: Vec<i64>,
    },
    /// Messages below this number may be sent.
    MaySend {
        upto: u64,
    },
    /// As [`Ledger`](super::ledger::Ledger) has it.
    Settled {
        number: u64,
        sent_at_us: i64,
        settled: i64,
    },
    Delivered(Observed),
    /// Nothing more comes.
    Ends,
}

/// A part of a run without interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Its first message.
    pub(super) first: u64,
    /// What due times of its messages are counted from: when the run would have begun, had it not been interrupted.
    pub(super) start_ms: i64,
}

/// The parts of a run, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Starts(pub(super) Vec<Start>);

impl Starts {
    /// What the due time of a message is counted from.
    pub(super) fn of(&self, number: u64) -> i64 {
        let after = self.0.partition_point(|start| start.first <= number);
        after.checked_sub(1).and_then(|place| self.0.get(place)).map_or(0, |start| start.start_ms)
    }
}

/// What a ledger knows of its run.
#[derive(Clone, Debug)]
pub struct Past {
    pub(super) run: RunId,
    pub(super) starts: Starts,
    /// Messages below this number may have been sent.
    pub(super) may_have_sent: u64,
    /// Number, sent at, outcome.
    pub(super) settled: Vec<(u64, i64, i64)>,
    pub(super) delivered: Vec<Observed>,
    /// Where the target is read on, by partition.
    pub(super) offsets: Vec<i64>,
}

/// The way to the ledger.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    queue: SyncSender<Note>,
    kept: Arc<Kept>,
}

/// What is on disk.
#[derive(Debug, Default)]
pub(super) struct Kept {
    may_send: AtomicU64,
    broken: AtomicBool,
}

impl Notes {
    pub(super) fn new() -> (Self, Receiver<Note>, Arc<Kept>) {
        let (queue, notes) = sync_channel(QUEUE);
        let kept = Arc::new(Kept::default());
        (Self { queue, kept: Arc::clone(&kept) }, notes, kept)
    }

    /// Waits while too much is on its way to the disk.
    pub(super) fn put(&self, note: Note) {
        // Nobody takes it only after the end, or when the ledger is broken, which is looked at elsewhere.
        let _ = self.queue.send(note);
    }

    /// Messages below this number may be sent.
    pub(super) fn may_send(&self) -> u64 {
        self.kept.may_send.load(Ordering::Acquire)
    }

    /// Nothing is kept any more.
    pub(super) fn is_broken(&self) -> bool {
        self.kept.broken.load(Ordering::Acquire)
    }
}

impl Kept {
    pub(super) fn may_send(&self, upto: u64) {
        self.may_send.fetch_max(upto, Ordering::AcqRel);
    }

    pub(super) fn broke(&self) {
        self.broken.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_belongs_to_the_part_it_was_sent_in() {
        let starts = Starts(vec![Start { first: 0, start_ms: 10 }, Start { first: 5, start_ms: 90 }]);
        assert_eq!([0, 4, 5, 6].map(|number| starts.of(number)), [10, 10, 90, 90]);
    }
}
