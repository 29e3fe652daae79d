//! The log over librdkafka: real brokers, and the embedded one of `ksched dev`.
//!
//! What goes wrong with this library and what is done instead is told where it is
//! done; the list is in traps.md, "rust-rdkafka". Clients are many threads each, so
//! a [`Librdkafka`] shares the few that only ask (positions, offsets, metadata), and
//! a reader or producer is one client. Nothing here may be called on a runtime's
//! thread; dropping may, as clients end on threads of their own.

pub(crate) mod admin;
mod calls;
mod config;
mod deliveries;
mod failure;
mod list;
mod notes;
mod plain;
pub(crate) mod queue;
mod reader;
mod renewed;
mod statistics;
mod transactional;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset as RdOffset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ConfigResourceResult, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaResult, RDKafkaErrorCode as Code},
    metadata::MetadataTopic,
};

pub(crate) use self::statistics::Part;
use self::{
    admin::Admin,
    config::Isolation,
    reader::{Client, Logging},
    renewed::Renewed,
};
pub use self::{
    config::{Settings, property_mistakes},
    plain::Plain,
    reader::ConsumerReader,
    statistics::{Statistics, Told},
    transactional::Transactional,
};
use crate::log::{Error, Log, Offset, Position, TopicInfo, TopicPartition};

/// For a question to a broker.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// For all of a question about a few targets, which a lane waits for; about many it is [`ASK_LIMIT`].
const FEW_LIMIT: Duration = Duration::from_secs(3);
/// How long a broker may wait for records before it answers that there are none.
const FETCH_WAIT: Duration = Duration::from_millis(200);
/// The same for one that stays: a worker has an intake's sixteen, and what each asks in vain costs both sides.
const STAYING_FETCH_WAIT: Duration = Duration::from_millis(500);
/// So many topics are asked about one at a time: a list of all that there are may be long.
const SINGLY: usize = 8;
/// Topics whose settings are asked for in one request: some 3 KB of answer each.
const DESCRIBED_AT_ONCE: usize = 500;

/// Of the library that is linked in.
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// A way to a Kafka cluster; cloning shares it.
#[derive(Clone)]
pub struct Librdkafka {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Arc<Settings>,
    /// read_committed: positions, stable ends, metadata.
    asker: Renewed<Client>,
    /// read_uncommitted: high watermarks, positions before pending commits.
    end_asker: Renewed<Client>,
    admin: Renewed<Admin>,
}

