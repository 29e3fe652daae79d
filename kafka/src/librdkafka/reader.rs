//! A read_committed reader: one `BaseConsumer` with manual assignment, polled by its
//! own thread. Trap: `split_partition_queue` can stall a partition for ever; not used.

use std::{
    collections::HashSet,
    panic::{self, AssertUnwindSafe},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use bytestring::ByteString;
use ksched_core::message::{Content, Header};
use rdkafka::{
    ClientContext, Message, Offset,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{BorrowedHeaders, BorrowedMessage, Headers as _},
};
use smallvec::SmallVec;

use super::{Librdkafka, failure, list, notes};
use crate::{
    disposal,
    log::{Error, Log as _, Offset as LogOffset, Reader, Record, TopicPartition},
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

/// For the first look at metadata; without, it goes on by itself.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// A client is asked for its positions at most this often, and after a while without news seldom: each time its
/// main thread is woken, and there are some twenty readers in an idle worker.
const POSITION_EVERY: Duration = Duration::from_millis(10);
const POSITION_SELDOM: Duration = Duration::from_secs(1);
/// How often a reader looks whether it stands still.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Reads committed records of assigned partitions.
///
/// Trap: after a broker was away or slow, librdkafka may stop to fetch a partition for ever, and says nothing
/// (librdkafka #4492; met after everything had stood still for 14 s). A reader that has come up empty, with a
/// partition that ends behind its position both times when it looked, goes on with another client.
pub struct ConsumerReader {
    /// Has the settings, and is asked where partitions end.
    log: Librdkafka,
    fetch_bytes: usize,
    fetch_wait: Duration,
    client: Client,
    /// What is read, in the order given, and the next offset of each as far as is known.
    assigned: Vec<(TopicPartition, i64)>,
    /// Whether a poll has come up empty, and so may have passed more than records.
    may_be_further: bool,
    /// When the client was last asked for its positions.
    asked_at: Instant,
    /// When records were last read, or positions had moved without one.
    news_at: Instant,
    /// Whether a record came since a poll last came up empty.
    read_since_empty: bool,
    /// Every partition this client has ever been assigned.
    used: HashSet<TopicPartition>,
    /// Index into `assigned` of the last record's partition: mostly the next one's too.
    last: usize,
    paused: HashSet<TopicPartition>,
    still: Still,
}

/// Whether it stands still.
struct Still {
    look_every: Duration,
    looked_at: Instant,
    /// Stable ends of what was assigned, asked for on a thread of its own, as the answer may take its time.
    look: Option<JoinHandle<Option<Vec<i64>>>>,
    /// Positions that were behind at the last look, in the order of what is assigned.
    behind: Vec<Option<i64>>,
    /// Whether a poll has found nothing since then.
    came_up_empty: bool,
}

impl Still {
    fn new(look_every: Duration) -> Self {
        Self { look_every, looked_at: Instant::now(), look: None, behind: Vec::new(), came_up_empty: false }
    }
}

impl std::fmt::Debug for ConsumerReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerReader").field("assigned", &self.assigned).finish_non_exhaustive()
    }
}

impl ConsumerReader {
    pub(super) fn new(log: Librdkafka, fetch_bytes: usize, fetch_wait: Duration) -> Result<Self, Error> {
        let client = Client::new(&log.settings().reader(fetch_bytes, fetch_wait))?;
        Ok(Self {
            log,
            fetch_bytes,
            fetch_wait,
            client,
            assigned: Vec::new(),
            may_be_further: false,
            asked_at: Instant::now(),
            news_at: Instant::now(),
            read_since_empty: false,
            used: HashSet::new(),
            last: 0,
            paused: HashSet::new(),
            still: Still::new(LOOK_EVERY),
        })
    }

