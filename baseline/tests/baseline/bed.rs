//! The servers, the broker, and ways to them.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ksched_baseline::{Database, Row};
use ksched_core::message::Content;
use ksched_kafka::{Librdkafka, Log as _, Offset, Reader as _, Settings, TopicPartition, target};
use ksched_local::{
    control,
    database::{self, Kind},
    parts,
};

/// Generous: two cores may be shared with a build.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a test works with.
pub(crate) struct Bed {
    pub(crate) url: String,
    pub(crate) database: Database,
    pub(crate) kafka: String,
    pub(crate) log: Arc<Librdkafka>,
    /// A topic of its own.
    pub(crate) topic: String,
}

/// Runs a test with an empty table.
pub(crate) fn run<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Bed) -> F) {
    let server = server(kind);
    let _turn = server.turn.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let url = server.database.url();
        let database = Database::connect(&url, 12).await.unwrap();
        database.prepare_table().await.unwrap();
        database.clear().await.unwrap();
        let kafka = broker();
        let topic = format!("target-{}-{}", kind.name(), now_ms());
        let log = log(kafka);
        target::create(&log, &topic, 2, &[("message.timestamp.type", "LogAppendTime")]).unwrap();
        test(Bed { url, database, kafka: kafka.to_owned(), log, topic }).await;
    });
}

pub(crate) fn log(kafka: &str) -> Arc<Librdkafka> {
    let (group, client_id) = ("baseline".to_owned(), "baseline".to_owned());
    let settings = Settings { bootstrap: kafka.to_owned(), group, client_id, ..Settings::default() };
    Arc::new(Librdkafka::new(settings).unwrap())
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

impl Bed {
    /// A message whose value is its number.
    pub(crate) fn row(&self, number: usize, due_ms: i64) -> Row {
        let content = Content {
            key: Some(format!("key-{}", number % 7).into()),
            value: Some(number.to_string().into()),
            headers: Vec::new(),
        };
        Row { due_ms, topic: self.topic.clone(), partition: None, content }
    }

    /// What is on the topic: how often each number was delivered, and when first.
    pub(crate) fn delivered(&self) -> BTreeMap<usize, (usize, i64)> {
        let partitions: Vec<_> =
            (0..2).map(|partition| TopicPartition { topic: self.topic.as_str().into(), partition }).collect();
        let ends = self.log.offsets(&partitions, Offset::StableEnd).unwrap();
        let mut reader = self.log.reader(1 << 20).unwrap();
        let from: Vec<_> = partitions.iter().map(|partition| (partition.clone(), 0)).collect();
        reader.assign(&from).unwrap();
        let mut missing: i64 = ends.iter().sum();
        let (mut found, began_at) = (BTreeMap::new(), Instant::now());
        while missing > 0 {
            assert!(began_at.elapsed() < PATIENCE, "{missing} records cannot be read");
            if let Some(record) = reader.poll(Duration::from_millis(100)).unwrap() {
                missing -= 1;
                let value = record.content.value.unwrap();
                let number = std::str::from_utf8(&value).unwrap().parse().unwrap();
                found.entry(number).or_insert((0, record.timestamp_ms)).0 += 1;
            }
        }
        found
    }

    /// Waits until the table is empty.
    pub(crate) async fn all_delivered(&self) {
        let began_at = Instant::now();
        while self.database.waiting().await.unwrap() > 0 {
            assert!(began_at.elapsed() < PATIENCE, "messages stay in the table");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

struct Server {
    database: database::Database,
    turn: Mutex<()>,
}

fn server(kind: Kind) -> &'static Server {
    static POSTGRESQL: OnceLock<Server> = OnceLock::new();
    static MARIADB: OnceLock<Server> = OnceLock::new();
    let server = match kind {
        Kind::Postgresql => &POSTGRESQL,
        Kind::Mariadb => &MARIADB,
    };
    server.get_or_init(|| {
        // One folder for all runs: a static is never dropped, so what one leaves the next removes.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("baseline-{}", kind.name()));
        control::purge(&dir).unwrap();
        let database = database::Database::start(&dir, kind, parts::silent).unwrap();
        Server { database, turn: Mutex::new(()) }
    })
}

fn broker() -> &'static str {
    static BROKER: OnceLock<String> = OnceLock::new();
    BROKER.get_or_init(|| noida::kafka::spawn("127.0.0.1:0").unwrap().to_string())
}
