//! What a run sends: fixed by its seed before it starts.

use std::{ops::RangeInclusive, time::Duration};

use super::payload;

/// What decides a plan.
#[derive(Clone, Debug)]
pub struct Shape {
    pub seed: u64,
    /// Messages in all.
    pub count: u64,
    /// Messages a second.
    pub rate: f64,
    /// From a message's send time to its due time, in ms.
    pub delays_ms: RangeInclusive<i64>,
    pub due: Due,
    /// Bytes of each value.
    pub size: usize,
    /// Different keys; 0: null keys.
    pub keys: u32,
    /// User headers on each message.
    pub headers: u32,
}

/// Where in the range of delays due times are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Due {
    /// Anywhere, uniform.
    #[default]
    Uniform,
    /// All at one instant: the shortest delay after the last message is sent.
    Together,
    /// Uniform from the shortest delay to the instant at which the last message is sent, or to
    /// the longest delay if that is sooner; not before the shortest.
    RestOfRun,
    /// As uniform, and then on to the next whole second of the run.
    WholeSeconds,
}

impl Due {
    /// By its name on the command line and in ledgers.
    pub const ALL: [(&'static str, Self); 4] = [
        ("uniform", Self::Uniform),
        ("together", Self::Together),
        ("rest-of-run", Self::RestOfRun),
        ("whole-seconds", Self::WholeSeconds),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, due)| *due == self).map_or("", |(name, _)| name)
    }
}

impl std::str::FromStr for Due {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, due)| due).ok_or("is none of uniform, together, rest-of-run, whole-seconds")
    }
}

/// A plan, relative to the start of its run.
#[derive(Clone, Debug)]
pub struct Plan {
    shape: Shape,
    entries: Vec<Entry>,
}

/// One message of it; 24 bytes, as there may be millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    delay_ms: i64,
    checksum: u64,
    key: u32,
}

impl Plan {
    /// The same for the same shape, everywhere and always.
    pub fn new(shape: Shape) -> Self {
        let mut random = Random::new(shape.seed);
        let (from_ms, to_ms) = (*shape.delays_ms.start(), *shape.delays_ms.end());
        let last_ms = send_ms(&shape, shape.count.saturating_sub(1));
        let mut scratch = payload::Scratch::default();
        let entries = (0..shape.count)
            .map(|number| {
                let sent_ms = send_ms(&shape, number);
                let to_ms = match shape.due {
                    Due::Uniform | Due::WholeSeconds => to_ms,
                    Due::Together => from_ms,
                    Due::RestOfRun => to_ms.min(last_ms.saturating_sub(sent_ms)),
                };
                let width = to_ms.saturating_sub(from_ms).max(0).unsigned_abs();
                let drawn_ms = from_ms.saturating_add_unsigned(random.below(width.saturating_add(1)));
                let delay_ms = match shape.due {
                    Due::Uniform | Due::RestOfRun => drawn_ms,
                    Due::Together => last_ms.saturating_sub(sent_ms).saturating_add(drawn_ms),
                    Due::WholeSeconds => {
                        let due_ms = sent_ms.saturating_add(drawn_ms);
                        drawn_ms.saturating_add((1000 - due_ms.rem_euclid(1000)) % 1000)
                    }
                };
                let key = random.below(u64::from(shape.keys.max(1))) as u32;
                let checksum = scratch.planned_checksum(&shape, number, key);
                Entry { delay_ms, checksum, key }
            })
            .collect();
        Self { shape, entries }
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When a message is sent, from the start of the run.
    pub fn send_in(&self, number: u64) -> Duration {
        send_in(&self.shape, number)
    }

    /// How many are to be sent within this time from the start of the run.
    pub fn sent_within(&self, elapsed: Duration) -> u64 {
        let number = (elapsed.as_secs_f64() * self.shape.rate).floor() as u64;
        number.saturating_add(1).min(self.len())
    }

    /// From the first message sent to the last.
    pub fn duration(&self) -> Duration {
        self.send_in(self.len().saturating_sub(1))
    }

    /// Due time of a message in a run that starts at `start_ms`.
    pub fn due_ms(&self, number: u64, start_ms: i64) -> i64 {
        let sent_ms = send_ms(&self.shape, number);
        start_ms.saturating_add(sent_ms).saturating_add(self.entry(number).delay_ms)
    }

    /// When the last message is due, each being counted from what `start_ms_of` says; 0 without messages. Looks at all.
    pub fn last_due_ms(&self, start_ms_of: impl Fn(u64) -> i64) -> i64 {
        (0..self.len()).map(|number| self.due_ms(number, start_ms_of(number))).max().unwrap_or(0)
    }

    /// The key's number; `None` for a null key.
    pub fn key(&self, number: u64) -> Option<u32> {
        (self.shape.keys > 0).then(|| self.entry(number).key)
    }

    pub fn checksum(&self, number: u64) -> u64 {
        self.entry(number).checksum
    }

    fn entry(&self, number: u64) -> Entry {
        const ABSENT: Entry = Entry { delay_ms: 0, checksum: 0, key: 0 };
        usize::try_from(number).ok().and_then(|n| self.entries.get(n)).copied().unwrap_or(ABSENT)
    }
}

fn send_in(shape: &Shape, number: u64) -> Duration {
    Duration::from_secs_f64(number as f64 / shape.rate)
}

/// The first whole ms from the start of the run at which it is sent.
fn send_ms(shape: &Shape, number: u64) -> i64 {
    i64::try_from(send_in(shape, number).as_micros().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// SplitMix64 (Steele, Lea, Flood 2014): a plan must be the same for every
/// version of this program, which `rand` does not promise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..bound; the bias of the multiplication is below 2⁻³² here.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            seed: 7,
            count: 5_000,
            rate: 1_000.0,
            delays_ms: 100..=2_000,
            due: Due::Uniform,
            size: 200,
            keys: 16,
            headers: 1,
        }
    }

