//! Blocking code without threads: each job of a worker, written to block a thread of its
//! own, runs here on a stack of its own and is left whenever it waits. The runtime goes
//! on with something else and comes back when what was waited for is there.

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use generator::{Generator, Gn};
use parking_lot::Mutex;

/// What a coroutine waits for.
type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// In words of eight bytes: a job's deepest calls take a fraction of it.
const STACK_WORDS: usize = 32 << 10;

/// Work that may call [`wait`]; as a future it is left off at each.
pub(crate) struct Coroutine {
    stack: Generator<'static, (), Option<Wait>>,
    wait: Option<Wait>,
}

/// Runs work in a coroutine.
pub(crate) fn run(work: Box<dyn FnOnce() + Send>) -> Coroutine {
    let stack = Gn::new_opt(STACK_WORDS, move || {
        // What is left of a killed process is unwound; a panic of its own is told by the hook
        // (`run::PANICS`).
        let _ = panic::catch_unwind(AssertUnwindSafe(work));
        None
    });
    Coroutine { stack, wait: None }
}

impl Future for Coroutine {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            if let Some(wait) = &mut this.wait {
                ready!(wait.as_mut().poll(context));
            }
            this.wait = this.stack.resume().flatten();
            if this.wait.is_none() {
                return Poll::Ready(());
            }
        }
    }
}

/// Waits for a future, in a coroutine.
#[expect(clippy::expect_used, reason = "a coroutine is resumed only when its wait is over")]
pub(crate) fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let slot = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&slot);
    let wait: Wait = Box::pin(async move {
        let value = future.await;
        *theirs.lock() = Some(value);
    });
    #[expect(
        deprecated,
        reason = "the newer form needs the coroutine's own handle, which the log's seam cannot pass"
    )]
    generator::yield_with(Some(wait));
    let value = slot.lock().take();
    value.expect("the wait is over")
}
