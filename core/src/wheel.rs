//! The hierarchical timing wheel whose slots are Kafka partitions (design §3;
//! after Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987).
//!
//! Level k has slots of width `w_k = w_1 · R^(k-1)`; a message's slot there is
//! `floor(due / w_k)`, kept in the partition `lane · ring + slot mod ring`.
//! Of each level the `3R/2` slots after the current one are *writable*; behind
//! the current one the ring has spares, for what was routed just before its slot
//! opened and appended just after.

use crate::{
    cluster::{Geometry, INLETS},
    mutant::{self, Mutant},
};

/// A lane's partitions of the due topic, so that an open transaction on one
/// never holds up what arrives on another (design §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Inlet {
    /// Appends from gRPC: never transactional.
    Direct,
    /// Moves from the intake topic and put-off messages: small transactions.
    Intake,
    /// Moves from drained buckets: big transactions.
    Promoted,
}

impl Inlet {
    /// All of them, by number.
    pub const ALL: [Self; INLETS] = [Self::Direct, Self::Intake, Self::Promoted];
}

/// All messages of one level, slot and lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// From 1 (finest) to K.
    pub level: u32,
    /// Slots since the Unix epoch, not yet taken modulo the ring.
    pub slot: i64,
    pub lane: u16,
}

/// Where a message goes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is due soon, or overdue.
    DueLane,
    /// It waits in the wheel.
    Bucket(Bucket),
}

/// Why a geometry cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    #[error("slot width must be between 1 s and 1 h, not {0} ms")]
    SlotWidth(i64),
    #[error("ratio must be an even number between 4 and 256, not {0}")]
    Ratio(u32),
    #[error("levels must be between 1 and 8, not {0}")]
    Levels(u32),
    #[error("lanes must be between 1 and 1024, not {0}")]
    Lanes(u16),
    #[error("lease TTL must be between 2 s and 60 s, not {0} ms")]
    LeaseTtl(i64),
    #[error("the wheel's horizon is beyond ten thousand years")]
    Horizon,
    #[error(
        "level {level} opens {lead_ms} ms ahead, which is more than half its slot width of {width_ms} ms"
    )]
    Lead { level: u32, lead_ms: i64, width_ms: i64 },
    #[error("level 1 opens {lead_ms} ms ahead, further than its slots of {width_ms} ms reach")]
    FirstLead { lead_ms: i64, width_ms: i64 },
}

/// Time for a drain to be taken up and done, beyond the lease of a dead holder.
const LEAD_MARGIN_MS: i64 = 3_000;
/// How long after its slot has become current a straggler is still expected.
const SPARES_COVER_MS: i64 = 30_000;
/// Spare slots behind the current one, however wide.
const SPARES_MIN: i64 = 3;
/// Ten thousand years.
const HORIZON_MAX_MS: i64 = 10_000 * 366 * 86_400_000;

impl Geometry {
    /// Whether messages find their way down this wheel in time.
    ///
    /// # Errors
    /// The first number that cannot work.
    pub fn check(&self) -> Result<(), GeometryError> {
        if !(1_000..=3_600_000).contains(&self.slot_width_ms) {
            return Err(GeometryError::SlotWidth(self.slot_width_ms));
        }
        if !(4..=256).contains(&self.ratio) || !self.ratio.is_multiple_of(2) {
            return Err(GeometryError::Ratio(self.ratio));
        }
        if !(1..=8).contains(&self.levels) {
            return Err(GeometryError::Levels(self.levels));
        }
        if !(1..=1024).contains(&self.lanes) {
            return Err(GeometryError::Lanes(self.lanes));
        }
        if !(2_000..=60_000).contains(&self.lease_ttl_ms) {
            return Err(GeometryError::LeaseTtl(self.lease_ttl_ms));
        }
        let horizon = i64::from(self.ratio)
            .checked_pow(self.levels)
            .and_then(|r| r.checked_mul(self.slot_width_ms * 2));
        if horizon.is_none_or(|h| h > HORIZON_MAX_MS) {
            return Err(GeometryError::Horizon);
        }
        // The furthest slot that is written to must not be open: with one level alone nothing
        // else says so.
        let (lead_ms, width_ms) = (self.lead_ms(1, self.lanes - 1), self.slot_width_ms);
        if lead_ms > (self.writable() - 1) * width_ms {
            return Err(GeometryError::FirstLead { lead_ms, width_ms });
        }
        for level in 2..=self.levels {
            // What opens must fit into the writable slots one level down: a whole
            // slot and its lead span at most 3R/2 of those.
            let (lead_ms, width_ms) = (self.lead_ms(level, self.lanes - 1), self.slot_width_ms(level));
            if lead_ms > width_ms / 2 {
                return Err(GeometryError::Lead { level, lead_ms, width_ms });
            }
        }
        Ok(())
    }