    #[test]
    fn is_the_same_for_the_same_seed_and_another_for_another() {
        let (a, b) = (Plan::new(shape()), Plan::new(shape()));
        assert_eq!(a.entries, b.entries);
        let other = Plan::new(Shape { seed: 8, ..shape() });
        assert_ne!(a.entries, other.entries);
    }

    #[test]
    fn random_numbers_are_those_of_the_reference() {
        // From the reference implementation, https://prng.di.unimi.it/splitmix64.c
        let mut random = Random::new(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn is_the_same_in_every_version() {
        // Pinned: a change here makes `verify` misjudge the runs of older versions.
        let plan = Plan::new(Shape { count: 2, ..shape() });
        let pinned: Vec<_> = plan.entries.iter().map(|e| (e.delay_ms, e.key)).collect();
        assert_eq!(pinned, [(841, 0), (1812, 9)]);
    }

    #[test]
    fn delays_and_keys_are_spread_over_their_ranges() {
        let plan = Plan::new(shape());
        assert!(plan.entries.iter().all(|e| (100..=2_000).contains(&e.delay_ms) && e.key < 16));
        let mean = plan.entries.iter().map(|e| e.delay_ms).sum::<i64>() / 5_000;
        assert!((950..1_150).contains(&mean), "{mean}");
        for key in 0..16 {
            assert!(plan.entries.iter().filter(|e| e.key == key).count() > 200, "key {key}");
        }
    }

    #[test]
    fn sends_at_its_rate() {
        let plan = Plan::new(shape());
        assert_eq!(plan.send_in(1_000), Duration::from_secs(1));
        assert_eq!(plan.sent_within(Duration::ZERO), 1);
        assert_eq!(plan.sent_within(Duration::from_millis(10)), 11);
        assert_eq!(plan.sent_within(Duration::from_secs(100)), 5_000);
        assert_eq!(plan.duration(), Duration::from_millis(4_999));
    }

    #[test]
    fn due_times_are_never_before_the_delay_is_over() {
        let plan = Plan::new(Shape { rate: 3.0, delays_ms: 50..=50, ..shape() });
        // The second is sent 333.3 ms after the start.
        assert_eq!(plan.due_ms(1, 1_000), 1_000 + 334 + 50);
    }

    #[test]
    fn due_times_are_where_they_are_wanted() {
        let due = |due| {
            let plan = Plan::new(Shape { due, count: 1_000, rate: 100.0, ..shape() });
            (0..1_000)
                .map(|n| (plan.due_ms(n, 0) - send_ms(plan.shape(), n), plan.due_ms(n, 0)))
                .collect::<Vec<_>>()
        };
        assert!(due(Due::Together).iter().all(|(_, due_ms)| *due_ms == 9_990 + 100));
        let rest = due(Due::RestOfRun);
        assert!(
            rest.iter().all(|(delay_ms, due_ms)| (100..=2_000).contains(delay_ms) && *due_ms <= 9_990 + 100)
        );
        assert!(rest.iter().filter(|(delay_ms, _)| *delay_ms > 1_500).count() > 100);
        let seconds = due(Due::WholeSeconds);
        assert!(
            seconds.iter().all(|(delay_ms, due_ms)| due_ms % 1000 == 0 && (100..3_000).contains(delay_ms))
        );
    }

    #[test]
    fn stays_small() {
        assert!(size_of::<Entry>() <= 24);
    }
}
