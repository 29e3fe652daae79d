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
/// With Kafka clients, code and threads 81 MiB were measured.
const RSS_BOUND: u64 = 120 << 20;

const SHORT: &str = "memory.limit: no more is read";

pub(crate) fn stays_bounded(bed: &Bed) {
    let scenario = "memory::stays_bounded";
    bed.wait_all_lanes_held();
    let workers = &WORKERS[..2];
    let logs: Vec<_> = workers.iter().map(|worker| bed.log_length(worker)).collect();
    let run = Run::start(bed, scenario, LOAD);
    let (outcome, peak) = bed.peak_rss(workers, || run.finish(None));
    table::note(scenario, format!("peak resident memory of a worker: {} MiB", peak >> 20));
    // A lane that has stopped reading has later messages before earlier ones that it has not read yet.
    outcome.assert_exact_in_any_order();
    let mut said = workers.iter().zip(logs).map(|(worker, since)| bed.log_since(worker, since));
    assert!(said.any(|said| said.contains(SHORT)), "no lane stopped reading: the limit was never reached");
    assert!(peak < RSS_BOUND, "{peak} bytes resident");
}
