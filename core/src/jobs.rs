//! Which jobs there are, and which buckets need a drain (design §3, §6).
//!
//! [`plan`] decides who should hold which job.

mod finished;
pub mod plan;

use std::{fmt, str::FromStr, sync::Arc};

pub use self::finished::Finished;
use crate::{
    cluster::{Cluster, Geometry},
    mutant::{self, Mutant},
    wheel::Inlet,
};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobKind {
    /// Runs one due lane, for as long as the lease lasts.
    Lane,
    /// Promotes one bucket's messages, then is complete.
    Drain,
    /// Runs one intake partition, for as long as the lease lasts.
    Intake,
}

/// A job's unique name: `lane/0`, `drain/ksched.wheel.1/17`,
/// `intake/SCHEDULED_MESSAGES/3`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobName {
    Lane(u16),
    Drain { topic: Arc<str>, partition: i32 },
    Intake { topic: Arc<str>, partition: i32 },
}

/// The text is not a job's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a job name")]
pub struct ParseError;

/// A bucket that needs to be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    pub level: u32,
    /// Partition of the level's wheel topic.
    pub partition: i32,
    /// The drain routes as if it were at least this late, in ms, so that it never
    /// writes back into an open bucket.
    pub open_at_ms: i64,
}

/// What the log says of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketState {
    pub level: u32,
    /// Partition of the level's wheel topic.
    pub partition: i32,
    /// The next offset to read.
    pub committed: i64,
    /// End of what a read_committed reader may see.
    pub stable_end: i64,
    /// When the first unread record is due, in ms; `None` if it was not looked at
    /// or there is none.
    pub first_unread_due_ms: Option<i64>,
}

impl BucketState {
    /// Whether something is unread.
    pub fn is_behind(&self) -> bool {
        self.committed < self.stable_end
    }
}

impl JobName {
    /// What the job does.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Lane(_) => JobKind::Lane,
            Self::Drain { .. } => JobKind::Drain,
            Self::Intake { .. } => JobKind::Intake,
        }
    }

    /// Topic and partition that name the job's transactional ids; a lane's are
    /// those of its first inlet.
    pub fn source(&self, cluster: &Cluster) -> (Arc<str>, i32) {
        match self {
            Self::Lane(lane) => {
                (cluster.due_topic().into(), cluster.geometry.due_partition(*lane, Inlet::Direct))
            }
            Self::Drain { topic, partition } | Self::Intake { topic, partition } => {
                (Arc::clone(topic), *partition)
            }
        }
    }

    /// The lane whose messages a lane or drain job moves.
    pub fn lane(&self, geometry: &Geometry) -> Option<u16> {
        match self {
            Self::Lane(lane) => Some(*lane),
            Self::Drain { partition, .. } => Some(geometry.lane_of_wheel_partition(*partition)),
            Self::Intake { .. } => None,
        }
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane(lane) => write!(f, "lane/{lane}"),
            Self::Drain { topic, partition } => write!(f, "drain/{topic}/{partition}"),
            Self::Intake { topic, partition } => write!(f, "intake/{topic}/{partition}"),
        }
    }
}

impl FromStr for JobName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (kind, rest) = text.split_once('/').ok_or(ParseError)?;
        if kind == "lane" {
            return Ok(Self::Lane(number(rest)?));
        }
        // Kafka allows no slash in a topic's name.
        let (topic, partition) = rest.split_once('/').ok_or(ParseError)?;
        let (topic, partition) = (Arc::<str>::from(topic), number(partition)?);
        if topic.is_empty() || partition < 0 {
            return Err(ParseError);
        }
        match kind {
            "drain" => Ok(Self::Drain { topic, partition }),
            "intake" => Ok(Self::Intake { topic, partition }),
            _ => Err(ParseError),
        }
    }
}

/// A number in its one spelling: no sign, no leading zero, so that two names never
/// mean one job.
fn number<T: FromStr + ToString>(text: &str) -> Result<T, ParseError> {
    text.parse::<T>().ok().filter(|n| n.to_string() == text).ok_or(ParseError)
}

