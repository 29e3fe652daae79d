//! What the page and `/api/status` show, as one value.

use std::collections::BTreeMap;

use ksched_core::{
    jobs::{self, Finished, JobKind, JobName},
    lateness::{Quantiles, quantiles},
};
use ksched_proto::{activity, v1};
use serde::Serialize;

use super::glance::Glance;
use crate::{
    config::Config,
    leasing::{Seen, wire},
    store::WorkerInfo,
};

/// What the charts reach back.
pub(super) const HISTORY_MS: i64 = 300_000;
/// Of a list that may be long.
const LISTED: usize = 50;

/// A cluster at one instant. Times are ms since the epoch, spans ms.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Status {
    pub(super) at_ms: i64,
    /// Of the coordinator that was asked.
    pub(super) name: String,
    pub(super) version: String,
    pub(super) cluster: String,
    pub(super) delivery: &'static str,
    pub(super) kafka: String,
    pub(super) ready: bool,
    /// What does not work, or is to be looked at by an operator.
    pub(super) alarms: Vec<String>,
    /// What cannot be told now, and why.
    pub(super) unknown: Vec<String>,
    pub(super) totals: Totals,
    pub(super) coordinators: Vec<Coordinator>,
    pub(super) lanes: Vec<Lane>,
    /// Empty where no coordinator tells.
    pub(super) pending: Vec<Level>,
    pub(super) workers: Vec<Worker>,
    pub(super) jobs: Vec<Job>,
    /// The newest, if they are known.
    pub(super) job_log: Option<Vec<Finished>>,
    pub(super) dead_letters: Option<Vec<DeadLetter>>,
    pub(super) history: Vec<Sample>,
    pub(super) config: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Totals {
    /// Acknowledged over gRPC, a second; not known before a second look.
    pub(super) scheduled_per_s: Option<f64>,
    pub(super) delivered_per_s: f64,
    pub(super) lateness_ms: Option<Quantiles>,
    /// Records that wait, in the wheel and in the due lanes.
    pub(super) pending: Option<i64>,
    /// Records on the intake topic not yet taken in.
    pub(super) intake_lag: Option<i64>,
    pub(super) dead_letters: Option<i64>,
    pub(super) jobs_held: usize,
    pub(super) jobs_free: usize,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Coordinator {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) grpc: String,
    pub(super) http: String,
    pub(super) makes_jobs: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Lane {
    pub(super) lane: u16,
    /// Its holder's name; empty if nobody holds it.
    pub(super) worker: String,
    /// Records in its inlets that are not settled, as the log tells.
    pub(super) lag: Option<i64>,
    /// Messages its holder has in memory.
    pub(super) held: Option<u64>,
    pub(super) next_due_ms: Option<i64>,
    /// How late the next message is already.
    pub(super) overdue_ms: i64,
    pub(super) delivered_per_s: f64,
    pub(super) lateness_ms: Option<Quantiles>,
}

/// What waits in one level of the wheel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Level {
    pub(super) level: u32,
    pub(super) slot_width_ms: i64,
    /// From the current slot on.
    pub(super) slots: Vec<Slot>,
    /// Of slots that have passed: to be drained at once.
    pub(super) overdue: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Slot {
    pub(super) starts_at_ms: i64,
    pub(super) records: i64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Worker {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) http: String,
    pub(super) registered_at_ms: i64,
    pub(super) state: WorkerState,
    /// Since its last heartbeat, where a coordinator that answers has heard it.
    pub(super) silent_for_ms: Option<i64>,
    pub(super) lanes: Vec<u16>,
    pub(super) intakes: usize,
    pub(super) drains: usize,
    pub(super) held: u64,
    pub(super) delivered_per_s: f64,
    pub(super) lateness_ms: Option<Quantiles>,
    pub(super) dead_lettered: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WorkerState {
    Up,
    /// It has missed two heartbeats; its lease has not ended yet.
    Silent,
    /// Its lease has ended within the last minute, and it did not come back under another id.
    Gone,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) worker: String,
    pub(super) worker_id: String,
    pub(super) fence: Option<i64>,
    /// Drains: when the bucket opened.
    pub(super) opened_at_ms: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct DeadLetter {
    pub(super) at_ms: i64,
    pub(super) code: String,
    pub(super) reason: String,
    /// The target and the message's id, where they are known.
    pub(super) topic: Option<String>,
    pub(super) message_id: Option<String>,
    /// `topic/partition@offset`.
    pub(super) origin: String,
    /// Where it lies.
    pub(super) place: String,
}

/// One instant of the charts.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) at_ms: i64,
    pub(super) scheduled_per_s: Option<f64>,
    pub(super) delivered_per_s: f64,
    pub(super) lateness_ms: Option<Quantiles>,
}

/// What a worker has claimed.
#[derive(Default)]
struct Held {
    lanes: Vec<u16>,
    intakes: usize,
    drains: usize,
}

impl Held {
    fn add(&mut self, job: &JobName) {
        match job {
            JobName::Lane(lane) => self.lanes.push(*lane),
            JobName::Intake { .. } => self.intakes += 1,
            JobName::Drain { .. } => self.drains += 1,
        }
    }
}

/// What is put together.
pub(super) struct Sources<'a> {
    pub(super) now_ms: i64,
    pub(super) config: &'a Config,
    pub(super) seen: Option<&'a Seen>,
    /// Of every coordinator that answered.
    pub(super) told: &'a [v1::GetActivityResponse],
    pub(super) glance: &'a Glance,
}

