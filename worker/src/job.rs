//! A leased job on its own thread, and what passes between it and the session.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
        mpsc as std_mpsc,
    },
    time::Duration,
};

use ksched_core::{host::Host, trace::TraceContext};
use tokio::{sync::mpsc, time::Instant};
use tracing::error_span;

/// What a job thread may read and ask while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) name: Arc<str>,
    pub(crate) fence: i64,
    /// The span of holding the job, if that is recorded.
    pub(crate) held: Option<TraceContext>,
    stop: Arc<AtomicBool>,
    lease: Arc<Lease>,
    confirms: mpsc::Sender<Confirm>,
    host: Arc<dyn Host>,
}

/// How often a job's thread that waits looks whether it need not any longer.
const GLANCE: Duration = Duration::from_millis(20);
/// How long one question to a coordinator waits for its answer.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(10);

/// A job thread asks whether it still holds its job.
#[derive(Debug)]
pub(crate) struct Confirm {
    pub(crate) name: Arc<str>,
    pub(crate) answer: std_mpsc::SyncSender<bool>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its work is done (drain jobs).
    Done { moved: u64 },
    /// It was told to stop, and stopped between two transactions.
    Stopped,
    /// A newer holder exists.
    Fenced,
    /// It cannot go on; somebody may try again.
    Failed(String),
}

/// A job thread's last word.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: Arc<str>,
    pub(crate) fence: i64,
    pub(crate) outcome: Outcome,
}

/// Until when the worker's lease surely lasts.
#[derive(Debug)]
pub(crate) struct Lease {
    origin: Instant,
    /// Milliseconds since `origin`.
    until_ms: AtomicI64,
}

impl Lease {
    /// A lease asked for at `sent` was granted for `ttl`.
    pub(crate) fn new(sent: Instant, ttl: Duration) -> Self {
        Self { origin: sent, until_ms: AtomicI64::new(ttl.as_millis() as i64) }
    }

    /// A renewal asked for at `sent` was granted for `ttl`.
    pub(crate) fn renewed(&self, sent: Instant, ttl: Duration) {
        let until = sent.saturating_duration_since(self.origin) + ttl;
        self.until_ms.fetch_max(until.as_millis() as i64, Ordering::AcqRel);
    }

    /// How long the lease surely lasts from now on.
    pub(crate) fn left(&self) -> Duration {
        let now = self.origin.elapsed().as_millis() as i64;
        Duration::from_millis((self.until_ms.load(Ordering::Acquire) - now).max(0) as u64)
    }
}

impl Control {
    pub(crate) fn new(
        name: Arc<str>,
        fence: i64,
        held: Option<TraceContext>,
        lease: Arc<Lease>,
        confirms: mpsc::Sender<Confirm>,
        host: Arc<dyn Host>,
    ) -> Self {
        Self { name, fence, held, stop: Arc::default(), lease, confirms, host }
    }

    /// Asks the job to stop after its current transaction.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// How long the worker's lease surely lasts: what an at-least-once lane, which
    /// nothing else fences, must not outlive.
    pub(crate) fn lease_left(&self) -> Duration {
        self.lease.left()
    }

    /// Asks a coordinator whether this job is still ours, for as long as that
    /// takes; a holder must know before it initialises producers again, or two
    /// would fence each other for ever (design §4.1). `false`: drop the job.
    pub(crate) fn confirm(&self) -> bool {
        while !self.stopped() {
            let (answer, answered) = std_mpsc::sync_channel(1);
            let question = Confirm { name: self.name.clone(), answer };
            if !hand_over(&*self.host, &self.confirms, question) {
                return false;
            }
            let asked_at = Instant::now();
            // No answer means that no coordinator has one: ask again.
            while !self.stopped() && asked_at.elapsed() < CONFIRM_PATIENCE {
                match answered.try_recv() {
                    Ok(held) => return held,
                    Err(std_mpsc::TryRecvError::Disconnected) => break,
                    Err(std_mpsc::TryRecvError::Empty) => self.nap(GLANCE),
                }
            }
        }
        false
    }

    /// Sleeps, but not beyond a stop.
    pub(crate) fn nap(&self, nap: Duration) {
        let until = Instant::now() + nap;
        while !self.stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.host.sleep(left.min(GLANCE));
        }
    }
}

/// Runs `work` on a thread of its own and reports how it ended, a panic included.
pub(crate) fn spawn(
    control: Control,
    ends: mpsc::Sender<Ended>,
    work: impl FnOnce(&Control) -> Outcome + Send + 'static,
) -> Result<(), std::io::Error> {
    let host = control.host.clone();
    let name = control.name.clone();
    let work = move || {
        // All that the thread logs is then found by its trace, whatever the filter.
        let recorded = control.held.map(|held| error_span!("job", trace_id = held.trace_id_hex()).entered());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&control)));
        let outcome = result.unwrap_or_else(|_| Outcome::Failed("job thread panicked".to_owned()));
        drop(recorded);
        // The session is gone only when the process is ending.
        hand_over(&*control.host, &ends, Ended { name: control.name.clone(), fence: control.fence, outcome });
    };
    host.spawn(&name, Box::new(work))
}

/// Puts something into a channel from a job's thread; `false` if nobody listens any more.
fn hand_over<T>(host: &dyn Host, to: &mpsc::Sender<T>, what: T) -> bool {
    let mut what = what;
    loop {
        match to.try_send(what) {
            Ok(()) => return true,
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
            Err(mpsc::error::TrySendError::Full(back)) => what = back,
        }
        host.sleep(GLANCE);
    }
}
