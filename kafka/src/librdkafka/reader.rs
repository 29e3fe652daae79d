//! A read_committed reader: one `BaseConsumer` with manual assignment, polled by its
//! own thread. Trap: `split_partition_queue` can stall a partition for ever; not used.

use std::{
    collections::HashSet,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use ksched_core::message::{Content, Header};
use rdkafka::{
    ClientContext, Message, Offset,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{BorrowedHeaders, BorrowedMessage, Headers as _},
};

use super::{config::Settings, failure, list, notes};
use crate::{
    disposal,
    log::{Error, Reader, Record, TopicPartition},
};

/// Hands librdkafka's log lines over.
#[derive(Debug)]
pub(super) struct Logging;

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        notes::log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for Logging {}

/// A consumer whose end is somebody else's (traps.md: dropping one can hang).
pub(super) struct Client(Option<BaseConsumer<Logging>>);

impl Client {
    pub(super) fn new(config: &rdkafka::ClientConfig) -> Result<Self, Error> {
        config.create_with_context(Logging).map(|client| Self(Some(client))).map_err(|e| failure::error(&e))
    }

    pub(super) fn get(&self) -> Result<&BaseConsumer<Logging>, Error> {
        self.0.as_ref().ok_or_else(|| Error::Unavailable("consumer is closing".to_owned()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            disposal::dispose("consumer", move || {
                // Trap: `unassign` first, or close may wait for ever.
                if let Err(error) = client.unassign() {
                    tracing::debug!(%error, "unassign at the end of a consumer");
                }
                drop(client);
            });
        }
    }
}

/// Reads committed records of assigned partitions.
pub struct ConsumerReader {
    settings: Arc<Settings>,
    fetch_bytes: usize,
    client: Client,
    /// Where each partition starts, in the order given.
    assigned: Vec<(TopicPartition, i64)>,
    /// Every partition this client has ever been assigned.
    used: HashSet<TopicPartition>,
    /// Index into `assigned` of the last record's partition: mostly the next one's too.
    last: usize,
}

impl std::fmt::Debug for ConsumerReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerReader").field("assigned", &self.assigned).finish_non_exhaustive()
    }
}

impl ConsumerReader {
    pub(super) fn new(settings: Arc<Settings>, fetch_bytes: usize) -> Result<Self, Error> {
        let client = Client::new(&settings.reader(fetch_bytes))?;
        Ok(Self { settings, fetch_bytes, client, assigned: Vec::new(), used: HashSet::new(), last: 0 })
    }

    fn change(
        &self,
        partitions: &[TopicPartition],
        act: impl Fn(&BaseConsumer<Logging>, &rdkafka::TopicPartitionList) -> Result<(), KafkaError>,
    ) -> Result<(), Error> {
        let these = list::of_offsets(partitions.iter().map(|at| (at, Offset::Invalid)))?;
        act(self.client.get()?, &these).map_err(|error| failure::error(&error))
    }
}

impl Reader for ConsumerReader {
    fn assign(&mut self, from: &[(TopicPartition, i64)]) -> Result<(), Error> {
        // librdkafka forgets a partition's position when its fetcher has stopped, some
        // time after it was unassigned. Until then `position` would answer with the old
        // one, and a drain would commit it: so the same partition again, a new client.
        if from.iter().any(|(at, _)| self.used.contains(at)) {
            self.client = Client::new(&self.settings.reader(self.fetch_bytes))?;
            self.used.clear();
        }
        let these = list::of_offsets(from.iter().map(|(at, offset)| (at, Offset::Offset(*offset))))?;
        self.client.get()?.assign(&these).map_err(|error| failure::error(&error))?;
        self.used.extend(from.iter().map(|(at, _)| at.clone()));
        self.assigned = from.to_vec();
        self.last = 0;
        Ok(())
    }

