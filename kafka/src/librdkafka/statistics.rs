//! What librdkafka tells of its producers now and then: how much waits in their queues, how often a request was tried
//! again or not answered, how long brokers take.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Deserialize;

/// Ms between two reports of one producer. They are JSON about each partition that it has met, so not often.
pub(super) const INTERVAL_MS: &str = "15000";

/// Of all producers of some [`Settings`](super::Settings); cloning shares it.
#[derive(Clone, Default)]
pub struct Statistics(Arc<Mutex<State>>);

/// What all producers together last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Records handed over and not acknowledged.
    pub queued: u64,
    /// Requests sent once more since the start.
    pub retries: u64,
    /// Requests that were not answered in time since the start.
    pub timeouts: u64,
    /// 99 of 100 requests were answered within so much, at the slowest pair of producer and broker.
    pub round_trip: Duration,
}

#[derive(Default)]
struct State {
    /// Of those that live.
    producers: HashMap<u64, Told>,
    begun: u64,
    /// Of those that ended.
    retries: u64,
    timeouts: u64,
}

/// What is read of a report: the rest is about each partition.
#[derive(Deserialize)]
struct Report {
    msg_cnt: u64,
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    txretries: u64,
    req_timeouts: u64,
    rtt: Option<RoundTrip>,
}

#[derive(Deserialize)]
struct RoundTrip {
    /// In µs.
    p99: i64,
}

/// One producer's part in it, until it is dropped.
pub(crate) struct Part {
    all: Statistics,
    id: u64,
}

impl Statistics {
    pub fn told(&self) -> Told {
        let state = self.0.lock();
        let ended = Told { retries: state.retries, timeouts: state.timeouts, ..Told::default() };
        state.producers.values().fold(ended, |sum, each| Told {
            queued: sum.queued + each.queued,
            retries: sum.retries + each.retries,
            timeouts: sum.timeouts + each.timeouts,
            round_trip: sum.round_trip.max(each.round_trip),
        })
    }

    /// For a producer that begins.
    pub(crate) fn part(&self) -> Part {
        let mut state = self.0.lock();
        state.begun += 1;
        Part { all: self.clone(), id: state.begun }
    }
}

impl Part {
    /// Takes in a report, as JSON.
    pub(crate) fn note(&self, report: &[u8]) {
        let report: Report = match serde_json::from_slice(report) {
            Ok(report) => report,
            Err(error) => {
                tracing::debug!(%error, "a report of librdkafka's is not understood");
                return;
            }
        };
        let brokers = report.brokers.values();
        let round_trip_us = brokers.clone().filter_map(|broker| Some(broker.rtt.as_ref()?.p99)).max();
        let told = Told {
            queued: report.msg_cnt,
            retries: brokers.clone().map(|broker| broker.txretries).sum(),
            timeouts: brokers.map(|broker| broker.req_timeouts).sum(),
            round_trip: Duration::from_micros(round_trip_us.unwrap_or(0).max(0).unsigned_abs()),
        };
        self.all.0.lock().producers.insert(self.id, told);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut state = self.all.0.lock();
        if let Some(last) = state.producers.remove(&self.id) {
            state.retries += last.retries;
            state.timeouts += last.timeouts;
        }
    }
}

impl fmt::Debug for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Statistics").field(&self.told()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_producers_counted_stays_and_what_they_held_goes() {
        let all = Statistics::default();
        let report = |queued: u64, retries: u64, p99: i64| {
            let broker = format!(
                r#"{{"name": "a", "txretries": {retries}, "req_timeouts": 1, "rtt": {{"p99": {p99}}}}}"#
            );
            format!(r#"{{"topics": {{}}, "msg_cnt": {queued}, "brokers": {{"a": {broker}}}}}"#)
        };
        let (first, second) = (all.part(), all.part());
        first.note(report(5, 1, 9_000).as_bytes());
        first.note(report(3, 2, 7_000).as_bytes());
        first.note(b"{}");
        second.note(report(10, 4, 2_000).as_bytes());
        let told =
            |queued, ms| Told { queued, retries: 6, timeouts: 2, round_trip: Duration::from_millis(ms) };
        assert_eq!(all.told(), told(13, 7));
        drop(first);
        assert_eq!(all.told(), told(10, 2));
    }
}
