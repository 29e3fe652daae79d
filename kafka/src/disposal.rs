//! Letting go of librdkafka clients.
//!
//! Dropping a client joins its threads and may take half a second, or for ever
//! (traps.md, rust-rdkafka: "Dropping a consumer can hang" #509, #611). So no
//! thread of ours ever does it: each client goes to a thread made for its end,
//! which is counted, and named in the log when it is slow.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Clients given away and not gone yet.
static OUTSTANDING: AtomicUsize = AtomicUsize::new(0);

/// Above this many at once something is wrong enough to say so each time.
const MANY: usize = 64;
const SLOW: Duration = Duration::from_secs(5);

/// Runs `end`, which drops a client, on a thread of its own.
pub(crate) fn dispose(what: &'static str, end: impl FnOnce() + Send + 'static) {
    let outstanding = OUTSTANDING.fetch_add(1, Ordering::Relaxed) + 1;
    if outstanding > MANY {
        tracing::warn!(what, outstanding, "kafka clients are slow to end");
    }
    let spawned = thread::Builder::new().name(format!("end {what}")).spawn(move || {
        let started_at = Instant::now();
        end();
        OUTSTANDING.fetch_sub(1, Ordering::Relaxed);
        let took = started_at.elapsed();
        if took > SLOW {
            tracing::warn!(what, ?took, "kafka client was slow to end");
        }
    });
    if let Err(error) = spawned {
        // The closure was dropped with the client in it, here: slow, but gone.
        OUTSTANDING.fetch_sub(1, Ordering::Relaxed);
        tracing::warn!(what, %error, "no thread to end a kafka client on");
    }
}

/// Waits until every client dropped so far is gone, at most `limit`; how many are
/// not. For the end of a process. Blocks.
pub fn wait_for_disposals(limit: Duration) -> usize {
    let deadline = Instant::now() + limit;
    loop {
        let outstanding = OUTSTANDING.load(Ordering::Relaxed);
        if outstanding == 0 || Instant::now() >= deadline {
            return outstanding;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
