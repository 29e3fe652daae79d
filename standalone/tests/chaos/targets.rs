//! Targets that change while messages for them wait.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    thread,
    time::Duration,
};

use ksched_client::{Error, Message, bench::Door};
use ksched_core::message::{Content, Header};
use ksched_kafka::{Log as _, Outgoing, Producer as _};
use ksched_local::cluster::{Geometry, Options};
use ksched_testbed::wire::{self, Pattern};
use tonic::Code;

use crate::{
    bed::{Bed, WORKERS, block_on, now_ms},
    catch::{Catch, Caught},
    loads::WORKER_MIB,
    mischief::{light, until_ended},
    run::Load,
    table,
};

const EACH: usize = 20;
const WITHIN: Duration = Duration::from_secs(20);
/// What goes elsewhere.
const BOUND: Duration = Duration::from_secs(4);

/// One target is deleted, another takes small messages only: dead letters with the reason, the rest on time.
pub(crate) fn deleted_and_narrowed(bed: &Bed) {
    let scenario = "targets::deleted_and_narrowed";
    let dead = Catch::start(bed, "ksched.dlq");
    let [gone, narrow] = ["chaos.targets.gone", "chaos.targets.narrow"].map(|name| {
        ksched_kafka::target::create(&bed.log, name, 2, &[]).unwrap();
        name
    });
    let taken = Catch::start(bed, narrow);
    let kafka = bed.cluster.kafka().address();
    let outcome = until_ended(bed, scenario, light(14), || {
        schedule(bed, gone, b"nowhere to go");
        schedule(bed, narrow, &[b'x'; 5_000]);
        schedule(bed, narrow, b"fits");
        // They wait in their lanes.
        thread::sleep(Duration::from_secs(1));
        wire::delete_topic(&kafka, gone);
        wire::set_topic(&kafka, narrow, "max.message.bytes", "2000");
        thread::sleep(Duration::from_secs(9));
    });
    let at = |topic: &'static str| move |c: &Caught| c.header("ksched-topic").as_deref() == Some(topic);
    let letters = [gone, narrow].map(|topic| dead.wait_for(EACH, WITHIN, at(topic)));
    let fits = taken.wait_for(EACH, WITHIN, |c| c.value() == "fits");
    for (topic, letters) in [gone, narrow].iter().zip(&letters) {
        let codes: BTreeSet<_> =
            letters.iter().map(|c| c.header("ksched-error-code").unwrap_or_default()).collect();
        table::note(scenario, format!("{topic}: {} dead letters, {codes:?}", letters.len()));
    }
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
    for (letters, code) in letters.iter().zip(["UNKNOWN_TOPIC", "TOO_LARGE"]) {
        assert_eq!(letters.len(), EACH, "dead letters of {code}");
        assert!(letters.iter().all(|c| c.header("ksched-error-code").as_deref() == Some(code)), "{code}");
    }
    assert_eq!(fits.len(), EACH, "what fits is delivered");
}

/// One is deleted and made again with fewer partitions, another gets more: all are delivered.
pub(crate) fn recreated_and_grown(bed: &Bed) {
    let scenario = "targets::recreated_and_grown";
    let [again, grown] = ["chaos.targets.again", "chaos.targets.grown"].map(|name| {
        ksched_kafka::target::create(&bed.log, name, 2, &[]).unwrap();
        name
    });
    let kafka = bed.cluster.kafka().address();
    // A reader knows the partitions of its beginning.
    let (mut caught, mut caught_again) = (None, None);
    let outcome = until_ended(bed, scenario, light(14), || {
        schedule(bed, again, b"once more");
        schedule(bed, grown, b"more room");
        thread::sleep(Duration::from_secs(1));
        wire::grow_topic(&kafka, grown, 6);
        wire::delete_topic(&kafka, again);
        thread::sleep(Duration::from_millis(500));
        caught = Some(Catch::start(bed, grown));
        ksched_kafka::target::create(&bed.log, again, 1, &[]).unwrap();
        caught_again = Some(Catch::start(bed, again));
        thread::sleep(Duration::from_secs(9));
    });
    let grown_count = caught.expect("it has grown").wait_for(EACH, WITHIN, |_| true).len();
    let again_count = caught_again.expect("it was made again").wait_for(EACH, WITHIN, |_| true).len();
    table::note(scenario, format!("made again: {again_count}, grown: {grown_count} of {EACH}"));
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
    assert_eq!((again_count, grown_count), (EACH, EACH), "made again, grown");
}

