//! How the answers of several coordinators to `GetActivity` become one: each tells what it alone
//! knows. The web page and `ksched-client` show the same facts by these rules.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{time::ms, v1};

/// Rates of what is counted by those who look are those of this span.
const WINDOW: Duration = Duration::from_secs(10);
/// A lane is behind when its next message is late by more than a heartbeat may hide.
pub const BEHIND_MS: i64 = 3_000;
/// How long whoever asks all coordinators waits for each.
pub const PEER_PATIENCE: Duration = Duration::from_millis(800);

/// Whether a coordinator may be asked where it says it is: at the address of all interfaces
/// everybody reaches himself.
pub fn is_askable(grpc_address: &str) -> bool {
    !["0.0.0.0:", "[::]:"].iter().any(|everywhere| grpc_address.starts_with(everywhere))
}

/// Each lane as the worker tells that was heard last.
pub fn lanes(told: &[v1::GetActivityResponse]) -> BTreeMap<u32, &v1::LaneActivity> {
    let mut freshest: BTreeMap<u32, (Option<i64>, &v1::LaneActivity)> = BTreeMap::new();
    for worker in told.iter().flat_map(|told| &told.workers) {
        let silent = ms(worker.silent_for.as_ref());
        for lane in &worker.lanes {
            let number = lane.figures.as_ref().map_or(0, |figures| figures.lane);
            let known = freshest.entry(number).or_insert((silent, lane));
            if silent < known.0 {
                *known = (silent, lane);
            }
        }
    }
    freshest.into_iter().map(|(number, (_, lane))| (number, lane)).collect()
}

/// Offsets between position and end of each due lane that has any.
pub fn lags(leader: &v1::GetActivityResponse) -> BTreeMap<u32, i64> {
    let mut lags = BTreeMap::new();
    for pending in leader.pending.iter().filter(|pending| pending.level == 0) {
        *lags.entry(pending.lane).or_default() += pending.records;
    }
    lags
}

/// How many messages wait, which only the coordinator that makes jobs can tell. A lane's offsets between position and
/// end are more than its messages, as it delivers in due order: what its holder knows to be done with is left out.
pub fn pending(told: &[v1::GetActivityResponse]) -> Option<i64> {
    let leader = told.iter().find(|told| told.makes_jobs)?;
    let in_wheel: i64 = leader.pending.iter().filter(|p| p.level != 0).map(|p| p.records).sum();
    let active = lanes(told);
    let waiting = |(lane, lag): (u32, i64)| {
        let figures = active.get(&lane).and_then(|active| active.figures.as_ref());
        let (held, beyond) = figures.map_or((0, 0), |figures| (figures.held, figures.settled_beyond));
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        // Told a little apart, the two may not fit: what is in memory waits for certain.
        lag.saturating_sub(signed(beyond)).max(signed(held).min(lag))
    };
    Some(in_wheel + lags(leader).into_iter().map(waiting).sum::<i64>())
}

/// Each worker as the coordinator tells that heard it last.
pub fn heard(told: &[v1::GetActivityResponse]) -> BTreeMap<&str, &v1::WorkerActivity> {
    let mut heard: Vec<_> = told.iter().flat_map(|told| &told.workers).collect();
    heard.sort_by_key(|worker| std::cmp::Reverse(ms(worker.silent_for.as_ref())));
    heard.into_iter().map(|worker| (&*worker.worker_id, worker)).collect()
}

/// Messages that a lane delivers, a second.
pub fn rate(lane: &v1::LaneActivity) -> f64 {
    let count = lane.delivered_by_lateness.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
    match ms(lane.window.as_ref()) {
        Some(window) if window > 0 => count as f64 * 1_000.0 / window as f64,
        _ => 0.0,
    }
}

/// What several lanes delivered of late, by lateness.
pub fn delivered_by_lateness<'a>(lanes: impl Iterator<Item = &'a v1::LaneActivity>) -> Vec<u64> {
    let mut sum = Vec::new();
    for counts in lanes.map(|lane| &lane.delivered_by_lateness) {
        sum.resize(sum.len().max(counts.len()), 0_u64);
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
    }
    sum
}

/// How late a lane's next message is already. What its holder told is up to a heartbeat old:
/// less than that is no lateness.
pub fn overdue_ms(next_due_ms: Option<i64>, now_ms: i64, lease_ttl_ms: i64) -> i64 {
    next_due_ms.map_or(0, |due_ms| now_ms.saturating_sub(due_ms) - lease_ttl_ms / 4).max(0)
}

