//! Clean stops under load.

use std::{
    thread,
    time::{Duration, Instant},
};

use ksched_client::bench::Door;

use crate::{
    bed::{Bed, now_ms},
    run::{Load, Run},
    table,
};

/// It is killed by the harness after 15 s.
const ENDS_WITHIN_MS: i64 = 14_000;

pub(crate) fn worker_stopped_cleanly(bed: &Bed) {
    let scenario = "restarts::worker_stopped_cleanly";
    bed.wait_all_lanes_held();
    let worker = bed.worker_with_lanes();
    let load = Load { door: Door::Stream, rate: 500, seconds: 15, delays_ms: (0, 5_000), ..Load::default() };
    let run = Run::start(bed, scenario, load);
    thread::sleep(Duration::from_secs(5));
    let at_ms = now_ms();
    bed.cluster.stop(&worker).unwrap();
    let took_ms = now_ms() - at_ms;
    table::note(scenario, format!("{worker} was gone after {took_ms} ms"));
    assert!(took_ms < ENDS_WITHIN_MS, "{worker} did not end by itself");
    thread::sleep(Duration::from_secs(4));
    bed.cluster.start_again(&worker).unwrap();
    let outcome = run.finish(Some(at_ms));
    outcome.assert_exact();
    // Below the lease's TTL: nobody had to wait for it to run out.
    outcome.assert_worst_below(Duration::from_millis(4_500));
}

/// Each coordinator and each worker, one after the other.
pub(crate) fn everything_rolling(bed: &Bed) {
    let scenario = "restarts::everything_rolling";
    bed.wait_all_lanes_held();
    let load = Load { rate: 300, seconds: 25, delays_ms: (0, 10_000), ..Load::default() };
    let run = Run::start(bed, scenario, load);
    thread::sleep(Duration::from_secs(3));
    let at_ms = now_ms();
    for name in ["coordinator-1", "coordinator-2", "worker-1", "worker-2", "worker-3"] {
        let began_at = Instant::now();
        bed.cluster.restart(name).unwrap();
        table::note(scenario, format!("{name} was ready again after {} ms", began_at.elapsed().as_millis()));
    }
    let outcome = run.finish(Some(at_ms));
    outcome.assert_exact();
    outcome.assert_worst_below(Duration::from_secs(10));
}
