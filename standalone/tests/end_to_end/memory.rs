//! Overload shows as lateness, never as a dead process.

use ksched_client::bench::Door;

use crate::{
    bed::{Bed, WORKERS},
    run::{Load, Run},
    table,
};

/// Some 60 MB of payload, due within some seconds, for two workers of 16 MiB each.
const LOAD: Load = Load {
    door: Door::Batch,
    rate: 4_000,
    seconds: 12,
    delays_ms: (12_000, 14_000),
    size: 1_200,
    clock_ms: 0,
};
/// The limit is for waiting messages; Kafka clients, code and threads come on top.
const RSS_BOUND: u64 = 300 << 20;

pub(crate) fn stays_bounded(bed: &Bed) {
    let scenario = "memory::stays_bounded";
    bed.wait_all_lanes_held();
    let run = Run::start(bed, scenario, LOAD);
    let (outcome, peak) = bed.peak_rss(&WORKERS[..2], || run.finish(None));
    table::note(scenario, format!("peak resident memory of a worker: {} MiB", peak >> 20));
    // A lane that has stopped reading has later messages before earlier ones that it has not read yet.
    outcome.assert_exact_in_any_order();
    assert!(peak < RSS_BOUND, "{peak} bytes resident");
}
