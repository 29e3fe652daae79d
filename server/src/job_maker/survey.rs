//! Asks the log what it holds, and remembers what costs to ask. Blocking: moves
//! through threads for that.

mod alarms;
mod peek;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use ksched_core::{
    cluster::{Cluster, INLETS},
    host::Host,
    jobs::{self, BucketState, Drain},
};
use ksched_kafka::{Error, Log, Offset, TopicPartition};
use ksched_telemetry::logging::Repeats;
use tokio::time::Instant;

use self::{alarms::Alarms, peek::Peeked};
use super::{
    observed::{Observation, Pending, PendingSlot},
    reclaim::Trail,
};

/// High watermarks and the positions of empty partitions are asked for, and records freed, this often.
const SELDOM: Duration = Duration::from_secs(10);
/// First records looked at in one tick, so that a tick stays short.
const PEEKS_A_TICK: usize = 128;

/// Every partition the job maker watches: wheel topics, then the due topic.
#[derive(Debug)]
pub(super) struct Partitions {
    all: Vec<TopicPartition>,
    /// Level (0: due lane) and lane of each.
    places: Vec<(u32, u16)>,
}

/// What one look found.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) drains: Vec<Drain>,
    pub(super) observation: Observation,
}

/// See the module. Begun anew whenever this coordinator takes the lead.
pub(super) struct Survey<L: Log> {
    log: Arc<L>,
    cluster: Arc<Cluster>,
    partitions: Arc<Partitions>,
    reader: Option<L::Reader>,
    /// Of buckets by index.
    peeked: HashMap<usize, Peeked>,
    alarms: Alarms,
    trail: Trail,
    /// Log starts as last asked or as freed since.
    starts: Vec<i64>,
    /// Positions as last asked.
    committed: Vec<Option<i64>>,
    seldom_at: Option<Instant>,
    /// Set when it is time to free records.
    reclaim_at: Option<Instant>,
    unseen: Repeats,
}

impl Partitions {
    pub(super) fn of(cluster: &Cluster) -> Self {
        let geometry = &cluster.geometry;
        let (mut all, mut places) = (Vec::new(), Vec::new());
        for level in 1..=geometry.levels {
            let topic: Arc<str> = cluster.wheel_topic(level).into();
            for partition in 0..geometry.wheel_partitions() {
                all.push(TopicPartition { topic: Arc::clone(&topic), partition });
                places.push((level, geometry.lane_of_wheel_partition(partition)));
            }
        }
        let topic: Arc<str> = cluster.due_topic().into();
        for partition in 0..geometry.due_partitions() {
            all.push(TopicPartition { topic: Arc::clone(&topic), partition });
            places.push((0, (partition / INLETS as i32) as u16));
        }
        Self { all, places }
    }

    fn is_inlet(&self, index: usize) -> bool {
        self.places[index].0 == 0
    }
}

impl<L: Log> Survey<L> {
    pub(super) fn new(log: Arc<L>, cluster: Arc<Cluster>, partitions: Arc<Partitions>) -> Self {
        let committed = vec![None; partitions.all.len()];
        Self {
            log,
            cluster,
            partitions,
            reader: None,
            peeked: HashMap::new(),
            alarms: Alarms::default(),
            trail: Trail::default(),
            starts: Vec::new(),
            committed,
            seldom_at: None,
            reclaim_at: None,
            unseen: Repeats::default(),
        }
    }

    /// Which buckets need a drain now, and what else is to be known.
    pub(super) fn look(&mut self, host: &dyn Host) -> Result<Findings, Error> {
        let partitions = Arc::clone(&self.partitions);
        let all = &partitions.all;
        // Ends first: what is drained in between must not look behind.
        let ends = self.log.offsets(all, Offset::StableEnd)?;
        // Not before: the answer may have taken seconds, and by an older clock a bucket that
        // was written to meanwhile may look like one of the last revolution.
        let (now_ms, now) = (host.wall_ms(), Instant::now());
        let seldom = self.seldom_at.is_none_or(|at| now.duration_since(at) >= SELDOM);
        if self.starts.is_empty() {
            self.starts = self.log.offsets(all, Offset::Start)?;
        }
        self.ask_positions(&ends, seldom)?;
        let positions = self.positions();
        let absent: Vec<usize> = (0..all.len()).filter(|i| self.committed[*i].is_none()).collect();
        self.alarms.missing(all, &absent);
        if seldom {
            let high = self.log.offsets(all, Offset::End)?;
            self.alarms.hanging(now, all, &ends, &high);
            self.trail.note(now, positions.clone());
            self.seldom_at = Some(now);
            self.reclaim_at = Some(now);
        }
        let mut buckets = self.buckets(&positions, &ends);
        self.peek_into(&mut buckets, now_ms);
        let drains = jobs::drains_needed(&self.cluster.geometry, now_ms, buckets.into_values());
        let observation = Observation {
            pending: self.pending(&positions, &ends),
            slots: self.slots(&positions, &ends, now_ms),
            hanging_transactions: self.alarms.hanging_count(),
            missing_positions: absent.len(),
        };
        Ok(Findings { drains, observation })
    }

