//! Delivery without transactions: nothing lost, nothing early; doubled only by a fault.

use std::{thread, time::Duration};

use ksched_client::Message;
use ksched_testbed::wire;

use crate::{
    bed::{Bed, block_on, now_ms},
    catch::Catch,
    run::{Load, Run},
};

pub(crate) fn worker_killed(bed: &Bed) {
    bed.wait_all_lanes_held();
    let undisturbed = Load { seconds: 5, delays_ms: (0, 3_000), ..Load::default() };
    Run::start(bed, "at_least_once::undisturbed", undisturbed).finish(None).assert_exact();

    let worker = bed.worker_with_lanes();
    let load = Load { seconds: 15, delays_ms: (0, 10_000), ..Load::default() };
    let run = Run::start(bed, "at_least_once::worker_killed", load);
    thread::sleep(Duration::from_secs(5));
    let at_ms = now_ms();
    bed.cluster.kill(&worker).unwrap();
    let outcome = run.finish(Some(at_ms));
    outcome.assert_at_least_once();
    outcome.assert_worst_below(Duration::from_secs(20));
}

/// A lane's producer learns of new partitions some seconds later than a lane does, and refuses by itself what is for
/// them: that is put off, not dead-lettered.
pub(crate) fn target_grown(bed: &Bed) {
    let (topic, before, after) = ("e2e.grown", 2, 6);
    ksched_kafka::target::create(&bed.log, topic, before, &[]).unwrap();
    let dead = Catch::start(bed, "ksched.dlq");
    let schedule = |partitions: std::ops::Range<i32>, value: &'static str| {
        // Of different keys, for all lanes.
        let messages = partitions.flat_map(|partition| (0..16).map(move |key| (partition, key)));
        let message = |(partition, key)| {
            let message = Message::new(topic).key(format!("key-{key}")).partition(partition);
            message.value(value).delay(Duration::from_secs(1))
        };
        let results = block_on(bed.client().batch(messages.map(message).collect()));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    };
    let within = Duration::from_secs(60);
    let taken = Catch::start(bed, topic);
    schedule(0..before, "early");
    assert_eq!(taken.wait_for(32, within, |_| true).len(), 32, "the producers know the topic");
    wire::grow_topic(&bed.cluster.kafka().address(), topic, after);
    // For so long a lane believes what it has been told of a target.
    thread::sleep(Duration::from_secs(5));
    // A reader knows the partitions of its beginning.
    let taken = Catch::start(bed, topic);
    schedule(before..after, "late");
    let came = taken.wait_for(64, within, |c| c.value() == "late");
    let about = dead.all().into_iter().filter(|c| c.header("ksched-topic").as_deref() == Some(topic)).count();
    assert_eq!((came.len(), about), (64, 0), "delivered, dead-lettered");
}