impl Status {
    /// All but what needs to be remembered between two looks: rates over gRPC, and history.
    pub(super) fn of(sources: &Sources<'_>) -> Self {
        let mut status = Self { at_ms: sources.now_ms, ..Self::default() };
        let cluster = &sources.config.cluster;
        status.cluster.clone_from(&cluster.name);
        status.name.clone_from(&sources.config.name);
        status.kafka.clone_from(&sources.config.kafka);
        status.version = env!("CARGO_PKG_VERSION").to_owned();
        status.delivery = match cluster.delivery {
            ksched_core::cluster::Delivery::ExactlyOnce => "exactly once",
            ksched_core::cluster::Delivery::AtLeastOnce => "at least once",
        };
        status.config = sources.config.effective();
        status.add_activity(sources);
        if let Some(seen) = sources.seen {
            status.add_seen(sources, seen);
        }
        status.job_log = sources.glance.job_log.as_deref().map(newest);
        status.dead_letters = sources.glance.dead_letters.as_deref().map(newest);
        status.totals.intake_lag = sources.glance.intake_lag;
        status.totals.dead_letters = sources.glance.dead_letter_count;
        status
    }

    fn add_activity(&mut self, sources: &Sources<'_>) {
        let geometry = &sources.config.cluster.geometry;
        let leader = sources.told.iter().find(|told| told.makes_jobs);
        if let Some(told) = leader {
            self.alarm(told.hanging_transactions, "held up by an open transaction for 30 s or more");
            self.alarm(told.missing_positions, "without a committed position");
        }
        let pending = leader.map_or(&[][..], |told| &told.pending[..]);
        self.totals.pending = activity::pending(sources.told);
        let levels = leader.map_or(0, |_| geometry.levels);
        self.pending = (1..=levels)
            .map(|level| {
                let of_level = pending.iter().filter(|pending| pending.level == level);
                let (width_ms, ahead) = (geometry.slot_width_ms(level), geometry.writable() + 1);
                Level::of(level, width_ms, ahead, self.at_ms, of_level)
            })
            .collect();
        let (active, lags) = (activity::lanes(sources.told), leader.map(activity::lags));
        self.lanes = (0..geometry.lanes)
            .map(|lane| {
                let lag = lags.as_ref().map(|lags| lags.get(&u32::from(lane)).copied().unwrap_or(0));
                let known = Lane { lane, lag, ..Lane::default() };
                match active.get(&u32::from(lane)) {
                    Some(active) => known.with(active, self.at_ms, geometry.lease_ttl_ms),
                    None => known,
                }
            })
            .collect();
        self.totals.delivered_per_s = self.lanes.iter().map(|lane| lane.delivered_per_s).sum();
        self.totals.lateness_ms = quantiles(&activity::delivered_by_lateness(active.values().copied()));
    }

