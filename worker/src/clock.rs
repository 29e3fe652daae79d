//! The worker's clock: [`GuardedClock`] over this machine's clocks; and this machine.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ksched_core::{
    clock::{GuardedClock, Standing},
    host::{Host, Work},
};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Time as all job threads of this process see it.
#[derive(Debug)]
pub(crate) struct Clock {
    host: Arc<dyn Host>,
    origin: Instant,
    guarded: Mutex<GuardedClock>,
}

impl Clock {
    /// Doubtful until a coordinator has confirmed it.
    pub(crate) fn unconfirmed(host: Arc<dyn Host>) -> Self {
        let guarded = Mutex::new(GuardedClock::unconfirmed(0, host.wall_us()));
        Self { host, origin: Instant::now(), guarded }
    }

    /// This machine's wall clock, unguarded.
    pub(crate) fn wall_ms(&self) -> i64 {
        self.host.wall_ms()
    }

    /// Milliseconds since the Unix epoch, or `None` while the clock is doubtful
    /// and nothing may be fired or routed by it.
    pub(crate) fn now_ms(&self) -> Option<i64> {
        let guarded = self.guarded.lock();
        match guarded.standing() {
            Standing::Confirmed => Some(guarded.now_ms(self.since_origin_us(Instant::now()))),
            Standing::Doubtful => None,
        }
    }

    /// Compares with the own wall clock; to be called each second.
    pub(crate) fn look(&self) -> Standing {
        let (wall, mono) = self.read();
        self.guarded.lock().look(mono, wall)
    }

    /// Compares with a coordinator's clock, read between `sent` and now.
    pub(crate) fn hear(&self, sent: Instant, peer_us: i64) -> Standing {
        let (wall, received) = self.read();
        self.guarded.lock().hear(self.since_origin_us(sent), received, wall, peer_us)
    }

    /// Both clocks at one instant: the wall clock's microseconds, then those since the
    /// origin. Read anew if something came between; what still does makes time late.
    fn read(&self) -> (i64, i64) {
        let mut reading = (0, 0);
        for _ in 0..3 {
            let before = self.since_origin_us(Instant::now());
            reading = (self.host.wall_us(), self.since_origin_us(Instant::now()));
            if reading.1 - before < 1_000 {
                break;
            }
        }
        reading
    }

    fn since_origin_us(&self, at: Instant) -> i64 {
        at.saturating_duration_since(self.origin).as_micros() as i64
    }
}

/// A machine that does what it is told to spawn at once.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct InPlace {
    pub(crate) spawned: std::sync::atomic::AtomicUsize,
}

#[cfg(test)]
impl Host for InPlace {
    fn wall_us(&self) -> i64 {
        0
    }

    fn sleep(&self, _: Duration) {}

    fn spawn(&self, _: &str, work: Work) -> io::Result<()> {
        self.spawned.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        work();
        Ok(())
    }
}

/// The machine this process runs on.
#[derive(Debug)]
pub struct Machine;

impl Host for Machine {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn wall_us(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
    }

    fn sleep(&self, nap: Duration) {
        thread::sleep(nap);
    }

    fn spawn(&self, name: &str, work: Work) -> io::Result<()> {
        // Linux shows at most 15 bytes of a thread's name; the end tells more.
        let start = name.len().saturating_sub(15);
        let short = name.get(start..).unwrap_or("job").to_owned();
        thread::Builder::new().name(short).spawn(work).map(drop)
    }
}
