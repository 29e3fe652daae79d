//! What `top` and `lanes` show, as one value made of what the coordinators answer.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use ksched_core::{
    lateness::{BEYOND_MS, Quantiles, quantiles},
    words::{UNKNOWN, count, decimal, late, plural, rate, span},
};
use ksched_proto::{
    activity,
    time::{at_ms, ms},
    v1,
};
use serde::Serialize;

use crate::cluster::summary;

/// Twenty minutes of looks a second apart.
const SAMPLES: usize = 1_200;
/// Unless the coordinator tells another.
const LEASE_TTL_MS: i64 = 5_000;

/// What the coordinators answered.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) at_ms: i64,
    pub(crate) cluster: v1::GetClusterResponse,
    /// Or why they are not known.
    pub(crate) workers: Result<Vec<v1::Worker>, String>,
    pub(crate) jobs: Result<Vec<v1::JobState>, String>,
    /// Of every coordinator that answered.
    pub(crate) told: Vec<v1::GetActivityResponse>,
    /// How many of these say that they can serve.
    pub(crate) ready: usize,
    pub(crate) scheduled_per_s: Option<f64>,
    /// What is missing, and why.
    pub(crate) unknown: Vec<String>,
}

/// A cluster at one instant. Times are ms since the epoch, spans ms.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) at_ms: i64,
    pub(crate) cluster: String,
    /// Of its coordinators, each once.
    pub(crate) versions: String,
    /// None while the store is away.
    pub(crate) coordinators: usize,
    /// Who makes jobs; empty if nobody is known to.
    pub(crate) leader: String,
    pub(crate) answered: usize,
    pub(crate) ready: usize,
    pub(crate) alarms: Vec<String>,
    pub(crate) unknown: Vec<String>,
    pub(crate) scheduled_per_s: Option<f64>,
    pub(crate) delivered_per_s: f64,
    pub(crate) lateness_ms: Option<Quantiles>,
    pub(crate) pending: Option<i64>,
    /// By the workers there are, since each was started.
    pub(crate) dead_lettered: u64,
    /// Held and free.
    pub(crate) jobs: Option<(usize, usize)>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) workers: Option<Vec<Worker>>,
}

/// Named as in `/api/status`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Lane {
    pub(crate) lane: u32,
    /// Its holder's name; empty if nobody holds it, `None` if that is not known.
    pub(crate) worker: Option<String>,
    lag: Option<i64>,
    held: Option<u64>,
    next_due_ms: Option<i64>,
    pub(crate) overdue_ms: i64,
    delivered_per_s: f64,
    lateness_ms: Option<Quantiles>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Worker {
    name: String,
    pub(crate) is_silent: bool,
    silent_for_ms: Option<i64>,
    held: u64,
    delivered_per_s: f64,
    lateness_ms: Option<Quantiles>,
    jobs: String,
}

/// One instant of the charts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    at_ms: i64,
    pub(crate) delivered_per_s: f64,
    pub(crate) lateness_ms: Option<Quantiles>,
}

/// The last looks.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<Sample>);

/// What is on the screen.
#[derive(Debug)]
pub(crate) struct Shown {
    /// As of the last answer.
    pub(crate) view: Option<View>,
    pub(crate) history: History,
    answered_at: Instant,
    /// Why the last look saw nothing.
    failure: Option<String>,
}

