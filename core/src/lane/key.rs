//! The order in which a lane's records are settled.

use crate::wheel::Inlet;

/// Place of a record in its lane's order (design §5). A pure function of the record
/// and where it stands, so that every holder of the lane orders alike: positions
/// compare keys that different holders made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The record's turn: nothing is done with it before this instant.
    pub(super) time_ms: i64,
    pub(super) scheduled_at_us: i64,
    pub(super) origin: u32,
    pub(super) rank: u8,
    pub(super) offset: i64,
}

impl Key {
    /// Greater than the keys of all records of that millisecond, smaller than all later ones.
    pub(super) const fn end_of(time_ms: i64) -> Self {
        Self { time_ms, scheduled_at_us: i64::MAX, origin: u32::MAX, rank: u8::MAX, offset: i64::MAX }
    }

    /// Whether it is [`end_of`](Self::end_of) its millisecond.
    pub(super) fn is_end(&self) -> bool {
        self.rank == u8::MAX
    }
}

/// An inlet's place in the order. Promoted messages were scheduled earliest.
pub(super) const fn rank(inlet: Inlet) -> u8 {
    match inlet {
        Inlet::Promoted => 0,
        Inlet::Direct => 1,
        Inlet::Intake => 2,
    }
}