/// The jobs that always exist: every lane and every intake partition.
pub fn standing(cluster: &Cluster) -> Vec<JobName> {
    let topic = Arc::<str>::from(cluster.intake_topic.as_str());
    let lanes = (0..cluster.geometry.lanes).map(JobName::Lane);
    let intakes = (0..cluster.intake_partitions)
        .map(|partition| JobName::Intake { topic: Arc::clone(&topic), partition });
    lanes.chain(intakes).collect()
}

/// The buckets that need a drain now, by the state of the log alone: no event can
/// be missed, and a coordinator that was away for longer than a revolution finds
/// what is overdue.
///
/// A bucket that is behind needs one when its slot is open, current or spare, or
/// when its first unread record is due before the slot's coming start: such a
/// record is left over from an earlier revolution.
pub fn drains_needed(
    geometry: &Geometry,
    now_ms: i64,
    buckets: impl IntoIterator<Item = BucketState>,
) -> Vec<Drain> {
    let drain = |state: BucketState| {
        let bucket = geometry.slot_of_partition(state.level, state.partition, now_ms);
        let opens_at_ms = geometry.opens_at_ms(bucket);
        let open = opens_at_ms <= now_ms;
        let left_over = state.first_unread_due_ms.is_some_and(|due| due < geometry.starts_at_ms(bucket))
            && !mutant::is_on(Mutant::JobsByIndexOnly);
        // A slot that has not opened yet still takes messages: what it holds for its
        // coming start is not to be promoted early.
        (open || left_over).then_some(Drain {
            level: state.level,
            partition: state.partition,
            open_at_ms: opens_at_ms.min(now_ms),
        })
    };
    buckets.into_iter().filter(BucketState::is_behind).filter_map(drain).collect()
}

