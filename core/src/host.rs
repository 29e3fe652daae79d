//! The seam between ksched and the machine it runs on: its wall clock, its sleep, its
//! threads. The shells take these from here, so that the simulator (`sim/`) can run
//! the shipped code on a time and in an order of its own.
//!
//! Monotonic time is tokio's `Instant`, which the simulator's runtime owns already.
//!
//! Contract: `wall_us` may jump and differs between machines; whoever acts by it guards
//! it (`ksched_core::clock`). `sleep` blocks the calling thread for at least its
//! argument, and is the only way in which work given to `spawn` waits: such work must
//! not block on channels, locks held across a sleep, or other threads.

use std::{fmt, io, time::Duration};

/// Work for a thread of its own.
pub type Work = Box<dyn FnOnce() + Send>;

/// One machine, as its processes see it.
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// Microseconds since the Unix epoch, by this machine's clock.
    fn wall_us(&self) -> i64;

    /// Blocks the calling thread.
    fn sleep(&self, nap: Duration);

    /// Runs work that blocks, aside from the runtime.
    ///
    /// # Errors
    /// There is no thread to be had; the work is dropped.
    fn spawn(&self, name: &str, work: Work) -> io::Result<()>;

    /// Milliseconds since the Unix epoch, rounded down.
    fn wall_ms(&self) -> i64 {
        self.wall_us().div_euclid(1_000)
    }
}
