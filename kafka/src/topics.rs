//! The cluster's topics: creating them at first start, judging them at every start.
//!
//! Everything here blocks. Retention must never decide the life of an undelivered
//! message (design §3), and a position that is not there must mean that it was lost
//! (design §4.7): so topics of ours must have the right settings or nothing starts,
//! and position 0 is committed for every partition as it is made.

mod spec;

use std::{
    collections::HashMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ksched_core::cluster::Cluster;
use rdkafka::{
    Offset as RdOffset,
    admin::{ConfigResource, NewTopic, ResourceSpecifier, TopicReplication},
    error::RDKafkaErrorCode as Code,
};

use self::spec::{Kind, Rule, Spec};
use crate::{
    librdkafka::{
        Librdkafka,
        admin::{Admin, Existing},
    },
    log::{self, Log, Offset, Position, TopicPartition},
};

/// Until topics just made are known everywhere.
const VISIBLE_WITHIN: Duration = Duration::from_secs(30);
/// Topics that are missing, and settings that are not told, may only not be there yet.
const MISSING_FOR: Duration = Duration::from_secs(3);
const HIDDEN_LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Below this, positions of idle partitions vanish too soon (design §4.7).
const OFFSETS_RETENTION_MIN: Duration = Duration::from_secs(30 * 24 * 3600);
/// An intake topic that keeps records for less loses them in a longer outage.
const INTAKE_RETENTION_MIN_MS: i64 = 24 * 3600 * 1000;

/// What may be chosen when topics are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub replication: Replication,
    pub intake_start: IntakeStart,
}

/// How many copies topics are made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// Three, or as many as there are brokers.
    #[default]
    Auto,
    Factor(u16),
}

/// Where an intake topic that existed before ksched is read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntakeStart {
    #[default]
    End,
    Earliest,
}

/// Why the topics are not fit for use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] log::Error),
    /// Everything that is wrong, not only the first thing.
    #[error("topics are not as they must be: {}", join(.0))]
    Wrong(Vec<Wrong>),
}

/// One thing that is wrong with a topic of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("{topic} does not exist")]
    Missing { topic: String },
    #[error("{topic} has {found} partitions instead of {expected}")]
    Partitions { topic: String, found: i32, expected: i32 },
    #[error("{topic} has {name}={found} instead of {expected}")]
    Setting { topic: String, name: &'static str, found: String, expected: String },
    #[error(
        "settings of {topic} may not be read (DescribeConfigs), so nobody knows whether it keeps its records"
    )]
    Hidden { topic: String },
}

/// Something an operator should know of; nothing is lost yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error(
        "the brokers drop positions unused for {minutes} minutes (offsets.retention.minutes); 43200 or more is advised"
    )]
    OffsetsRetention { minutes: u64 },
    #[error(
        "the only broker hands its partitions over before it stops (controlled.shutdown.enable): \
         a transaction that ends meanwhile may hang for ever; false is advised"
    )]
    LoneBrokerResigns,
    #[error("intake topic {topic} has {name}={found}: records not yet taken in may be deleted")]
    IntakeRetention { topic: String, name: &'static str, found: String },
    #[error(
        "settings of intake topic {topic} may not be read (DescribeConfigs): it may delete records not yet taken in"
    )]
    IntakeHidden { topic: String },
}

fn join(wrong: &[Wrong]) -> String {
    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What was found or done.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// Names of topics made.
    pub created: Vec<String>,
    pub warnings: Vec<Warning>,
}

/// For the first start of a cluster: makes the topics that are not there, commits the
/// first position of every partition that has none, and verifies all. May be called
/// again after it failed half-way, but not later: then a missing position is a loss.
pub fn prepare(log: &Librdkafka, cluster: &Cluster, options: Options) -> Result<Prepared, Error> {
    let specs = spec::topics(cluster);
    let existing = Existing::read(log)?;
    let missing: Vec<&Spec> = specs.iter().filter(|spec| !existing.topics.contains_key(&spec.name)).collect();
    let created = create(log, &missing, replication(options, existing.brokers.len()))?;
    if !existing_within(log, &specs, VISIBLE_WITHIN)?.has_all(&specs) {
        return Err(log::Error::Unavailable("topics just made are not visible".to_owned()).into());
    }
    let warnings = verify(log, cluster)?;
    for spec in &specs {
        let first = match (spec.kind, options.intake_start) {
            (Kind::Control | Kind::Output, _) => continue,
            (Kind::Messages, _) => First::WhereNothingEverWas,
            (Kind::Intake, IntakeStart::End) if !created.contains(&spec.name) => First::End,
            (Kind::Intake, _) => First::Start,
        };
        first_positions_patiently(log, spec, first)?;
    }
    Ok(Prepared { created, warnings })
}

