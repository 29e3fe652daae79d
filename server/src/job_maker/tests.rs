//! The job maker over a log of our own making and the store in memory.

use std::collections::{BTreeMap, HashMap};

use ksched_core::{
    envelope::{self, Envelope},
    message::{Content, Header, Target},
    wheel::{Bucket, Inlet},
};
use ksched_kafka::{
    Error, Offset, Outgoing, Position, Producer, Reader, Record, Refusal, TopicInfo, TransactionError,
    TransactionalProducer,
};
use parking_lot::Mutex;

use super::{membership::membership, passed::open_passed, *};
use crate::{
    host::Still,
    leasing::views,
    store::{CoordinatorInfo, memory::MemoryStore},
};

const NOW: i64 = 1_795_000_000_000;

/// One partition: due times of its records from offset 0 on (`None`: a marker), its
/// position and its log start.
#[derive(Clone, Debug, Default)]
struct Partition {
    dues: Vec<Option<i64>>,
    position: Option<i64>,
    start: i64,
    /// Offsets of an open transaction at the end.
    unstable: i64,
}

#[derive(Debug, Default)]
struct FakeLog {
    partitions: Arc<Mutex<HashMap<TopicPartition, Partition>>>,
    away: Mutex<bool>,
    /// Whether anything was asked.
    asked: Mutex<bool>,
}

struct FakeReader {
    partitions: Arc<Mutex<HashMap<TopicPartition, Partition>>>,
    at: BTreeMap<TopicPartition, i64>,
}

struct Nothing;

impl FakeLog {
    /// Partitions that nobody spoke of are empty, with position 0.
    fn of(&self, partition: &TopicPartition) -> Partition {
        let fresh = || Partition { position: Some(0), ..Partition::default() };
        self.partitions.lock().get(partition).cloned().unwrap_or_else(fresh)
    }
}

impl Log for FakeLog {
    type Reader = FakeReader;
    type Transactional = Nothing;
    type Producer = Nothing;

    fn reader(&self, _: usize) -> Result<FakeReader, Error> {
        Ok(FakeReader { partitions: Arc::clone(&self.partitions), at: BTreeMap::new() })
    }

    fn transactional(&self, _: &str) -> Result<Nothing, Error> {
        Ok(Nothing)
    }

    fn producer(&self) -> Result<Nothing, Error> {
        Ok(Nothing)
    }

    fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<Position>>, Error> {
        let position = |p: &TopicPartition| {
            self.of(p).position.map(|offset| Position { offset, metadata: String::new() })
        };
        Ok(partitions.iter().map(position).collect())
    }

    fn offsets(&self, partitions: &[TopicPartition], which: Offset) -> Result<Vec<i64>, Error> {
        *self.asked.lock() = true;
        if *self.away.lock() {
            return Err(Error::Unavailable("away".to_owned()));
        }
        let offset = |p: &TopicPartition| match (self.of(p), which) {
            (p, Offset::Start) => p.start,
            (p, Offset::StableEnd) => p.dues.len() as i64,
            (p, Offset::End | Offset::At(_)) => p.dues.len() as i64 + p.unstable,
        };
        Ok(partitions.iter().map(offset).collect())
    }

    fn commit(&self, _: &[(TopicPartition, Position)]) -> Result<(), Error> {
        Ok(())
    }

    fn partitions(&self, _: &str) -> Result<Option<i32>, Error> {
        Ok(None)
    }

    fn topics(&self, names: &[&str]) -> Result<Vec<Option<TopicInfo>>, Error> {
        Ok(vec![None; names.len()])
    }
}

impl Reader for FakeReader {
    fn assign(&mut self, from: &[(TopicPartition, i64)]) -> Result<(), Error> {
        self.at = from.iter().cloned().collect();
        Ok(())
    }

    fn poll(&mut self, _: Duration) -> Result<Option<Record>, Error> {
        for (source, at) in &mut self.at {
            let dues = self.partitions.lock().get(source).cloned().unwrap_or_default().dues;
            while let Some(due) = dues.get(*at as usize) {
                *at += 1;
                if let Some(due) = due {
                    let (source, content) = (source.clone(), content(*due));
                    return Ok(Some(Record { source, offset: *at - 1, timestamp_ms: 0, content }));
                }
            }
        }
        Ok(None)
    }

    fn position(&mut self, partition: &TopicPartition) -> Result<i64, Error> {
        Ok(self.at[partition])
    }

    fn pause(&mut self, _: &[TopicPartition]) -> Result<(), Error> {
        Ok(())
    }

    fn resume(&mut self, _: &[TopicPartition]) -> Result<(), Error> {
        Ok(())
    }
}

