//! The bench from plan to report, against a stub coordinator that delivers into a
//! stub log what it accepts.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use ksched_client::{
    bench::{self, Door, Options, Reading, recheck::Check},
    reader::Since,
    verify::Bounds,
};
use ksched_core::message::{Content, Header};
use ksched_kafka::{
    Error, Log, Offset, Outgoing, Position, Producer, Reader, Record, Refusal, TopicInfo, TopicPartition,
    TransactionError, TransactionalProducer,
};
use ksched_proto::v1::{
    self,
    header::HeaderValue,
    schedule_request::{RecordKey, RecordValue, When},
};
use parking_lot::Mutex;

use crate::stub::{Stub, client};

/// One partition; a record can be read from its due time on.
#[derive(Clone, Default)]
struct StubLog {
    records: Arc<Mutex<Vec<Record>>>,
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

impl StubLog {
    fn deliver(&self, due_ms: i64, content: Content) {
        let mut records = self.records.lock();
        let source = TopicPartition { topic: "target".into(), partition: 0 };
        records.push(Record { source, offset: 0, timestamp_ms: due_ms, content });
        // In the order of their due times, as a lane would.
        records.sort_by_key(|record| record.timestamp_ms);
        for (offset, record) in records.iter_mut().enumerate() {
            record.offset = offset as i64;
        }
    }

    fn accept(&self, request: &v1::ScheduleRequest) {
        let Some(When::DueTime(due)) = request.when else { return };
        let bytes = |value: &HeaderValue| match value {
            HeaderValue::Value(value) => value.clone(),
            HeaderValue::ValueText(text) => text.clone().into(),
        };
        let mut headers: Vec<_> = request
            .headers
            .iter()
            .map(|h| Header { name: h.name.as_str().into(), value: h.header_value.as_ref().map(bytes) })
            .collect();
        let key = match &request.record_key {
            Some(RecordKey::Key(key)) => Some(key.clone()),
            _ => None,
        };
        let value = match &request.record_value {
            Some(RecordValue::Value(value)) => Some(value.clone()),
            _ => None,
        };
        let due_ms = due.seconds * 1000 + i64::from(due.nanos) / 1_000_000;
        headers.push(Header::new("ksched-id", "x"));
        headers.push(Header::new("ksched-due", due_ms.to_string()));
        self.deliver(due_ms, Content { key, value, headers });
    }
}

struct StubReader {
    log: StubLog,
    next: usize,
}

struct StubProducer(StubLog);
struct Never;

impl Log for StubLog {
    type Reader = StubReader;
    type Transactional = Never;
    type Producer = StubProducer;

