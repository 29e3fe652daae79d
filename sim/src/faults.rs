//! What goes wrong, drawn from the seed: the weather on every way, and blows at instants.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ksched_kafka::memory::Request;
use parking_lot::Mutex;
use rand::{RngExt, rngs::StdRng};
use tokio::time::sleep;

use crate::{
    process::Process,
    users::{self, Load},
};

/// Requests by what a fault there may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Init,
    /// Of a lane's producers.
    LaneInit,
    Positions,
    Produce,
    TxnOffsets,
    EndTxn,
    OffsetCommit,
    Other,
}

impl Kind {
    pub(crate) fn of(request: &Request) -> Self {
        match request {
            Request::InitProducerId { transactional_id: Some(id), .. } if id.contains(".due.") => {
                Self::LaneInit
            }
            Request::InitProducerId { .. } => Self::Init,
            Request::OffsetFetch { .. } => Self::Positions,
            Request::Produce(_) => Self::Produce,
            Request::TxnOffsetCommit { .. } => Self::TxnOffsets,
            Request::EndTxn { .. } => Self::EndTxn,
            Request::OffsetCommit { .. } => Self::OffsetCommit,
            _ => Self::Other,
        }
    }

    const STALLED: [Self; 7] = [
        Self::Init,
        Self::LaneInit,
        Self::Positions,
        Self::Produce,
        Self::TxnOffsets,
        Self::EndTxn,
        Self::OffsetCommit,
    ];
}

/// How far clocks may be ahead of true time, in microseconds. No worker's differs from any
/// coordinator's by more than 240 ms, some of which an answer takes to come: beyond
/// 250 ms it would not be believed.
#[derive(Clone, Debug)]
pub(crate) struct Clocks {
    pub(crate) workers_us: RangeInclusive<i64>,
    pub(crate) coordinators_us: RangeInclusive<i64>,
}

impl Default for Clocks {
    /// All are right.
    fn default() -> Self {
        Self { workers_us: 0..=0, coordinators_us: 0..=0 }
    }
}

impl Clocks {
    fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..4) {
            0..=1 => Self::default(),
            2 => Self { workers_us: -240_000..=240_000, coordinators_us: 0..=0 },
            _ => {
                let middle_us = rng.random_range(-200_000..=200_000);
                let around = |us: i64| middle_us - us..=middle_us + us;
                Self { workers_us: around(180_000), coordinators_us: around(60_000) }
            }
        }
    }

    pub(crate) fn differ(&self) -> bool {
        self.workers_us.start() < self.workers_us.end()
    }

    pub(crate) fn coordinators_differ(&self) -> bool {
        self.coordinators_us.start() < self.coordinators_us.end()
    }
}

/// The weather of a run.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    /// One way to the broker takes up to this.
    pub(crate) travel_ms: u64,
    /// Of so many requests of a kind one is lost or late; 0: none.
    reads_lost_in: u32,
    writes_lost_in: u32,
    ends_lost_in: u32,
    pub(crate) calls_lost_in: u32,
    pub(crate) clocks: Clocks,
    pub(crate) store_lost_in: u32,
    /// Processes that stand still, or die, at a certain request.
    stalls: Mutex<Vec<Stall>>,
    healed: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Stall {
    kind: Kind,
    /// At the so-many-th request of the kind.
    countdown: u32,
    span: Duration,
    /// Once it is done, its answer on the way; otherwise before it leaves.
    after: bool,
    then: Then,
}

/// What becomes of a process that is stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It goes on after the span.
    GoesOn,
    /// The same, and for as long again it hears of no coordinator that its lease is over.
    GoesOnAlone,
    Dies,
}

impl Weather {
    /// Nothing goes wrong.
    pub(crate) fn fair() -> Self {
        Self { travel_ms: 2, healed: AtomicBool::new(true), ..Self::default() }
    }

