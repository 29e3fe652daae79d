//! How long a lane's transaction takes. Printed, not judged: run with `--nocapture`.

use std::time::{Duration, Instant};

use ksched_kafka::{Log as _, Position, Reader as _, Turns};

use crate::bed::{Bed as _, at, read, real, text, to, unique};

#[test]
fn begin_to_commit_with_two_producers_in_turn() {
    let bed = real();
    let (log, inlet, target) = (bed.log(), bed.topic("speed-inlet", 1), bed.topic("speed", 4));
    let id = unique("speed");
    let producer = |turn: char| log.transactional(&format!("{id}.{turn}")).unwrap();
    let mut turns = Turns::new(producer('a'), producer('b'));
    let started_at = Instant::now();
    turns.take_over().unwrap();
    println!("take-over {:?}", started_at.elapsed());
    for (records, pause) in [(1, 10), (50, 10), (1, 0), (50, 0), (1000, 0)] {
        let mut took = Vec::new();
        for round in 0..100_i64 {
            let began_at = Instant::now();
            turns.begin().unwrap();
            for tag in 0..records {
                turns.send(tag, to(&target, (tag % 4) as i32, &text("payload"))).unwrap();
            }
            let position = Position { offset: round, metadata: "w".to_owned() };
            turns.commit(&[(at(&inlet, 0), position)]).unwrap();
            took.push(began_at.elapsed());
            std::thread::sleep(Duration::from_millis(pause));
        }
        took.sort();
        println!(
            "{records:5} records, {pause:2} ms pause: p50 {:?} p90 {:?} p99 {:?}",
            took[50], took[90], took[98]
        );
    }
}

/// From begin until a read_committed reader has the record.
#[test]
fn begin_to_visible() {
    let bed = real();
    let (log, target) = (bed.log(), bed.topic("visible", 1));
    let id = unique("visible");
    let producer = |turn: char| log.transactional(&format!("{id}.{turn}")).unwrap();
    let mut turns = Turns::new(producer('a'), producer('b'));
    turns.take_over().unwrap();
    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&[(at(&target, 0), 0)]).unwrap();
    let mut took = Vec::new();
    for _ in 0..100 {
        let began_at = Instant::now();
        turns.begin().unwrap();
        turns.send(0, to(&target, 0, &text("payload"))).unwrap();
        turns.commit(&[]).unwrap();
        read(&mut reader, 1);
        took.push(began_at.elapsed());
    }
    took.sort();
    println!("visible: p50 {:?} p90 {:?} p99 {:?}", took[50], took[90], took[98]);
}