    /// Width of a slot of this level, in ms.
    pub fn slot_width_ms(&self, level: u32) -> i64 {
        self.slot_width_ms * i64::from(self.ratio).pow(level.saturating_sub(1))
    }

    /// How many slots after the current one take messages.
    pub fn writable(&self) -> i64 {
        i64::from(self.ratio) * 3 / 2
    }

    fn spares(&self) -> i64 {
        SPARES_MIN.max((SPARES_COVER_MS + self.slot_width_ms - 1) / self.slot_width_ms)
    }

    /// Slots in a level's ring: writable, current, spares behind.
    pub fn ring(&self) -> i32 {
        (self.writable() + 1 + self.spares()) as i32
    }

    /// Partitions of each wheel topic.
    pub fn wheel_partitions(&self) -> i32 {
        i32::from(self.lanes) * self.ring()
    }

    /// Partitions of the due topic.
    pub fn due_partitions(&self) -> i32 {
        i32::from(self.lanes) * INLETS as i32
    }

    /// How long before its start a slot opens. Lanes are spread, so that they do
    /// not all drain at one instant; upper levels have a quarter to half of their
    /// width, so that a whole slot's load can be moved at leisure.
    fn lead_ms(&self, level: u32, lane: u16) -> i64 {
        let (lane, lanes) = (i64::from(lane), i64::from(self.lanes));
        let first = self.lease_ttl_ms + LEAD_MARGIN_MS + lane * self.slot_width_ms / lanes;
        if level == 1 {
            return first;
        }
        let width = self.slot_width_ms(level);
        first.max(width / 4 + lane * (width / 4) / lanes)
    }

    /// The instant from which on a bucket is drained and nothing is routed to it.
    pub fn opens_at_ms(&self, bucket: Bucket) -> i64 {
        self.starts_at_ms(bucket).saturating_sub(self.lead_ms(bucket.level, bucket.lane))
    }

    /// The first instant of a bucket's slot.
    pub fn starts_at_ms(&self, bucket: Bucket) -> i64 {
        bucket.slot.saturating_mul(self.slot_width_ms(bucket.level))
    }

    /// Where a message goes: the lowest level in which its due time falls into a
    /// writable slot that is not open yet; the due lane if even its level-1 slot
    /// is open; the furthest slot if it is due beyond the horizon.
    pub fn route(&self, due_ms: i64, now_ms: i64, lane: u16) -> Place {
        let slot_at = |level| Bucket { level, slot: due_ms.div_euclid(self.slot_width_ms(level)), lane };
        // The mutant takes a slot for writable until it starts.
        let closes_at_ms = |bucket| match mutant::is_on(Mutant::RoutesToOpenSlot) {
            true => self.starts_at_ms(bucket),
            false => self.opens_at_ms(bucket),
        };
        if now_ms >= closes_at_ms(slot_at(1)) {
            return Place::DueLane;
        }
        for level in 1..=self.levels {
            let bucket = slot_at(level);
            if bucket.slot - self.current_slot(level, now_ms) <= self.writable()
                && now_ms < closes_at_ms(bucket)
            {
                return Place::Bucket(bucket);
            }
        }
        let slot = self.current_slot(self.levels, now_ms) + self.writable();
        Place::Bucket(Bucket { level: self.levels, slot, lane })
    }