/// A broker that asks an authorizer, which allows what no rule is about.
pub(crate) fn guarded() -> Bed {
    let properties = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
        // Thousands of targets: room is taken by what is written, not by indices beforehand.
        ("log.index.size.max.bytes", "65536"),
    ];
    let kafka_properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let geometry = Geometry { ratio: Some(8), levels: Some(2), ..Geometry::default() };
    let options = Options { coordinators: 1, workers: 2, geometry, kafka_properties, ..Options::default() };
    Bed::start("guarded", options)
}

/// Nobody may write to it any more: dead letters with the reason, the rest on time.
pub(crate) fn read_only(bed: &Bed) {
    let scenario = "targets::read_only";
    let dead = Catch::start(bed, "ksched.dlq");
    let closed = "chaos.targets.closed";
    ksched_kafka::target::create(&bed.log, closed, 2, &[]).unwrap();
    let taken = Catch::start(bed, closed);
    let outcome = until_ended(bed, scenario, light(14), || {
        schedule(bed, closed, b"too late");
        // They wait in their lanes.
        thread::sleep(Duration::from_secs(1));
        wire::forbid_writes(&bed.cluster.kafka().address(), Pattern::Literal, closed);
        thread::sleep(Duration::from_secs(9));
    });
    let letters = dead.wait_for(EACH, WITHIN, |c| c.header("ksched-topic").as_deref() == Some(closed));
    let codes: BTreeSet<_> =
        letters.iter().map(|c| c.header("ksched-error-code").unwrap_or_default()).collect();
    let late = letters.iter().map(|c| c.late_ms()).max();
    table::note(scenario, format!("{} dead letters, {codes:?}, at most {late:?} ms late", letters.len()));
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
    assert_eq!((taken.all().len(), letters.len()), (0, EACH), "delivered, dead letters");
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["REFUSED_BY_BROKER"]);
}

/// Topics of ksched's own, and who is kept from going on by it: intake jobs and drains; intake jobs; lanes, of which
/// half the messages of `schedule` leave markers.
const OWN: [&str; 3] = ["ksched.due", "ksched.wheel.1", "ksched.control"];
const FORBIDDEN_FOR: Duration = Duration::from_secs(5);

