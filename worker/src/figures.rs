//! What this worker's lanes are doing, for people to look at: told with each heartbeat.

use std::collections::BTreeMap;

use ksched_proto::v1::LaneFigures;
use ksched_telemetry::metrics::{LATENESS_BUCKETS_S, LaneNow};
use parking_lot::Mutex;

/// Of each lane that is held. Told by the lanes' threads, read by the session.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<BTreeMap<u16, LaneFigures>>);

impl Figures {
    /// What a lane has in memory, when the first of it is due, and how many offsets beside it are done with.
    pub(crate) fn holds(&self, lane: u16, held: usize, next_due_ms: Option<i64>, settled_beyond: u64) {
        self.with(lane, |figures| {
            (figures.held, figures.settled_beyond) = (held as u64, settled_beyond);
            figures.next_due_time = next_due_ms.map(crate::session::timestamp);
        });
    }

    /// Messages delivered, each late by this many ms.
    pub(crate) fn delivered(&self, lane: u16, late_by_ms: impl Iterator<Item = i64>) {
        self.with(lane, |figures| {
            figures.delivered_by_lateness.resize(LATENESS_BUCKETS_S.len() + 1, 0);
            for ms in late_by_ms {
                let bucket = LATENESS_BUCKETS_S.partition_point(|bound_s| bound_s * 1_000.0 < ms as f64);
                if let Some(count) = figures.delivered_by_lateness.get_mut(bucket) {
                    *count += 1;
                }
            }
        });
    }

    /// The lane is not held any more.
    pub(crate) fn forget(&self, lane: u16) {
        self.0.lock().remove(&lane);
    }

    /// Of all lanes, by number.
    pub(crate) fn all(&self) -> Vec<LaneFigures> {
        self.0.lock().values().cloned().collect()
    }

    /// The same as of now, for the metrics.
    pub(crate) fn now(&self, now_ms: i64) -> Vec<LaneNow> {
        let lane = |(lane, figures): (&u16, &LaneFigures)| {
            let due_ms =
                figures.next_due_time.map(|due| due.seconds * 1_000 + i64::from(due.nanos) / 1_000_000);
            LaneNow { lane: *lane, held: figures.held, next_due_in_ms: due_ms.map(|due_ms| due_ms - now_ms) }
        };
        self.0.lock().iter().map(lane).collect()
    }

    fn with(&self, lane: u16, change: impl FnOnce(&mut LaneFigures)) {
        let mut lanes = self.0.lock();
        change(lanes.entry(lane).or_insert_with(|| LaneFigures { lane: lane.into(), ..Default::default() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_lateness_and_forgets_a_lane_with_its_holder() {
        let figures = Figures::default();
        figures.delivered(3, [-1, 1, 2, 3, 10, 11, 4_000_000].into_iter());
        figures.holds(3, 7, Some(1_500), 2);
        let all = figures.all();
        assert_eq!((all.len(), all[0].lane, all[0].held, all[0].settled_beyond), (1, 3, 7, 2));
        assert_eq!(all[0].next_due_time, Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }));
        let counts = &all[0].delivered_by_lateness;
        assert_eq!(counts[..5], [2, 1, 1, 1, 1]);
        assert_eq!((counts.len(), counts[17]), (18, 1));
        assert_eq!(figures.now(2_000), [LaneNow { lane: 3, held: 7, next_due_in_ms: Some(-500) }]);
        figures.forget(3);
        assert!(figures.all().is_empty());
    }
}