/// Whether a worker has missed two heartbeats, by how long it has been silent and how long ago
/// it registered.
pub fn is_silent(silent_for_ms: Option<i64>, registered_for_ms: i64, lease_ttl_ms: i64) -> bool {
    // Not heard: forgotten, or heard by a coordinator that does not answer; unless it has just come.
    silent_for_ms.map_or(registered_for_ms > lease_ttl_ms * 3 / 5, |ms| ms >= lease_ttl_ms * 3 / 5)
}

/// How many messages a second coordinators acknowledge, from what each has counted by now.
#[derive(Debug, Default)]
pub struct ScheduledRate {
    /// By coordinator's address.
    noted: BTreeMap<String, VecDeque<(Instant, u64)>>,
}

impl ScheduledRate {
    /// Notes what they tell at `now`. `None` at a first look, and at one long after the last.
    pub fn note(&mut self, now: Instant, told: &[(String, v1::GetActivityResponse)]) -> Option<f64> {
        self.noted.retain(|address, _| told.iter().any(|(known, _)| known == address));
        let rates = told.iter().filter_map(|(address, told)| {
            let noted = self.noted.entry(address.clone()).or_default();
            // A coordinator that was started anew counts from zero.
            noted.retain(|(at, count)| now.duration_since(*at) <= WINDOW && *count <= told.scheduled);
            noted.push_back((now, told.scheduled));
            let (since, before) = noted.front()?;
            let span_s = now.duration_since(*since).as_secs_f64();
            (span_s > 0.0).then(|| (told.scheduled - before) as f64 / span_s)
        });
        let rates: Vec<f64> = rates.collect();
        (!rates.is_empty()).then(|| rates.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: &str, scheduled: u64) -> (String, v1::GetActivityResponse) {
        (address.to_owned(), v1::GetActivityResponse { scheduled, ..Default::default() })
    }

    #[test]
    fn coordinators_rates_are_added_up_and_survive_one_that_starts_anew() {
        let (mut rate, start) = (ScheduledRate::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(rate.note(at(0), &[told("a", 1_000), told("b", 50)]), None);
        assert_eq!(rate.note(at(2), &[told("a", 1_200), told("b", 60)]), Some(105.0));
        // b started anew: from now on it counts from three.
        assert_eq!(rate.note(at(4), &[told("a", 1_400), told("b", 3)]), Some(100.0));
        assert_eq!(rate.note(at(5), &[told("a", 1_500), told("b", 8)]), Some(105.0));
        // b does not answer; what is older than the window does not count.
        assert_eq!(rate.note(at(14), &[told("a", 1_500)]), Some(10.0));
        assert_eq!(rate.note(at(40), &[told("a", 9_500)]), None);
    }

    #[test]
    fn what_lanes_have_done_out_of_turn_is_not_pending() {
        let offsets =
            |level, lane, records| v1::PendingRecords { level, lane, records, ..Default::default() };
        let leader = v1::GetActivityResponse {
            makes_jobs: true,
            pending: vec![offsets(0, 0, 1_000), offsets(0, 1, 30), offsets(2, 0, 7)],
            ..Default::default()
        };
        let lane = |lane, held, settled_beyond| v1::LaneActivity {
            figures: Some(v1::LaneFigures { lane, held, settled_beyond, ..Default::default() }),
            ..Default::default()
        };
        let with = |lanes| {
            let workers = vec![v1::WorkerActivity { lanes, ..Default::default() }];
            pending(&[leader.clone(), v1::GetActivityResponse { workers, ..Default::default() }])
        };
        assert_eq!(with(vec![]), Some(1_037));
        assert_eq!(with(vec![lane(0, 450, 520), lane(1, 20, 25)]), Some(480 + 20 + 7));
    }

    #[test]
    fn a_lane_is_as_the_worker_tells_that_was_heard_last() {
        let worker = |id: &str, seconds, lag| v1::WorkerActivity {
            worker_id: id.to_owned(),
            silent_for: Some(prost_types::Duration { seconds, nanos: 0 }),
            lanes: vec![v1::LaneActivity {
                figures: Some(v1::LaneFigures { lane: 3, held: lag, ..Default::default() }),
                ..Default::default()
            }],
            ..Default::default()
        };
        let told = [
            v1::GetActivityResponse { workers: vec![worker("before", 7, 100)], ..Default::default() },
            v1::GetActivityResponse {
                workers: vec![worker("now", 1, 5), worker("before", 9, 200)],
                ..Default::default()
            },
        ];
        assert_eq!(pending(&told), None, "none of them makes jobs");
        let lag = |lanes: BTreeMap<u32, &v1::LaneActivity>| lanes[&3].figures.as_ref().map(|f| f.held);
        assert_eq!(lag(lanes(&told)), Some(5));
        assert_eq!(heard(&told)["before"].silent_for.as_ref().map(|d| d.seconds), Some(7));
    }
}
