//! One call a message, each in a task of its own.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::JoinSet};

use super::{Pace, Work};
use crate::{Client, bench::report::Generated};

/// Calls at once. More, and the generator waits and shows as behind its plan:
/// enough for ten seconds without a coordinator at 5,000/s.
const IN_FLIGHT: usize = 50_000;
/// Finished tasks are collected every so many messages.
const COLLECT: usize = 1_000;

pub(super) async fn send(work: Work, mut pace: Pace, client: Client) -> Generated {
    let work = Arc::new(work);
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut calls = JoinSet::new();
    while let Some(numbers) = pace.due(64).await {
        for number in numbers.clone() {
            // Never closed, so there always is a permit in the end.
            let permit = Arc::clone(&room).acquire_owned().await;
            let (work, client) = (Arc::clone(&work), client.clone());
            calls.spawn(async move {
                let result = Box::pin(client.schedule(work.message(number))).await;
                work.ledger.settles(number, result.as_ref().map(|_| ()));
                drop(permit);
            });
        }
        pace.sent(&numbers);
        if calls.len() > COLLECT {
            while calls.try_join_next().is_some() {}
        }
    }
    while calls.join_next().await.is_some() {}
    pace.generated()
}