impl View {
    pub(crate) fn of(answers: &Answers) -> Self {
        let cluster = answers.cluster.cluster.clone().unwrap_or_default();
        let geometry = cluster.geometry.unwrap_or_default();
        let lease_ttl_ms = ms(geometry.lease_ttl.as_ref()).unwrap_or(LEASE_TTL_MS);
        let leader = answers.told.iter().find(|told| told.makes_jobs);
        let versions = answers.cluster.coordinators.iter().map(|peer| &*peer.version);
        let active = activity::lanes(&answers.told);
        let heard = activity::heard(&answers.told);
        let jobs = answers.jobs.as_ref().ok();
        let held = |jobs: &Vec<v1::JobState>| jobs.iter().filter(|job| !job.worker_id.is_empty()).count();
        let mut view = Self {
            at_ms: answers.at_ms,
            versions: versions.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", "),
            coordinators: answers.cluster.coordinators.len(),
            leader: answers.cluster.leader.clone(),
            answered: answers.told.len(),
            ready: answers.ready,
            scheduled_per_s: answers.scheduled_per_s,
            delivered_per_s: active.values().map(|lane| activity::rate(lane)).sum(),
            lateness_ms: quantiles(&activity::delivered_by_lateness(active.values().copied())),
            pending: activity::pending(&answers.told),
            dead_lettered: heard.values().map(|worker| worker.dead_lettered).sum(),
            jobs: jobs.map(|jobs| (held(jobs), jobs.len() - held(jobs))),
            lanes: lanes(answers, geometry.lanes, lease_ttl_ms),
            workers: answers.workers.as_ref().ok().map(|all| workers(answers, all, lease_ttl_ms)),
            unknown: answers.unknown.clone(),
            alarms: Vec::new(),
            cluster: cluster.name,
        };
        for (what, why) in
            [("workers", answers.workers.as_ref().err()), ("jobs", answers.jobs.as_ref().err())]
        {
            view.unknown.extend(why.map(|why| format!("{what}: {why}")));
        }
        match leader {
            Some(leader) => view.add_alarms_of(leader),
            None => view.unknown.push("what is pending: no coordinator that answers makes jobs".to_owned()),
        }
        view.add_alarms();
        view
    }

    fn add_alarms_of(&mut self, leader: &v1::GetActivityResponse) {
        let faults = [
            (leader.hanging_transactions, "held up by an open transaction for 30 s or more"),
            (leader.missing_positions, "without a committed position"),
        ];
        let faults = faults.iter().filter(|(partitions, _)| *partitions > 0);
        self.alarms.extend(faults.map(|(n, what)| format!("{} {what}", plural(*n as usize, "partition"))));
    }

    fn add_alarms(&mut self) {
        if self.answered == 0 {
            self.alarms.push("no coordinator tells what it knows".to_owned());
        }
        if self.ready < self.answered {
            let unready = plural(self.answered - self.ready, "coordinator");
            self.alarms.push(format!("{unready} not ready"));
        }
        let silent = self.workers.iter().flatten().filter(|worker| worker.is_silent);
        self.alarms.extend(silent.map(|worker| format!("worker {} is silent", worker.name)));
        let homeless = self.lanes.iter().filter(|lane| lane.worker.as_deref() == Some("")).count();
        if homeless > 0 {
            self.alarms.push(format!("{} without a worker", plural(homeless, "lane")));
        }
        let behind = self.lanes.iter().map(|lane| lane.overdue_ms).max().unwrap_or(0);
        if behind > activity::BEHIND_MS {
            self.alarms.push(format!("a lane is {} behind", span(behind)));
        }
    }
}

fn lanes(answers: &Answers, number: u32, lease_ttl_ms: i64) -> Vec<Lane> {
    let active = activity::lanes(&answers.told);
    let lags = answers.told.iter().find(|told| told.makes_jobs).map(activity::lags);
    let lane_jobs = answers.jobs.iter().flatten().filter_map(|state| {
        let job = state.job.as_ref().filter(|job| job.kind() == v1::JobKind::Lane)?;
        Some((job.lane, name(&state.worker_name, &state.worker_id)))
    });
    let holders: BTreeMap<u32, String> = lane_jobs.collect();
    let lane = |lane: u32| {
        let lag = lags.as_ref().map(|lags| lags.get(&lane).copied().unwrap_or(0));
        let active = active.get(&lane);
        let figures = active.and_then(|active| active.figures.as_ref());
        let next_due_ms = figures.and_then(|figures| figures.next_due_time.as_ref()).map(at_ms);
        Lane {
            lane,
            worker: answers.jobs.is_ok().then(|| holders.get(&lane).cloned().unwrap_or_default()),
            lag,
            held: figures.map(|figures| figures.held),
            next_due_ms,
            overdue_ms: activity::overdue_ms(next_due_ms, answers.at_ms, lease_ttl_ms),
            delivered_per_s: active.map_or(0.0, |active| activity::rate(active)),
            lateness_ms: active.and_then(|active| quantiles(&active.delivered_by_lateness)),
        }
    };
    (0..number).map(lane).collect()
}

fn workers(answers: &Answers, all: &[v1::Worker], lease_ttl_ms: i64) -> Vec<Worker> {
    let heard = activity::heard(&answers.told);
    let worker = |worker: &v1::Worker| {
        let heard = heard.get(&*worker.worker_id);
        let silent_for_ms = heard.and_then(|heard| ms(heard.silent_for.as_ref()));
        let registered_for_ms = worker.registered_time.as_ref().map_or(0, |at| answers.at_ms - at_ms(at));
        let active = heard.map_or(&[][..], |heard| &heard.lanes[..]);
        Worker {
            name: name(&worker.name, &worker.worker_id),
            is_silent: activity::is_silent(silent_for_ms, registered_for_ms, lease_ttl_ms),
            silent_for_ms,
            held: active.iter().filter_map(|lane| Some(lane.figures.as_ref()?.held)).sum(),
            delivered_per_s: active.iter().map(activity::rate).sum(),
            lateness_ms: quantiles(&activity::delivered_by_lateness(active.iter())),
            jobs: summary(&worker.jobs),
        }
    };
    all.iter().map(worker).collect()
}

