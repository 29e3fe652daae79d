//! What an operator must hear of: transactions that hang, positions that vanished.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use ksched_kafka::TopicPartition;
use tokio::time::Instant;

/// A transaction of ours lasts at most its time-out of some 15 s, and up to 10 s
/// more until the broker looks.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// What was told already, so that it is told once.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    /// Stable ends that are held up: where, and since when.
    held_up: HashMap<usize, (i64, Instant)>,
    hanging: HashSet<usize>,
    missing: HashSet<usize>,
}

impl Alarms {
    /// Notes stable ends below the high watermarks.
    pub(super) fn hanging(&mut self, now: Instant, all: &[TopicPartition], stable: &[i64], high: &[i64]) {
        for (index, (stable, high)) in stable.iter().zip(high).enumerate() {
            if stable >= high {
                self.held_up.remove(&index);
                self.hanging.remove(&index);
                continue;
            }
            let (at, since) = *self.held_up.get(&index).unwrap_or(&(*stable, now));
            if at != *stable {
                // It moves: other transactions, not one that hangs.
                self.held_up.insert(index, (*stable, now));
                self.hanging.remove(&index);
                continue;
            }
            self.held_up.insert(index, (at, since));
            if now.duration_since(since) >= HANGS_AFTER && self.hanging.insert(index) {
                let TopicPartition { topic, partition } = &all[index];
                tracing::error!(%topic, partition, offset = stable, "a transaction hangs: abort it by hand");
            }
        }
    }

    /// How many partitions are held up for too long.
    pub(super) fn hanging_count(&self) -> usize {
        self.hanging.len()
    }

    /// Notes partitions without a committed position.
    pub(super) fn missing(&mut self, all: &[TopicPartition], absent: &[usize]) {
        self.missing.retain(|index| absent.contains(index));
        for index in absent {
            if self.missing.insert(*index) {
                let TopicPartition { topic, partition } = &all[*index];
                tracing::error!(%topic, partition, "the committed position is gone");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_held_up_hangs() {
        let all: Vec<_> = (0..3).map(|partition| TopicPartition { topic: "t".into(), partition }).collect();
        let (mut alarms, zero) = (Alarms::default(), Instant::now());
        let at = |s| zero + Duration::from_secs(s);
        alarms.hanging(at(0), &all, &[5, 5, 5], &[9, 9, 5]);
        alarms.hanging(at(20), &all, &[5, 7, 5], &[9, 9, 9]);
        assert_eq!(alarms.hanging_count(), 0);
        alarms.hanging(at(30), &all, &[5, 8, 5], &[9, 9, 9]);
        assert_eq!(alarms.hanging, HashSet::from([0]));
        alarms.hanging(at(51), &all, &[9, 9, 5], &[9, 9, 9]);
        assert_eq!(alarms.hanging, HashSet::from([2]));
    }
}
