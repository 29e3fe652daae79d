//! Rows, taken and given back.

use ksched_baseline::{Fate, Row};
use ksched_core::message::{Content, Header};

use crate::bed::Bed;

pub(crate) async fn rows_come_back_as_they_were(bed: Bed) {
    let contents = [
        Content::default(),
        Content { key: Some("".into()), value: Some("".into()), headers: Vec::new() },
        Content {
            key: Some(vec![0, 255].into()),
            value: Some(vec![0xc3; 300_000].into()),
            headers: vec![Header::new("ü", vec![0, 1]), Header { name: "ü".into(), value: None }],
        },
    ];
    let rows: Vec<_> = (1..)
        .zip(contents)
        .map(|(due_ms, content)| {
            let partition = (due_ms == 2).then_some(7);
            Row { due_ms, topic: "topic".to_owned(), partition, content }
        })
        .collect();
    bed.database.insert_batch(&rows).await.unwrap();
    let taken = bed.database.take(3, 10).await.unwrap().unwrap();
    assert_eq!(taken.rows, rows);
    taken.settle(&[Fate::Delivered, Fate::Open, Fate::Postponed], 100).await.unwrap();
    // One is deleted, one is there as before, one is due later.
    assert_eq!(bed.database.waiting().await.unwrap(), 2);
    let taken = bed.database.take(99, 10).await.unwrap().unwrap();
    assert_eq!(taken.rows, rows[1..2]);
    taken.settle(&[Fate::Delivered], 0).await.unwrap();
    let taken = bed.database.take(100, 10).await.unwrap().unwrap();
    assert_eq!((taken.rows[0].due_ms, &taken.rows[0].content), (100, &rows[2].content));
}

pub(crate) async fn what_is_taken_is_passed_over_by_others_and_free_when_dropped(bed: Bed) {
    let rows: Vec<_> = (0..10).map(|number| bed.row(number, number as i64)).collect();
    bed.database.insert_batch(&rows).await.unwrap();
    let numbers = |rows: &[Row]| rows.iter().map(|row| row.due_ms).collect::<Vec<_>>();
    let first = bed.database.take(7, 4).await.unwrap().unwrap();
    let second = bed.database.take(7, 100).await.unwrap().unwrap();
    assert_eq!(numbers(&first.rows), [0, 1, 2, 3]);
    assert_eq!(numbers(&second.rows), [4, 5, 6, 7], "the others, and none before its time");
    assert!(bed.database.take(7, 100).await.unwrap().is_none());
    // Whoever schedules does not wait for those who hold rows.
    bed.database.insert_batch(&[bed.row(10, 2)]).await.unwrap();
    drop(first);
    second.settle(&[Fate::Delivered; 4], 0).await.unwrap();
    let again = loop {
        // What is dropped is given back when its connection is used next, or at once.
        match bed.database.take(7, 100).await.unwrap() {
            Some(taken) if taken.rows.len() == 5 => break taken,
            other => drop(other),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(numbers(&again.rows), [0, 1, 2, 2, 3]);
}

pub(crate) async fn more_rows_than_a_statement_takes_are_several(bed: Bed) {
    let rows: Vec<_> = (0..2_500).map(|number| bed.row(number, 1)).collect();
    bed.database.insert_batch(&rows).await.unwrap();
    assert_eq!(bed.database.waiting().await.unwrap(), 2_500);
    bed.database.insert_batch(&[]).await.unwrap();
}
