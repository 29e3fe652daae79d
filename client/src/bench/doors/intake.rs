//! Plain records on the intake topic, as any Kafka client would write them.

use std::{sync::Arc, time::Duration};

use ksched_core::message::Header;
use ksched_kafka::{Log, Outgoing, Producer};
use tokio::sync::mpsc;

use super::{Pace, Work};
use crate::{
    bench::{Error, blocking, payload, report::Generated},
    clock,
};

/// Ranges of numbers waiting for the producer's thread.
const QUEUE: usize = 100_000;
/// Records appended before their acknowledgements are waited for.
const ROUND: usize = 10_000;
/// How long a producer that is no more of use is replaced.
const REPLACE_WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn send<L: Log>(work: Work, mut pace: Pace, log: Arc<L>) -> Result<Generated, Error> {
    let (queue, numbers) = mpsc::channel(QUEUE);
    let producing = tokio::spawn(blocking(move || Ok(produce(&work, numbers, log.as_ref())?)));
    while let Some(numbers) = pace.due(1_000).await {
        if queue.send(numbers.clone()).await.is_err() {
            break;
        }
        pace.sent(&numbers);
    }
    drop(queue);
    match producing.await {
        Ok(result) => result?,
        Err(_) => return Err(Error::Settings("the program is ending".to_owned())),
    }
    Ok(pace.generated())
}

/// The producer's thread: a round is what is there, up to a limit.
fn produce<L: Log>(
    work: &Work,
    mut numbers: mpsc::Receiver<std::ops::Range<u64>>,
    log: &L,
) -> Result<(), ksched_kafka::Error> {
    let mut producer = log.producer()?;
    let mut round = Vec::with_capacity(ROUND);
    while let Some(first) = numbers.blocking_recv() {
        round.extend(first);
        while round.len() < ROUND
            && let Ok(more) = numbers.try_recv()
        {
            round.extend(more);
        }
        if append(work, &mut producer, &round).is_err() {
            producer = replaced(log)?;
        }
        round.clear();
    }
    Ok(())
}

/// Appends a round and settles its messages. After an error the producer is no
/// more of use.
fn append<P: Producer>(work: &Work, producer: &mut P, round: &[u64]) -> Result<(), ksched_kafka::Error> {
    let mut handed_over = 0;
    let mut broken = Ok(());
    for (tag, number) in round.iter().enumerate() {
        broken = hand_over(work, producer, tag, *number);
        if broken.is_err() {
            break;
        }
        handed_over += 1;
    }
    let flushed = producer.flush();
    let at_us = clock::now_us();
    // Refused records are not known not to be there: a time-out is among the reasons.
    let mut lost = vec![false; round.len()];
    for refusal in flushed.iter().flatten() {
        if let Some(slot) = lost.get_mut(refusal.tag) {
            *slot = true;
        }
    }
    for (tag, number) in round.iter().enumerate() {
        if tag >= handed_over || flushed.is_err() || lost[tag] {
            work.ledger.loses_sight(*number, &"not acknowledged by Kafka");
        } else {
            work.ledger.acknowledges(*number, at_us);
        }
    }
    flushed.and(broken)
}

fn hand_over<P: Producer>(
    work: &Work,
    producer: &mut P,
    tag: usize,
    number: u64,
) -> Result<(), ksched_kafka::Error> {
    let mut content = payload::content(&work.plan, work.run, number);
    let due_ms = work.plan.due_ms(number, work.start_ms);
    content.headers.push(Header::new("ksched-deliver-at", due_ms.to_string()));
    content.headers.push(Header::new("ksched-topic", work.topic.clone()));
    work.ledger.sends(number);
    let record =
        Outgoing { topic: &work.intake_topic, partition: None, timestamp_ms: None, content: &content };
    producer.send(tag, record)
}

/// A new producer, when Kafka lets us have one.
fn replaced<L: Log>(log: &L) -> Result<L::Producer, ksched_kafka::Error> {
    let deadline = std::time::Instant::now() + REPLACE_WITHIN;
    loop {
        match log.producer() {
            Err(ksched_kafka::Error::Unavailable(_)) if std::time::Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(200));
            }
            result => return result,
        }
    }
}