impl TransactionalProducer for Nothing {
    fn init(&mut self) -> Result<(), Error> {
        Ok(())
    }
    fn begin(&mut self) -> Result<(), TransactionError> {
        Ok(())
    }
    fn send(&mut self, _: usize, _: Outgoing<'_>) -> Result<(), TransactionError> {
        Ok(())
    }
    fn flush(&mut self) -> Result<(), TransactionError> {
        Ok(())
    }
    fn commit(&mut self, _: &[(TopicPartition, Position)]) -> Result<(), TransactionError> {
        Ok(())
    }
}

impl Producer for Nothing {
    fn send(&mut self, _: usize, _: Outgoing<'_>) -> Result<(), Error> {
        Ok(())
    }
    fn flush(&mut self) -> Result<Vec<Refusal>, Error> {
        Ok(vec![])
    }
}

fn content(due_ms: i64) -> Content {
    let envelope = Envelope {
        due_ms,
        scheduled_at_us: 0,
        origin: 0,
        hops: 0,
        target: Target { topic: "orders".into(), partition: None },
        not_before_ms: None,
        identity: None,
        stamps: false,
        trace: None,
    };
    Content { headers: vec![Header::new(envelope::NAME, envelope.encode())], ..Content::default() }
}

fn partition(cluster: &Cluster, bucket: Bucket) -> TopicPartition {
    let topic = cluster.wheel_topic(bucket.level).into();
    TopicPartition { topic, partition: cluster.geometry.bucket_partition(bucket) }
}

/// A bucket so many level-1 slots away from the current one.
fn slot(away: i64) -> Bucket {
    Bucket { level: 1, slot: NOW / 10_000 + away, lane: 0 }
}

fn survey(log: &Arc<FakeLog>) -> Survey<FakeLog> {
    let cluster = Arc::new(Cluster::default());
    Survey::new(Arc::clone(log), Arc::clone(&cluster), Arc::new(Partitions::of(&cluster)))
}

fn put(log: &FakeLog, bucket: Bucket, dues: &[Option<i64>]) {
    let put = Partition { dues: dues.to_vec(), position: Some(0), ..Partition::default() };
    log.partitions.lock().insert(partition(&Cluster::default(), bucket), put);
}

fn drained(survey: &mut Survey<FakeLog>) -> Vec<i32> {
    survey.look(&Still { at_ms: NOW }).unwrap().drains.iter().map(|drain| drain.partition).collect()
}

#[test]
fn open_overdue_and_coming_buckets_are_told_apart() {
    let log = Arc::new(FakeLog::default());
    let mut survey = survey(&log);
    assert!(drained(&mut survey).is_empty());
    put(&log, slot(0), &[Some(NOW)]);
    put(&log, slot(20), &[None, Some(NOW + 200_000)]);
    // Left over from before an outage longer than the ring.
    put(&log, slot(30), &[None, Some(NOW - 1), Some(NOW + 300_000)]);
    let of = |away| Cluster::default().geometry.bucket_partition(slot(away));
    let mut expected = [of(0), of(30)];
    expected.sort_unstable();
    assert_eq!(drained(&mut survey), expected);
    assert_eq!(drained(&mut survey), expected);
}

/// A clock that is right once the log has answered.
#[derive(Debug)]
struct AnsweredLate(Arc<FakeLog>);

impl Host for AnsweredLate {
    fn wall_us(&self) -> i64 {
        let early_ms = if *self.0.asked.lock() { 0 } else { 20_000 };
        (NOW - early_ms) * 1_000
    }

    fn sleep(&self, _: Duration) {}

    fn spawn(&self, _: &str, _: ksched_core::host::Work) -> std::io::Result<()> {
        Ok(())
    }
}

/// Found by the simulator: Kafka was away while a survey asked. By the clock of before, the
/// furthest slot, written to meanwhile, looked like one of the last revolution.
#[test]
fn a_survey_that_took_long_drains_no_bucket_that_was_written_to_meanwhile() {
    let log = Arc::new(FakeLog::default());
    put(&log, slot(48), &[Some(NOW + 480_000)]);
    let mut survey = survey(&log);
    let findings = survey.look(&AnsweredLate(Arc::clone(&log))).unwrap();
    assert!(findings.drains.is_empty());
}

#[test]
fn markers_alone_are_no_record_until_one_comes() {
    let log = Arc::new(FakeLog::default());
    let mut survey = survey(&log);
    put(&log, slot(20), &[None, None]);
    assert!(drained(&mut survey).is_empty());
    put(&log, slot(20), &[None, None, Some(NOW - 5)]);
    assert_eq!(drained(&mut survey).len(), 1);
}