    fn current_slot(&self, level: u32, now_ms: i64) -> i64 {
        now_ms.div_euclid(self.slot_width_ms(level))
    }

    /// The bucket's partition of its level's topic.
    pub fn bucket_partition(&self, bucket: Bucket) -> i32 {
        let ring = self.ring();
        i32::from(bucket.lane) * ring + bucket.slot.rem_euclid(i64::from(ring)) as i32
    }

    /// An inlet's partition of the due topic.
    pub fn due_partition(&self, lane: u16, inlet: Inlet) -> i32 {
        i32::from(lane) * INLETS as i32 + inlet as i32
    }

    /// The lane whose bucket a wheel partition is.
    pub fn lane_of_wheel_partition(&self, partition: i32) -> u16 {
        (partition / self.ring()) as u16
    }

    /// The bucket that a partition stands for now: a spare, the current or a coming one.
    ///
    /// Of the two that the furthest partition may be, the oldest spare and the slot after
    /// the last writable one, it is the latter: a router whose clock is a little ahead of
    /// the caller's writes to it already, and what an outage has left of the former is
    /// told by its due time (`jobs::needs_look`). Taken for the spare it would be
    /// drained at once, back into itself.
    pub fn slot_of_partition(&self, level: u32, partition: i32, now_ms: i64) -> Bucket {
        let ring = i64::from(self.ring());
        let oldest = self.current_slot(level, now_ms) - self.spares() + 1;
        let ahead = (i64::from(partition) - oldest).rem_euclid(ring);
        // lane · ring vanishes modulo the ring, so the partition serves as it is.
        Bucket { level, slot: oldest + ahead, lane: self.lane_of_wheel_partition(partition) }
    }
}

/// The lane of a message: the murmur2 hash of what identifies it, modulo N
/// (design §4.5).
pub fn lane_for(identity: &[u8], lanes: u16) -> u16 {
    ((murmur2(identity) & 0x7fff_ffff) % u32::from(lanes.max(1))) as u16
}