impl std::fmt::Debug for Librdkafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Librdkafka").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Librdkafka {
    /// Checks the settings; does not wait for a broker.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let settings = Arc::new(settings);
        let asker = |isolation: Isolation| {
            let settings = Arc::clone(&settings);
            Renewed::new(move || Client::new(&settings.asker(isolation)))
        };
        let (asker, end_asker) = (asker(Isolation::Committed), asker(Isolation::Uncommitted));
        asker.get()?;
        let for_admin = Arc::clone(&settings);
        let admin = Renewed::new(move || Admin::new(&for_admin));
        Ok(Self { inner: Arc::new(Inner { settings, asker, end_asker, admin }) })
    }

    /// What it was made from.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Asks something of the admin client and waits for the answer.
    pub(crate) fn administer<T, F: Future<Output = KafkaResult<T>>>(
        &self,
        question: impl FnOnce(&AdminClient<DefaultClientContext>) -> F,
    ) -> Result<T, Error> {
        self.inner.admin.ask(|admin| Admin::wait(question(admin.client()?)))
    }

    /// Asks something of the read_committed client.
    fn ask<T>(&self, question: impl FnOnce(&BaseConsumer<Logging>) -> KafkaResult<T>) -> Result<T, Error> {
        ask(&self.inner.asker, question)
    }

    fn positions(
        &self,
        client: &Renewed<Client>,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<Position>>, Error> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let these = list::of_offsets(partitions.iter().map(|at| (at, RdOffset::Invalid)))?;
        let found: TopicPartitionList = ask(client, |asker| asker.committed_offsets(these, ASK_LIMIT))?;
        list::in_order(&found, partitions, |each| {
            known(each.offset()).map(|offset| Position { offset, metadata: each.metadata().to_owned() })
        })
    }

    fn list_offsets(
        &self,
        client: &Renewed<Client>,
        partitions: &[TopicPartition],
        which: RdOffset,
    ) -> Result<Vec<Option<i64>>, Error> {
        match self.list_offsets_once(client, partitions, which) {
            Err(Error::Unknown(_) | Error::Unavailable(_)) => {
                // librdkafka looks partitions up in its cache, which for minutes goes on saying what a topic was
                // like in the midst of its creation, before it was given more partitions, or under its last leader.
                let mut topics: Vec<_> = partitions.iter().map(|at| &at.topic).collect();
                topics.dedup();
                for topic in topics {
                    ask(client, |asker| asker.fetch_metadata(Some(topic), ASK_LIMIT).map(drop))?;
                }
                self.list_offsets_once(client, partitions, which)
            }
            result => result,
        }
    }

    fn list_offsets_once(
        &self,
        client: &Renewed<Client>,
        partitions: &[TopicPartition],
        which: RdOffset,
    ) -> Result<Vec<Option<i64>>, Error> {
        // Trap "Many end offsets at once": −1 and −2 as the "timestamp" ask for the end
        // and the start of all partitions in one request a broker.
        let times = list::of_offsets(partitions.iter().map(|at| (at, which)))?;
        let found = ask(client, |asker| asker.offsets_for_times(times, ASK_LIMIT))?;
        list::in_order(&found, partitions, |each| known(each.offset()))
    }

    /// Number of partitions of each; an inner `None` where Kafka does not tell.
    fn partitions_of_many(
        &self,
        names: &[&str],
        deadline: Instant,
    ) -> Result<Vec<Option<Option<i32>>>, Error> {
        let singly = |name: &str| Ok(told(name, self.partitions_of(name, left(deadline))?));
        if names.len() <= SINGLY {
            return names.iter().map(|name| singly(name)).collect();
        }
        let there: HashMap<String, _> = self.ask(|asker| {
            let metadata = asker.fetch_metadata(None, left(deadline))?;
            Ok(metadata.topics().iter().map(|found| (found.name().to_owned(), count(found))).collect())
        })?;
        let omitted = names.iter().filter(|name| !there.contains_key(**name)).count();
        let find = |name: &&str| match there.get(*name) {
            Some(count) => Ok(told(name, *count)),
            // Asked by name Kafka says whether a topic is not there or only not to be seen, and so not
            // to be written to either. Of many that is not worth a question each.
            None if omitted <= SINGLY => singly(name),
            None => Ok(None),
        };
        names.iter().map(find).collect()
    }

    fn partitions_of(&self, name: &str, limit: Duration) -> Result<Result<Option<i32>, Code>, Error> {
        self.ask(|asker| {
            let metadata = asker.fetch_metadata(Some(name), limit)?;
            Ok(metadata.topics().iter().find(|each| each.name() == name).map_or(Ok(None), count))
        })
    }

    /// `max.message.bytes` of each; `None` where it may not be read, or not yet (topics.rs, `topic_settings`).
    fn max_message_bytes(&self, names: &[&str], deadline: Instant) -> Result<Vec<Option<usize>>, Error> {
        let mut found = Vec::with_capacity(names.len());
        for some in names.chunks(DESCRIBED_AT_ONCE) {
            let asked: Vec<_> = some.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
            let options = AdminOptions::new().request_timeout(Some(left(deadline)));
            let answers = self.administer(|admin| admin.describe_configs(&asked, &options))?;
            let value = |answer: ConfigResourceResult| {
                answer.ok()?.get("max.message.bytes")?.value.as_deref()?.parse().ok()
            };
            // In the order of the questions.
            found.extend(answers.into_iter().map(value));
        }
        Ok(found)
    }
}

/// At least a moment: librdkafka takes none for no limit, or refuses it.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(10))
}

