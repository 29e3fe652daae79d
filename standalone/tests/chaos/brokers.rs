//! Three brokers with replication 3 and two in sync: one may go at any time.

use std::{thread, time::Duration};

use ksched_local::cluster::{Geometry, Options};
use ksched_testbed::dice::Dice;

use crate::{
    bed::{Bed, COORDINATORS, now_ms},
    mischief::{during, light},
    run::Load,
    table,
};

const BROKERS: [&str; 3] = ["kafka-1", "kafka-2", "kafka-3"];
/// Elections, a transaction coordinator's load, and a machine with three JVMs on two cores.
const BOUND: Duration = Duration::from_secs(30);

/// Few partitions: each is there three times.
pub(crate) fn three() -> Bed {
    let geometry = Geometry { ratio: Some(8), levels: Some(2), ..Geometry::default() };
    let options = Options {
        brokers: 3,
        coordinators: 2,
        workers: 2,
        kafka_heap: Some("320m".to_owned()),
        geometry,
        ..Options::default()
    };
    Bed::start("three", options)
}

/// `kill -9`, one at a time, each given its time to come back into sync. What is due meanwhile does not wait for the
/// broker, though for the two cores on which it starts: that lasts as long as it takes, here up to 22 s.
pub(crate) fn one_killed_in_a_loop(bed: &Bed) {
    let scenario = "brokers::one_killed_in_a_loop";
    let mut dice = Dice::of(scenario);
    let load = Load { seconds: 75, ..light(75) };
    let outcome = during(bed, scenario, load, || {
        let mut back_ms = 0;
        for _ in 0..3 {
            let name = BROKERS[dice.below(0..3) as usize];
            bed.cluster.kill(name).unwrap();
            let killed_ms = now_ms();
            thread::sleep(Duration::from_secs(3));
            bed.cluster.start_again(name).unwrap();
            back_ms = now_ms();
            table::note(scenario, format!("{name} answers again {} ms after its end", back_ms - killed_ms));
            thread::sleep(Duration::from_secs(10));
        }
        back_ms
    });
    outcome.assert_exact_in_any_order();
    outcome.assert_worst_below(BOUND);
}

/// Each in turn, cleanly.
pub(crate) fn rolling_restart(bed: &Bed) {
    let scenario = "brokers::rolling_restart";
    let load = Load { seconds: 75, ..light(75) };
    let outcome = during(bed, scenario, load, || {
        let mut back_ms = 0;
        for name in BROKERS {
            let stopped_ms = now_ms();
            bed.cluster.stop(name).unwrap();
            bed.cluster.start_again(name).unwrap();
            back_ms = now_ms();
            table::note(scenario, format!("{name} was back after {} ms", back_ms - stopped_ms));
            thread::sleep(Duration::from_secs(8));
        }
        back_ms
    });
    outcome.assert_exact_in_any_order();
    outcome.assert_worst_below(BOUND);
}

/// What a coordinator says of a lone broker that gives its partitions up before it stops, by which transactions may
/// hang (OPERATIONS.md).
const RESIGNS: &str = "(controlled.shutdown.enable)";

pub(crate) fn lone_one_resigns(bed: &Bed) {
    assert!(bed.log_since(COORDINATORS[0], 0).contains(RESIGNS), "nobody warns of it");
}

/// And says nothing otherwise.
pub(crate) fn lone_one_stays(bed: &Bed) {
    assert!(!bed.log_since(COORDINATORS[0], 0).contains(RESIGNS), "warned of what is not so");
}