    fn add_seen(&mut self, sources: &Sources<'_>, seen: &Seen) {
        let snapshot = &seen.snapshot;
        let name_of = |id: &str| match snapshot.workers.get(id) {
            Some(worker) if !worker.name.is_empty() => worker.name.clone(),
            _ => id.to_owned(),
        };
        let drains = snapshot.drains.keys().cloned();
        for job in jobs::standing(&sources.config.cluster).into_iter().chain(drains) {
            let claim = snapshot.claims.get(&job);
            let worker_id = claim.map(|claim| claim.worker_id.clone()).unwrap_or_default();
            let worker = name_of(&worker_id);
            if let JobName::Lane(lane) = job
                && let Some(known) = self.lanes.get_mut(usize::from(lane))
            {
                known.worker.clone_from(&worker);
            }
            let kind = match job.kind() {
                JobKind::Lane => "lane",
                JobKind::Drain => "drain",
                JobKind::Intake => "intake",
            };
            let opened_at_ms = snapshot.drains.get(&job).map(|drain| drain.open_at_ms);
            let (name, fence) = (job.to_string(), claim.map(|claim| claim.fence.0));
            self.jobs.push(Job { name, kind, worker, worker_id, fence, opened_at_ms });
        }
        self.totals.jobs_held = self.jobs.iter().filter(|job| !job.worker_id.is_empty()).count();
        self.totals.jobs_free = self.jobs.len() - self.totals.jobs_held;
        self.coordinators = snapshot
            .coordinators
            .iter()
            .map(|(id, info)| Coordinator {
                name: info.name.clone(),
                version: info.version.clone(),
                grpc: info.grpc_address.clone(),
                http: info.http_address.clone(),
                makes_jobs: snapshot.leader.as_ref() == Some(id),
            })
            .collect();
        self.coordinators.sort_by(|a, b| a.name.cmp(&b.name));
        let lease_ttl_ms = sources.config.cluster.geometry.lease_ttl_ms;
        let (heard, mut held) = (activity::heard(sources.told), BTreeMap::<&str, Held>::new());
        for (job, claim) in &snapshot.claims {
            held.entry(&claim.worker_id).or_default().add(job);
        }
        for (id, info) in &snapshot.workers {
            let (heard, held) = (heard.get(&**id), held.remove(&**id).unwrap_or_default());
            let silent_for_ms = heard.and_then(|heard| wire::ms(heard.silent_for.as_ref()));
            let registered_for_ms = sources.now_ms - info.registered_at_ms;
            let state = match activity::is_silent(silent_for_ms, registered_for_ms, lease_ttl_ms) {
                true => WorkerState::Silent,
                false => WorkerState::Up,
            };
            let active = heard.map_or(&[][..], |heard| &heard.lanes[..]);
            self.workers.push(Worker {
                id: id.clone(),
                name: info.name.clone(),
                version: info.version.clone(),
                http: info.http_address.clone(),
                registered_at_ms: info.registered_at_ms,
                state,
                silent_for_ms,
                lanes: held.lanes,
                intakes: held.intakes,
                drains: held.drains,
                held: active.iter().filter_map(|lane| Some(lane.figures.as_ref()?.held)).sum(),
                delivered_per_s: active.iter().map(activity::rate).sum(),
                lateness_ms: quantiles(&activity::delivered_by_lateness(active.iter())),
                dead_lettered: heard.map_or(0, |heard| heard.dead_lettered),
            });
        }
        self.workers.extend(gone(seen, sources.now_ms, lease_ttl_ms));
        self.workers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    }

    fn alarm(&mut self, partitions: u32, what: &str) {
        if partitions > 0 {
            self.alarms
                .push(format!("{partitions} partition{} {what}", if partitions == 1 { "" } else { "s" }));
        }
    }
}

impl Lane {
    fn with(self, active: &v1::LaneActivity, now_ms: i64, lease_ttl_ms: i64) -> Self {
        let figures = active.figures.as_ref();
        let next_due = figures.and_then(|figures| figures.next_due_time.as_ref());
        let next_due_ms = next_due.map(wire::at_ms);
        Self {
            held: figures.map(|figures| figures.held),
            next_due_ms,
            overdue_ms: activity::overdue_ms(next_due_ms, now_ms, lease_ttl_ms),
            delivered_per_s: activity::rate(active),
            lateness_ms: quantiles(&active.delivered_by_lateness),
            ..self
        }
    }
}

