//! A coordinator told to end while clients have streams open.

use std::time::{Duration, Instant};

use ksched_client::bench::Door;

use crate::{
    bed::{Bed, COORDINATORS, now_ms},
    mischief::during,
    run::Load,
    table,
};

/// It is killed by the harness after 15 s.
const ENDS_WITHIN: Duration = Duration::from_secs(14);

pub(crate) fn coordinator_stopped(bed: &Bed) {
    let scenario = "streams::coordinator_stopped";
    let load =
        Load { door: Door::Stream, rate: 500, seconds: 18, delays_ms: (500, 5_000), ..Load::default() };
    let outcome = during(bed, scenario, load, || {
        let at_ms = now_ms();
        for name in COORDINATORS {
            let began_at = Instant::now();
            bed.cluster.stop(name).unwrap();
            let took = began_at.elapsed();
            table::note(scenario, format!("{name} ended after {took:.1?}"));
            assert!(took < ENDS_WITHIN, "{name} did not end by itself");
            bed.cluster.start_again(name).unwrap();
        }
        at_ms
    });
    outcome.assert_exact_in_any_order();
    outcome.assert_worst_below(Duration::from_secs(5));
}