/// Verifies that the topics are there and as they must be.
pub fn verify(log: &Librdkafka, cluster: &Cluster) -> Result<Vec<Warning>, Error> {
    let specs = spec::topics(cluster);
    let existing = existing_within(log, &specs, MISSING_FOR)?;
    let settings = topic_settings(log, &specs, &existing)?;
    let mut wrong = Vec::new();
    let mut warnings = Vec::new();
    for spec in &specs {
        let Some(&found) = existing.topics.get(&spec.name) else {
            wrong.push(Wrong::Missing { topic: spec.name.clone() });
            continue;
        };
        let ours = matches!(spec.kind, Kind::Messages | Kind::Control);
        if ours && found != spec.partitions {
            let topic = spec.name.clone();
            wrong.push(Wrong::Partitions { topic, found, expected: spec.partitions });
        }
        if let Some(settings) = settings.get(&spec.name) {
            if settings.entries.is_empty() {
                let topic = spec.name.clone();
                match spec.kind {
                    Kind::Intake => warnings.push(Warning::IntakeHidden { topic }),
                    _ => wrong.push(Wrong::Hidden { topic }),
                }
                continue;
            }
            wrong.extend(wrong_settings(spec, settings));
            if spec.kind == Kind::Intake {
                warnings.extend(intake_warnings(spec, settings));
            }
        }
    }
    if !wrong.is_empty() {
        return Err(Error::Wrong(wrong));
    }
    warnings.extend(broker_warnings(log, &existing.brokers));
    Ok(warnings)
}

impl Existing {
    fn has_all(&self, specs: &[Spec]) -> bool {
        specs.iter().all(|spec| self.topics.contains_key(&spec.name))
    }
}

/// What is there as soon as all of these are, or then: a broker may not know yet of topics just made.
fn existing_within(log: &Librdkafka, specs: &[Spec], limit: Duration) -> Result<Existing, log::Error> {
    let deadline = Instant::now() + limit;
    loop {
        let existing = Existing::read(log)?;
        if existing.has_all(specs) || Instant::now() >= deadline {
            return Ok(existing);
        }
        thread::sleep(PAUSE);
    }
}

/// Frees what lies before these offsets; each must be at most the committed position.
/// Kafka refuses it for compacted topics.
pub fn delete_records(log: &Librdkafka, before: &[(TopicPartition, i64)]) -> Result<(), log::Error> {
    if before.is_empty() {
        return Ok(());
    }
    let list =
        crate::librdkafka::offsets_list(before.iter().map(|(at, offset)| (at, RdOffset::Offset(*offset))))?;
    let answer = log.administer(|admin| admin.delete_records(&list, &Admin::options()))?;
    let partitions: Vec<TopicPartition> = before.iter().map(|(at, _)| at.clone()).collect();
    crate::librdkafka::check_each(&answer, &partitions)
}

fn replication(options: Options, brokers: usize) -> u16 {
    match options.replication {
        Replication::Auto => u16::try_from(brokers.clamp(1, 3)).unwrap_or(1),
        Replication::Factor(factor) => factor,
    }
}