impl Level {
    fn of<'a>(
        level: u32,
        width_ms: i64,
        count: i64,
        now_ms: i64,
        pending: impl Iterator<Item = &'a v1::PendingRecords>,
    ) -> Self {
        let current = now_ms.div_euclid(width_ms);
        let slots = (current..current + count).map(|slot| Slot { starts_at_ms: slot * width_ms, records: 0 });
        let (mut slots, mut overdue): (Vec<_>, i64) = (slots.collect(), 0);
        for pending in pending {
            let start = pending.slot_start_time.as_ref().map_or(0, wire::at_ms);
            let ahead = usize::try_from(start.div_euclid(width_ms) - current).ok();
            match ahead.and_then(|ahead| slots.get_mut(ahead)) {
                Some(slot) => slot.records += pending.records,
                None => overdue += pending.records,
            }
        }
        Self { level, slot_width_ms: width_ms, slots, overdue }
    }
}

/// Several may have one name: who was there long before did not come back.
fn gone(seen: &Seen, now_ms: i64, lease_ttl_ms: i64) -> impl Iterator<Item = Worker> {
    let left = seen.gone.iter().filter_map(move |gone| {
        let gone_for_ms = i64::try_from(gone.at.elapsed().as_millis()).unwrap_or(i64::MAX);
        let died_at_ms = now_ms - gone_for_ms - 2 * lease_ttl_ms;
        let is_successor =
            |worker: &WorkerInfo| worker.name == gone.info.name && worker.registered_at_ms >= died_at_ms;
        let later = seen
            .gone
            .iter()
            .filter(|other| other.id != gone.id && other.at > gone.at)
            .map(|other| &other.info);
        (!seen.snapshot.workers.values().chain(later).any(is_successor)).then_some((gone, gone_for_ms))
    });
    left.map(|(gone, gone_for_ms)| Worker {
        id: gone.id.clone(),
        name: gone.info.name.clone(),
        version: gone.info.version.clone(),
        http: gone.info.http_address.clone(),
        registered_at_ms: gone.info.registered_at_ms,
        state: WorkerState::Gone,
        silent_for_ms: Some(gone_for_ms),
        lanes: Vec::new(),
        intakes: 0,
        drains: 0,
        held: 0,
        delivered_per_s: 0.0,
        lateness_ms: None,
        dead_lettered: 0,
    })
}

fn newest<T: Clone>(all: &[T]) -> Vec<T> {
    all.iter().take(LISTED).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::{leasing::Gone, store::Snapshot};

    #[test]
    fn pending_records_fall_into_their_slots() {
        let record = |seconds, records| v1::PendingRecords {
            level: 1,
            slot_start_time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            records,
            ..Default::default()
        };
        let pending = [record(990, 5), record(1_000, 1), record(1_010, 2), record(1_010, 3)];
        let level = Level::of(1, 10_000, 3, 1_004_000, pending.iter());
        assert_eq!(level.slots.iter().map(|slot| slot.records).collect::<Vec<_>>(), [1, 5, 0]);
        assert_eq!((level.slots[0].starts_at_ms, level.overdue), (1_000_000, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_gone_until_it_comes_back_under_another_id() {
        let info = |name: &str, registered_at_ms| WorkerInfo {
            name: name.to_owned(),
            version: String::new(),
            http_address: String::new(),
            registered_at_ms,
        };
        let now = Instant::now();
        tokio::time::advance(Duration::from_secs(30)).await;
        let left = |id: &str, name: &str, registered_at_ms, after_s| Gone {
            id: id.to_owned(),
            info: info(name, registered_at_ms),
            at: now + Duration::from_secs(after_s),
        };
        // By the clock it is 100 s; `now` was 70 s.
        let gone_of = |seen: &Seen| {
            let gone = gone(seen, 100_000, 5_000);
            gone.map(|worker| (worker.id, worker.silent_for_ms.unwrap())).collect::<Vec<_>>()
        };
        let mut seen = Seen {
            snapshot: Snapshot::default(),
            at: now,
            free_since: BTreeMap::new(),
            gone: vec![left("1", "w", 1_000, 10), left("2", "x", 1_000, 20)],
        };
        assert_eq!(gone_of(&seen), [("1".to_owned(), 20_000), ("2".to_owned(), 10_000)]);
        // One was there all the while, one came after the other had died.
        seen.snapshot.workers.insert("3".to_owned(), info("w", 2_000));
        seen.snapshot.workers.insert("4".to_owned(), info("x", 86_000));
        assert_eq!(gone_of(&seen), [("1".to_owned(), 20_000)]);
        // Of one that dies again and again the last death is shown.
        seen.gone.push(left("5", "w", 76_000, 25));
        assert_eq!(gone_of(&seen), [("5".to_owned(), 5_000)]);
    }
}