/// The 32-bit murmur2 that Kafka's Java clients partition by
/// (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * place);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ h >> 15
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn geometries() -> impl Strategy<Value = Geometry> {
        (1_i64..60, 2_u32..20, 1_u32..5, 1_u16..9, 2_i64..10)
            .prop_map(|(width, half, levels, lanes, ttl)| Geometry {
                slot_width_ms: width * 1_000,
                ratio: half * 2,
                levels,
                lanes,
                lease_ttl_ms: ttl * 1_000,
            })
            .prop_filter("works", |g| g.check().is_ok())
    }

    fn horizon(g: &Geometry) -> i64 {
        g.slot_width_ms(g.levels) * g.writable()
    }

    const NOW: i64 = 1_795_000_000_000;

    /// Follows a message down the wheel, each drain as late as `lag` of its lead allows.
    fn descend(g: &Geometry, due: i64, now: i64, lane: u16, lag: f64) -> Vec<Bucket> {
        let (mut at, mut path) = (now, Vec::new());
        while let Place::Bucket(bucket) = g.route(due, at, lane) {
            let opens = g.opens_at_ms(bucket);
            assert!(opens > at, "routed into an open slot");
            let lead = g.starts_at_ms(bucket) - opens;
            at = opens + (lead as f64 * lag) as i64;
            path.push(bucket);
            assert!(path.len() < 100, "goes round for ever");
        }
        path
    }

    proptest! {
        #[test]
        fn opens_before_due_and_strictly_downwards(
            g in geometries(), ahead in 0_f64..1.0, offset in 0_i64..100_000_000, lane: u16, lag in 0_f64..0.99,
        ) {
            let (now, lane) = (NOW + offset, lane % g.lanes);
            let due = now + (horizon(&g) as f64 * ahead) as i64;
            let path = descend(&g, due, now, lane, lag);
            for bucket in &path {
                prop_assert!(g.opens_at_ms(*bucket) < due);
                prop_assert!(g.starts_at_ms(*bucket) <= due);
            }
            prop_assert!(path.windows(2).all(|w| w[1].level < w[0].level), "{path:?}");
            prop_assert!(path.len() <= g.levels as usize);
        }

        #[test]
        fn beyond_the_horizon_is_never_late(g in geometries(), ahead in 1_f64..5.0, lane: u16) {
            let lane = lane % g.lanes;
            let due = NOW + (horizon(&g) as f64 * ahead) as i64;
            let path = descend(&g, due, NOW, lane, 0.5);
            prop_assert!(path.iter().all(|b| g.opens_at_ms(*b) < due));
        }

        #[test]
        fn overdue_goes_to_the_due_lane(g in geometries(), late in 0_i64..i64::MAX / 2, lane: u16) {
            prop_assert_eq!(g.route(NOW - late, NOW, lane % g.lanes), Place::DueLane);
        }

        #[test]
        fn no_two_slots_in_use_share_a_partition(g in geometries(), level in 1_u32..5, offset in 0_i64..100_000_000) {
            let (level, now) = (level.min(g.levels), NOW + offset);
            let current = g.current_slot(level, now);
            let mut seen = std::collections::HashSet::new();
            for slot in current - g.spares() + 1..=current + g.writable() + 1 {
                let bucket = Bucket { level, slot, lane: g.lanes - 1 };
                let partition = g.bucket_partition(bucket);
                prop_assert!(seen.insert(partition));
                prop_assert!((0..g.wheel_partitions()).contains(&partition));
                prop_assert_eq!(g.slot_of_partition(level, partition, now), bucket);
            }
            prop_assert_eq!(seen.len() as i32, g.ring());
        }

        #[test]
        fn any_times_are_routed(g in geometries(), due: i64, now in 0..NOW * 2, lane: u16) {
            g.route(due, now, lane % g.lanes);
        }
    }

    #[test]
    fn the_default_is_as_documented() {
        let g = Geometry::default();
        assert_eq!(g.check(), Ok(()));
        assert_eq!(g.ring(), 52);
        assert_eq!(g.wheel_partitions() * 4 + g.due_partitions(), 844);
        assert_eq!(horizon(&g) / 86_400_000, 182);
        // Hops by distance, as design §3 counts writes.
        let hops = |ahead: i64| descend(&g, NOW + ahead, NOW, 0, 0.1).len();
        assert_eq!(hops(5_000), 0);
        assert_eq!(hops(7 * 60_000), 1);
        assert_eq!(hops(4 * 3_600_000), 2);
        assert_eq!(hops(5 * 86_400_000), 3);
        assert_eq!(hops(180 * 86_400_000), 4);
    }

    #[test]
    fn the_small_wheel_of_the_tests_works() {
        let g = Geometry { slot_width_ms: 4_000, ratio: 4, levels: 3, lanes: 4, lease_ttl_ms: 2_000 };
        assert_eq!(g.check(), Ok(()));
    }

    #[test]
    fn refuses_what_cannot_work() {
        let g = Geometry::default();
        assert_eq!(Geometry { ratio: 5, ..g }.check(), Err(GeometryError::Ratio(5)));
        assert!(matches!(
            Geometry { slot_width_ms: 2_000, ratio: 4, lanes: 1, ..g }.check(),
            Err(GeometryError::Lead { level: 2, .. })
        ));
        assert!(matches!(
            Geometry { slot_width_ms: 1_000, ratio: 4, levels: 1, ..g }.check(),
            Err(GeometryError::FirstLead { .. })
        ));
        assert_eq!(
            Geometry { slot_width_ms: 3_600_000, ratio: 256, levels: 8, ..g }.check(),
            Err(GeometryError::Horizon)
        );
    }

    #[test]
    fn murmur2_is_the_one_of_java() {
        // From Kafka's own UtilsTest.testMurmur2.
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
    }
}