/// Makes topics; the names of those that were not there.
fn create(log: &Librdkafka, specs: &[&Spec], replication: u16) -> Result<Vec<String>, log::Error> {
    if specs.is_empty() {
        return Ok(Vec::new());
    }
    // One copy may be away without stopping writes, but a write is never on one alone.
    let in_sync = replication.saturating_sub(1).max(1).to_string();
    let topics: Vec<NewTopic<'_>> = specs
        .iter()
        .map(|spec| {
            let copies = TopicReplication::Fixed(i32::from(replication));
            let topic =
                NewTopic::new(&spec.name, spec.partitions, copies).set("min.insync.replicas", &in_sync);
            spec.settings.iter().fold(topic, |topic, setting| topic.set(setting.name, &setting.value))
        })
        .collect();
    let answers = log.administer(|admin| admin.create_topics(&topics, &Admin::options()))?;
    let mut created = Vec::new();
    for answer in answers {
        match answer {
            Ok(name) => created.push(name),
            // Another coordinator was quicker.
            Err((_, Code::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(crate::librdkafka::error_of(code, &name)),
        }
    }
    Ok(created)
}

/// What the first position of a partition is that has none.
#[derive(Clone, Copy, Debug)]
enum First {
    /// 0 where nothing was ever appended. Elsewhere a position was lost, and whoever
    /// reads the partition decides (design §4.7).
    WhereNothingEverWas,
    Start,
    End,
}

/// A partition just made may have no leader yet that knows of it.
fn first_positions_patiently(log: &Librdkafka, spec: &Spec, first: First) -> Result<(), log::Error> {
    let deadline = Instant::now() + VISIBLE_WITHIN;
    loop {
        match first_positions(log, spec, first) {
            Err(log::Error::Unavailable(why)) if Instant::now() < deadline => {
                tracing::debug!(topic = spec.name, why, "first positions, again");
                thread::sleep(Duration::from_millis(100));
            }
            done => return done,
        }
    }
}

fn first_positions(log: &Librdkafka, spec: &Spec, first: First) -> Result<(), log::Error> {
    let topic: Arc<str> = spec.name.as_str().into();
    let count = log.partitions(&spec.name)?.unwrap_or(0);
    let all: Vec<_> =
        (0..count).map(|partition| TopicPartition { topic: topic.clone(), partition }).collect();
    let committed = log.committed(&all)?;
    let without: Vec<_> =
        all.into_iter().zip(committed).filter(|(_, found)| found.is_none()).map(|(at, _)| at).collect();
    let which = match first {
        First::WhereNothingEverWas => Offset::End,
        First::Start => Offset::Start,
        First::End => Offset::StableEnd,
    };
    let offsets = log.offsets(&without, which)?;
    let positions: Vec<_> = without
        .into_iter()
        .zip(offsets)
        .filter(|(_, offset)| !matches!(first, First::WhereNothingEverWas) || *offset == 0)
        .map(|(at, offset)| (at, Position { offset, metadata: String::new() }))
        .collect();
    log.commit(&positions)
}

/// Settings of those that exist; without entries where they may not be read.
///
/// Trap: `AdminClient::describe_configs` of rdkafka 0.39 never looks at the error of a single resource, and answers
/// with no entries: forbidden, or a topic just made that the asked broker does not know yet. The latter passes, so
/// it is waited for; not for the intake topic, whose settings are advice and need not be told.
fn topic_settings(
    log: &Librdkafka,
    specs: &[Spec],
    existing: &Existing,
) -> Result<HashMap<String, ConfigResource>, log::Error> {
    let specs: Vec<&Spec> = specs.iter().filter(|spec| existing.topics.contains_key(&spec.name)).collect();
    // librdkafka refuses to ask for nothing.
    if specs.is_empty() {
        return Ok(HashMap::new());
    }
    let asked: Vec<_> = specs.iter().map(|spec| ResourceSpecifier::Topic(&spec.name)).collect();
    let describe = || log.administer(|admin| admin.describe_configs(&asked, &Admin::options()));
    let mut answers = describe()?;
    for _ in 0..HIDDEN_LOOKS {
        let is_hidden = |(spec, answer): (&&Spec, &Result<ConfigResource, Code>)| {
            spec.kind != Kind::Intake && answer.as_ref().is_ok_and(|settings| settings.entries.is_empty())
        };
        if !specs.iter().zip(&answers).any(is_hidden) {
            break;
        }
        thread::sleep(PAUSE);
        answers = describe()?;
    }
    // Answers come in the order of the questions.
    specs
        .into_iter()
        .zip(answers)
        .map(|(spec, answer)| match answer {
            Ok(settings) => Ok((spec.name.clone(), settings)),
            Err(code) => Err(crate::librdkafka::error_of(code, &spec.name)),
        })
        .collect()
}

fn wrong_settings(spec: &Spec, found: &ConfigResource) -> Vec<Wrong> {
    let wrong = |setting: &spec::Setting| {
        // A broker that does not tell a setting does not have it.
        let value = found.get(setting.name)?.value.as_deref()?;
        let right = match setting.rule {
            Rule::Exactly => value == setting.value,
            Rule::AtLeast => value.parse::<i64>().ok()? >= setting.value.parse::<i64>().ok()?,
            Rule::Free => true,
        };
        (!right).then(|| Wrong::Setting {
            topic: spec.name.clone(),
            name: setting.name,
            found: value.to_owned(),
            expected: setting.value.clone(),
        })
    };
    spec.settings.iter().filter_map(wrong).collect()
}

fn intake_warnings(spec: &Spec, found: &ConfigResource) -> Vec<Warning> {
    let value = |name: &str| found.get(name).and_then(|entry| entry.value.as_deref()?.parse::<i64>().ok());
    let warn = |name: &'static str, found: i64| Warning::IntakeRetention {
        topic: spec.name.clone(),
        name,
        found: found.to_string(),
    };
    let by_time = value("retention.ms").filter(|ms| (0..INTAKE_RETENTION_MIN_MS).contains(ms));
    let by_size = value("retention.bytes").filter(|bytes| *bytes >= 0);
    by_time
        .map(|ms| warn("retention.ms", ms))
        .into_iter()
        .chain(by_size.map(|b| warn("retention.bytes", b)))
        .collect()
}

/// What should be known of the brokers' settings, as far as they may be read.
fn broker_warnings(log: &Librdkafka, brokers: &[i32]) -> Vec<Warning> {
    let read = || {
        let asked = [ResourceSpecifier::Broker(*brokers.first()?)];
        let answers = log.administer(|admin| admin.describe_configs(&asked, &Admin::options())).ok()?;
        answers.into_iter().next()?.ok()
    };
    let Some(settings) = read() else { return Vec::new() };
    let value = |name: &str| settings.get(name).and_then(|entry| entry.value.as_deref());
    let minutes = value("offsets.retention.minutes").and_then(|minutes| minutes.parse().ok());
    let minutes = minutes.filter(|minutes: &u64| minutes * 60 < OFFSETS_RETENTION_MIN.as_secs());
    let resigns = brokers.len() == 1 && value("controlled.shutdown.enable") == Some("true");
    let resigns = resigns.then_some(Warning::LoneBrokerResigns);
    minutes.map(|minutes| Warning::OffsetsRetention { minutes }).into_iter().chain(resigns).collect()
}
