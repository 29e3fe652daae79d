//! Whether this process can do its work now, and if not, why.
//!
//! One value feeds `/readyz` and the gRPC health service, so that they cannot
//! disagree.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Duration, Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// What each part that matters last said of itself; `None` is fine.
pub type Parts = BTreeMap<&'static str, Option<String>>;

/// An answer that takes longer counts as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// Shared by those who find out and those who tell.
#[derive(Clone, Debug)]
pub struct Readiness {
    parts: watch::Sender<Parts>,
}

impl Readiness {
    /// Not ready until each of these parts has said that it is fine.
    pub fn waiting_for(parts: &[&'static str]) -> Self {
        let waiting = parts.iter().map(|part| (*part, Some("not reached yet".to_owned()))).collect();
        Self { parts: watch::Sender::new(waiting) }
    }

    /// A part works.
    pub fn fine(&self, part: &'static str) {
        self.set(part, None);
    }

    /// A part does not work, for a reason that an operator understands.
    pub fn failing(&self, part: &'static str, why: impl Into<String>) {
        self.set(part, Some(why.into()));
    }

    fn set(&self, part: &'static str, state: Option<String>) {
        self.parts.send_if_modified(|parts| {
            let changed = parts.get(part) != Some(&state);
            parts.insert(part, state);
            changed
        });
    }

    /// Whether every part works.
    pub fn is_ready(&self) -> bool {
        self.parts.borrow().values().all(Option::is_none)
    }

    /// Each part, and whether it works.
    pub(crate) fn parts<T>(&self, tell: impl Fn(&str, bool) -> T) -> Vec<T> {
        self.parts.borrow().iter().map(|(part, state)| tell(part, state.is_none())).collect()
    }

    /// What does not work, `part: reason` a line; empty when ready.
    pub fn complaints(&self) -> String {
        let parts = self.parts.borrow();
        let lines =
            parts.iter().filter_map(|(part, state)| state.as_ref().map(|why| format!("{part}: {why}\n")));
        lines.collect()
    }

    /// Asks a part each `every` whether it works and how long it took to say so, until the shutdown.
    /// `ask` blocks a thread of its own; who has an answer tells `answered`.
    pub async fn ask<E: std::fmt::Display + Send + 'static>(
        &self,
        part: &'static str,
        every: Duration,
        shutdown: &CancellationToken,
        ask: impl Fn() -> Result<(), E> + Send + Sync + 'static,
        answered: impl Fn(Duration),
    ) {
        let ask = Arc::new(ask);
        while !shutdown.is_cancelled() {
            let (asked_at, question) = (Instant::now(), Arc::clone(&ask));
            let mut answer = spawn_blocking(move || question());
            let answer = match timeout(ANSWER_TIMEOUT, &mut answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.failing(part, "does not answer");
                    // One question at a time, or they would pile up on blocking threads.
                    answer.await
                }
            };
            match answer {
                Ok(Ok(())) => {
                    answered(asked_at.elapsed());
                    self.fine(part);
                }
                Ok(Err(error)) => self.failing(part, error.to_string()),
                Err(join) => self.failing(part, join.to_string()),
            }
            tokio::select! {
                () = sleep(every) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Wakes whenever a part's state changes.
    pub fn watch(&self) -> watch::Receiver<Parts> {
        self.parts.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_when_every_part_is() {
        let readiness = Readiness::waiting_for(&["kafka", "store"]);
        readiness.fine("kafka");
        assert!(!readiness.is_ready());
        readiness.fine("store");
        assert!(readiness.is_ready());
        readiness.failing("kafka", "away");
        assert_eq!(readiness.complaints(), "kafka: away\n");
    }
}
