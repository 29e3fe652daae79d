//! The worker's clock: [`GuardedClock`] over this machine's clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ksched_core::clock::{GuardedClock, Standing};
use parking_lot::Mutex;

/// Time as all job threads of this process see it.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    guarded: Mutex<GuardedClock>,
}

impl Clock {
    /// Doubtful until a coordinator has confirmed it.
    pub(crate) fn unconfirmed() -> Self {
        Self { origin: Instant::now(), guarded: Mutex::new(GuardedClock::unconfirmed(0, wall_ms())) }
    }

    /// Milliseconds since the Unix epoch, or `None` while the clock is doubtful
    /// and nothing may be fired or routed by it.
    pub(crate) fn now_ms(&self) -> Option<i64> {
        let guarded = self.guarded.lock();
        match guarded.standing() {
            Standing::Confirmed => Some(guarded.now_ms(self.since_origin_ms(Instant::now()))),
            Standing::Doubtful => None,
        }
    }

    /// Compares with the own wall clock; to be called each second.
    pub(crate) fn look(&self) -> Standing {
        self.guarded.lock().look(self.since_origin_ms(Instant::now()), wall_ms())
    }

    /// Compares with a coordinator's clock, read between `sent` and now.
    pub(crate) fn hear(&self, sent: Instant, peer_ms: i64) -> Standing {
        let (sent, received) = (self.since_origin_ms(sent), self.since_origin_ms(Instant::now()));
        self.guarded.lock().hear(sent, received, wall_ms(), peer_ms)
    }

    fn since_origin_ms(&self, at: Instant) -> i64 {
        at.saturating_duration_since(self.origin).as_millis() as i64
    }
}

/// This machine's wall clock, unguarded; also what heartbeats report.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