#[test]
fn a_lost_position_is_counted_and_starts_at_the_log_start() {
    let log = Arc::new(FakeLog::default());
    let mut survey = survey(&log);
    put(&log, slot(0), &[Some(NOW); 4]);
    let lost = partition(&Cluster::default(), slot(0));
    if let Some(p) = log.partitions.lock().get_mut(&lost) {
        (p.position, p.start) = (None, 3);
    }
    let findings = survey.look(&Still { at_ms: NOW }).unwrap();
    assert_eq!((findings.drains.len(), findings.observation.missing_positions), (1, 1));
    let waiting: Vec<_> = findings.observation.pending.iter().filter(|p| p.records > 0).collect();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].level, waiting[0].lane, waiting[0].records), (1, 0, 1));
}

#[test]
fn drained_buckets_are_freed_and_inlets_wait() {
    let log = Arc::new(FakeLog::default());
    let mut survey = survey(&log);
    put(&log, slot(0), &[Some(NOW); 4]);
    let cluster = Cluster::default();
    let inlet = TopicPartition {
        topic: cluster.due_topic().into(),
        partition: cluster.geometry.due_partition(0, Inlet::Direct),
    };
    let settled = Partition { dues: vec![Some(NOW); 9], position: Some(9), ..Partition::default() };
    log.partitions.lock().insert(inlet, settled);
    let bucket = partition(&cluster, slot(0));
    if let Some(p) = log.partitions.lock().get_mut(&bucket) {
        p.position = Some(4);
    }
    survey.look(&Still { at_ms: NOW }).unwrap();
    let freed = Mutex::new(vec![]);
    let delete = |before: &[(TopicPartition, i64)]| {
        freed.lock().extend_from_slice(before);
        Ok(())
    };
    survey.reclaim(delete);
    survey.reclaim(delete);
    assert_eq!(*freed.lock(), [(bucket, 4)]);
}

/// Lets blocking threads and tasks go on until it holds.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leader_makes_jobs_and_the_next_takes_over() {
    let (store, log) = (Arc::new(MemoryStore::new()), Arc::new(FakeLog::default()));
    let cluster = Arc::new(Cluster::default());
    let all = CancellationToken::new();
    let (views, refresher) = views(store.clone(), &cluster);
    tokio::spawn(refresher.run(all.clone()));
    let coordinator = |name: &str| {
        let info = CoordinatorInfo {
            name: name.to_owned(),
            version: String::new(),
            grpc_address: String::new(),
            http_address: String::new(),
        };
        let (stop, observed) = (all.child_token(), Arc::new(Observed::default()));
        let (membership, leadership) = membership(store.clone(), info, Duration::from_secs(2));
        let maker = JobMaker {
            log: log.clone(),
            delete_records: Arc::new(|_| Ok(())),
            store: store.clone(),
            views: views.clone(),
            cluster: Arc::clone(&cluster),
            leadership,
            observed: Arc::clone(&observed),
            host: Arc::new(Still { at_ms: NOW }),
        };
        tokio::spawn(membership.run(stop.clone()));
        tokio::spawn(maker.run(stop.clone()));
        (stop, observed)
    };
    let (stop_a, a) = coordinator("a");
    eventually("a leads", async || a.get().leads).await;
    let (_stop_b, b) = coordinator("b");
    put(&log, slot(0), &[Some(NOW)]);
    eventually("a drain", async || store.snapshot().await.unwrap().drains.len() == 1).await;
    assert!(!b.get().leads);

    stop_a.cancel();
    eventually("b leads", async || b.get().leads).await;
    *log.away.lock() = true;
    put(&log, slot(-1), &[Some(NOW)]);
    *log.away.lock() = false;
    eventually("another drain", async || store.snapshot().await.unwrap().drains.len() == 2).await;
    eventually("both counted", async || b.get().open_drains == 2).await;
    all.cancel();
}

#[tokio::test]
async fn routers_may_ask() {
    let store = Arc::new(MemoryStore::new());
    let (views, _refresher) = views(store.clone(), &Cluster::default());
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    let job = JobName::Drain { topic: "ksched.wheel.1".into(), partition: 4 };
    for _ in 0..3 {
        sender.send((job.clone(), OpenDrain { open_at_ms: 9 })).await.unwrap();
    }
    drop(sender);
    open_passed(store.clone(), views, receiver, CancellationToken::new()).await;
    assert_eq!(store.snapshot().await.unwrap().drains.into_keys().collect::<Vec<_>>(), [job]);
}
