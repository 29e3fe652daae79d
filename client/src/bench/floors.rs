//! What the broker itself allows, measured with the same library, settings, message size and
//! headers as what is bounded by it, and in the same session (bench.md):
//!
//! | floor | is |
//! | --- | --- |
//! | B1 | a copy of a topic, read and appended, without transactions |
//! | B2 | the same in transactions of 10,000, each with its position |
//! | B3 | the bare fire loop: threads that append what is due, in transactions with a position, two producers in turn |
//!
//! A scheduler stores each message and delivers it, so at best it comes to about half of B2.

use std::{
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use ksched_core::message::{Content, Header};
use ksched_kafka::{
    Error, Log, Offset, Outgoing, Position, Producer as _, Reader as _, TopicPartition, TransactionError,
    TransactionalProducer as _, Turns,
};
use ksched_report::run::{Floor, Summary};
use parking_lot::Mutex;

use crate::{
    clock,
    reader::{Since, TopicReader, Until},
    verify::Lateness,
};

/// One transaction of B2.
const TRANSACTION: usize = 10_000;
const FETCH_BYTES: usize = 8 << 20;
const POLL: Duration = Duration::from_millis(100);
/// As ksched's lanes: from one transaction's start to the next's (`worker/src/lane.rs`).
const PACE: Duration = Duration::from_millis(10);
/// Without a record for so long, the copy has stalled.
const STALLED: Duration = Duration::from_secs(30);
/// The broker's caches, the JVM's compiler and the clients' connections: not measured.
const WARM_UP: Duration = Duration::from_secs(5);

/// How the floors are measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// Topics are made with names that begin so.
    pub topic: String,
    /// Messages of a copy.
    pub count: u64,
    /// Bytes of each value.
    pub size: usize,
    /// Messages a second of B3.
    pub rate: f64,
    /// How long B3 takes after its warm-up.
    pub duration: Duration,
    /// Partitions of a copy's topics, each copied by a thread of its own; threads of B3.
    pub lanes: i32,
}

/// Copies without transactions. The topics must exist, the source filled by [`fill`].
///
/// # Errors
/// Those of Kafka; [`Error::Unavailable`] if it stalls.
pub fn b1<L: Log>(log: &L, source: &str, target: &str, options: &Options) -> Result<Floor, Error> {
    let rate = copied(log, source, options, |partition, began_at| {
        let mut producer = log.producer()?;
        copy(log, source, partition, began_at, |batch| {
            for content in batch {
                let to = Outgoing { topic: target, partition: Some(partition), timestamp_ms: None, content };
                producer.send(0, to)?;
            }
            // In flight beyond the batch, as a producer without transactions may.
            Ok(())
        })?;
        producer.flush().map(drop)
    })?;
    Ok(Floor {
        name: "B1".to_owned(),
        what: "copy, no transactions".to_owned(),
        rate_per_s: Some(rate),
        visible: None,
    })
}

/// Copies in transactions.
///
/// # Errors
/// As [`b1`].
pub fn b2<L: Log>(log: &L, source: &str, target: &str, options: &Options) -> Result<Floor, Error> {
    let rate = copied(log, source, options, |partition, began_at| {
        let mut producer = log.transactional(&format!("{target}.{partition}"))?;
        producer.init()?;
        let (at, mut position) = (place(source, partition), 0);
        copy(log, source, partition, began_at, |batch| {
            position += batch.len() as i64;
            let mut transact = || {
                producer.begin()?;
                for content in batch {
                    let to =
                        Outgoing { topic: target, partition: Some(partition), timestamp_ms: None, content };
                    producer.send(0, to)?;
                }
                producer.commit(&[(at.clone(), Position { offset: position, metadata: String::new() })])
            };
            transact().map_err(broken)
        })
    })?;
    Ok(Floor {
        name: "B2".to_owned(),
        what: format!("copy in transactions of {TRANSACTION}"),
        rate_per_s: Some(rate),
        visible: None,
    })
}