    fn reader(&self, _: usize) -> Result<StubReader, Error> {
        Ok(StubReader { log: self.clone(), next: 0 })
    }
    fn transactional(&self, _: &str) -> Result<Never, Error> {
        Err(Error::Refused("not here".to_owned()))
    }
    fn producer(&self) -> Result<StubProducer, Error> {
        Ok(StubProducer(self.clone()))
    }
    fn committed(&self, _: &[TopicPartition]) -> Result<Vec<Option<Position>>, Error> {
        Ok(Vec::new())
    }
    fn offsets(&self, partitions: &[TopicPartition], which: Offset) -> Result<Vec<i64>, Error> {
        let offset = match which {
            Offset::Start | Offset::At(_) => 0,
            Offset::StableEnd | Offset::End => self.records.lock().len() as i64,
        };
        Ok(vec![offset; partitions.len()])
    }
    fn commit(&self, _: &[(TopicPartition, Position)]) -> Result<(), Error> {
        Ok(())
    }
    fn partitions(&self, topic: &str) -> Result<Option<i32>, Error> {
        Ok((topic == "target").then_some(1))
    }
    fn topics(&self, names: &[&str]) -> Result<Vec<Option<TopicInfo>>, Error> {
        Ok(vec![None; names.len()])
    }
}

impl Reader for StubReader {
    fn assign(&mut self, from: &[(TopicPartition, i64)]) -> Result<(), Error> {
        self.next = from[0].1 as usize;
        Ok(())
    }
    fn poll(&mut self, wait: Duration) -> Result<Option<Record>, Error> {
        let until = Instant::now() + wait;
        loop {
            let ready =
                self.log.records.lock().get(self.next).filter(|r| r.timestamp_ms <= now_ms()).cloned();
            if let Some(record) = ready {
                self.next += 1;
                return Ok(Some(record));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    fn position(&mut self, _: &TopicPartition) -> Result<i64, Error> {
        Ok(self.next as i64)
    }
    fn pause(&mut self, _: &[TopicPartition]) -> Result<(), Error> {
        Ok(())
    }
    fn resume(&mut self, _: &[TopicPartition]) -> Result<(), Error> {
        Ok(())
    }
}

impl Producer for StubProducer {
    /// Acts as the intake jobs do.
    fn send(&mut self, _: usize, record: Outgoing<'_>) -> Result<(), Error> {
        let mut content = record.content.clone();
        let at = content.headers.iter().position(|h| &*h.name == "ksched-deliver-at").expect("a due time");
        let due = content.headers.remove(at).value.expect("a value");
        content.headers.retain(|h| &*h.name != "ksched-topic");
        let due_ms = std::str::from_utf8(&due).expect("text").parse().expect("a number");
        self.0.deliver(due_ms, content);
        Ok(())
    }
    fn flush(&mut self) -> Result<Vec<Refusal>, Error> {
        Ok(Vec::new())
    }
}

impl TransactionalProducer for Never {
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

/// 200 messages at 1,000/s, due well after they are scheduled.
fn options(door: Door) -> Options {
    let mut options = Options::new(1_000.0, 200, 1_000..=1_300, 42);
    options.door = door;
    options.topic = "target".to_owned();
    options.shape.keys = 8;
    options.shape.headers = 2;
    options.grace = Duration::from_secs(1);
    options
}

/// Runs a bench against a log in which `spoil` may change what is delivered.
async fn run(
    options: Options,
    spoil: impl Fn(usize, &StubLog, &v1::ScheduleRequest) + Send + Sync + 'static,
) -> (bench::Report, StubLog) {
    let log = StubLog::default();
    let into = log.clone();
    let server = Stub::new(move |n, request| {
        spoil(n, &into, request);
        Ok(())
    });
    let server = server.start().await;
    let client = client(&[server.address()]);
    let report = bench::run(options, client, Arc::new(log.clone()), |_| {}).await.expect("runs");
    (report, log)
}

/// The machine that runs the tests may be too busy for the generator's plan.
fn problems(report: &bench::Report) -> Vec<&String> {
    report.problems.iter().filter(|problem| !problem.contains("generator")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_delivers_what_it_planned() {
    for door in [Door::Unary, Door::Batch, Door::Stream, Door::Intake] {
        let (report, log) = run(options(door), |_, log, request| log.accept(request)).await;
        assert!(problems(&report).is_empty(), "{door:?}: {:?} {:?}", report.problems, report.verification());
        let v = report.verification();
        assert_eq!((v.planned, v.acknowledged, v.delivered), (200, 200, 200), "{door:?}");
        assert!(v.visible_ms.is_some_and(|p| p.max.is_finite()));
        // And judged afterwards from the topic alone, it is the same.
        let check = Check {
            shape: options(door).shape,
            topic: "target".to_owned(),
            run: None,
            from: Since::Start,
            bounds: Bounds { clock_ms: 0, late_ms: None },
            past: None,
        };
        let log = Arc::new(log);
        let again = tokio::task::spawn_blocking(move || bench::recheck(&check, log));
        let again = again.await.expect("runs").expect("reads");
        assert!(again.valid, "{door:?}: {:?}", again.problems);
        assert_eq!(again.run, report.run);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_on_the_way_is_found() {
    let (report, _) = run(options(Door::Unary), |n, log, request| match n {
        10 => {}
        20 => (0..2).for_each(|_| log.accept(request)),
        30 => {
            let mut changed = request.clone();
            changed.headers.reverse();
            log.accept(&changed);
        }
        40 => {
            log.accept(request);
            let value = Some(Bytes::from_static(b"who is this"));
            log.deliver(now_ms() + 500, Content { value, ..Content::default() });
        }
        _ => log.accept(request),
    })
    .await;
    let v = report.verification();
    assert!(!report.valid);
    assert_eq!((v.lost, v.doubled, v.corrupted, v.invented), (1, 1, 1, 1), "{:?}", v.examples);
    assert_eq!(v.delivered, 199);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_only_schedules_does_not_wait() {
    let mut only = options(Door::Stream);
    only.reading = Reading::None;
    only.shape.delays_ms = 3_600_000..=7_200_000;
    let (report, _) = run(only, |_, log, request| log.accept(request)).await;
    assert!(problems(&report).is_empty(), "{:?}", report.problems);
    assert_eq!(report.verification().acknowledged, 200);
}

#[cfg(feature = "experiment")]
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_continued_is_judged_by_its_ledger() {
    let dir = std::env::temp_dir().join(format!("ksched-continued-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let file = dir.join("ledger.db");
    let mut options = options(Door::Unary);
    // More than is asked for ahead, two seconds' worth: all of that counts as perhaps sent.
    options.shape.count = 4_000;
    let log = StubLog::default();
    let into = log.clone();
    let server = Stub::new(move |_, request| {
        into.accept(request);
        Ok(())
    });
    let server = server.start().await;
    let to = || client(&[server.address()]);

    let book = bench::Book::create(&file, &options.shape, "target").expect("a new ledger");
    let first = bench::run_kept(options.clone(), to(), Arc::new(log.clone()), book, |_| {});
    let first = tokio::time::timeout(Duration::from_millis(700), first).await;
    assert!(first.is_err(), "it was to be interrupted");
    // Whoever writes the ledger needs a moment to see that everyone has gone.
    let (book, shape, topic) = loop {
        match bench::Book::open(&file) {
            Ok(opened) => break opened,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let options = Options { shape, topic, ..options };
    let report = bench::run_kept(options, to(), Arc::new(log.clone()), book, |_| {}).await.expect("goes on");
    assert!(problems(&report).is_empty(), "{:?} {:?}", report.problems, report.verification());

    let (shape, topic, past) = bench::read_ledger(&file).expect("the ledger");
    let bounds = Bounds { clock_ms: 0, late_ms: None };
    let check = Check { shape, topic, run: None, from: Since::Start, bounds, past: Some(past) };
    let blind = Check { past: None, ..check.clone() };
    let recheck = |check: Check| {
        let log = Arc::new(log.clone());
        tokio::task::spawn_blocking(move || bench::recheck(&check, log))
    };
    let again = recheck(check).await.expect("runs").expect("reads");
    assert!(again.valid, "{:?}", again.problems);
    let (v, before) = (again.verification(), report.verification());
    assert_eq!((v.acknowledged, v.unknown), (before.acknowledged, before.unknown));
    assert_eq!((v.delivered, v.lost), (before.delivered, 0));
    assert!(v.acknowledged >= 2_000, "it went on: {v:?}");
    let blind = recheck(blind).await.expect("runs").map(|report| report.problems);
    let says_why = |error: &bench::Error| error.to_string().contains("--ledger");
    assert!(blind.as_ref().is_err_and(says_why), "it would judge wrongly: {blind:?}");
    std::fs::remove_dir_all(&dir).expect("removed");
}
