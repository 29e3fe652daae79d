//! The wheel in motion: promotions, a drain's death, an outage longer than its slots.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ksched_client::{Message, bench::Door};
use ksched_core::{
    cluster::Geometry,
    envelope,
    message::{Content, Header},
    wheel::{Bucket, Place, lane_for},
};

use ksched_kafka::{Log as _, Outgoing, Producer as _};

use crate::{
    bed::{Bed, block_on, eventually, job_name, now_ms},
    catch::{Catch, Caught},
    run::{Load, Run},
    table,
};

/// As the small cluster is set.
const GEOMETRY: Geometry =
    Geometry { slot_width_ms: 4_000, ratio: 4, levels: 3, lanes: 4, lease_ttl_ms: 2_000 };

/// A message due near the end of its level-3 slot is promoted three times, and is on time.
pub(crate) fn crosses_all_levels(bed: &Bed) {
    let scenario = "wheel::crosses_all_levels";
    let topic = bed.target(scenario);
    let catch = Catch::start(bed, &topic);
    let key = "far ahead";
    let due_ms = due_through_all_levels(lane_for(key.as_bytes(), GEOMETRY.lanes));
    let message = Message::new(topic).key(key).value("payload").due_ms(due_ms);
    block_on(bed.client().schedule(message)).unwrap();
    let ahead = Duration::from_millis((due_ms - now_ms()) as u64);

    let caught = catch.wait_for(1, ahead + Duration::from_secs(20), |_| true);
    assert_eq!(caught.len(), 1, "delivered once, and by now");
    let (hops, late_ms) = (caught[0].header("ksched-hops"), caught[0].late_ms());
    table::note(scenario, format!("scheduled {ahead:.0?} ahead, hops {hops:?}, {late_ms} ms late"));
    assert_eq!(hops.as_deref(), Some("3"));
    assert!((0..2_000).contains(&late_ms), "{late_ms} ms late");
}

/// The first due time that leads down all three levels, even if each drain is some seconds late.
fn due_through_all_levels(lane: u16) -> i64 {
    let now_ms = now_ms();
    let in_level = |due_ms: i64, at_ms: i64, level: u32| -> Option<Bucket> {
        let places = [at_ms, at_ms + 3_000].map(|at| GEOMETRY.route(due_ms, at, lane));
        match places {
            [Place::Bucket(a), Place::Bucket(b)] if a == b && a.level == level => Some(a),
            _ => None,
        }
    };
    let crosses = |due_ms: i64| {
        let third = in_level(due_ms, now_ms, 3)?;
        let second = in_level(due_ms, GEOMETRY.opens_at_ms(third), 2)?;
        in_level(due_ms, GEOMETRY.opens_at_ms(second), 1)
    };
    (1..600).map(|half| now_ms + half * 500).find(|due| crosses(*due).is_some()).expect("such a due time")
}

