//! Each alert, raised by its cause in a Prometheus that watches the cluster by the rules that are shipped.
//!
//! Each is to fire, a few seconds after it was raised: how long it waits where it is shipped (`for`) is held by
//! `deploy/prometheus/alerts_test.yml`.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ksched_client::Message;
use ksched_core::wheel::Inlet;
use ksched_kafka::{
    Librdkafka, Log as _, Outgoing, Position, Producer as _, Settings, TopicPartition,
    TransactionalProducer as _,
};
use ksched_testbed::{links::TIMED, wire};

use crate::{
    bed::{Bed, WORKERS, block_on, eventually, now_ms},
    dashboards::{ask, query_now},
    open_transactions::stored,
    table,
};

const SCENARIO: &str = "alerts::each_by_its_cause";
/// The longest cause takes 40 s.
const WITHIN: Duration = Duration::from_secs(150);
/// What other scenarios made late is looked back at for five minutes.
const CALM_WITHIN: Duration = Duration::from_secs(360);
/// Scrapes and rules come each 5 s.
const EVALUATED_WITHIN: Duration = Duration::from_secs(11);
const GROUP: &str = "ksched.ksched";
/// Pending or firing.
const RAISED: &str = "ALERTS";
const FIRING: &str = "ALERTS{alertstate=\"firing\"}";
/// A bucket of the highest level, which nobody uses here.
const UNUSED: (&str, i32) = ("ksched.wheel.3", 2);

pub(crate) fn each_by_its_cause(bed: &Bed) {
    let mut watch = Watch::of(bed);
    let (topic, kafka) = (bed.target(SCENARIO), bed.cluster.kafka().address());
    bed.wait_all_lanes_held();

    let alerts = [
        "KschedLate",
        "KschedDeadLetters",
        "KschedTopicSettingsWrong",
        "KschedMissingPosition",
        "KschedClockSkew",
        "KschedHangingTransaction",
    ];
    let hanging = watch.raises("late and lost messages, topics, a clock", &alerts, || {
        schedule(bed, &topic, 50, -60_000);
        schedule(bed, "e2e.alerts.nowhere", 1, 0);
        wire::set_topic(&kafka, "ksched.wheel.1", "retention.ms", "3600000");
        wire::delete_position(&kafka, GROUP, UNUSED.0, UNUSED.1);
        bed.clock().set("+2");
        leave_open(&kafka)
    });
    bed.clock().set("+0");
    wire::set_topic(&kafka, "ksched.wheel.1", "retention.ms", "-1");
    commit_anew(&kafka);
    hanging.end(bed);

    // What fires cannot end its transaction, what begins anew none of its producers' inits.
    bed.wait_all_lanes_held();
    watch.raises("Kafka away", &["KschedKafkaAway", "KschedStartingOver"], || {
        put_into_lanes(bed, &topic, 3_000);
        thread::sleep(Duration::from_secs(1));
        bed.cluster.pause("kafka-1").unwrap();
    });
    bed.cluster.resume("kafka-1").unwrap();

    watch.raises("etcd away", &["KschedStoreAway"], || bed.cluster.pause("etcd").unwrap());
    bed.cluster.resume("etcd").unwrap();

    // A clock that jumps when nobody can be asked for the time fires nothing more.
    bed.wait_all_lanes_held();
    bed.wait_lane_on(TIMED);
    let alerts = ["KschedNoJobMaker", "KschedWithoutCoordinator", "KschedNotFiring"];
    watch.raises("no coordinator", &alerts, || {
        put_into_lanes(bed, &topic, 8_000);
        thread::sleep(Duration::from_secs(1));
        bed.cluster.kill("coordinator-1").unwrap();
        bed.clock().set("+2");
    });
    bed.clock().set("+0");
    bed.cluster.start_again("coordinator-1").unwrap();

    bed.wait_all_lanes_held();
    let workers = &WORKERS[..2];
    watch.raises("no workers", &["KschedJobWithoutHolder", "KschedDown"], || {
        workers.iter().for_each(|worker| bed.cluster.kill(worker).unwrap());
    });
    workers.iter().for_each(|worker| bed.cluster.start_again(worker).unwrap());

    let all = watch.all();
    assert_eq!(watch.named, all, "each alert that is shipped");
    watch.until("calm again", CALM_WITHIN, Watch::is_calm);
    table::note(SCENARIO, format!("{} alerts, each raised by its cause", all.len()));
}

/// Prometheus, from now on by the same rules but that none waits longer than to the next evaluation.
fn fire_soon(bed: &Bed) {
    let rules = bed.cluster.dir().join("prometheus/alerts.yml");
    let shipped = fs::read_to_string(&rules).unwrap();
    let soon = |line: &str| match line.split_once("for: ") {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s\n"),
        _ => format!("{line}\n"),
    };
    fs::write(&rules, shipped.lines().map(soon).collect::<String>()).unwrap();
    bed.cluster.restart("prometheus").unwrap();
}

/// One message in each: scheduled, it might have to be promoted, by those who are away then.
fn put_into_lanes(bed: &Bed, topic: &str, from_now_ms: i64) {
    let (stored, due) = (stored(topic, now_ms() + from_now_ms, "overdue"), "ksched.due");
    let mut producer = bed.log.producer().unwrap();
    for lane in 0..4 {
        let partition = Some(3 * lane + Inlet::Direct as i32);
        let record = Outgoing { topic: due, partition, timestamp_ms: None, content: &stored };
        producer.send(0, record).unwrap();
    }
    assert!(producer.flush().unwrap().is_empty());
}