    fn poll(&mut self, wait: Duration) -> Result<Option<Record>, Error> {
        // Trap 2: rust-rdkafka truncates to whole ms and would spin over the rest.
        let wait = Duration::from_millis(u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX));
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Duration::from_millis(u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(0));
            let read = match self.client.get()?.poll(left) {
                None => return Ok(None),
                Some(Ok(message)) => {
                    let source = source(&self.assigned, &mut self.last, message.topic(), message.partition());
                    copy(&message, source)
                }
                Some(Err(error)) => {
                    if let Some(error) = lasting(&error) {
                        return Err(error);
                    }
                    // librdkafka goes on by itself: connections, leaders, time-outs.
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                    continue;
                }
            };
            let (record, headers) = read;
            return match headers {
                HeadersRead::All => Ok(Some(record)),
                HeadersRead::UpToBadName => Err(Error::Unreadable(Box::new(record))),
            };
        }
    }

    fn position(&self, partition: &TopicPartition) -> Result<i64, Error> {
        let start = self.assigned.iter().find(|(at, _)| at == partition).map(|(_, offset)| *offset);
        let start = start.ok_or_else(|| Error::Unknown(format!("{partition} is not assigned")))?;
        // It passes markers and aborted records: librdkafka queues every control record
        // like a message and moves the position when poll meets it.
        let all = self.client.get()?.position().map_err(|error| failure::error(&error))?;
        let offsets = list::in_order(&all, std::slice::from_ref(partition), |each| each.offset())?;
        Ok(match offsets.first() {
            Some(Offset::Offset(at)) => *at,
            _ => start,
        })
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.change(partitions, Consumer::pause)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.change(partitions, Consumer::resume)
    }
}

/// An error the reader cannot go on from.
fn lasting(error: &KafkaError) -> Option<Error> {
    let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
    match error.rdkafka_error_code() {
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
            Some(Error::Refused("offset out of range".to_owned()))
        }
        _ => match failure::error(error) {
            Error::Unavailable(why) if !fatal => {
                tracing::debug!(why, "reading goes on");
                None
            }
            lasting => Some(lasting),
        },
    }
}

enum HeadersRead {
    All,
    /// A name that is not UTF-8: rust-rdkafka panics over it, and gives no other way.
    UpToBadName,
}

/// Copies a message out. Trap: a held `BorrowedMessage` pins its whole fetch buffer.
/// One buffer takes all bytes; key, value and header values are slices of it.
fn copy(message: &BorrowedMessage<'_>, source: TopicPartition) -> (Record, HeadersRead) {
    let mut names: Vec<(&str, Option<&[u8]>)> = Vec::new();
    let headers = message.headers().map_or(HeadersRead::All, |headers| read_headers(headers, &mut names));
    let parts =
        || [message.key(), message.payload()].into_iter().chain(names.iter().map(|(_, value)| *value));
    let mut buffer = BytesMut::with_capacity(parts().flatten().map(<[u8]>::len).sum());
    parts().flatten().for_each(|part| buffer.extend_from_slice(part));
    let mut rest = buffer.freeze();
    let mut take = |part: Option<&[u8]>| part.map(|part| rest.split_to(part.len()));
    let content = Content {
        key: take(message.key()),
        value: take(message.payload()),
        headers: names
            .iter()
            .map(|(name, value)| Header { name: (*name).into(), value: take(*value) })
            .collect(),
    };
    let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
    (Record { source, offset: message.offset(), timestamp_ms, content }, headers)
}

/// The assigned partition of this name; `last` is where it was found last time.
fn source(
    assigned: &[(TopicPartition, i64)],
    last: &mut usize,
    topic: &str,
    partition: i32,
) -> TopicPartition {
    let is_it = |(at, _): &(TopicPartition, i64)| at.partition == partition && &*at.topic == topic;
    if !assigned.get(*last).is_some_and(is_it) {
        *last = assigned.iter().position(is_it).unwrap_or(0);
    }
    match assigned.get(*last) {
        Some(found) if is_it(found) => found.0.clone(),
        _ => TopicPartition { topic: topic.into(), partition },
    }
}

/// Collects headers up to the first whose name is not UTF-8. rust-rdkafka unwraps
/// there (`BorrowedHeaders::try_get`), before it has done anything that would need
/// undoing, so the panic is caught; any producer can write such a record.
fn read_headers<'a>(
    headers: &'a BorrowedHeaders,
    into: &mut Vec<(&'a str, Option<&'a [u8]>)>,
) -> HeadersRead {
    let all = panic::catch_unwind(AssertUnwindSafe(|| {
        into.extend(
            (0..headers.count()).map_while(|i| headers.try_get(i)).map(|each| (each.key, each.value)),
        );
    }));
    if all.is_ok() { HeadersRead::All } else { HeadersRead::UpToBadName }
}