/// Number of partitions; `None` if there is no such topic.
fn count(found: &MetadataTopic) -> Result<Option<i32>, Code> {
    match found.error().map(Code::from) {
        // A topic in the midst of its creation.
        None if found.partitions().is_empty() => Err(Code::LeaderNotAvailable),
        None => Ok(Some(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::InvalidTopic) => Ok(None),
        Some(code) => Err(code),
    }
}

/// An error about one topic is no error of the question.
fn told(name: &str, count: Result<Option<i32>, Code>) -> Option<Option<i32>> {
    match count {
        Ok(count) => count.map(Some),
        Err(code) => {
            tracing::debug!(topic = name, %code, "kafka does not tell of the topic");
            Some(None)
        }
    }
}

/// For `append`: an idempotent producer's settings.
pub(crate) fn producer_config(log: &Librdkafka, linger_ms: &str) -> rdkafka::ClientConfig {
    log.inner.settings.patient_producer(linger_ms)
}

pub(crate) use self::{
    failure::{error as client_error, is_too_large, refusal},
    notes::log as log_line,
};

/// A list of offsets, for `topics`.
pub(crate) fn offsets_list<'a>(
    offsets: impl ExactSizeIterator<Item = (&'a TopicPartition, RdOffset)>,
) -> Result<TopicPartitionList, Error> {
    list::of_offsets(offsets)
}

/// The first error among the answers for partitions.
pub(crate) fn check_each(answer: &TopicPartitionList, partitions: &[TopicPartition]) -> Result<(), Error> {
    list::in_order(answer, partitions, |_| ()).map(drop)
}

/// An error that came as a code about something named.
pub(crate) fn error_of(code: Code, about: &str) -> Error {
    failure::by_code(code, &format!("{about}: {code}"))
}

/// Asks, then serves what has queued up on the client: nobody else polls it, and log
/// lines and errors would pile up there.
fn ask<T>(
    client: &Renewed<Client>,
    question: impl FnOnce(&BaseConsumer<Logging>) -> KafkaResult<T>,
) -> Result<T, Error> {
    client.ask(|client| {
        let client = client.get()?;
        let answer = question(client).map_err(|error| failure::error(&error));
        while client.poll(Duration::ZERO).is_some() {}
        answer
    })
}

fn known(offset: RdOffset) -> Option<i64> {
    match offset {
        RdOffset::Offset(at) => Some(at),
        _ => None,
    }
}

impl Log for Librdkafka {
    type Reader = ConsumerReader;
    type Transactional = Transactional;
    type Producer = Plain;

    fn reader(&self, fetch_bytes: usize) -> Result<ConsumerReader, Error> {
        ConsumerReader::new(self.clone(), fetch_bytes, FETCH_WAIT)
    }

    fn staying_reader(&self, fetch_bytes: usize) -> Result<ConsumerReader, Error> {
        ConsumerReader::new(self.clone(), fetch_bytes, STAYING_FETCH_WAIT)
    }

    fn transactional(&self, transactional_id: &str) -> Result<Transactional, Error> {
        let group = self.inner.asker.get()?.get()?.group_metadata();
        let group = group.ok_or_else(|| Error::Refused("no consumer group".to_owned()))?;
        Transactional::new(&self.inner.settings, transactional_id, group)
    }

    fn producer(&self) -> Result<Plain, Error> {
        Plain::new(&self.inner.settings)
    }

    fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<Position>>, Error> {
        self.positions(&self.inner.asker, partitions)
    }

    fn committed_before_pending(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Option<Position>>, Error> {
        // librdkafka asks all over again as long as one partition has a pending commit, which with busy lanes took
        // seconds; a read_uncommitted client takes what there is.
        self.positions(&self.inner.end_asker, partitions)
    }

    fn offsets(&self, partitions: &[TopicPartition], which: Offset) -> Result<Vec<i64>, Error> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let asker = &self.inner.asker;
        let found = match which {
            Offset::Start => self.list_offsets(asker, partitions, RdOffset::Beginning)?,
            Offset::StableEnd => self.list_offsets(asker, partitions, RdOffset::End)?,
            Offset::End => self.list_offsets(&self.inner.end_asker, partitions, RdOffset::End)?,
            Offset::At(ms) => {
                let found = self.list_offsets(asker, partitions, RdOffset::Offset(ms.max(0)))?;
                // None so late: the end.
                if found.iter().all(Option::is_some) {
                    found
                } else {
                    let ends = self.list_offsets(asker, partitions, RdOffset::End)?;
                    found.into_iter().zip(ends).map(|(at, end)| at.or(end)).collect()
                }
            }
        };
        let offsets: Option<Vec<i64>> = found.into_iter().collect();
        offsets.ok_or_else(|| Error::Unavailable("a partition's offset is not known".to_owned()))
    }

    fn commit(&self, positions: &[(TopicPartition, Position)]) -> Result<(), Error> {
        if positions.is_empty() {
            return Ok(());
        }
        let these = list::of_positions(positions)?;
        self.ask(|asker| asker.commit(&these, CommitMode::Sync))
    }

    fn partitions(&self, topic: &str) -> Result<Option<i32>, Error> {
        self.partitions_of(topic, ASK_LIMIT)?
            .map_err(|code| failure::by_code(code, &format!("{topic}: {code}")))
    }

    fn topics(&self, names: &[&str]) -> Result<Vec<Option<TopicInfo>>, Error> {
        let limit = if names.len() <= SINGLY { FEW_LIMIT } else { ASK_LIMIT };
        let deadline = Instant::now() + limit;
        let partitions = self.partitions_of_many(names, deadline)?;
        let there = names.iter().zip(&partitions).filter(|(_, found)| found.is_some());
        let there: Vec<&str> = there.map(|(name, _)| *name).collect();
        // Without its limit a topic can be written to with care; whether Kafka is there is known.
        let limits = self.max_message_bytes(&there, deadline).unwrap_or_else(|error| {
            tracing::debug!(%error, "max.message.bytes of targets is not told");
            Vec::new()
        });
        let mut limits = limits.into_iter();
        let mut info = |partitions| TopicInfo { partitions, max_message_bytes: limits.next().flatten() };
        Ok(partitions.into_iter().map(|found| found.map(&mut info)).collect())
    }
}
