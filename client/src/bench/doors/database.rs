//! Rows of the baseline's table: one statement for what is to be sent within some milliseconds.

use std::{sync::Arc, time::Duration};

use ksched_baseline::{Database, Row};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use super::{Pace, Work};
use crate::bench::{Error, payload, report::Generated};

/// As messages of the batch door do.
const GATHER: Duration = Duration::from_millis(5);
const LARGEST: u64 = 1_000;

pub(super) async fn send(work: Work, mut pace: Pace) -> Result<Generated, Error> {
    let Some(database) = work.database.clone() else {
        return Err(Error::Settings("this door needs a database".to_owned()));
    };
    let work = Arc::new(work);
    // A statement holds a connection; what waits for one meanwhile goes into the next statement.
    let room = Arc::new(Semaphore::new(database.connections() as usize));
    let mut statements = JoinSet::new();
    // Never closed, so there always is a permit in the end.
    while let permit = Arc::clone(&room).acquire_owned().await
        && let Some(numbers) = pace.due(LARGEST).await
    {
        let (batch, task_work, database) = (numbers.clone(), Arc::clone(&work), database.clone());
        statements.spawn(async move {
            insert(&task_work, &database, batch).await;
            drop(permit);
        });
        pace.sent(&numbers);
        while statements.try_join_next().is_some() {}
        if numbers.end - numbers.start < LARGEST {
            sleep(GATHER).await;
        }
    }
    while statements.join_next().await.is_some() {}
    Ok(pace.generated())
}

async fn insert(work: &Work, database: &Database, batch: std::ops::Range<u64>) {
    let rows: Vec<_> = batch
        .clone()
        .map(|number| {
            work.ledger.sends(number);
            Row {
                due_ms: work.plan.due_ms(number, work.start_ms),
                topic: work.topic.clone(),
                partition: None,
                content: payload::content(&work.plan, work.run, number),
            }
        })
        .collect();
    let result = database.insert_batch(&rows).await;
    let at_us = crate::clock::now_us();
    for number in batch {
        match &result {
            Ok(()) => work.ledger.acknowledges(number, at_us),
            Err(error) if error.may_have_happened() => work.ledger.loses_sight(number, error),
            Err(error) => work.ledger.refuses(number, error),
        }
    }
}
