//! What makes each message one of its kind.

use std::sync::atomic::{AtomicI64, Ordering};

use ksched_core::validate::Stamp;

/// Gives out stamps, strictly increasing even when the clock stands or steps back.
#[derive(Debug)]
pub(crate) struct Stamps {
    last_us: AtomicI64,
    /// Tells this process's stamps from those of others, and of its own earlier runs.
    origin: u32,
}

impl Stamps {
    /// For one process, once; `origin` is its random number.
    pub(crate) fn new(origin: u32) -> Self {
        Self { last_us: AtomicI64::new(0), origin }
    }

    /// The stamp of one message scheduled at `now_us`.
    pub(crate) fn next(&self, now_us: i64) -> Stamp {
        let after = |last: i64| now_us.max(last + 1);
        // The closure always answers, so this cannot fail.
        let last = self.last_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        Stamp { scheduled_at_us: after(last.unwrap_or_else(|last| last)), origin: self.origin }
    }
}

/// Whole milliseconds, rounded up: "in one second" from the middle of a
/// millisecond must not become earlier than that.
pub(crate) fn ms_rounded_up(us: i64) -> i64 {
    us.div_euclid(1_000) + i64::from(us.rem_euclid(1_000) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_increase_when_the_clock_does_not() {
        let stamps = Stamps::new(7);
        let given: Vec<i64> =
            [100, 100, 50, 102, 103, 200].map(|now| stamps.next(now).scheduled_at_us).into();
        assert_eq!(given, [100, 101, 102, 103, 104, 200]);
    }

    #[test]
    fn a_begun_millisecond_counts_whole() {
        assert_eq!([1_000, 1_001, 1_999, -1].map(ms_rounded_up), [1, 2, 2, 0]);
    }
}
