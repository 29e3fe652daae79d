//! Targets that change while messages for them wait.

use std::{thread, time::Duration};

use ksched_client::Message;
use ksched_local::cluster::{Geometry, Options};
use ksched_testbed::wire;

use crate::{
    bed::{Bed, block_on, now_ms},
    catch::{Catch, Caught},
    mischief::{light, until_ended},
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
        let codes: std::collections::BTreeSet<_> =
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
        wire::forbid_writes(&bed.cluster.kafka().address(), closed);
        thread::sleep(Duration::from_secs(9));
    });
    let letters = dead.wait_for(EACH, WITHIN, |c| c.header("ksched-topic").as_deref() == Some(closed));
    let codes: std::collections::BTreeSet<_> =
        letters.iter().map(|c| c.header("ksched-error-code").unwrap_or_default()).collect();
    let late = letters.iter().map(|c| c.late_ms()).max();
    table::note(scenario, format!("{} dead letters, {codes:?}, at most {late:?} ms late", letters.len()));
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
    assert_eq!((taken.all().len(), letters.len()), (0, EACH), "delivered, dead letters");
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["REFUSED_BY_BROKER"]);
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
