//! When a failed attempt is repeated (design §4.5, AIP-194).

use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::Settings;
use crate::error::{Error, Failure};

/// Coordinators refuse an attempt later than this after the first.
pub(super) const LAST_ATTEMPT: Duration = Duration::from_secs(60);

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The attempts of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    deadline: Instant,
    attempt_timeout: Duration,
    attempts: u32,
    may_have_happened: bool,
}

impl Retry {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            deadline: Instant::now() + settings.deadline.min(LAST_ATTEMPT),
            attempt_timeout: settings.attempt_timeout,
            attempts: 0,
            may_have_happened: false,
        }
    }

    /// How long the next attempt may take.
    pub(super) fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).min(self.attempt_timeout)
    }

    /// Notes a failed attempt: the pause before the next one, or the final error.
    pub(super) fn after(&mut self, failure: Failure) -> Result<Duration, Error> {
        self.attempts += 1;
        let pause = pause_after(self.attempts);
        if !failure.is_retryable() || Instant::now() + pause >= self.deadline {
            return Err(failure.into_error(self.attempts, self.may_have_happened));
        }
        self.may_have_happened |= failure.may_have_happened;
        Ok(pause)
    }
}

/// Twice as long each time, less up to half at random so that clients spread.
pub(super) fn pause_after(attempts: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(10));
    let longest = doubled.min(LONGEST_PAUSE);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        for attempts in 1..40 {
            let pause = pause_after(attempts);
            assert!(pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE, "{attempts}: {pause:?}");
        }
        assert!(pause_after(8) > pause_after(1));
    }

    #[test]
    fn nothing_is_tried_after_the_deadline() {
        let settings = Settings { deadline: Duration::ZERO, ..Settings::default() };
        let error = Retry::new(&settings).after(Failure::silence()).unwrap_err();
        assert!(error.may_have_happened() && error.is_retryable());
    }
}
