//! What this coordinator alone knows: what workers told it in their heartbeats, and which
//! jobs it was told are done. For people to look at; nothing depends on it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use ksched_core::jobs::Finished;
use ksched_proto::v1;
use ksched_telemetry::metrics::{CoordinatorMetrics, LATENESS_BUCKETS_S};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

use crate::{job_maker::observed::Observed, leasing::wire};

/// Rates and lateness are those of this span.
const WINDOW: Duration = Duration::from_secs(10);
/// Heartbeats that come closer together replace one another.
const STEP: Duration = Duration::from_millis(250);
/// A worker that has been silent for longer is not told of.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// As many as there can be (`Geometry::check`).
const LANES_MAX: usize = 1_024;

/// Shared by the service that hears workers and those who tell people.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    workers: Mutex<BTreeMap<String, Heard>>,
    finished: mpsc::Sender<Finished>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    dead_lettered: u64,
    /// The oldest first. Bounded by `WINDOW` and `STEP`.
    told: VecDeque<(Instant, Vec<v1::LaneFigures>)>,
}

/// Tells all that this coordinator alone knows.
#[derive(Clone, Debug)]
pub struct Teller {
    pub activity: Activity,
    pub counters: CoordinatorMetrics,
    pub observed: Arc<Observed>,
}

impl Teller {
    /// As of now.
    pub(crate) fn tell(&self) -> v1::GetActivityResponse {
        let state = self.observed.get();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let due_lanes = state.observation.pending.iter().filter(|pending| pending.level == 0);
        let due_lanes = due_lanes.map(|pending| v1::PendingRecords {
            level: 0,
            lane: pending.lane.into(),
            slot_start_time: None,
            records: pending.records,
        });
        let slots = state.observation.slots.iter().map(|slot| v1::PendingRecords {
            level: slot.level,
            lane: 0,
            slot_start_time: Some(wire::timestamp(slot.starts_at_ms)),
            records: slot.records,
        });
        v1::GetActivityResponse {
            scheduled: self.counters.scheduled.get(),
            workers: self.activity.workers(),
            makes_jobs: state.leads,
            pending: due_lanes.chain(slots).collect(),
            hanging_transactions: number(state.observation.hanging_transactions),
            missing_positions: number(state.observation.missing_positions),
        }
    }
}

impl Activity {
    /// Finished jobs are told to `finished`, as far as it has room.
    pub fn new(finished: mpsc::Sender<Finished>) -> Self {
        Self(Arc::new(Inner { workers: Mutex::default(), finished }))
    }

    /// A worker's heartbeat.
    pub(crate) fn heard(&self, worker_id: &str, mut lanes: Vec<v1::LaneFigures>, dead_lettered: u64) {
        // No worker needs more, but none must fill our memory either.
        lanes.truncate(LANES_MAX);
        lanes.iter_mut().for_each(|lane| lane.delivered_by_lateness.truncate(LATENESS_BUCKETS_S.len() + 1));
        let now = Instant::now();
        let mut workers = self.0.workers.lock();
        workers.retain(|_, heard| now.duration_since(heard.at) < FORGET_AFTER);
        let new = || Heard { at: now, dead_lettered, told: VecDeque::new() };
        let heard = workers.entry(worker_id.to_owned()).or_insert_with(new);
        (heard.at, heard.dead_lettered) = (now, dead_lettered);
        heard.note(now, lanes);
    }

    /// A drain is done.
    pub(crate) fn finished(&self, finished: Finished) {
        // A log that has no room has no room.
        let _ = self.0.finished.try_send(finished);
    }

    /// Every worker that was heard within the last minute.
    pub(crate) fn workers(&self) -> Vec<v1::WorkerActivity> {
        let (now, workers) = (Instant::now(), self.0.workers.lock());
        let recent = workers.iter().filter(|(_, heard)| now.duration_since(heard.at) < FORGET_AFTER);
        recent.map(|(id, heard)| heard.activity(id, now)).collect()
    }
}

