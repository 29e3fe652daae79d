//! Thousands of drain jobs at once, and a coordinator that has to find them again.

use std::{
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ksched_core::{
    delivered,
    envelope::Envelope,
    message::{Content, Target},
};
use ksched_kafka::{Log as _, Outgoing, Producer as _};
use ksched_local::cluster::{Geometry, Options};
use ksched_testbed::bed::{eventually, job_name};

use crate::{
    bed::{Bed, WORKERS, now_ms},
    catch::Catch,
    run::{Load, Run},
    table,
};

const LANES: u32 = 16;
const LEVELS: u32 = 4;
/// Of a ring, with the default ratio.
const SLOTS: u32 = 52;
const BUCKETS: usize = (LANES * LEVELS * SLOTS) as usize;
/// In each bucket.
const EACH: usize = 3;
/// Some slots come only after the messages are due, and are drained then.
const OPEN: usize = BUCKETS - 300;
const COORDINATOR: &str = "coordinator-1";
const FOUND_WITHIN: Duration = Duration::from_secs(60);
/// A transaction each, on two cores.
const DRAINED_WITHIN: Duration = Duration::from_secs(240);

/// Four times as many buckets as by default: some 3,300.
pub(crate) fn bed() -> Bed {
    let geometry = Geometry { lanes: Some(LANES), levels: Some(LEVELS), ..Geometry::default() };
    // So many logs: room is taken by what is written, not by indices beforehand.
    let kafka_properties = vec![("log.index.size.max.bytes".to_owned(), "65536".to_owned())];
    let options = Options { coordinators: 1, workers: 2, geometry, kafka_properties, ..Options::default() };
    Bed::start("many", options)
}

/// Every bucket is overdue, nobody drains; the only coordinator is killed, then killed again half-way through.
pub(crate) fn coordinator_restarted(bed: &Bed) {
    let scenario = "open_jobs::coordinator_restarted";
    WORKERS[..2].iter().for_each(|name| bed.cluster.stop(name).unwrap());
    let topic = bed.target(scenario);
    let catch = Catch::start(bed, &topic);
    let due_ms = now_ms() + 30_000;
    fill(bed, &topic, due_ms);
    let seen = eventually("open jobs", FOUND_WITHIN, || Some(open(bed)).filter(|count| *count >= OPEN));
    restart(bed, scenario, seen);
    let again =
        eventually("open jobs again", FOUND_WITHIN, || Some(open(bed)).filter(|count| *count >= seen));
    table::note(scenario, format!("{seen} open jobs, {again} after the restart"));

    WORKERS[..2].iter().for_each(|name| bed.cluster.start_again(name).unwrap());
    let drained_from = Instant::now();
    // Lanes go on beside it.
    let load = Load { rate: 100, seconds: 20, delays_ms: (500, 4_000), ..Load::default() };
    let beside = Run::start(bed, "open_jobs::coordinator_restarted, beside it", load);
    let left =
        eventually("half of them", DRAINED_WITHIN, || Some(open(bed)).filter(|count| *count < BUCKETS / 2));
    restart(bed, scenario, left);
    let restarted_at_ms = now_ms();
    eventually("end of all drains", DRAINED_WITHIN, || (open(bed) == 0).then_some(()));
    table::note(scenario, format!("all drained after {:.0?}", drained_from.elapsed()));
    let beside = beside.finish(Some(restarted_at_ms));
    let caught = catch.wait_for(BUCKETS * EACH, DRAINED_WITHIN, |_| true);
    let delivered: Vec<_> = caught.iter().map(|c| (c.value(), c.late_ms())).collect();
    table::tally(scenario, &delivered, BUCKETS * EACH);
    let names: std::collections::HashSet<_> = delivered.iter().map(|(name, _)| name).collect();
    assert_eq!((names.len(), delivered.len()), (BUCKETS * EACH, BUCKETS * EACH), "lost or doubled");
    assert!(delivered.iter().all(|(_, late_ms)| *late_ms >= 0), "early");
    beside.assert_nothing_wrong();
    beside.assert_worst_below(Duration::from_secs(30));
}

fn restart(bed: &Bed, scenario: &str, jobs: usize) {
    let began_at = Instant::now();
    bed.cluster.kill(COORDINATOR).unwrap();
    bed.cluster.start_again(COORDINATOR).unwrap();
    table::note(
        scenario,
        format!("{COORDINATOR} killed with {jobs} open jobs, ready after {:.1?}", began_at.elapsed()),
    );
}

fn open(bed: &Bed) -> usize {
    bed.jobs().iter().filter(|state| job_name(state).starts_with("drain/")).count()
}

/// As if routers had put them there long ago and everything had stood still since.
fn fill(bed: &Bed, topic: &str, due_ms: i64) {
    let mut producer = bed.log.producer().unwrap();
    let partitions = (LANES * SLOTS) as i32;
    let places = (1..=LEVELS).flat_map(|level| (0..partitions).map(move |partition| (level, partition)));
    for (bucket, (level, partition)) in places.enumerate() {
        for n in 0..EACH {
            let envelope = Envelope {
                due_ms,
                scheduled_at_us: now_ms() * 1_000,
                origin: 0,
                hops: 0,
                target: Target { topic: topic.into(), partition: None },
                not_before_ms: None,
                identity: None,
                stamps: false,
                trace: None,
            };
            let value = Some(Bytes::from(format!("{bucket}/{n}")));
            let content = delivered::store(&envelope, Content { value, ..Content::default() });
            let topic = format!("ksched.wheel.{level}");
            let record =
                Outgoing { topic: &topic, partition: Some(partition), timestamp_ms: None, content: &content };
            producer.send(bucket, record).unwrap();
        }
    }
    let refused = producer.flush().unwrap();
    assert!(refused.is_empty(), "{refused:?}");
    thread::sleep(Duration::from_millis(100));
}
