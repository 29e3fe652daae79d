//! A process: something that can be killed, paused, and have a wrong clock.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use ksched_core::host::{Host, Work};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{coroutine, world::World};

/// Naps that what is left of a killed process may take.
const PATIENCE_WITH_DEAD: u32 = 500;

/// One life of a process; a restart is another one.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) world: Arc<World>,
    /// Cancelled when it is killed: from then on nothing leaves or reaches it.
    pub(crate) dead: CancellationToken,
    /// Its clock is ahead of true time by this.
    skew_us: AtomicI64,
    pause: Mutex<Pause>,
    /// Requests between it and the broker, or coordinators, are lost.
    pub(crate) cut_off: Mutex<CutOff>,
    naps_after_death: AtomicU32,
    /// When a request of its was last without an answer, or it stood still.
    troubled_at: Mutex<Option<Instant>>,
    /// As which worker it is registered now.
    pub(crate) registered: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Pause {
    /// Several faults may pause it at a time.
    count: u32,
    waiting: Vec<Waker>,
}

/// Links that are cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CutOff {
    pub(crate) broker: bool,
    pub(crate) coordinators: bool,
    pub(crate) store: bool,
}

impl Process {
    pub(crate) fn new(world: &Arc<World>, name: impl Into<String>, skew_us: i64) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            world: Arc::clone(world),
            dead: CancellationToken::new(),
            skew_us: AtomicI64::new(skew_us),
            pause: Mutex::default(),
            cut_off: Mutex::default(),
            naps_after_death: AtomicU32::new(0),
            troubled_at: Mutex::default(),
            registered: Mutex::default(),
        })
    }

    /// As by `kill -9`.
    pub(crate) fn kill(&self) {
        self.world.step(&self.name, || "killed".to_owned());
        self.dead.cancel();
        self.wake();
    }

    /// As by SIGSTOP, for so long.
    pub(crate) fn pause_for(self: &Arc<Self>, span: Duration) {
        self.world.step(&self.name, || format!("paused for {span:?}"));
        self.pause.lock().count += 1;
        let this = Arc::clone(self);
        tokio::spawn(async move {
            sleep(span).await;
            this.pause.lock().count -= 1;
            this.trouble();
            this.world.step(&this.name, || "goes on".to_owned());
            this.wake();
        });
    }

    /// Notes that something it had begun may be done later than it thought.
    pub(crate) fn trouble(&self) {
        *self.troubled_at.lock() = Some(Instant::now());
    }

    /// Whether that was so within this span.
    pub(crate) fn was_troubled(&self, span: Duration) -> bool {
        self.troubled_at.lock().is_some_and(|at| at.elapsed() < span)
    }

    /// Steps its clock.
    pub(crate) fn set_skew(&self, skew_us: i64) {
        self.world.step(&self.name, || format!("clock is {} ms ahead", skew_us / 1_000));
        self.skew_us.store(skew_us, Ordering::Relaxed);
    }

    fn wake(&self) {
        self.pause.lock().waiting.drain(..).for_each(Waker::wake);
    }

    fn is_paused(&self, context: &Context<'_>) -> bool {
        let mut pause = self.pause.lock();
        if pause.count == 0 || self.dead.is_cancelled() {
            return false;
        }
        pause.waiting.push(context.waker().clone());
        true
    }

    /// Runs a part of the process: stands still while it is paused; `None` once it is killed.
    pub(crate) async fn within<T>(&self, part: impl Future<Output = T>) -> Option<T> {
        let mut part = pin!(part);
        let mut dead = pin!(self.dead.cancelled());
        poll_fn(|context| {
            if dead.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            if self.is_paused(context) {
                return Poll::Pending;
            }
            part.as_mut().poll(context).map(Some)
        })
        .await
    }

    /// The same for code that blocks, which ends by itself after a kill: all its calls fail.
    async fn stand_still(&self, part: impl Future<Output = ()>) {
        let mut part = pin!(part);
        poll_fn(|context| if self.is_paused(context) { Poll::Pending } else { part.as_mut().poll(context) })
            .await;
    }
}

/// The machine as this process sees it.
#[derive(Clone, Debug)]
pub(crate) struct SimHost(pub(crate) Arc<Process>);

impl Host for SimHost {
    fn wall_us(&self) -> i64 {
        self.0.world.now_us() + self.0.skew_us.load(Ordering::Relaxed)
    }

    fn sleep(&self, nap: Duration) {
        // What is left of a killed process ends when a call of its fails. A job that waits
        // for something without a call would wait for ever: it is unwound.
        let naps =
            self.0.naps_after_death.fetch_add(u32::from(self.0.dead.is_cancelled()), Ordering::Relaxed);
        if naps > PATIENCE_WITH_DEAD && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new("killed"));
        }
        coroutine::wait(sleep(nap));
    }

    fn spawn(&self, name: &str, work: Work) -> io::Result<()> {
        let process = Arc::clone(&self.0);
        let number = {
            let mut jobs = process.world.jobs.lock();
            let number = jobs.last_key_value().map_or(0, |(last, _)| last + 1);
            jobs.insert(number, format!("{name} of {}", process.name));
            number
        };
        tokio::spawn(async move {
            process.stand_still(coroutine::run(work)).await;
            process.world.jobs.lock().remove(&number);
        });
        Ok(())
    }
}