    /// Any weather, some of it foul.
    pub(crate) fn draw(rng: &mut StdRng, ttl_ms: u64, load: Load) -> Self {
        let mut often = |from, to| if rng.random_bool(0.5) { rng.random_range(from..to) } else { 0 };
        let (reads_lost_in, writes_lost_in) = (often(100, 2_000), often(20, 500));
        let ends_lost_in = match load {
            // What was settled is read again when a transaction does not end well.
            Load::Heavy => often(5, 60).max(often(5, 60)).max(often(5, 60)),
            Load::Thin | Load::Dense => often(5, 60),
        };
        let (calls_lost_in, store_lost_in) = (often(20, 200), often(20, 200));
        let stalls = (0..rng.random_range(0..6)).map(|_| {
            let kind = Kind::STALLED[rng.random_range(0..Kind::STALLED.len())];
            let most = if kind == Kind::LaneInit { 10 } else { 40 };
            Stall {
                kind,
                countdown: rng.random_range(1..most),
                span: Duration::from_millis(rng.random_range(50..3 * ttl_ms)),
                after: rng.random(),
                then: if rng.random_bool(0.3) { Then::Dies } else { Then::GoesOn },
            }
        });
        let mut stalls: Vec<_> = stalls.collect();
        // Two holders of a lane, each with one valid producer (design §4.1): the first stands
        // still between its two inits, for longer than its lease lasts.
        if rng.random_bool(0.25) {
            let span = Duration::from_millis(rng.random_range(ttl_ms + 500..4 * ttl_ms));
            let countdown = rng.random_range(1..16);
            let then = if rng.random_bool(0.7) { Then::GoesOnAlone } else { Then::GoesOn };
            stalls.push(Stall { kind: Kind::LaneInit, countdown, span, after: true, then });
        }
        let stalls = Mutex::new(stalls);
        let travel_ms = rng.random_range(1..12);
        Self {
            travel_ms,
            reads_lost_in,
            writes_lost_in,
            ends_lost_in,
            calls_lost_in,
            clocks: Clocks::draw(rng),
            store_lost_in,
            stalls,
            healed: AtomicBool::new(false),
        }
    }

    /// From now on nothing more goes wrong.
    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_healed(&self) -> bool {
        self.healed.load(Ordering::Relaxed)
    }

    pub(crate) fn lost_in(&self, kind: Kind) -> u32 {
        match kind {
            Kind::EndTxn | Kind::TxnOffsets => self.ends_lost_in,
            Kind::Produce | Kind::Init | Kind::LaneInit | Kind::OffsetCommit => self.writes_lost_in,
            Kind::Positions | Kind::Other => self.reads_lost_in,
        }
    }

    /// The process may stand still, or die, before its request leaves.
    pub(crate) fn stall(&self, process: &Arc<Process>, kind: Kind) {
        self.stall_if(process, kind, false);
    }

    /// The process may stand still, or die, before it sees the answer.
    pub(crate) fn stall_after(&self, process: &Arc<Process>, kind: Kind) {
        self.stall_if(process, kind, true);
    }

    fn stall_if(&self, process: &Arc<Process>, kind: Kind, after: bool) {
        if self.is_healed() {
            return;
        }
        let mut due = Vec::new();
        self.stalls.lock().retain_mut(|stall| {
            if stall.kind != kind || stall.after != after {
                return true;
            }
            stall.countdown -= 1;
            if stall.countdown == 0 {
                due.push(*stall);
            }
            stall.countdown > 0
        });
        for stall in due {
            match stall.then {
                Then::Dies if process.name != users::NAME => process.kill(),
                Then::GoesOnAlone => {
                    process.pause_for(stall.span);
                    process.cut_off.lock().coordinators = true;
                    let process = Arc::clone(process);
                    tokio::spawn(async move {
                        sleep(2 * stall.span).await;
                        process.cut_off.lock().coordinators = false;
                    });
                }
                Then::Dies | Then::GoesOn => process.pause_for(stall.span),
            }
        }
    }
}
