//! The machine that a coordinator runs on.

use std::{
    io, thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ksched_core::host::{Host, Work};
use tokio::sync::oneshot;

/// The real one; its threads are those that tokio keeps for blocking work.
#[derive(Debug)]
pub struct Machine;

impl Host for Machine {
    /// A coordinator whose clock is wrong misjudges delays and buckets; lanes and the
    /// job maker put the latter right. Guarding against jumps (design §5, Time) goes
    /// here, by `ksched_core::clock`, once coordinators hear each other's time.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn wall_us(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    fn sleep(&self, nap: Duration) {
        thread::sleep(nap);
    }

    fn spawn(&self, _: &str, work: Work) -> io::Result<()> {
        drop(tokio::task::spawn_blocking(work));
        Ok(())
    }
}

/// Work that was to be done aside did not come back: it panicked, or had no thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("blocking work did not come back")]
pub struct Lost;

/// Does blocking work aside from the runtime and waits for its result.
pub(crate) async fn aside<T: Send + 'static>(
    host: &dyn Host,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Lost> {
    let (done, result) = oneshot::channel();
    let work = move || {
        // Nobody waits any more only when the coordinator is stopping.
        let _ = done.send(work());
    };
    host.spawn(name, Box::new(work)).map_err(|_| Lost)?;
    result.await.map_err(|_| Lost)
}

/// A machine whose clock stands still.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Still {
    pub(crate) at_ms: i64,
}

#[cfg(test)]
impl Host for Still {
    fn wall_us(&self) -> i64 {
        self.at_ms * 1_000
    }

    fn sleep(&self, nap: Duration) {
        Machine.sleep(nap);
    }

    fn spawn(&self, name: &str, work: Work) -> io::Result<()> {
        Machine.spawn(name, work)
    }
}
