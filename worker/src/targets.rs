//! What is known of target topics, so that one bad target never disturbs others
//! (design §5, Targets).
//!
//! Kafka aborts a whole transaction for one refused record, and librdkafka fails a
//! whole batch for one record too large, so each record is judged before it is
//! produced, by facts that are at most some seconds old.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ksched_kafka::{Error, Log, TopicInfo};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a topic's facts are believed.
const FRESH: Duration = Duration::from_secs(5);
/// How long all of a target's messages are dead-lettered after the broker has
/// refused one for good, before one is tried again.
const CONDEMNED: Duration = Duration::from_secs(10);
/// Topics remembered; beyond this the oldest facts go.
const REMEMBERED: usize = 10_000;
/// librdkafka's `batch.size`: it never splits a batch that a topic with a smaller
/// `max.message.bytes` refuses, so such topics take records one at a time.
const BATCH_BYTES: usize = 1_000_000;
/// What a record costs on the wire besides its content: batch header, varints, and
/// the headers and stamps we add (`delivered`).
const RECORD_OVERHEAD: usize = 512;
/// How long Kafka is not asked again after it gave no answer.
const SILENCE: Duration = Duration::from_secs(1);

/// What to do with a record for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Hand it over.
    Send,
    /// Hand it over and wait for its acknowledgement before the next.
    SendAlone,
    /// It can never be delivered: dead-letter topic, with this reason.
    Refuse(Refused),
    /// The target does not take records now: put it off.
    PutOff,
}

/// Why a message cannot be delivered; code and text go into the dead letter's headers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("target topic {0} does not exist")]
    NoTopic(Box<str>),
    #[error("target topic {topic} has {partitions} partitions, no number {partition}")]
    NoPartition { topic: Box<str>, partitions: i32, partition: i32 },
    #[error("record of {bytes} bytes is larger than {topic}'s max.message.bytes of {limit}")]
    TooLarge { topic: Box<str>, bytes: usize, limit: usize },
    #[error("{0}")]
    ByBroker(String),
}

impl Refused {
    /// For programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoTopic(_) => "UNKNOWN_TOPIC",
            Self::NoPartition { .. } => "UNKNOWN_PARTITION",
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::ByBroker(_) => "REFUSED_BY_BROKER",
        }
    }
}

#[derive(Clone, Debug)]
struct Fact {
    asked_at: Instant,
    info: Option<TopicInfo>,
    condemned: Option<(Instant, String)>,
}

/// Facts about targets, shared by all jobs of a process.
#[derive(Debug)]
pub(crate) struct Targets<L> {
    log: L,
    facts: Mutex<HashMap<Box<str>, Arc<Fact>>>,
    silent_since: Mutex<Option<Instant>>,
}

impl<L: Log> Targets<L> {
    pub(crate) fn new(log: L) -> Self {
        Self { log, facts: Mutex::default(), silent_since: Mutex::default() }
    }

    /// Judges a record of `bytes` content bytes; may ask Kafka, so it blocks.
    pub(crate) fn judge(&self, topic: &str, partition: Option<i32>, bytes: usize) -> Verdict {
        let fact = match self.fact(topic) {
            Ok(fact) => fact,
            // Kafka itself is away: the transaction will find out.
            Err(_) => return Verdict::Send,
        };
        if let Some((until, reason)) = &fact.condemned
            && Instant::now() < *until
        {
            return Verdict::Refuse(Refused::ByBroker(reason.clone()));
        }
        let Some(info) = fact.info else {
            return Verdict::Refuse(Refused::NoTopic(topic.into()));
        };
        if let Some(partition) = partition.filter(|p| *p >= info.partitions) {
            let partitions = info.partitions;
            return Verdict::Refuse(Refused::NoPartition { topic: topic.into(), partitions, partition });
        }
        let (bytes, limit) = (bytes + RECORD_OVERHEAD, info.max_message_bytes);
        if bytes > limit {
            return Verdict::Refuse(Refused::TooLarge { topic: topic.into(), bytes, limit });
        }
        if limit < BATCH_BYTES { Verdict::SendAlone } else { Verdict::Send }
    }

    /// The broker refused a record for a reason that will not pass by itself.
    pub(crate) fn condemn(&self, topic: &str, reason: String) {
        let mut facts = self.facts.lock();
        let info = facts.get(topic).and_then(|f| f.info);
        let condemned = Some((Instant::now() + CONDEMNED, reason));
        facts.insert(topic.into(), Arc::new(Fact { asked_at: Instant::now(), info, condemned }));
    }

    /// Asks anew about every topic before the next record: something was refused.
    pub(crate) fn doubt(&self) {
        self.facts.lock().retain(|_, fact| fact.condemned.is_some());
    }

    fn fact(&self, topic: &str) -> Result<Arc<Fact>, Error> {
        let known = self.facts.lock().get(topic).cloned();
        if let Some(fact) = known.as_ref().filter(|f| f.asked_at.elapsed() < FRESH) {
            return Ok(fact.clone());
        }
        if let Some(since) = *self.silent_since.lock()
            && since.elapsed() < SILENCE
        {
            return Err(Error::Unavailable("kafka has just not answered".to_owned()));
        }
        let asked_at = Instant::now();
        let info = self.log.topic(topic).inspect_err(|_| *self.silent_since.lock() = Some(Instant::now()))?;
        let condemned = known.and_then(|f| f.condemned.clone());
        let fact = Arc::new(Fact { asked_at, info, condemned });
        let mut facts = self.facts.lock();
        if facts.len() >= REMEMBERED {
            facts.retain(|_, f| f.asked_at.elapsed() < FRESH);
        }
        facts.insert(topic.into(), fact.clone());
        Ok(fact)
    }
}