/// The bare fire loop, after a warm-up. Its topic must exist with [`Options::lanes`] partitions.
///
/// # Errors
/// Those of Kafka.
pub fn b3<L: Log>(log: &Arc<L>, topic: &str, options: &Options) -> Result<Floor, Error> {
    let start_us = clock::now_us() + 1_000_000;
    let measured_from_us = start_us + WARM_UP.as_micros() as i64;
    let end_us = measured_from_us + options.duration.as_micros() as i64;
    let seen = Arc::new(Mutex::new((Lateness::new(), 0.0, 0_u64)));
    let noted = Arc::clone(&seen);
    let reader = TopicReader::start(Arc::clone(log), topic, Since::End, Until::Stopped, move |received| {
        let due_us = received.record.content.value.as_deref().and_then(due_us);
        if let Some(due_us) = due_us.filter(|due_us| *due_us >= measured_from_us) {
            let late_us = received.at_us - due_us;
            let (lateness, sum_ms, count) = &mut *noted.lock();
            lateness.record_us(late_us);
            *sum_ms += late_us as f64 / 1000.0;
            *count += 1;
        }
        std::ops::ControlFlow::Continue(())
    })?;
    let each = options.rate / f64::from(options.lanes.max(1));
    let lanes: Vec<_> =
        (0..options.lanes).map(|lane| (lane, FireLoop { topic, lane, each, start_us, end_us })).collect();
    in_threads(lanes, |(_, lane)| lane.run(log.as_ref(), options.size))?;
    thread::sleep(Duration::from_secs(1));
    reader.stop()?;
    let (p, mean_ms) = {
        let (lateness, sum_ms, count) = &*seen.lock();
        (lateness.percentiles(0), sum_ms / (*count).max(1) as f64)
    };
    let visible =
        Summary { p50_ms: p.p50, p90_ms: p.p90, p99_ms: p.p99, p999_ms: p.p999, max_ms: p.max, mean_ms };
    Ok(Floor {
        name: "B3".to_owned(),
        what: format!("bare fire loop at {:.0}/s in {} threads", options.rate, options.lanes),
        rate_per_s: Some(options.rate),
        visible: Some(visible),
    })
}

/// One thread of B3.
#[derive(Clone, Copy)]
struct FireLoop<'a> {
    topic: &'a str,
    lane: i32,
    /// Messages a second.
    each: f64,
    start_us: i64,
    end_us: i64,
}

impl FireLoop<'_> {
    fn run<L: Log>(self, log: &L, size: usize) -> Result<(), Error> {
        let producer = |turn| log.transactional(&format!("{}.{}.{turn}", self.topic, self.lane));
        let mut turns = Turns::new(producer('a')?, producer('b')?);
        turns.take_over()?;
        let at = place(self.topic, self.lane);
        let due_us = |number: u64| self.start_us + (number as f64 / self.each * 1e6) as i64;
        let mut number = 0;
        while due_us(number) < self.end_us {
            let began_at = Instant::now();
            if due_us(number) > clock::now_us() {
                thread::sleep(Duration::from_micros(
                    (due_us(number) - clock::now_us()).max(0).unsigned_abs(),
                ));
                continue;
            }
            let mut transact = || {
                turns.begin()?;
                while due_us(number) <= clock::now_us().min(self.end_us) {
                    let content = timed(due_us(number), size);
                    let to = Outgoing {
                        topic: self.topic,
                        partition: Some(self.lane),
                        timestamp_ms: None,
                        content: &content,
                    };
                    turns.send(0, to)?;
                    number += 1;
                }
                turns.flush()?;
                turns.commit(&[(at.clone(), Position { offset: number as i64, metadata: String::new() })])
            };
            transact().map_err(broken)?;
            thread::sleep(PACE.saturating_sub(began_at.elapsed()));
        }
        Ok(())
    }
}