/// Nobody may write to a topic of ksched's own for a while: what would go there waits, and no record is to blame.
pub(crate) fn own_topics_forbidden(bed: &Bed) {
    let kafka = bed.cluster.kafka().address();
    let dead = Catch::start(bed, "ksched.dlq");
    for (own, scenario) in OWN.into_iter().zip([
        "targets::own_topics_forbidden, due",
        "targets::own_topics_forbidden, wheel",
        "targets::own_topics_forbidden, control",
    ]) {
        let marked = format!("chaos.targets.beside.{own}");
        ksched_kafka::target::create(&bed.log, &marked, 2, &[]).unwrap();
        let taken = Catch::start(bed, &marked);
        let log_lengths = WORKERS[..2].iter().map(|name| bed.log_length(name)).collect::<Vec<_>>();
        // Through the wheel as well: its slots are 10 s wide and open 8 s before.
        let load =
            Load { door: Door::Intake, rate: 200, seconds: 20, delays_ms: (0, 30_000), ..Load::default() };
        let outcome = until_ended(bed, scenario, load, || {
            schedule(bed, &marked, b"with a marker or without");
            thread::sleep(Duration::from_secs(4));
            wire::forbid_writes(&kafka, Pattern::Literal, own);
            if own == "ksched.due" {
                let refused = block_on(bed.client().schedule(Message::new(&marked))).unwrap_err();
                assert!(matches!(&refused, Error::Call(call) if call.code == Code::Internal), "{refused}");
            }
            thread::sleep(FORBIDDEN_FOR);
            wire::allow(&kafka, Pattern::Literal, own);
        });
        let said: String =
            WORKERS[..2].iter().zip(log_lengths).map(|(name, from)| bed.log_since(name, from)).collect();
        let taken = taken.wait_for(EACH, WITHIN, |_| true);
        table::note(
            scenario,
            format!("beside it {} of {EACH}, dead letters {}", taken.len(), dead.all().len()),
        );
        // What waits in the intake topic or the wheel is not in its lane yet, and may be due already.
        outcome.assert_exact_in_any_order();
        outcome.assert_worst_below(FORBIDDEN_FOR + BOUND);
        assert!(said.contains("starting over"), "nobody has wanted to write to {own}");
        assert_eq!(taken.len(), EACH, "those beside it, each once");
        assert_eq!(dead.all().len(), 0, "dead letters");
    }
}

/// Kafka does not tell how long a topic of ours keeps its records: a coordinator does not start, and says why.
pub(crate) fn settings_hidden(bed: &Bed) {
    let (scenario, coordinator) = ("targets::settings_hidden", "coordinator-1");
    let kafka = bed.cluster.kafka().address();
    wire::forbid_settings(&kafka, "ksched.due");
    let from = bed.log_length(coordinator);
    let started = bed.cluster.restart(coordinator);
    let said = bed.log_since(coordinator, from);
    wire::allow(&kafka, Pattern::Literal, "ksched.due");
    assert!(started.is_err(), "it started");
    assert!(said.contains("settings of ksched.due may not be read"), "{said}");
    bed.mend().unwrap();
    let outcome = until_ended(bed, scenario, light(5), || {});
    outcome.assert_exact();
}

/// Targets that are not there: never, or no longer when messages wait for them.
const MISSING: usize = 1_400;
const DELETED: usize = 600;
/// Closed to writers by one rule.
const CLOSED: usize = 1_000;
const CLOSED_PREFIX: &str = "chaos.thousands.closed.";
const REFUSED: usize = 8_000;
/// What goes elsewhere; measured 1.8 s on two idle cores. The last dead letters are out some 10 s later.
const BESIDE_THOUSANDS: Duration = Duration::from_secs(10);

