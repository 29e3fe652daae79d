//! What the job maker last saw, for metrics and health.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Messages waiting at one level of one lane, 0 being the due lane. Counted in
/// offsets, so transaction markers are counted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub level: u32,
    pub lane: u16,
    pub records: i64,
}

/// Messages waiting in one slot, over all lanes, counted as in [`Pending`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingSlot {
    pub level: u32,
    /// The slot's first instant, in ms since the epoch.
    pub starts_at_ms: i64,
    pub records: i64,
}

/// What one tick saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    pub pending: Vec<Pending>,
    /// The same by slot, without those that are empty.
    pub slots: Vec<PendingSlot>,
    /// Partitions whose stable end has stayed below their end for 30 s: alarm.
    pub hanging_transactions: usize,
    /// Partitions without a committed position: alarm.
    pub missing_positions: usize,
}

/// The job maker's state at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether this coordinator makes jobs.
    pub leads: bool,
    /// How old the observation is.
    pub seen_at: Option<Instant>,
    pub open_drains: usize,
    /// Empty unless it leads.
    pub observation: Observation,
}

/// Shared by the job maker and whoever reports.
#[derive(Debug, Default)]
pub struct Observed(Mutex<State>);

/// An older observation says nothing any more: there is one each second.
const FRESH: Duration = Duration::from_secs(10);

impl Observed {
    /// The latest state; one whose ticks have failed for a while knows as little as one that makes no jobs.
    pub fn get(&self) -> State {
        let state = self.0.lock();
        if state.seen_at.is_some_and(|at| at.elapsed() <= FRESH) { state.clone() } else { State::default() }
    }

    pub(super) fn lead(&self, open_drains: usize, observation: Observation) {
        *self.0.lock() = State { leads: true, seen_at: Some(Instant::now()), open_drains, observation };
    }

    pub(super) fn follow(&self) {
        *self.0.lock() = State::default();
    }
}