/// As if nobody had deleted it.
fn commit_anew(kafka: &str) {
    let settings = Settings { bootstrap: kafka.to_owned(), group: GROUP.to_owned(), ..Settings::default() };
    let partition = TopicPartition { topic: UNUSED.0.into(), partition: UNUSED.1 };
    let position = Position { offset: 0, metadata: String::new() };
    Librdkafka::new(settings).unwrap().commit(&[(partition, position)]).unwrap();
}

fn schedule(bed: &Bed, topic: &str, count: usize, from_now_ms: i64) {
    let message = |n: usize| Message::new(topic).value(n.to_string()).due_ms(now_ms() + from_now_ms);
    let accepted = block_on(bed.client().batch((0..count).map(message).collect()));
    assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
}

/// What Prometheus says of its alerts.
struct Watch {
    prometheus: String,
    /// Those that were raised on purpose.
    named: BTreeSet<String>,
}

impl Watch {
    /// Once it has asked everybody, and nothing is wrong.
    fn of(bed: &Bed) -> Self {
        let description = bed.cluster.describe();
        let watched = description.coordinators.len() + description.workers.len();
        let prometheus = description.prometheus.expect("Prometheus");
        fire_soon(bed);
        let watch = Self { prometheus, named: BTreeSet::new() };
        eventually("Prometheus watching", WITHIN, || {
            let up = query_now(&watch.prometheus, "up{job=~\".*ksched.*\"} == 1");
            (up.as_array().map_or(0, Vec::len) == watched).then_some(())
        });
        thread::sleep(EVALUATED_WITHIN);
        watch.until("calm", CALM_WITHIN, Self::is_calm);
        watch
    }

    /// But for what looks back by minutes, at other scenarios, too.
    fn is_calm(raised: &BTreeSet<String>) -> bool {
        raised
            .iter()
            .all(|alert| ["KschedLate", "KschedDeadLetters", "KschedStartingOver"].contains(&&**alert))
    }

    /// None of these is raised before; what is done raises all of them.
    fn raises<T>(&mut self, cause: &str, alerts: &[&str], act: impl FnOnce() -> T) -> T {
        let is_among = |raised: &BTreeSet<String>| alerts.iter().any(|alert| raised.contains(*alert));
        self.until(&format!("before: {cause}"), CALM_WITHIN, |raised| !is_among(raised));
        let acted = act();
        let fire = |firing: &BTreeSet<String>| alerts.iter().all(|alert| firing.contains(*alert));
        self.until_those(FIRING, cause, WITHIN, fire);
        self.named.extend(alerts.iter().map(|alert| (*alert).to_owned()));
        acted
    }

    fn those(&self, query: &str) -> BTreeSet<String> {
        let found = query_now(&self.prometheus, query);
        let names = found.as_array().into_iter().flatten();
        names.filter_map(|one| Some(one["metric"]["alertname"].as_str()?.to_owned())).collect()
    }

    /// All that there are.
    fn all(&self) -> BTreeSet<String> {
        let found = ask(&self.prometheus, "rules");
        let groups = found["groups"].as_array().into_iter().flatten();
        let rules = groups.filter_map(|group| group["rules"].as_array()).flatten();
        rules.filter_map(|rule| Some(rule["name"].as_str()?.to_owned())).collect()
    }

    fn until(&self, what: &str, within: Duration, is_so: impl Fn(&BTreeSet<String>) -> bool) {
        self.until_those(RAISED, what, within, is_so);
    }

    fn until_those(
        &self,
        query: &str,
        what: &str,
        within: Duration,
        is_so: impl Fn(&BTreeSet<String>) -> bool,
    ) {
        let began_at = Instant::now();
        loop {
            let raised = self.those(query);
            if is_so(&raised) {
                let took = began_at.elapsed();
                return table::note(SCENARIO, format!("{what}: {raised:?} after {took:.0?}"));
            }
            assert!(began_at.elapsed() < within, "{what}: {raised:?} after {within:?}");
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// A transaction that nobody ends, of a producer whose broker is patient.
struct LeftOpen(Child);

const LEFT_OPEN_ID: &str = "e2e.alerts.left-open";

fn leave_open(kafka: &str) -> LeftOpen {
    let mut command = Command::new("kcat");
    let (topic, partition) = UNUSED;
    command.args(["-P", "-b", kafka, "-t", topic, "-p", &partition.to_string()]);
    command.args(["-X", &format!("transactional.id={LEFT_OPEN_ID}"), "-X", "transaction.timeout.ms=300000"]);
    let mut kcat =
        command.stdin(Stdio::piped()).spawn().expect("kcat: scripts/install-parts test installs it");
    // It sends nothing before it has read much.
    let lines = "never committed\n".repeat(8_000);
    kcat.stdin.as_mut().expect("its input").write_all(lines.as_bytes()).unwrap();
    LeftOpen(kcat)
}

impl LeftOpen {
    /// Whoever takes over the id ends it.
    fn end(mut self, bed: &Bed) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        bed.log.transactional(LEFT_OPEN_ID).unwrap().init().unwrap();
    }
}