fn name(name: &str, id: &str) -> String {
    if name.is_empty() { id.to_owned() } else { name.to_owned() }
}

impl Lane {
    pub(crate) const HEADING: [&str; 7] =
        ["LANE", "HOLDER", "LAG", "IN MEMORY", "NEXT DUE", "DELIVERED/S", "LATE P50/P99"];

    /// As people read it at `now_ms`.
    pub(crate) fn cells(&self, now_ms: i64) -> [String; 7] {
        let holder = match self.worker.as_deref() {
            None => UNKNOWN,
            Some("") => "nobody",
            Some(name) => name,
        };
        let next_due = match self.next_due_ms {
            Some(due_ms) if due_ms > now_ms => format!("in {}", span(due_ms.saturating_sub(now_ms))),
            Some(_) if self.overdue_ms > activity::BEHIND_MS => format!("{} ago", span(self.overdue_ms)),
            Some(_) => "now".to_owned(),
            None => UNKNOWN.to_owned(),
        };
        [
            self.lane.to_string(),
            holder.to_owned(),
            told(self.lag),
            told(self.held.map(signed)),
            next_due,
            rate(self.delivered_per_s),
            lateness(self.lateness_ms),
        ]
    }
}

impl Worker {
    pub(crate) const HEADING: [&str; 6] =
        ["WORKER", "SILENT FOR", "IN MEMORY", "DELIVERED/S", "LATE P50/P99", "JOBS"];

    pub(crate) fn cells(&self) -> [String; 6] {
        let silent_for = match (self.silent_for_ms, self.is_silent) {
            (None, true) => "not heard".to_owned(),
            (None, false) => UNKNOWN.to_owned(),
            (Some(ms), true) => format!("{}: silent", span(ms)),
            (Some(ms), false) => span(ms),
        };
        [
            self.name.clone(),
            silent_for,
            count(signed(self.held)),
            rate(self.delivered_per_s),
            lateness(self.lateness_ms),
            self.jobs.clone(),
        ]
    }
}

pub(crate) fn told(number: Option<i64>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), count)
}

/// `3.1 / 9.8 ms`
pub(crate) fn lateness(quantiles: Option<Quantiles>) -> String {
    match quantiles {
        None => UNKNOWN.to_owned(),
        Some(q) if q.p50 >= BEYOND_MS => late(q.p50),
        Some(q) if q.p99 >= BEYOND_MS => format!("{} / {}", late(q.p50), late(q.p99)),
        Some(q) => format!("{} / {} ms", decimal(q.p50), decimal(q.p99)),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl History {
    fn note(&mut self, view: &View) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        let (at_ms, delivered_per_s, lateness_ms) = (view.at_ms, view.delivered_per_s, view.lateness_ms);
        self.0.push_back(Sample { at_ms, delivered_per_s, lateness_ms });
    }

    /// The highest value of each of the last `steps` steps; `None` where there was none.
    pub(crate) fn highest(
        &self,
        steps: usize,
        step_ms: i64,
        value: impl Fn(&Sample) -> Option<f64>,
    ) -> Vec<Option<f64>> {
        let mut highest: Vec<Option<f64>> = vec![None; steps];
        let step_of = |sample: &Sample| sample.at_ms.div_euclid(step_ms);
        let newest = self.0.back().map_or(0, step_of);
        for sample in &self.0 {
            // Not what is of the future either, by a clock that was set back.
            let ago = usize::try_from(newest - step_of(sample)).ok();
            let place = ago.and_then(|ago| steps.checked_sub(ago + 1));
            if let (Some(place), Some(value)) = (place, value(sample)) {
                highest[place] = Some(highest[place].map_or(value, |known| known.max(value)));
            }
        }
        highest
    }
}

impl Shown {
    pub(crate) fn new(now: Instant) -> Self {
        Self { view: None, history: History::default(), answered_at: now, failure: None }
    }

    /// What came of a look.
    pub(crate) fn note(&mut self, look: Result<View, String>, now: Instant) {
        match look {
            Ok(view) => {
                self.history.note(&view);
                (self.view, self.answered_at, self.failure) = (Some(view), now, None);
            }
            Err(why) => self.failure = Some(why),
        }
    }

    /// That nobody answers, since when, and why.
    pub(crate) fn away(&self, now: Instant) -> Option<String> {
        let since_s = now.duration_since(self.answered_at).as_secs();
        self.failure.as_ref().map(|why| format!("no coordinator answers since {since_s} s: {why}"))
    }
}

#[cfg(test)]
pub(crate) mod tests;
