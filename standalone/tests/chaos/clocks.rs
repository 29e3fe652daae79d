//! A worker whose wall clock is wrong: nothing early, and nobody waits for it. And everything asleep at once.

use std::{thread, time::Duration};

use ksched_testbed::{http, links::TIMED};

use crate::{
    bed::{Bed, now_ms},
    mischief::{during, light, until_ended},
    run::Load,
    table,
};

const WRONG: Duration = Duration::from_secs(10);
/// Beyond leases and sessions, as a virtual machine that is suspended.
const ASLEEP: Duration = Duration::from_secs(14);
/// Lanes that are given up have to be taken over.
const BOUND: Duration = Duration::from_secs(10);

/// Stepped while messages wait.
pub(crate) fn an_hour_ahead(bed: &Bed) {
    stepped(bed, "clocks::an_hour_ahead", "+3600");
}

pub(crate) fn an_hour_behind(bed: &Bed) {
    stepped(bed, "clocks::an_hour_behind", "-3600");
}

fn stepped(bed: &Bed, scenario: &'static str, spec: &str) {
    bed.wait_lane_on(TIMED);
    let outcome = until_ended(bed, scenario, light(16), || {
        bed.clock().set(spec);
        thread::sleep(WRONG);
        let (ahead_s, wanted_s) = (ahead_s(bed), spec.parse::<f64>().unwrap());
        assert!((ahead_s - wanted_s).abs() < 60.0, "{TIMED} is {ahead_s} s ahead");
        bed.clock().set("+0");
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
}

/// By how much [`TIMED`] found itself ahead of a coordinator's clock when it last heard of one.
fn ahead_s(bed: &Bed) -> f64 {
    let workers = bed.cluster.describe().workers;
    let timed = workers.iter().find(|worker| worker.name == TIMED).expect("a worker");
    let metrics = http::get(&timed.http, "/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix("ksched_clock_skew_seconds "));
    line.and_then(|value| value.parse().ok()).expect("a figure")
}

/// It never had the right time.
pub(crate) fn starts_an_hour_ahead(bed: &Bed) {
    let scenario = "clocks::starts_an_hour_ahead";
    bed.wait_lane_on(TIMED);
    let outcome = during(bed, scenario, light(16), || {
        let worker = bed.cluster.process(TIMED).unwrap();
        worker.kill().unwrap();
        let killed_at_ms = now_ms();
        bed.clock().set("+3600");
        // Not waited for: it has no use for jobs, and need not say that it is ready.
        worker.start().unwrap();
        thread::sleep(WRONG);
        bed.clock().set("+0");
        killed_at_ms
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
    bed.wait_lane_on(TIMED);
}

/// 1 % fast is 10 ms a second: it is a quarter of a second ahead after 25 s.
pub(crate) fn drifting(bed: &Bed) {
    let scenario = "clocks::drifting";
    bed.wait_lane_on(TIMED);
    // Corrected with each heartbeat; some of them may be missed.
    let load = Load { clock_ms: 50, ..light(50) };
    let outcome = until_ended(bed, scenario, load, || {
        bed.clock().set("+0 x1.01");
        thread::sleep(Duration::from_secs(45));
        let ahead_s = ahead_s(bed);
        table::note(scenario, format!("{TIMED} was {ahead_s:.3} s ahead in the end"));
        assert!(ahead_s > 0.3, "{TIMED} does not drift");
        // Without its own rate libfaketime keeps the last.
        bed.clock().set("+0 x1");
    });
    table::note(scenario, format!("p99 {:.0} ms", outcome.p99_ms()));
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
}

/// Kafka, etcd, coordinators and workers stand still and go on together; who schedules does not.
pub(crate) fn suspended(bed: &Bed) {
    let scenario = "clocks::suspended";
    let outcome = until_ended(bed, scenario, light(24), || {
        let names: Vec<_> = bed.cluster.processes().map(|process| process.name().to_owned()).collect();
        names.iter().for_each(|name| bed.cluster.pause(name).unwrap());
        thread::sleep(ASLEEP);
        // Workers first: what they believe is the oldest.
        names.iter().rev().for_each(|name| bed.cluster.resume(name).unwrap());
        table::note(scenario, format!("{} processes stood still", names.len()));
    });
    outcome.assert_nothing_wrong();
    outcome.assert_worst_below(ASLEEP + BOUND + BOUND);
}
