//! Pollers, with everything well and with something wrong.

use std::time::Duration;

use ksched_baseline::{Pollers, Row, Settings};

use crate::bed::{Bed, now_ms};

const EVERY: Duration = Duration::from_millis(100);

pub(crate) async fn each_is_delivered_once_and_none_early(bed: Bed) {
    let start_ms = now_ms();
    let settings = Settings { every: EVERY, pollers: 4, batch: 100 };
    let pollers = Pollers::start(&bed.database, &bed.log, settings);
    // Due within two seconds, in no order.
    let due_ms = |number: usize| start_ms + 300 + (number as i64 * 7_919) % 2_000;
    let rows: Vec<_> = (0..5_000).map(|number| bed.row(number, due_ms(number))).collect();
    for batch in rows.chunks(500) {
        bed.database.insert_batch(batch).await.unwrap();
    }
    bed.all_delivered().await;
    let done = pollers.stop().await;
    // Databases end one of two transactions that wait for each other: such a poll fails, and is made again.
    assert!(done.delivered >= 5_000 && done.refused == 0, "{done:?}");
    let delivered = bed.delivered();
    assert_eq!(delivered.len(), rows.len());
    for (number, (copies, appended_ms)) in delivered {
        assert!(copies == 1 || done.failed > 0, "message {number}: {copies} copies, {done:?}");
        assert!(appended_ms >= due_ms(number), "message {number} is early");
    }
}

pub(crate) async fn what_kafka_refuses_does_not_stand_before_the_rest(bed: Bed) {
    let refused = Row { partition: Some(77), ..bed.row(0, 1) };
    let rest: Vec<_> = (1..20).map(|number| bed.row(number, 2)).collect();
    bed.database.insert_batch(&[refused]).await.unwrap();
    bed.database.insert_batch(&rest).await.unwrap();
    let settings = Settings { every: EVERY, pollers: 1, batch: 10 };
    let pollers = Pollers::start(&bed.database, &bed.log, settings);
    while bed.database.waiting().await.unwrap() > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(pollers.stop().await.delivered, 19);
    assert_eq!(bed.delivered().len(), 19);
    assert_eq!(bed.database.waiting().await.unwrap(), 1);
}

pub(crate) async fn an_ended_poller_loses_nothing(bed: Bed) {
    let rows: Vec<_> = (0..3_000).map(|number| bed.row(number, 1)).collect();
    bed.database.insert_batch(&rows).await.unwrap();
    let settings = Settings { every: EVERY, pollers: 3, batch: 50 };
    for _ in 0..5 {
        let pollers = Pollers::start(&bed.database, &bed.log, settings);
        let begun = pollers.done();
        while pollers.done() == begun {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // In the middle of whatever they do.
        drop(pollers);
    }
    let pollers = Pollers::start(&bed.database, &bed.log, settings);
    bed.all_delivered().await;
    pollers.stop().await;
    assert_eq!(bed.delivered().len(), rows.len());
}