    /// Asks for the positions of `all`, or of those only that were not at their end: no other can have moved.
    fn ask_positions(&mut self, ends: &[i64], all: bool) -> Result<(), Error> {
        let positions = self.positions();
        let asked: Vec<usize> = (0..ends.len()).filter(|i| all || positions[*i] < ends[*i]).collect();
        let these: Vec<_> = asked.iter().map(|i| self.partitions.all[*i].clone()).collect();
        // A position that is about to move is better than waiting until none is: it errs to a drain too many.
        let answers = self.log.committed_before_pending(&these)?;
        for (index, answer) in asked.into_iter().zip(answers) {
            self.committed[index] = answer.map(|position| position.offset);
        }
        Ok(())
    }

    /// A bucket without a position starts at its log start: all before is freed.
    fn positions(&self) -> Vec<i64> {
        let positions = self.committed.iter().zip(&self.starts);
        positions.map(|(position, start)| position.map_or(*start, |at| at.max(*start))).collect()
    }

    /// Buckets that are behind, by index, with what is known of their first record.
    fn buckets(&mut self, positions: &[i64], ends: &[i64]) -> BTreeMap<usize, BucketState> {
        let mut buckets = BTreeMap::new();
        for (index, (level, _)) in self.partitions.places.iter().enumerate() {
            let (committed, stable_end) = (positions[index], ends[index]);
            if *level == 0 || committed >= stable_end {
                self.peeked.remove(&index);
                continue;
            }
            let peeked = self.peeked.get(&index);
            let first_unread_due_ms = peeked.and_then(|p| p.due_ms(committed, stable_end));
            let partition = self.partitions.all[index].partition;
            let state = BucketState { level: *level, partition, committed, stable_end, first_unread_due_ms };
            buckets.insert(index, state);
        }
        buckets
    }

    /// Looks at first unread records where the slot does not tell, as many as fit
    /// into one tick.
    fn peek_into(&mut self, buckets: &mut BTreeMap<usize, BucketState>, now_ms: i64) {
        let geometry = &self.cluster.geometry;
        let unknown: Vec<_> = buckets
            .iter()
            .filter(|(_, state)| jobs::needs_look(geometry, now_ms, state))
            .map(|(index, state)| (*index, state.committed, state.stable_end))
            .take(PEEKS_A_TICK)
            .collect();
        if unknown.is_empty() {
            return;
        }
        match peek::peek(&*self.log, &mut self.reader, &self.partitions.all, &unknown) {
            Ok(found) => {
                for (index, peeked) in found {
                    if let Some(state) = buckets.get_mut(&index) {
                        state.first_unread_due_ms = peeked.due_ms(state.committed, state.stable_end);
                    }
                    self.peeked.insert(index, peeked);
                }
            }
            Err(error) => {
                // Records may have been freed under the reader: asked again next tick.
                if let Some(left_out) = self.unseen.tell() {
                    tracing::warn!(%error, left_out, "first records not seen");
                }
                self.reader = None;
                self.starts.clear();
            }
        }
    }

    fn pending(&self, positions: &[i64], ends: &[i64]) -> Vec<Pending> {
        let mut sums = BTreeMap::new();
        for (index, place) in self.partitions.places.iter().enumerate() {
            *sums.entry(*place).or_insert(0) += (ends[index] - positions[index]).max(0);
        }
        sums.into_iter().map(|((level, lane), records)| Pending { level, lane, records }).collect()
    }

    fn slots(&self, positions: &[i64], ends: &[i64], now_ms: i64) -> Vec<PendingSlot> {
        let geometry = &self.cluster.geometry;
        let mut sums = BTreeMap::new();
        for (index, (level, _)) in self.partitions.places.iter().enumerate() {
            let records = ends[index] - positions[index];
            if *level > 0 && records > 0 {
                let bucket = geometry.slot_of_partition(*level, self.partitions.all[index].partition, now_ms);
                *sums.entry((*level, geometry.starts_at_ms(bucket))).or_insert(0) += records;
            }
        }
        let slot = |((level, starts_at_ms), records)| PendingSlot { level, starts_at_ms, records };
        sums.into_iter().map(slot).collect()
    }

    /// Frees what nobody will read again, if it is time to.
    pub(super) fn reclaim(&mut self, delete: impl Fn(&[(TopicPartition, i64)]) -> Result<(), Error>) {
        let Some(now) = self.reclaim_at.take() else { return };
        let free = self.trail.free(now, &self.starts, |index| self.partitions.is_inlet(index));
        if free.is_empty() {
            return;
        }
        let before: Vec<_> =
            free.iter().map(|free| (self.partitions.all[free.index].clone(), free.before)).collect();
        match delete(&before) {
            Ok(()) => free.iter().for_each(|free| self.starts[free.index] = free.before),
            Err(error) => tracing::warn!(%error, partitions = before.len(), "records not freed"),
        }
    }
}
