//! Waiting, at start, for Kafka and the store to come up.

use std::{fmt, time::Duration};

use ksched_telemetry::logging::Repeats;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// A supervisor starts us again after this; until then nobody need look.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Why something needed is not there.
#[derive(Debug)]
pub(crate) enum Impatience<E> {
    /// It will not pass, or has not in two minutes.
    Failed(E),
    /// The process was told to stop first.
    Stopped,
}

/// Tries until it succeeds, fails for good by `will_pass`, or patience ends.
///
/// # Errors
/// The last error, or that the process was told to stop.
pub(crate) async fn wait_for<T, E: fmt::Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    shutdown: &CancellationToken,
    will_pass: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Impatience<E>> {
    let give_up_at = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    let mut waiting = Repeats::default();
    loop {
        let error = tokio::select! {
            result = attempt() => match result {
                Ok(value) => return Ok(value),
                Err(error) => error,
            },
            () = shutdown.cancelled() => return Err(Impatience::Stopped),
        };
        if !will_pass(&error) {
            return Err(Impatience::Failed(error));
        }
        if Instant::now() >= give_up_at {
            tracing::error!("waited {} s for {what}", PATIENCE.as_secs());
            return Err(Impatience::Failed(error));
        }
        if waiting.tell().is_some() {
            tracing::warn!("waiting for {what}: {error}");
        }
        tokio::select! {
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = shutdown.cancelled() => return Err(Impatience::Stopped),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::ready,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use tracing::{Event, Metadata, Subscriber, span};

    use super::*;

    /// Counts log lines.
    #[derive(Clone, Default)]
    struct Lines(Arc<AtomicUsize>);

    impl Subscriber for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("ksched")
        }

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[tokio::test(start_paused = true)]
    async fn tries_until_it_comes_up() {
        let (mut left, shutdown) = (5, CancellationToken::new());
        let came = wait_for(
            "it",
            &shutdown,
            |_| true,
            || {
                left -= 1;
                ready(if left == 0 { Ok("up") } else { Err("down") })
            },
        );
        assert_eq!(came.await.unwrap(), "up");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_once_or_in_the_end() {
        let begun = Instant::now();
        let never = async |passes| {
            wait_for("it", &CancellationToken::new(), |_| passes, || ready(Err::<(), _>("down"))).await
        };
        assert!(matches!(never(false).await, Err(Impatience::Failed("down"))));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(matches!(never(true).await, Err(Impatience::Failed("down"))));
        assert!(begun.elapsed() >= PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_rarer_than_attempts() {
        let lines = Lines::default();
        let _guard = tracing::subscriber::set_default(lines.clone());
        let shutdown = CancellationToken::new();
        let begun = Instant::now();
        let attempt = || ready(if begun.elapsed() > Duration::from_secs(25) { Ok(()) } else { Err("down") });
        wait_for("it at here:1", &shutdown, |_| true, attempt).await.unwrap();
        assert_eq!(lines.0.load(Ordering::Relaxed), 3, "at once, and about every 10 s");
    }

    #[tokio::test]
    async fn stops_waiting_when_told_to() {
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let stopped = wait_for("it", &shutdown, |_| true, || ready(Err::<(), _>("down"))).await;
        assert!(matches!(stopped, Err(Impatience::Stopped)));
    }
}