/// Whatever somebody writes to ksched's own topics is dead-lettered byte for byte when its bucket opens, and
/// holds nothing up.
pub(crate) fn what_is_no_message_is_dead_lettered(bed: &Bed) {
    let scenario = "wheel::what_is_no_message_is_dead_lettered";
    let dead = Catch::start(bed, "ksched.dlq");
    let run =
        Run::start(bed, scenario, Load { rate: 100, seconds: 10, delays_ms: (0, 20_000), ..Load::default() });
    let places = [("ksched.wheel.1", GEOMETRY.wheel_partitions()), ("ksched.due", GEOMETRY.due_partitions())];
    let all =
        || places.iter().flat_map(|(topic, count)| (0..*count).map(move |partition| (*topic, partition)));
    // The header of a message is there, and says nothing.
    let nearly = || Header::new(envelope::NAME, Bytes::from_static(b"\xff\x00"));
    let mut producer = bed.log.producer().unwrap();
    for (tag, (topic, partition)) in all().enumerate() {
        let headers = vec![nearly()];
        let value = format!("foreign {topic} {partition}");
        let content = &Content { key: Some("key".into()), value: Some(value.into()), headers };
        producer
            .send(tag, Outgoing { topic, partition: Some(partition), timestamp_ms: None, content })
            .unwrap();
    }
    assert!(producer.flush().unwrap().is_empty());
    let outcome = run.finish(None);
    // On a machine that has just started two clusters drains may come late.
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(Duration::from_secs(20));

    // A bucket just closed opens again when the ring has turned.
    let turn = Duration::from_millis((i64::from(GEOMETRY.ring()) + 2) as u64 * GEOMETRY.slot_width_ms as u64);
    let expected: Vec<_> = all().collect();
    let letters =
        dead.wait_for(expected.len(), turn + Duration::from_secs(20), |c| c.value().starts_with("foreign"));
    let origin = |letter: &Caught| {
        let partition = letter.header("ksched-origin-partition")?.parse::<i32>().ok()?;
        Some((letter.header("ksched-origin-topic")?, partition))
    };
    let mut found: Vec<_> = letters.iter().filter_map(origin).collect();
    found.sort_unstable_by_key(|(topic, partition)| (topic == "ksched.due", *partition));
    let found: Vec<_> = found.iter().map(|(topic, partition)| (topic.as_str(), *partition)).collect();
    assert_eq!(found, expected, "dead letters by origin, each once");
    for letter in &letters {
        let (topic, partition) = origin(letter).unwrap();
        assert_eq!(letter.value(), format!("foreign {topic} {partition}"));
        assert_eq!(letter.content.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(letter.content.headers.first(), Some(&nearly()));
        assert_eq!(letter.header("ksched-error-code").as_deref(), Some("NOT_A_MESSAGE"));
    }
}

/// A drain's holder dies; another worker runs that lane. Nothing of lanes that live is late.
pub(crate) fn worker_killed_while_it_drains(bed: &Bed) {
    let scenario = "wheel::worker_killed_while_it_drains";
    bed.wait_all_lanes_held();
    let load =
        Load { door: Door::Stream, rate: 1_500, seconds: 15, delays_ms: (10_000, 45_000), ..Load::default() };
    let run = Run::start(bed, scenario, load);
    eventually("delivery", Duration::from_secs(30), || (run.delivered() > 1_000).then_some(()));
    let (worker, drain, its_lanes) =
        eventually("worker that drains another's lane", Duration::from_secs(40), || {
            let jobs = bed.jobs();
            let drains =
                jobs.iter().filter(|s| job_name(s).starts_with("drain/") && !s.worker_name.is_empty());
            let lanes_of = |worker: &str| -> HashSet<u32> {
                let held =
                    jobs.iter().filter(|s| job_name(s).starts_with("lane/") && s.worker_name == worker);
                held.filter_map(|s| Some(s.job.as_ref()?.lane)).collect()
            };
            drains.into_iter().find_map(|s| {
                let lanes = lanes_of(&s.worker_name);
                let lane = s.job.as_ref()?.lane;
                (!lanes.contains(&lane)).then(|| (s.worker_name.clone(), job_name(s).to_owned(), lanes))
            })
        });
    let at_ms = now_ms();
    bed.cluster.kill(&worker).unwrap();
    thread::sleep(Duration::from_secs(6));
    bed.cluster.start_again(&worker).unwrap();
    let outcome = run.finish(Some(at_ms));
    outcome.assert_exact();
    let live = |lane: u16| !its_lanes.contains(&u32::from(lane));
    let worst = outcome.caught.iter().filter(|c| live(c.lane())).map(|c| c.late_ms()).max();
    table::note(scenario, format!("{worker} killed at {drain}; worst of the lanes that lived: {worst:?} ms"));
    assert!(worst.is_some_and(|ms| ms < 2_000), "a drain's death made a message {worst:?} ms late");
}

/// Overdue buckets are drained first, and at once; nothing waits for its slot to come round again.
pub(crate) fn everything_stopped_for_three_slots(bed: &Bed) {
    let scenario = "wheel::everything_stopped_for_three_slots";
    let load =
        Load { door: Door::Batch, rate: 500, seconds: 4, delays_ms: (10_000, 40_000), ..Load::default() };
    let run = Run::start(bed, scenario, load);
    thread::sleep(Duration::from_secs(6));
    let at_ms = now_ms();
    let names = ["worker-1", "worker-2", "coordinator-1", "coordinator-2"];
    names.iter().for_each(|name| bed.cluster.stop(name).unwrap());
    // What was on its way to the reader has come.
    thread::sleep(Duration::from_millis(500));
    let before = run.delivered();
    thread::sleep(Duration::from_millis(3 * 4_000 + 2_000));
    assert_eq!(run.delivered(), before, "something is delivered while nothing runs");
    let began_at = Instant::now();
    names.iter().rev().for_each(|name| bed.cluster.start_again(name).unwrap());
    let ready_at_ms = now_ms();
    table::note(scenario, format!("all ready again after {} ms", began_at.elapsed().as_millis()));
    let outcome = run.finish(Some(at_ms));
    outcome.assert_exact_but_order();
    let overdue = |due_ms: i64| due_ms < ready_at_ms;
    let last = outcome.caught.iter().filter(|c| overdue(c.due_ms())).map(|c| c.at_ms).max().unwrap();
    table::note(scenario, format!("the last overdue message came {} ms after readiness", last - ready_at_ms));
    assert!(last - ready_at_ms < 10_000, "overdue messages waited");
}
