//! The anomalies that the design answers to, one by one, and the rules around them.

mod anomalies;
mod rules;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use ksched_core::message::Content;
use parking_lot::Mutex;

use super::{
    Batch, Failure, Link, LinkError, MemoryBroker, MemoryLog, NewRecord, Outcome, ProducerId, Request,
    Response, Session, Standing, TopicConfig, What,
};
use crate::log::{Log as _, Offset, Outgoing, Position, Record, TopicPartition};

/// A broker with one topic `t` of two partitions, whose clock is set by hand.
fn broker() -> (MemoryBroker, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(1_000_000));
    let clock = Arc::clone(&now);
    let broker = MemoryBroker::new(Arc::new(move || clock.load(Ordering::Relaxed)));
    broker.create_topic("t", 2, TopicConfig::default()).unwrap();
    (broker, now)
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition }
}

fn text(value: &str) -> Content {
    Content { key: None, value: Some(value.to_owned().into()), headers: Vec::new() }
}

fn to(partition: i32, content: &Content) -> Outgoing<'_> {
    Outgoing { topic: "t", partition: Some(partition), timestamp_ms: None, content }
}

fn position(offset: i64) -> Position {
    Position { offset, metadata: "m".to_owned() }
}

fn session(id: &str, producer: ProducerId) -> Session {
    Session { transactional_id: id.into(), producer }
}

fn init(broker: &MemoryBroker, id: &str) -> ProducerId {
    let request = Request::InitProducerId { transactional_id: Some(id.into()), timeout_ms: 10_000 };
    match broker.handle(&request) {
        Response::Producer(producer) => producer,
        other => panic!("{other:?}"),
    }
}

/// One record of a transaction.
fn produce(id: &str, producer: ProducerId, base_sequence: i32, value: &str) -> Request {
    let records = vec![NewRecord { timestamp_ms: None, content: text(value) }];
    Request::Produce(Batch { at: at(0), producer, transactional_id: Some(id.into()), base_sequence, records })
}

fn add(id: &str, producer: ProducerId) -> Request {
    Request::AddPartitions { session: session(id, producer), partitions: vec![at(0)] }
}

fn commit(id: &str, producer: ProducerId) -> Request {
    Request::EndTxn { session: session(id, producer), outcome: Outcome::Commit }
}

/// What is in partition 0: a letter for each offset and the value after it.
fn shape(broker: &MemoryBroker, partition: i32) -> String {
    let entry = |what: &What| match what {
        What::Marker(Outcome::Commit) => "C".to_owned(),
        What::Marker(Outcome::Abort) => "A".to_owned(),
        What::Record { content, standing } => {
            let letter = match standing {
                Standing::Plain => "plain",
                Standing::Open => "open",
                Standing::Committed => "done",
                Standing::Aborted => "gone",
            };
            format!("{letter}:{}", String::from_utf8_lossy(content.value.as_deref().unwrap_or_default()))
        }
    };
    broker.entries(&at(partition)).iter().map(|each| entry(&each.what)).collect::<Vec<_>>().join(" ")
}

fn one_offset(log: &MemoryLog, which: Offset) -> i64 {
    log.offsets(&[at(0)], which).unwrap()[0]
}

fn value(record: &Record) -> String {
    String::from_utf8(record.content.value.clone().unwrap().to_vec()).unwrap()
}

/// What a [`Faulty`] link does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    /// It arrives, its answer does not.
    AnswerLost,
    /// It arrives when told, see [`Faulty::release`].
    Delayed,
}

/// Deals out fates to the requests that `is_meant`, and lets all others pass.
struct Faulty {
    broker: MemoryBroker,
    is_meant: fn(&Request) -> bool,
    fates: Mutex<VecDeque<Fate>>,
    delayed: Mutex<Vec<Request>>,
    paused: Mutex<Duration>,
    at_pause: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Faulty {
    fn new(broker: &MemoryBroker, is_meant: fn(&Request) -> bool, fates: &[Fate]) -> Arc<Self> {
        Arc::new(Self {
            broker: broker.clone(),
            is_meant,
            fates: Mutex::new(fates.iter().copied().collect()),
            delayed: Mutex::default(),
            paused: Mutex::default(),
            at_pause: Mutex::default(),
        })
    }

    /// What was delayed arrives now.
    fn release(&self) -> Vec<Response> {
        self.delayed.lock().drain(..).map(|request| self.broker.handle(&request)).collect()
    }
}

impl Link for Faulty {
    fn call(&self, request: Request) -> Result<Response, LinkError> {
        let fate = (self.is_meant)(&request).then(|| self.fates.lock().pop_front()).flatten();
        match fate {
            None | Some(Fate::Arrives) => Ok(self.broker.handle(&request)),
            Some(Fate::AnswerLost) => {
                self.broker.handle(&request);
                Err(LinkError::Disconnected)
            }
            Some(Fate::Delayed) => {
                self.delayed.lock().push(request);
                Err(LinkError::TimedOut)
            }
        }
    }

    fn pause(&self, wait: Duration) {
        *self.paused.lock() += wait;
        if let Some(act) = self.at_pause.lock().take() {
            act();
        }
    }
}

fn is_end(request: &Request) -> bool {
    matches!(request, Request::EndTxn { .. })
}

fn is_produce(request: &Request) -> bool {
    matches!(request, Request::Produce(_))
}

fn failed(failure: Failure) -> Response {
    Response::Failed(failure)
}