    fn read(&mut self, wait: Duration) -> Result<Option<Record>, Error> {
        // Without a wait the clock is not asked: it would be for each record of a backlog.
        let deadline = (!wait.is_zero()).then(|| Instant::now() + whole_ms(wait));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = whole_ms(left.unwrap_or_default());
            let read = match self.client.get()?.poll(left) {
                None => return Ok(None),
                Some(Ok(message)) => {
                    let source = source(&self.assigned, &mut self.last, message.topic(), message.partition());
                    if let Some((at, next)) = self.assigned.get_mut(self.last)
                        && *at == source
                    {
                        *next = message.offset() + 1;
                    }
                    copy(&message, source)
                }
                Some(Err(error)) => {
                    if let Some(error) = lasting(&error) {
                        return Err(error);
                    }
                    // librdkafka goes on by itself: connections, leaders, time-outs.
                    if deadline.is_none_or(|deadline| Instant::now() >= deadline) {
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

    /// Asks where reading has come to.
    ///
    /// It has passed markers and aborted records: librdkafka queues every control record like a message and moves
    /// the position when poll meets it. Trap: rust-rdkafka's `position` asks for the assignment first, and that is a
    /// question to the client's main thread: two switches of threads, which under load take milliseconds.
    fn ask_positions(&mut self) -> Result<(), Error> {
        let all = self.client.get()?.position().map_err(|error| failure::error(&error))?;
        let partitions: Vec<_> = self.assigned.iter().map(|(at, _)| at.clone()).collect();
        let offsets = list::in_order(&all, &partitions, |each| each.offset())?;
        for (offset, (_, next)) in offsets.into_iter().zip(&mut self.assigned) {
            if let Offset::Offset(at) = offset
                && at != *next
            {
                (*next, self.news_at) = (at, Instant::now());
            }
        }
        (self.may_be_further, self.asked_at) = (false, Instant::now());
        Ok(())
    }

    /// Looks now and then whether reading stands still, and goes on with another client if so.
    fn look(&mut self) -> Result<(), Error> {
        let still = &mut self.still;
        match still.look.take() {
            None if still.looked_at.elapsed() >= still.look_every && !self.assigned.is_empty() => {
                let (log, at) = (self.log.clone(), self.assigned.iter().map(|(at, _)| at.clone()));
                let at: Vec<_> = at.collect();
                let ask = move || {
                    let ends = log.offsets(&at, LogOffset::StableEnd);
                    ends.inspect_err(
                        |error| tracing::debug!(%error, "a reader does not know where to read to"),
                    )
                    .ok()
                };
                // Without a thread there is no look this time.
                still.look = thread::Builder::new().name("reader-look".to_owned()).spawn(ask).ok();
                still.looked_at = Instant::now();
            }
            None => {}
            Some(look) if !look.is_finished() => still.look = Some(look),
            Some(look) => {
                // However long the answer took: what is compared lies a whole look apart.
                still.looked_at = Instant::now();
                if let Ok(Some(ends)) = look.join() {
                    self.judge(&ends)?;
                }
            }
        }
        Ok(())
    }

    fn judge(&mut self, ends: &[i64]) -> Result<(), Error> {
        self.ask_positions()?;
        let positions: Vec<_> = self.assigned.iter().map(|(_, next)| *next).collect();
        tracing::debug!(?positions, ?ends, paused = ?self.paused, empty = self.still.came_up_empty, "a reader looks");
        let behind: Vec<_> = self
            .assigned
            .iter()
            .zip(positions.iter().zip(ends))
            .map(|((at, _), (position, end))| {
                (position < end && !self.paused.contains(at)).then_some(*position)
            })
            .collect();
        let stuck = behind.iter().zip(&self.still.behind).any(|(now, before)| now.is_some() && now == before);
        self.still.behind = behind;
        if !std::mem::take(&mut self.still.came_up_empty) || !stuck {
            return Ok(());
        }
        let from: Vec<_> =
            self.assigned.iter().zip(positions).map(|((at, _), position)| (at.clone(), position)).collect();
        tracing::warn!(?from, "reading stood still though there is more: another client goes on");
        // Whoever is slow, and not stuck, has more time with each client.
        let look_every = self.still.look_every.saturating_mul(2);
        self.start(&from)?;
        self.still.look_every = look_every;
        let paused: Vec<_> = self.paused.iter().cloned().collect();
        self.change(&paused, Consumer::pause)
    }

    /// With a client of its own.
    fn start(&mut self, from: &[(TopicPartition, i64)]) -> Result<(), Error> {
        self.client = Client::new(&self.log.settings().reader(self.fetch_bytes, self.fetch_wait))?;
        self.used.clear();
        self.begin(from)
    }

    fn begin(&mut self, from: &[(TopicPartition, i64)]) -> Result<(), Error> {
        let these = list::of_offsets(from.iter().map(|(at, offset)| (at, Offset::Offset(*offset))))?;
        let client = self.client.get()?;
        client.assign(&these).map_err(|error| failure::error(&error))?;
        // Trap: a client made just now is not connected yet, so it finds nobody to ask for leaders and, with luck
        // like that, asks again a second later. Whoever asks for metadata waits for the connection; what comes is
        // everybody's.
        let topics: HashSet<&str> = from.iter().map(|(at, _)| &*at.topic).collect();
        let deadline = Instant::now() + CONNECT_LIMIT;
        for topic in topics {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Err(error) = client.fetch_metadata(Some(topic), left) {
                tracing::debug!(%error, topic, "no metadata for a reader yet");
            }
        }
        self.used.extend(from.iter().map(|(at, _)| at.clone()));
        self.assigned = from.to_vec();
        self.last = 0;
        (self.may_be_further, self.news_at) = (false, Instant::now());
        self.still = Still::new(self.still.look_every);
        Ok(())
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
        self.paused.clear();
        // librdkafka forgets a partition's position when its fetcher has stopped, some
        // time after it was unassigned. Until then `position` would answer with the old
        // one, and a drain would commit it: so the same partition again, a new client.
        if from.iter().any(|(at, _)| self.used.contains(at)) { self.start(from) } else { self.begin(from) }
    }

    fn poll(&mut self, wait: Duration) -> Result<Option<Record>, Error> {
        let read = self.read(wait);
        match read {
            Ok(None) => {
                if std::mem::take(&mut self.read_since_empty) {
                    self.news_at = Instant::now();
                }
                (self.still.came_up_empty, self.may_be_further) = (true, true);
                self.look()?;
            }
            _ => {
                self.read_since_empty = true;
                self.still.look_every = self.still.look_every.min(LOOK_EVERY);
            }
        }
        read
    }

    fn position(&mut self, partition: &TopicPartition) -> Result<i64, Error> {
        // The next is late by a quarter of what has passed without news at most, and by no more than that second.
        let patience = (self.news_at.elapsed() / 4).clamp(POSITION_EVERY, POSITION_SELDOM);
        if self.may_be_further && self.asked_at.elapsed() >= patience {
            self.ask_positions()?;
        }
        let found = self.assigned.iter().find(|(at, _)| at == partition);
        found.map(|(_, next)| *next).ok_or_else(|| Error::Unknown(format!("{partition} is not assigned")))
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.change(partitions, Consumer::pause)?;
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.change(partitions, Consumer::resume)?;
        partitions.iter().for_each(|at| {
            self.paused.remove(at);
        });
        Ok(())
    }
}

/// Rounded up. Trap 2: rust-rdkafka truncates to whole ms and would spin over the rest.
fn whole_ms(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
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

/// Headers as librdkafka has them; few messages have more.
type Names<'a> = SmallVec<[(&'a str, Option<&'a [u8]>); 8]>;

enum HeadersRead {
    All,
    /// A name that is not UTF-8: rust-rdkafka panics over it, and gives no other way.
    UpToBadName,
}

/// Copies a message out. Trap: a held `BorrowedMessage` pins its whole fetch buffer.
/// One buffer takes all bytes; key, value, header names and values are slices of it.
fn copy(message: &BorrowedMessage<'_>, source: TopicPartition) -> (Record, HeadersRead) {
    let mut names = SmallVec::new();
    let headers = message.headers().map_or(HeadersRead::All, |headers| read_headers(headers, &mut names));
    let parts = || {
        let headers = names.iter().flat_map(|(name, value)| [Some(name.as_bytes()), *value]);
        [message.key(), message.payload()].into_iter().chain(headers)
    };
    let mut buffer = BytesMut::with_capacity(parts().flatten().map(<[u8]>::len).sum());
    parts().flatten().for_each(|part| buffer.extend_from_slice(part));
    let mut rest = buffer.freeze();
    let mut take = |part: Option<&[u8]>| part.map(|part| rest.split_to(part.len()));
    let content = Content {
        key: take(message.key()),
        value: take(message.payload()),
        headers: names
            .iter()
            .map(|(name, value)| {
                let name = ByteString::try_from(take(Some(name.as_bytes())).unwrap_or_default());
                Header { name: name.unwrap_or_default(), value: take(*value) }
            })
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
fn read_headers<'a>(headers: &'a BorrowedHeaders, into: &mut Names<'a>) -> HeadersRead {
    let all = panic::catch_unwind(AssertUnwindSafe(|| {
        into.extend(
            (0..headers.count()).map_while(|i| headers.try_get(i)).map(|each| (each.key, each.value)),
        );
    }));
    if all.is_ok() { HeadersRead::All } else { HeadersRead::UpToBadName }
}

#[cfg(test)]
mod tests {
    use super::{super::config::Settings, *};
    use crate::log::{Outgoing, Producer as _};

    #[test]
    fn a_reader_that_stands_still_goes_on_with_another_client() {
        let settings = Settings {
            bootstrap: noida::kafka::spawn("127.0.0.1:0").unwrap().to_string(),
            group: "test".to_owned(),
            client_id: "test".to_owned(),
            ..Settings::default()
        };
        let log = Librdkafka::new(settings).unwrap();
        crate::target::create(&log, "still", 2, &[]).unwrap();
        let append = |partition: i32, value: &'static str| {
            let content = Content { value: Some(value.into()), ..Content::default() };
            let record = Outgoing {
                topic: "still",
                partition: Some(partition),
                timestamp_ms: None,
                content: &content,
            };
            let mut producer = log.producer().unwrap();
            producer.send(0, record).unwrap();
            assert!(producer.flush().unwrap().is_empty());
        };
        append(0, "first");
        append(1, "paused");
        let place = |partition| TopicPartition { topic: "still".into(), partition };
        let mut reader = log.reader(1 << 20).unwrap();
        reader.still.look_every = Duration::from_millis(100);
        reader.assign(&[(place(0), 0), (place(1), 1)]).unwrap();
        let read = |reader: &mut ConsumerReader, wait: u64| {
            reader.poll(Duration::from_millis(wait)).unwrap().map(|record| record.content.value.unwrap())
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while read(&mut reader, 100).is_none() {
            assert!(Instant::now() < deadline, "nothing is read");
        }
        // What the caller has paused is behind, and not stuck.
        reader.pause(&[place(1)]).unwrap();
        append(1, "not yet");
        let client = reader.client.get().unwrap().client().native_ptr();
        for _ in 0..10 {
            assert_eq!(read(&mut reader, 100), None);
        }
        assert_eq!(reader.client.get().unwrap().client().native_ptr(), client, "the same client still");
        // Behind the reader's back, so that librdkafka fetches no more.
        reader.change(&[place(0)], Consumer::pause).unwrap();
        append(0, "second");
        let found = loop {
            assert!(Instant::now() < deadline, "it stands still");
            if let Some(value) = read(&mut reader, 100) {
                break value;
            }
        };
        assert_eq!(found, "second");
        // Where it was, and with what was paused.
        assert_eq!(read(&mut reader, 500), None);
        reader.resume(&[place(1)]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while read(&mut reader, 100).is_none_or(|value| value != "not yet") {
            assert!(Instant::now() < deadline, "what was paused is not read");
        }
    }
}