/// Appends what a copy copies, spread over all partitions.
///
/// # Errors
/// Those of Kafka.
pub fn fill<L: Log>(log: &L, topic: &str, options: &Options) -> Result<(), Error> {
    let each = options.count / u64::from(options.lanes.max(1).unsigned_abs());
    in_threads((0..options.lanes).collect(), |partition| {
        let mut producer = log.producer()?;
        for number in 0..each {
            let content = timed(number as i64, options.size);
            let to = Outgoing { topic, partition: Some(partition), timestamp_ms: None, content: &content };
            producer.send(0, to)?;
        }
        producer.flush().map(drop)
    })
}

/// With as many headers of about the same size as a delivered message has.
fn timed(due_us: i64, size: usize) -> Content {
    let mut value = format!("{due_us:020} ").into_bytes();
    value.resize(size.max(value.len()), b'x');
    let headers = vec![
        Header::new("ksched-id", &b"0123456789abcdef0123456789abcdef"[..]),
        Header::new("ksched-due", &b"2026-11-24T12:00:00.000Z"[..]),
        Header::new("ksched-hops", &b"0"[..]),
    ];
    Content { key: Some(format!("{:04}", due_us % 1000).into()), value: Some(value.into()), headers }
}

fn due_us(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value.get(..20)?).ok()?.parse().ok()
}

/// Messages a second of all partitions' copies, started together; from the first that is read, as a backlog is
/// measured from the first that is delivered.
fn copied<L: Log>(
    log: &L,
    source: &str,
    options: &Options,
    partition: impl Fn(i32, &OnceLock<Instant>) -> Result<(), Error> + Sync,
) -> Result<f64, Error> {
    let all: Vec<_> = (0..options.lanes).map(|partition| place(source, partition)).collect();
    let messages: i64 = log.offsets(&all, Offset::StableEnd)?.iter().sum();
    let began_at = OnceLock::new();
    in_threads((0..options.lanes).collect(), |lane| partition(lane, &began_at))?;
    Ok(messages as f64 / began_at.get_or_init(Instant::now).elapsed().as_secs_f64())
}

/// Reads a partition to its end and hands it over, at most a transaction's worth at once.
fn copy<L: Log>(
    log: &L,
    source: &str,
    partition: i32,
    began_at: &OnceLock<Instant>,
    mut hand_over: impl FnMut(&[Content]) -> Result<(), Error>,
) -> Result<(), Error> {
    let at = place(source, partition);
    let end = log.offsets(std::slice::from_ref(&at), Offset::StableEnd)?.into_iter().next().unwrap_or(0);
    let mut reader = log.reader(FETCH_BYTES)?;
    reader.assign(&[(at, 0)])?;
    let (mut batch, mut next, mut progressed_at) = (Vec::with_capacity(TRANSACTION), 0, Instant::now());
    while next < end {
        match reader.poll(POLL)? {
            Some(record) => {
                (next, progressed_at) = (record.offset + 1, Instant::now());
                began_at.get_or_init(|| progressed_at);
                batch.push(record.content);
            }
            None if progressed_at.elapsed() > STALLED => {
                return Err(Error::Unavailable(format!("{source}/{partition} stalls at {next} of {end}")));
            }
            None => {}
        }
        if batch.len() == TRANSACTION || (next >= end && !batch.is_empty()) {
            hand_over(&batch)?;
            batch.clear();
        }
    }
    Ok(())
}

fn place(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

fn broken(error: TransactionError) -> Error {
    Error::Unavailable(error.to_string())
}

/// Does it for each on a thread of its own; the first error.
fn in_threads<T: Send>(each: Vec<T>, work: impl Fn(T) -> Result<(), Error> + Sync) -> Result<(), Error> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = each.into_iter().map(|one| scope.spawn(move || work(one))).collect();
        let died = |_| Err(Error::Unavailable("a thread died".to_owned()));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(died))
    })
}
