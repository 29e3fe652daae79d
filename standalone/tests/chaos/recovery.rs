//! How long it takes, three times each: the figures that are promised.

use std::{thread, time::Duration};

use crate::{
    bed::{Bed, now_ms},
    control_plane,
    mischief::{during, light},
    run::Outcome,
    table,
};

const TIMES: usize = 3;
const LEASE_TTL_MS: i64 = 5_000;
const ON_TIME_MS: i64 = 500;

/// After `kill -9` the killed worker's lanes are on time again within the lease's TTL and 2 s.
pub(crate) fn worker_killed(bed: &Bed) {
    let scenario = "recovery::worker_killed";
    let figures = three_times(|| {
        let worker = bed.worker_with_lanes();
        let mut killed_at_ms = 0;
        let outcome = during(bed, scenario, light(14), || {
            bed.cluster.kill(&worker).unwrap();
            killed_at_ms = now_ms();
            thread::sleep(Duration::from_secs(9));
            bed.cluster.start_again(&worker).unwrap();
            killed_at_ms
        });
        outcome.assert_exact_but_order();
        // The last of what was late because of the kill; giving lanes back to the restarted one is another thing.
        let window = killed_at_ms..killed_at_ms + 9_000;
        last_late_ms(&outcome, window).expect("a kill makes something late") - killed_at_ms
    });
    table::note(scenario, format!("on time again after {figures:?} ms"));
    assert!(figures.iter().all(|ms| *ms <= LEASE_TTL_MS + 2_000), "{figures:?} ms");
}

/// After SIGTERM nothing is later than half a second.
pub(crate) fn worker_stopped(bed: &Bed) {
    let scenario = "recovery::worker_stopped";
    let figures = three_times(|| {
        bed.wait_all_lanes_held();
        let worker = bed.worker_with_lanes();
        let mut stopped_at_ms = 0;
        let outcome = during(bed, scenario, light(10), || {
            stopped_at_ms = now_ms();
            bed.cluster.stop(&worker).unwrap();
            stopped_at_ms
        });
        bed.cluster.start_again(&worker).unwrap();
        outcome.assert_exact();
        // What was due around the stop: the first messages of a broker just started are late by themselves.
        let window = stopped_at_ms - 500..stopped_at_ms + 6_000;
        let late = outcome.caught.iter().filter(|c| window.contains(&c.due_ms())).map(|c| c.late_ms());
        late.max().unwrap_or(i64::MAX)
    });
    table::note(scenario, format!("longest gap {figures:?} ms"));
    assert!(figures.iter().all(|ms| *ms <= 500), "{figures:?} ms");
}

/// All that is due is out within 10 s of Kafka's return.
pub(crate) fn kafka_back(bed: &Bed) {
    let scenario = "recovery::kafka_back";
    let figures = three_times(|| {
        let mut back_at_ms = 0;
        let outcome = during(bed, scenario, light(20), || {
            bed.cluster.stop("kafka-1").unwrap();
            thread::sleep(Duration::from_secs(3));
            bed.cluster.start_again("kafka-1").unwrap();
            back_at_ms = now_ms();
            back_at_ms
        });
        outcome.assert_nothing_wrong();
        let due_before = outcome.caught.iter().filter(|c| c.due_ms() <= back_at_ms);
        due_before.map(|c| c.at_ms - back_at_ms).max().unwrap_or_default()
    });
    table::note(scenario, format!("all out {figures:?} ms after Kafka's return"));
    assert!(figures.iter().all(|ms| *ms <= 10_000), "{figures:?} ms");
}

/// Nothing is late while etcd and all coordinators are gone for a minute.
pub(crate) fn control_plane_back(bed: &Bed) {
    let scenario = "recovery::control_plane_back";
    let figures = three_times(|| control_plane::without_control_plane(bed, scenario).worst_ms() as i64);
    table::note(scenario, format!("worst lateness {figures:?} ms"));
    assert!(figures.iter().all(|ms| *ms <= 2_000), "{figures:?} ms");
}

fn three_times(measure: impl FnMut() -> i64) -> Vec<i64> {
    std::iter::repeat_with(measure).take(TIMES).collect()
}

/// When the last of what was due in the window, and late, came.
fn last_late_ms(outcome: &Outcome, window: std::ops::Range<i64>) -> Option<i64> {
    let late = outcome.caught.iter().filter(|c| c.late_ms() > ON_TIME_MS && window.contains(&c.due_ms()));
    late.map(|c| c.at_ms).max()
}