impl Heard {
    fn note(&mut self, now: Instant, lanes: Vec<v1::LaneFigures>) {
        // The two last always: with a long lease, heartbeats are further apart than the window reaches.
        while self.told.len() > 2 && self.told.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW)
        {
            self.told.pop_front();
        }
        let before_last = self.told.len().checked_sub(2).and_then(|place| self.told.get(place));
        if before_last.is_some_and(|(at, _)| now.duration_since(*at) < STEP) {
            self.told.pop_back();
        }
        self.told.push_back((now, lanes));
    }

    fn activity(&self, worker_id: &str, now: Instant) -> v1::WorkerActivity {
        let latest = self.told.back().filter(|_| !self.is_outdated(now));
        let lanes =
            latest.into_iter().flat_map(|(at, lanes)| lanes.iter().map(move |lane| self.lane(*at, lane)));
        v1::WorkerActivity {
            worker_id: worker_id.to_owned(),
            silent_for: prost_types::Duration::try_from(now.duration_since(self.at)).ok(),
            lanes: lanes.collect(),
            dead_lettered: self.dead_lettered,
        }
    }

    /// Whether what it told is too old to be shown as what it does.
    fn is_outdated(&self, now: Instant) -> bool {
        let mut latest = self.told.iter().rev().map(|(at, _)| *at);
        let step = latest.next().zip(latest.next()).map_or(Duration::ZERO, |(last, before)| last - before);
        now.duration_since(self.at) > WINDOW.max(2 * step)
    }

    /// What a lane did since the oldest thing it told in its present holder's hands.
    fn lane(&self, at: Instant, latest: &v1::LaneFigures) -> v1::LaneActivity {
        let counts = &latest.delivered_by_lateness;
        let since = self.told.iter().find_map(|(told_at, lanes)| {
            let before = lanes.iter().find(|lane| lane.lane == latest.lane)?;
            growth(&before.delivered_by_lateness, counts).map(|grown| (*told_at, grown))
        });
        let (since, grown) = since.unwrap_or((at, Vec::new()));
        v1::LaneActivity {
            figures: Some(latest.clone()),
            delivered_by_lateness: grown,
            window: prost_types::Duration::try_from(at.duration_since(since)).ok(),
        }
    }
}

/// By how much each count has grown; `None` if one has shrunk, for then the lane was taken anew.
fn growth(before: &[u64], now: &[u64]) -> Option<Vec<u64>> {
    let before = before.iter().copied().chain(std::iter::repeat(0));
    now.iter().zip(before).map(|(now, before)| now.checked_sub(before)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(lane: u32, counts: &[u64]) -> v1::LaneFigures {
        v1::LaneFigures { lane, delivered_by_lateness: counts.to_vec(), ..Default::default() }
    }

    fn window_s(worker: &v1::WorkerActivity) -> Option<i64> {
        worker.lanes[0].window.as_ref().map(|window| window.seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn tells_what_the_last_seconds_brought() {
        let activity = Activity::new(mpsc::channel(1).0);
        for second in 0..30_u64 {
            activity.heard("w", vec![lane(0, &[second * 100, second])], 3);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let workers = activity.workers();
        assert_eq!((workers.len(), workers[0].dead_lettered), (1, 3));
        assert_eq!(workers[0].silent_for, Some(prost_types::Duration { seconds: 1, nanos: 0 }));
        assert_eq!(window_s(&workers[0]), Some(10));
        assert_eq!(workers[0].lanes[0].delivered_by_lateness, [1_000, 10]);

        // Taken anew: what was before says nothing.
        activity.heard("w", vec![lane(0, &[5, 0])], 3);
        assert_eq!(window_s(&activity.workers()[0]), Some(0));

        // A dead worker does not go on delivering.
        tokio::time::advance(WINDOW + Duration::from_secs(1)).await;
        let workers = activity.workers();
        assert_eq!((workers.len(), workers[0].lanes.len()), (1, 0));
        tokio::time::advance(FORGET_AFTER).await;
        assert!(activity.workers().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_far_apart_tell_and_a_flood_of_them_costs_nothing() {
        let activity = Activity::new(mpsc::channel(1).0);
        for beat in 0..3_u64 {
            activity.heard("w", vec![lane(0, &[beat * 150])], 0);
            tokio::time::advance(Duration::from_secs(15)).await;
        }
        let workers = activity.workers();
        assert_eq!(window_s(&workers[0]), Some(30));
        assert_eq!(workers[0].lanes[0].delivered_by_lateness, [300]);

        for _ in 0..2_000 {
            activity.heard("w", vec![lane(0, &[0; 20]); LANES_MAX + 1], 0);
            tokio::time::advance(Duration::from_millis(10)).await;
        }
        let workers = activity.0.workers.lock();
        let told = &workers["w"].told;
        assert!(told.len() < 50, "{}", told.len());
        assert_eq!((told[0].1.len(), told[0].1[0].delivered_by_lateness.len()), (LANES_MAX, 18));
    }
}
