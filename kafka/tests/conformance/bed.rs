//! Brokers to test on, and what tests are made of.

mod memory;

use std::{
    path::Path,
    process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ksched_core::message::{Content, Header};
use ksched_kafka::{
    Error, Librdkafka, Log, Offset, Outgoing, Producer as _, Reader, Record, Settings, TopicPartition, topics,
};
use ksched_local::kafka as local;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

pub(crate) use self::memory::memory;

/// Generous: two cores may be shared with a build.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A broker with a way to it: what most points need, whatever is behind it.
pub(crate) trait Bed {
    type Log: Log;

    fn log_of(&self, group: &str) -> Self::Log;

    /// A topic of its own, visible when this returns.
    fn topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Arc<str>;

    fn delete_topic(&self, name: &str);

    fn delete_records(&self, before: &[(TopicPartition, i64)]) -> Result<(), Error>;

    /// A log with a group of its own.
    fn log(&self) -> Self::Log {
        self.log_of(&unique("group"))
    }

    fn topic(&self, name: &str, partitions: i32) -> Arc<str> {
        self.topic_with(name, partitions, &[])
    }
}

/// A broker that speaks the protocol.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: String,
    _kafka: Option<local::Kafka>,
}

pub(crate) fn embedded() -> &'static Server {
    static BED: OnceLock<Server> = OnceLock::new();
    BED.get_or_init(|| {
        let address = noida::kafka::spawn("127.0.0.1:0").unwrap();
        Server { address: address.to_string(), _kafka: None }
    })
}

pub(crate) fn real() -> &'static Server {
    static BED: OnceLock<Server> = OnceLock::new();
    BED.get_or_init(|| {
        if let Ok(address) = std::env::var("KSCHED_TEST_KAFKA") {
            return Server { address, _kafka: None };
        }
        let options =
            local::Options { auto_create_topics: local::AutoCreate::Off, ..local::Options::default() };
        let kafka = local::Kafka::start(&fresh_directory(), &options).unwrap();
        Server { address: kafka.address(), _kafka: Some(kafka) }
    })
}

/// A directory for this process; those of processes that are gone are removed, since a
/// static is never dropped.
fn fresh_directory() -> std::path::PathBuf {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix("kafka-").is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    base.join(format!("kafka-{}", process::id()))
}

impl Bed for Server {
    type Log = Librdkafka;

    fn log_of(&self, group: &str) -> Librdkafka {
        log_at(&self.address, group)
    }

    fn topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Arc<str> {
        let name = unique(name);
        create(&self.address, &name, partitions, settings);
        let log = self.log();
        eventually("topic is visible", || {
            let found = log.partitions(&name).unwrap() == Some(partitions);
            found && log.offsets(&partitions_of(&name, partitions), Offset::End).is_ok()
        });
        name.into()
    }

    fn delete_topic(&self, name: &str) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        wait(admin(&self.address).delete_topics(&[name], &options)).unwrap()[0].as_ref().unwrap();
        // The controller answers, and the broker goes on taking records until it hears of it.
        let log = self.log();
        eventually("topic is gone", || log.partitions(name).unwrap().is_none());
    }

    fn delete_records(&self, before: &[(TopicPartition, i64)]) -> Result<(), Error> {
        topics::delete_records(&self.log(), before)
    }
}

pub(crate) fn log_at(address: &str, group: &str) -> Librdkafka {
    static LOGGING: OnceLock<()> = OnceLock::new();
    LOGGING.get_or_init(|| {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        drop(tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init());
    });
    Librdkafka::new(Settings {
        bootstrap: address.to_owned(),
        group: group.to_owned(),
        client_id: "conformance".to_owned(),
        ..Settings::default()
    })
    .unwrap()
}

pub(crate) fn create(address: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    wait(admin(address).create_topics(&[topic], &options)).unwrap()[0].as_ref().unwrap();
}

fn admin(address: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", address).create().unwrap()
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A name nobody else has, also on a broker that lives longer than this process.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static RUN: OnceLock<u128> = OnceLock::new();
    let since = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let run = RUN.get_or_init(since);
    format!("{name}-{}-{run}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn at(topic: &Arc<str>, partition: i32) -> TopicPartition {
    TopicPartition { topic: Arc::clone(topic), partition }
}

pub(crate) fn partitions_of(topic: &str, count: i32) -> Vec<TopicPartition> {
    let topic: Arc<str> = topic.into();
    (0..count).map(|partition| at(&topic, partition)).collect()
}

pub(crate) fn text(value: &str) -> Content {
    Content { key: None, value: Some(value.to_owned().into()), headers: Vec::new() }
}

pub(crate) fn keyed(key: &str) -> Content {
    Content { key: Some(key.to_owned().into()), value: None, headers: vec![Header::new("h", "v")] }
}

pub(crate) fn to<'a>(topic: &'a str, partition: i32, content: &'a Content) -> Outgoing<'a> {
    Outgoing { topic, partition: Some(partition), timestamp_ms: None, content }
}

/// Appends without transactions.
pub(crate) fn append(log: &impl Log, topic: &str, partition: i32, values: &[&str]) {
    let mut producer = log.producer().unwrap();
    for (tag, value) in values.iter().enumerate() {
        producer.send(tag, to(topic, partition, &text(value))).unwrap();
    }
    assert!(producer.flush().unwrap().is_empty());
}

/// Reads until `count` records came, or fails.
pub(crate) fn read(reader: &mut impl Reader, count: usize) -> Vec<Record> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records came", records.len());
        records.extend(reader.poll(Duration::from_millis(100)).unwrap());
    }
    records
}

/// Everything up to the stable end.
pub(crate) fn read_all(log: &impl Log, topic: &Arc<str>, partition: i32) -> Vec<Record> {
    let this = at(topic, partition);
    let start = log.offsets(std::slice::from_ref(&this), Offset::Start).unwrap()[0];
    let end = log.offsets(std::slice::from_ref(&this), Offset::StableEnd).unwrap()[0];
    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&[(this.clone(), start)]).unwrap();
    let mut records = Vec::new();
    eventually("the stable end is reached", || {
        records.extend(reader.poll(Duration::from_millis(20)).unwrap());
        reader.position(&this).unwrap() >= end
    });
    records
}

/// Everything, once no transaction is open. Kafka answers a commit when it is decided;
/// the markers that let readers see it are written just after.
pub(crate) fn read_settled(log: &impl Log, topic: &Arc<str>, partition: i32) -> Vec<Record> {
    let this = [at(topic, partition)];
    eventually("transactions are over", || {
        log.offsets(&this, Offset::StableEnd).unwrap() == log.offsets(&this, Offset::End).unwrap()
    });
    read_all(log, topic, partition)
}

pub(crate) fn values(records: &[Record]) -> Vec<String> {
    let value = |record: &Record| String::from_utf8(record.content.value.clone().unwrap().to_vec()).unwrap();
    records.iter().map(value).collect()
}

pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
