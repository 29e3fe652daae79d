//! Delivery without transactions: nothing lost, nothing early; doubled only by a fault.

use std::{thread, time::Duration};

use crate::{
    bed::{Bed, now_ms},
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