/// Whether a bucket's first unread record must be looked at to know if a drain is
/// needed: it is behind, and its slot does not tell.
pub fn needs_look(geometry: &Geometry, now_ms: i64, state: &BucketState) -> bool {
    let bucket = geometry.slot_of_partition(state.level, state.partition, now_ms);
    state.is_behind() && state.first_unread_due_ms.is_none() && now_ms < geometry.opens_at_ms(bucket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wheel::{Bucket, Place};
    use proptest::prelude::*;

    fn names() -> impl Strategy<Value = JobName> {
        let topic = "[A-Za-z0-9._-]{1,30}";
        prop_oneof![
            any::<u16>().prop_map(JobName::Lane),
            (topic, 0_i32..).prop_map(|(t, partition)| JobName::Drain { topic: t.into(), partition }),
            (topic, 0_i32..).prop_map(|(t, partition)| JobName::Intake { topic: t.into(), partition }),
        ]
    }

    fn state(bucket: Bucket, first_unread_due_ms: Option<i64>) -> BucketState {
        let partition = Geometry::default().bucket_partition(bucket);
        BucketState { level: bucket.level, partition, committed: 5, stable_end: 9, first_unread_due_ms }
    }

    const NOW: i64 = 1_795_000_000_000;

    proptest! {
        #[test]
        fn names_round_trip(name in names()) {
            prop_assert_eq!(name.to_string().parse::<JobName>(), Ok(name));
        }

        #[test]
        fn any_text_is_refused_or_the_only_spelling(text in "(lane|drain|intake|x)(/[+0-9a.-]{0,6}){0,3}|\\PC{0,20}") {
            if let Ok(name) = text.parse::<JobName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        /// Wherever a message is put at one time, a coordinator looking at any later
        /// time, after however long an outage, has the bucket drained once it is due.
        #[test]
        fn whatever_is_due_is_drained(
            ahead in 0_i64..20_000_000_000, outage in 0_i64..200_000_000_000, offset in 0_i64..100_000_000, lane in 0_u16..4,
        ) {
            let (g, now) = (Geometry::default(), NOW + offset);
            let due = now + ahead;
            if let Place::Bucket(bucket) = g.route(due, now, lane) {
                let at = due + outage;
                let drains = drains_needed(&g, at, [state(bucket, Some(due))]);
                prop_assert_eq!(drains.len(), 1);
                prop_assert!(drains[0].open_at_ms <= at);
            }
        }

        /// The drain's opening time makes the router see the bucket as open, so a
        /// record of the slot is never written back into it.
        #[test]
        fn never_routed_back_while_open(ahead in 0_i64..20_000_000_000, lane in 0_u16..4, late in 0_i64..10_000) {
            let g = Geometry::default();
            let due = NOW + ahead;
            if let Place::Bucket(bucket) = g.route(due, NOW, lane) {
                let opens = g.opens_at_ms(bucket);
                let drains = drains_needed(&g, opens + late, [state(bucket, None)]);
                prop_assert_eq!(drains.len(), 1);
                prop_assert_ne!(g.route(due, drains[0].open_at_ms, lane), Place::Bucket(bucket));
            }
        }
    }

    #[test]
    fn a_router_whose_clock_is_ahead_is_not_drained_back_into_its_bucket() {
        let g = Geometry { slot_width_ms: 4_000, ratio: 4, levels: 2, lanes: 2, lease_ttl_ms: 2_000 };
        let now = 1_795_000_000_000 - 1;
        for ahead in 1..=250 {
            // The furthest that may be written to, by a clock that is into the next slot.
            let due = now + 25_000;
            let Place::Bucket(bucket) = g.route(due, now + ahead, 1) else { panic!("{due} is far ahead") };
            let unread = BucketState { partition: g.bucket_partition(bucket), ..state(bucket, Some(due)) };
            assert!(drains_needed(&g, now, [unread]).is_empty(), "{ahead} ms ahead");
        }
    }

    #[test]
    fn waits_for_its_opening() {
        let g = Geometry::default();
        let bucket = Bucket { level: 2, slot: NOW / g.slot_width_ms(2) + 3, lane: 1 };
        let (opens, due) = (g.opens_at_ms(bucket), g.starts_at_ms(bucket) + 5);
        assert!(drains_needed(&g, opens - 1, [state(bucket, None)]).is_empty());
        assert!(drains_needed(&g, opens - 1, [state(bucket, Some(due))]).is_empty());
        let open = drains_needed(&g, opens, [state(bucket, Some(due))]);
        assert_eq!(open[0].open_at_ms, opens);
        assert_eq!((open[0].level, open[0].partition), (2, g.bucket_partition(bucket)));
    }

    #[test]
    fn empty_buckets_need_nothing() {
        let g = Geometry::default();
        let bucket = Bucket { level: 1, slot: NOW / g.slot_width_ms(1), lane: 0 };
        let read = BucketState { committed: 9, ..state(bucket, Some(0)) };
        assert!(drains_needed(&g, NOW, [read]).is_empty());
        assert!(!needs_look(&g, NOW, &read));
    }

    #[test]
    fn looks_only_where_the_slot_does_not_tell() {
        let g = Geometry::default();
        let coming = Bucket { level: 1, slot: NOW / g.slot_width_ms(1) + 20, lane: 0 };
        let current = Bucket { slot: NOW / g.slot_width_ms(1), ..coming };
        assert!(needs_look(&g, NOW, &state(coming, None)));
        assert!(!needs_look(&g, NOW, &state(coming, Some(NOW))));
        assert!(!needs_look(&g, NOW, &state(current, None)));
    }

    #[test]
    fn standing_jobs_are_lanes_and_intake_partitions() {
        let cluster = Cluster { intake_partitions: 2, ..Cluster::default() };
        let names: Vec<_> = standing(&cluster).iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "lane/0",
                "lane/1",
                "lane/2",
                "lane/3",
                "intake/SCHEDULED_MESSAGES/0",
                "intake/SCHEDULED_MESSAGES/1"
            ]
        );
        assert_eq!(JobName::Lane(2).source(&cluster), ("ksched.due".into(), 6));
    }
}