/// Two thousand targets that are not there, and a thousand that may not be written to: a dead letter for each of eight
/// thousand messages, the rest within a bound.
pub(crate) fn thousands_refuse(bed: &Bed) {
    let scenario = "targets::thousands_refuse";
    let kafka = bed.cluster.kafka().address();
    let names =
        |kind: &str, count| (0..count).map(|n| format!("chaos.thousands.{kind}.{n}")).collect::<Vec<_>>();
    let (missing, deleted, closed) =
        (names("missing", MISSING), names("deleted", DELETED), names("closed", CLOSED));
    make(bed, &[&deleted[..], &closed].concat());
    let dead = Catch::start(bed, "ksched.dlq");
    let gone = [&missing[..], &deleted].concat();
    // Every fourth for a closed one.
    let gone = gone.iter().cycle().take(REFUSED * 3 / 4).collect::<Vec<_>>();
    let targets = gone.chunks(3).zip(closed.iter().cycle());
    let targets = targets.flat_map(|(three, closed)| three.iter().copied().chain([closed]));
    let (outcome, peak) = bed.peak_rss(&WORKERS[..2], || {
        until_ended(bed, scenario, light(60), || {
            let from_ms = now_ms() + 12_000;
            let due_ms = |n: usize| from_ms + n as i64 * 5;
            let message = |(n, topic): (usize, &String)| {
                Message::new(topic).key(format!("key-{n}")).value(n.to_string()).due_ms(due_ms(n))
            };
            let results = block_on(bed.client().batch(targets.enumerate().map(message).collect()));
            assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|r| r.is_err()));
            wire::delete_topics(&kafka, &deleted);
            wire::forbid_writes(&kafka, Pattern::Prefixed, CLOSED_PREFIX);
            assert!(now_ms() < from_ms, "the first were due before their targets refused");
            thread::sleep(Duration::from_millis((due_ms(REFUSED) - now_ms()) as u64));
        })
    });
    let letters = dead.wait_for(REFUSED, Duration::from_secs(120), |_| true);
    let mut codes = BTreeMap::<_, usize>::new();
    for letter in &letters {
        let topic = letter.header("ksched-topic").unwrap_or_default();
        let kind = topic.split('.').nth(2).unwrap_or_default().to_owned();
        *codes.entry((kind, letter.header("ksched-error-code").unwrap_or_default())).or_default() += 1;
    }
    let late = letters.iter().map(|c| c.late_ms()).max();
    table::note(scenario, format!("{} dead letters, {codes:?}, at most {late:?} ms late", letters.len()));
    table::note(scenario, format!("peak resident memory of a worker: {} MiB", peak >> 20));
    let values: BTreeSet<_> = letters.iter().map(Caught::value).collect();
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BESIDE_THOUSANDS);
    assert_eq!((letters.len(), values.len()), (REFUSED, REFUSED), "dead letters, each once");
    let each = REFUSED * 3 / 4 / (MISSING + DELETED);
    let expected = [
        ("closed", "REFUSED_BY_BROKER", REFUSED / 4),
        ("deleted", "UNKNOWN_TOPIC", DELETED * each),
        ("missing", "UNKNOWN_TOPIC", MISSING * each),
    ];
    let expected = expected.map(|(kind, code, letters)| ((kind.to_owned(), code.to_owned()), letters));
    assert_eq!(codes, expected.into(), "dead letters by kind of target and reason");
    assert!(peak >> 20 < WORKER_MIB, "a worker has {} MiB", peak >> 20);
}

/// Some at a time: each is waited for until it can be used.
fn make(bed: &Bed, names: &[String]) {
    thread::scope(|scope| {
        for some in names.chunks(names.len().div_ceil(8)) {
            scope.spawn(move || {
                for name in some {
                    ksched_kafka::target::create(&bed.log, name, 1, &[]).unwrap();
                }
            });
        }
    });
}

/// A broker where naming a topic does not make it, and which asks to be let go before it stops.
pub(crate) fn strict() -> Bed {
    let properties = [("auto.create.topics.enable", "false"), ("controlled.shutdown.enable", "true")];
    let kafka_properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let geometry = Geometry { ratio: Some(8), levels: Some(2), ..Geometry::default() };
    let options = Options { coordinators: 1, workers: 2, geometry, kafka_properties, ..Options::default() };
    Bed::start("strict", options)
}

pub(crate) fn unknown_without_auto_creation(bed: &Bed) {
    unknown(bed, "targets::unknown_without_auto_creation", false);
}

pub(crate) fn unknown_with_auto_creation(bed: &Bed) {
    unknown(bed, "targets::unknown_with_auto_creation", true);
}

