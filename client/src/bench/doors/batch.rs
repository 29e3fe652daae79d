//! One call for what is to be sent within some milliseconds.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use super::{Pace, Work};
use crate::{Client, bench::report::Generated};

/// Messages gather this long, as they would in a caller that schedules in batches.
const GATHER: Duration = Duration::from_millis(5);
const LARGEST: u64 = 1_000;
/// Messages in flight at once: with those of 200 bytes half of what a coordinator has room for, and enough to keep
/// it busy. The stream's window may be larger, as the stream is made to wait and a batch is refused.
const IN_FLIGHT: usize = 50_000;

pub(super) async fn send(work: Work, mut pace: Pace, client: Client) -> Generated {
    let work = Arc::new(work);
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut calls = JoinSet::new();
    while let Some(numbers) = pace.due(LARGEST).await {
        // Never closed, so there always are permits in the end.
        let permits = Arc::clone(&room).acquire_many_owned((numbers.end - numbers.start) as u32).await;
        let (batch, task_work, client) = (numbers.clone(), Arc::clone(&work), client.clone());
        calls.spawn(async move {
            let messages = batch.clone().map(|number| task_work.message(number)).collect();
            let results = Box::pin(client.batch(messages)).await;
            for (number, result) in batch.zip(&results) {
                task_work.ledger.settles(number, result.as_ref().map(|_| ()));
            }
            drop(permits);
        });
        pace.sent(&numbers);
        while calls.try_join_next().is_some() {}
        if numbers.end - numbers.start < LARGEST {
            sleep(GATHER).await;
        }
    }
    while calls.join_next().await.is_some() {}
    pace.generated()
}
