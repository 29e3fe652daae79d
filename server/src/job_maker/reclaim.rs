//! What may be freed: buckets up to their position; inlets up to where their position
//! was two minutes ago, for settled records are looked up there when a late copy of
//! one comes (design §4.5).

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

const TRAIL: Duration = Duration::from_secs(120);

/// What is freed of one partition up to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Free {
    /// Index of the partition.
    pub(super) index: usize,
    pub(super) before: i64,
}

/// Positions over the last minutes.
#[derive(Debug, Default)]
pub(super) struct Trail(VecDeque<(Instant, Vec<i64>)>);

impl Trail {
    /// Notes all positions as of now.
    pub(super) fn note(&mut self, now: Instant, positions: Vec<i64>) {
        self.0.push_back((now, positions));
        // The newest one that is old enough is all that is needed of the old ones.
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= TRAIL) {
            self.0.pop_front();
        }
    }

    /// Positions as they were two minutes ago, if that is known.
    fn then(&self, now: Instant) -> Option<&[i64]> {
        let (at, positions) = self.0.front()?;
        (now.duration_since(*at) >= TRAIL).then_some(positions)
    }

    /// What may be freed now, given the log starts and which partitions are inlets.
    pub(super) fn free(&self, now: Instant, starts: &[i64], is_inlet: impl Fn(usize) -> bool) -> Vec<Free> {
        let newest = self.0.back().map(|(_, positions)| positions.as_slice());
        let then = self.then(now);
        let one = |(index, start): (usize, &i64)| {
            let positions = if is_inlet(index) { then } else { newest };
            let before = *positions?.get(index)?;
            (before > *start).then_some(Free { index, before })
        };
        starts.iter().enumerate().filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_at_once_and_inlets_two_minutes_later() {
        let (mut trail, zero) = (Trail::default(), Instant::now());
        let at = |s| zero + Duration::from_secs(s);
        let is_inlet = |index| index == 1;
        trail.note(at(0), vec![10, 10]);
        assert_eq!(trail.free(at(0), &[0, 0], is_inlet), [Free { index: 0, before: 10 }]);
        trail.note(at(60), vec![20, 20]);
        assert_eq!(trail.free(at(60), &[20, 0], is_inlet), []);
        trail.note(at(130), vec![20, 30]);
        assert_eq!(trail.free(at(130), &[20, 0], is_inlet), [Free { index: 1, before: 10 }]);
        trail.note(at(190), vec![20, 30]);
        assert_eq!(trail.free(at(190), &[20, 10], is_inlet), [Free { index: 1, before: 20 }]);
        assert_eq!(trail.free(at(190), &[20, 20], is_inlet), []);
    }
}