/// Both doors take a message for a topic that is not there; whether it is there is judged when it is due. ksched
/// makes no target, whatever the broker would do for others.
fn unknown(bed: &Bed, scenario: &'static str, auto_creation: bool) {
    let [never, vanishing, coming, probe] =
        ["never", "vanishing", "coming", "probe"].map(|what| format!("chaos.unknown.{auto_creation}.{what}"));
    let kafka = bed.cluster.kafka().address();
    assert_eq!(kcat_makes(bed, &probe), auto_creation, "auto.create.topics.enable");
    ksched_kafka::target::create(&bed.log, &vanishing, 1, &[]).unwrap();
    let dead = Catch::start(bed, "ksched.dlq");
    let mut taken = None;
    let outcome = until_ended(bed, scenario, light(14), || {
        for topic in [&never, &vanishing, &coming] {
            schedule(bed, topic, b"by the door");
            take_in(bed, topic);
        }
        wire::delete_topic(&kafka, &vanishing);
        ksched_kafka::target::create(&bed.log, &coming, 1, &[]).unwrap();
        taken = Some(Catch::start(bed, &coming));
        thread::sleep(Duration::from_secs(8));
    });
    let taken = taken.expect("it has come").wait_for(2 * EACH, WITHIN, |_| true);
    let letters = dead.wait_for(4 * EACH, WITHIN, |_| true);
    let by = |topic: &str, value: &str| {
        let is_it = |c: &&Caught| c.header("ksched-topic").as_deref() == Some(topic) && c.value() == value;
        letters.iter().filter(is_it).count()
    };
    table::note(scenario, format!("{} dead letters, {} delivered", letters.len(), taken.len()));
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
    for topic in [&never, &vanishing] {
        assert_eq!(
            [by(topic, "by the door"), by(topic, "by a record")],
            [EACH; 2],
            "dead letters of {topic}"
        );
        assert_eq!(bed.log.partitions(topic).unwrap(), None, "nobody makes {topic}");
    }
    let codes: BTreeSet<_> = letters.iter().filter_map(|c| c.header("ksched-error-code")).collect();
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["UNKNOWN_TOPIC"]);
    assert_eq!(
        (letters.len(), taken.len()),
        (4 * EACH, 2 * EACH),
        "dead letters, delivered to what has come"
    );
}

/// Whether naming a topic as a producer makes it.
fn kcat_makes(bed: &Bed, topic: &str) -> bool {
    let kafka = bed.cluster.kafka().address();
    let args = ["-X", "message.timeout.ms=3000", "-b", &kafka, "-t", topic, "-l", "/proc/version"];
    let status = Command::new("kcat").arg("-P").args(args).status();
    let sent = status.expect("kcat is needed here: scripts/install-parts test installs it").success();
    let is_there = bed.log.partitions(topic).unwrap().is_some();
    assert_eq!(sent, is_there, "whether {topic} is there");
    is_there
}

/// The same as [`schedule`], by plain records.
fn take_in(bed: &Bed, topic: &str) {
    let mut producer = bed.log.producer().unwrap();
    for n in 0..EACH {
        let due_ms = now_ms() + 4_000 + 100 * n as i64;
        let headers = vec![
            Header::new("ksched-topic", topic.to_owned()),
            Header::new("ksched-deliver-at", due_ms.to_string()),
        ];
        let content =
            Content { key: Some(format!("key-{n}").into()), value: Some("by a record".into()), headers };
        let partition = Some(n as i32 % 16);
        let record =
            Outgoing { topic: "SCHEDULED_MESSAGES", partition, timestamp_ms: None, content: &content };
        producer.send(n, record).unwrap();
    }
    assert!(producer.flush().unwrap().is_empty(), "records are taken");
}

/// Due from four seconds on, one each 100 ms.
fn schedule(bed: &Bed, topic: &str, value: &[u8]) {
    let at = |n: usize| now_ms() + 4_000 + 100 * n as i64;
    let message = |n: usize| {
        let message = Message::new(topic).key(format!("key-{n}")).value(value.to_vec()).due_ms(at(n));
        // With a marker in its transaction, or alone.
        if n.is_multiple_of(2) { message.request_id(format!("{topic}-{n}-{}", value.len())) } else { message }
    };
    let results = block_on(bed.client().batch((0..EACH).map(message).collect()));
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}
