//! What this coordinator alone knows: what workers told it in their heartbeats, which jobs
//! it was told are done. For people to look at; nothing depends on it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use ksched_core::jobs::JobName;
use ksched_proto::v1;
use ksched_telemetry::metrics::CoordinatorMetrics;
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

use crate::{job_log::Finished, job_maker::observed::Observed, leasing::wire};

/// Rates and lateness are those of this span.
const WINDOW: Duration = Duration::from_secs(10);
/// A worker that has been silent for longer is not told of.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// More jobs than can be handed out at once; beyond it, beginnings are not remembered.
const HANDED_OUT_MAX: usize = 16_384;

/// Shared by the service that hears workers and those who tell people.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    workers: Mutex<BTreeMap<String, Heard>>,
    /// Drains and when they were handed out, in ms.
    handed_out: Mutex<HashMap<JobName, i64>>,
    finished: mpsc::Sender<Finished>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    dead_lettered: u64,
    /// The oldest first.
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
            lane: slot.lane.into(),
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
        let inner = Inner { workers: Mutex::default(), handed_out: Mutex::default(), finished };
        Self(Arc::new(inner))
    }

    /// A worker's heartbeat.
    pub(crate) fn heard(&self, worker_id: &str, lanes: Vec<v1::LaneFigures>, dead_lettered: u64) {
        let now = Instant::now();
        let mut workers = self.0.workers.lock();
        workers.retain(|_, heard| now.duration_since(heard.at) < FORGET_AFTER);
        let heard = workers.entry(worker_id.to_owned()).or_insert_with(|| Heard {
            at: now,
            dead_lettered,
            told: VecDeque::new(),
        });
        (heard.at, heard.dead_lettered) = (now, dead_lettered);
        heard.told.retain(|(at, _)| now.duration_since(*at) <= WINDOW);
        heard.told.push_back((now, lanes));
    }

    /// A drain was handed to a worker.
    pub(crate) fn handed_out(&self, job: &JobName, now_ms: i64) {
        let mut handed_out = self.0.handed_out.lock();
        if matches!(job, JobName::Drain { .. }) && handed_out.len() < HANDED_OUT_MAX {
            handed_out.insert(job.clone(), now_ms);
        }
    }

    /// A drain is done. `begun_at_ms` is what is said of its beginning if another coordinator
    /// handed it out.
    pub(crate) fn finished(&self, job: &JobName, finished: Finished) {
        let begun_at_ms = self.0.handed_out.lock().remove(job).unwrap_or(finished.begun_at_ms);
        // A log that has no room has no room.
        let _ = self.0.finished.try_send(Finished { begun_at_ms, ..finished });
    }

    /// Every worker that was heard within the last minute.
    pub(crate) fn workers(&self) -> Vec<v1::WorkerActivity> {
        let (now, workers) = (Instant::now(), self.0.workers.lock());
        let recent = workers.iter().filter(|(_, heard)| now.duration_since(heard.at) < FORGET_AFTER);
        recent.map(|(id, heard)| heard.activity(id, now)).collect()
    }
}

impl Heard {
    fn activity(&self, worker_id: &str, now: Instant) -> v1::WorkerActivity {
        let latest = self.told.back();
        let lanes =
            latest.into_iter().flat_map(|(at, lanes)| lanes.iter().map(move |lane| self.lane(*at, lane)));
        v1::WorkerActivity {
            worker_id: worker_id.to_owned(),
            silent_for: prost_types::Duration::try_from(now.duration_since(self.at)).ok(),
            lanes: lanes.collect(),
            dead_lettered: self.dead_lettered,
        }
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
        let of_lane = &workers[0].lanes[0];
        assert_eq!(of_lane.window.as_ref().map(|window| window.seconds), Some(10));
        assert_eq!(of_lane.delivered_by_lateness, [1_000, 10]);

        // Taken anew: what was before says nothing.
        activity.heard("w", vec![lane(0, &[5, 0])], 3);
        assert_eq!(activity.workers()[0].lanes[0].window.as_ref().map(|w| w.seconds), Some(0));

        tokio::time::advance(FORGET_AFTER).await;
        assert!(activity.workers().is_empty());
    }
}
