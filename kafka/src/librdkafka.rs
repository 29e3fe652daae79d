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
mod transactional;

use std::{sync::Arc, time::Duration};

use rdkafka::{
    Offset as RdOffset, TopicPartitionList,
    admin::{AdminClient, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaResult, RDKafkaErrorCode as Code},
};

use self::{
    admin::Admin,
    config::Isolation,
    reader::{Client, Logging},
    renewed::Renewed,
};
pub use self::{config::Settings, plain::Plain, reader::ConsumerReader, transactional::Transactional};
use crate::log::{Error, Log, Offset, Position, TopicInfo, TopicPartition};

/// For a question to a broker.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// Kafka's own default, assumed where settings may not be read.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;

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

    fn max_message_bytes(&self, topic: &str) -> Result<usize, Error> {
        let asked = [ResourceSpecifier::Topic(topic)];
        let answer = self.administer(|admin| admin.describe_configs(&asked, &Admin::options()))?;
        let described = match answer.into_iter().next() {
            Some(Err(code)) => return Err(failure::by_code(code, &format!("{topic}: {code}"))),
            // Without entries if they may not be read (topics.rs, `topic_settings`).
            Some(Ok(described)) => Some(described),
            None => None,
        };
        let entry =
            described.as_ref().and_then(|described| described.get("max.message.bytes")?.value.as_deref());
        Ok(entry.and_then(|value| value.parse().ok()).unwrap_or_else(|| {
            tracing::debug!(topic, "max.message.bytes may not be read; taken as Kafka's default");
            DEFAULT_MAX_MESSAGE_BYTES
        }))
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
        ConsumerReader::new(self.clone(), fetch_bytes)
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

    fn topic(&self, topic: &str) -> Result<Option<TopicInfo>, Error> {
        let partitions = self.ask(|asker| {
            let metadata = asker.fetch_metadata(Some(topic), ASK_LIMIT)?;
            let found = metadata.topics().iter().find(|each| each.name() == topic);
            Ok(match found.map(|found| (found.error().map(Code::from), found.partitions().len())) {
                Some((None, count)) => Ok(count),
                Some((Some(code), _)) => Err(code),
                None => Err(Code::UnknownTopicOrPartition),
            })
        })?;
        let partitions = match partitions {
            Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
            Err(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::InvalidTopic) => return Ok(None),
            Err(code) => return Err(failure::by_code(code, &format!("{topic}: {code}"))),
        };
        match self.max_message_bytes(topic) {
            Ok(max_message_bytes) => Ok(Some(TopicInfo { partitions, max_message_bytes })),
            Err(Error::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
