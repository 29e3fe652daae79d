//! What both kinds of blocking producers do: hand over, wait while the queue is full.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _},
    util::IntoOpaque,
};

use super::{
    deliveries::{Context, Deliveries, Undelivered, refusals},
    failure,
    notes::Notes,
    statistics::Part,
};
use crate::{
    disposal,
    log::{Error, Outgoing, Refusal, RefusalReason},
    polled::Polled,
};

/// How long the queue may stay full.
const FULL_LIMIT: Duration = Duration::from_secs(10);
/// A look at one topic after a refusal, and at all of them.
const METADATA_LIMIT: Duration = Duration::from_secs(2);
const METADATA_LIMIT_ALL: Duration = Duration::from_secs(5);

/// The client itself.
pub(super) type Client = Polled<Context>;

/// A client with its callbacks' state.
pub(super) struct Queue {
    /// Only `None` while dropping.
    client: Option<Client>,
    pub(super) deliveries: Arc<Deliveries>,
    pub(super) notes: Arc<Notes>,
    /// Records handed over since the client was made.
    sent: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// Why a record was not taken.
pub(super) enum NotTaken {
    /// The queue stayed full.
    Full,
    /// The client takes nothing any more: fatal, or the transaction has failed.
    Closed(Code),
}

impl Queue {
    pub(super) fn new(config: &ClientConfig, statistics: Option<Part>) -> Result<Self, Error> {
        let context = Context::new(statistics);
        let (deliveries, notes) = (Arc::clone(&context.deliveries), Arc::clone(&context.notes));
        let client = Polled::new(config, context).map_err(|error| failure::error(&error))?;
        Ok(Self { client: Some(client), deliveries, notes, sent: 0 })
    }

    /// The client; an error only while dropping, so never.
    pub(super) fn client(&self) -> Result<&Client, Error> {
        self.client.as_ref().ok_or_else(|| Error::Unavailable("producer is closing".to_owned()))
    }

    /// Hands a record over. A record that is refused at once is settled as such.
    pub(super) fn send(&mut self, tag: usize, outgoing: Outgoing<'_>) -> Result<(), NotTaken> {
        let Some(client) = &self.client else { return Err(NotTaken::Closed(Code::Fatal)) };
        self.sent += 1;
        let mut record = record(&outgoing, tag);
        let mut deadline = None;
        loop {
            let (error, back) = match client.send(record) {
                Ok(()) => return Ok(()),
                Err(not_sent) => not_sent,
            };
            let code = error.rdkafka_error_code().unwrap_or(Code::InvalidTopic);
            match code {
                // Trap: back-pressure, not an error. The client's thread polls.
                Code::QueueFull => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + FULL_LIMIT);
                    if Instant::now() >= deadline {
                        self.sent -= 1;
                        return Err(NotTaken::Full);
                    }
                    self.deliveries.wait_for_one(Duration::from_millis(10));
                    record = back;
                }
                Code::Fatal | Code::State | Code::Fenced => {
                    self.sent -= 1;
                    return Err(NotTaken::Closed(code));
                }
                _ => {
                    self.deliveries.refuse(Undelivered {
                        tag,
                        topic: outgoing.topic.into(),
                        partition: outgoing.partition.unwrap_or(-1),
                        code,
                    });
                    return Ok(());
                }
            }
        }
    }

    /// Waits until all records are settled; whether they are.
    pub(super) fn settle(&self, limit: Duration) -> bool {
        self.settle_unless(limit, || false)
    }

    /// The same, but gives up when there is no more use in waiting.
    pub(super) fn settle_unless(&self, limit: Duration, in_vain: impl FnMut() -> bool) -> bool {
        self.deliveries.wait_for(self.sent, limit, in_vain)
    }

    /// The code behind a fatal error, if there is one.
    pub(super) fn fatal(&self) -> Option<(Code, String)> {
        self.client.as_ref().and_then(|client| client.client().fatal_error())
    }

    /// What the caller is told of records that were not acknowledged.
    ///
    /// Trap: one forbidden or deleted target purges a whole transaction with an error that
    /// names no partition. A forbidden one is named by the client's log; else, where nothing
    /// is known of a record, its target is looked at.
    pub(super) fn explain(&self, undelivered: &[Undelivered]) -> Vec<Refusal> {
        let mut refused = refusals(undelivered);
        if undelivered.iter().any(|each| self.notes.is_forbidden(&each.topic)) {
            // They are why the others were purged.
            for (refusal, each) in refused.iter_mut().zip(undelivered) {
                if self.notes.is_forbidden(&each.topic) {
                    refusal.reason = RefusalReason::NotAuthorised;
                } else if self.notes.is_open(&each.topic) {
                    refusal.reason = RefusalReason::NotAttempted;
                }
            }
            return refused;
        }
        let mut seen: Vec<(&str, Option<usize>)> = Vec::new();
        let deadline = Instant::now() + METADATA_LIMIT_ALL;
        for (refusal, each) in refused.iter_mut().zip(undelivered) {
            if !matches!(refusal.reason, RefusalReason::Collateral(_)) {
                continue;
            }
            let known = match seen.iter().find(|(topic, _)| *topic == &*each.topic) {
                Some((_, partitions)) => *partitions,
                None if Instant::now() < deadline => {
                    let partitions = self.partitions(&each.topic);
                    seen.push((&each.topic, partitions));
                    partitions
                }
                None => None,
            };
            if known
                .is_some_and(|count| count == 0 || usize::try_from(each.partition).is_ok_and(|p| p >= count))
            {
                refusal.reason = RefusalReason::UnknownTarget;
            }
        }
        refused
    }

    /// Number of partitions of a topic, 0 if there is none, `None` if nobody knows.
    fn partitions(&self, topic: &str) -> Option<usize> {
        let metadata = self.client.as_ref()?.client().fetch_metadata(Some(topic), METADATA_LIMIT).ok()?;
        let found = metadata.topics().iter().find(|each| each.name() == topic)?;
        super::count(found).ok().map(|count| count.map_or(0, |count| usize::try_from(count).unwrap_or(0)))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            disposal::dispose("producer", move || drop(client));
        }
    }
}

/// The record as rust-rdkafka takes it. `OwnedHeaders` allocates in C for each header
/// (traps.md); there is no other way to hand headers over.
pub(crate) fn record<'a, D: IntoOpaque>(outgoing: &Outgoing<'a>, opaque: D) -> BaseRecord<'a, [u8], [u8], D> {
    let content = outgoing.content;
    let headers = (!content.headers.is_empty()).then(|| {
        content
            .headers
            .iter()
            .fold(OwnedHeaders::new_with_capacity(content.headers.len()), |headers, each| {
                headers.insert(Header { key: &each.name, value: each.value.as_deref() })
            })
    });
    BaseRecord {
        topic: outgoing.topic,
        partition: outgoing.partition,
        payload: content.value.as_deref(),
        key: content.key.as_deref(),
        timestamp: outgoing.timestamp_ms,
        headers,
        delivery_opaque: opaque,
    }
}

/// A `KafkaError` of a call on a producer: fenced if the client died of that.
pub(super) fn call_error(queue: &Queue, error: &KafkaError) -> Error {
    match queue.fatal() {
        Some((code, _)) if failure::is_fenced(code) => Error::Fenced,
        Some((code, why)) => Error::Unavailable(format!("{code}: {why}")),
        None => failure::error(error),
    }
}
