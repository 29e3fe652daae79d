//! etcd and every coordinator gone; and everything stopped for longer than whole slots.

use std::{thread, time::Duration};

use ksched_client::bench::Door;

use crate::{
    bed::{Bed, now_ms},
    run::{Load, Outcome, Run},
    table,
};

pub(crate) const PARTS: [&str; 3] = ["coordinator-1", "coordinator-2", "etcd"];
const GONE: Duration = Duration::from_secs(60);
/// A slot of level 2 of the small wheel is 16 s wide.
const STOPPED: Duration = Duration::from_secs(20);

/// Exactly-once lanes go on firing, and intake jobs feeding them: nothing is late.
pub(crate) fn gone_for_a_minute(bed: &Bed) {
    let outcome = without_control_plane(bed, "control_plane::gone_for_a_minute");
    outcome.assert_worst_below(Duration::from_secs(3));
}

/// Plain records scheduled all the while, which need no coordinator to be taken.
pub(crate) fn without_control_plane(bed: &Bed, scenario: &'static str) -> Outcome {
    bed.wait_all_lanes_held();
    let load =
        Load { door: Door::Intake, rate: 150, seconds: 70, delays_ms: (500, 5_000), ..Load::default() };
    let run = Run::start(bed, scenario, load);
    thread::sleep(Duration::from_secs(3));
    PARTS.iter().for_each(|name| bed.cluster.kill(name).unwrap());
    let gone_at_ms = now_ms();
    thread::sleep(GONE);
    ["etcd", "coordinator-1", "coordinator-2"].iter().for_each(|name| bed.cluster.start_again(name).unwrap());
    table::note(scenario, format!("all back after {} ms", now_ms() - gone_at_ms));
    let outcome = run.finish(Some(gone_at_ms));
    outcome.assert_exact_but_order();
    bed.wait_all_lanes_held();
    outcome
}

/// Overdue buckets of every level are drained at once; nothing waits for its slot to come round again.
pub(crate) fn all_stopped_beyond_level_two(bed: &Bed) {
    let scenario = "control_plane::all_stopped_beyond_level_two";
    bed.wait_all_lanes_held();
    let load =
        Load { door: Door::Batch, rate: 400, seconds: 5, delays_ms: (5_000, 90_000), ..Load::default() };
    let run = Run::start(bed, scenario, load);
    thread::sleep(Duration::from_secs(7));
    let names = ["worker-1", "worker-2", "coordinator-1", "coordinator-2"];
    names.iter().for_each(|name| bed.cluster.kill(name).unwrap());
    thread::sleep(STOPPED);
    names.iter().rev().for_each(|name| bed.cluster.start_again(name).unwrap());
    let outcome = run.finish(Some(now_ms()));
    outcome.assert_exact_but_order();
}
