//! Every door, with nothing wrong.

use ksched_client::bench::Door;

use crate::{
    bed::Bed,
    run::{Load, Run},
};

/// Far above what is usual (tens of ms), for a machine that runs other things or is slow: 2.3 s was met in the first
/// seconds of a broker's life on one that took twice as long for everything.
const P99_BOUND_MS: f64 = 8_000.0;
/// Order is promised for what was in the lane a second before it was due.
const ORDER_MS: f64 = 1_000.0;

pub(crate) fn unary_at_a_thousand_a_second(bed: &Bed) {
    let load =
        Load { door: Door::Unary, rate: 1_000, seconds: 15, delays_ms: (0, 10_000), ..Load::default() };
    steady(bed, "doors::unary_at_a_thousand_a_second", load);
}

pub(crate) fn batch(bed: &Bed) {
    steady(
        bed,
        "doors::batch",
        Load { door: Door::Batch, rate: 1_000, seconds: 5, delays_ms: (0, 5_000), ..Load::default() },
    );
}

pub(crate) fn stream(bed: &Bed) {
    // Some far enough ahead to go through the wheel.
    steady(
        bed,
        "doors::stream",
        Load { door: Door::Stream, rate: 1_000, seconds: 5, delays_ms: (0, 30_000), ..Load::default() },
    );
}

pub(crate) fn intake(bed: &Bed) {
    let load =
        Load { door: Door::Intake, rate: 1_000, seconds: 5, delays_ms: (1_000, 10_000), ..Load::default() };
    let outcome = Run::start(bed, "doors::intake", load).finish(None);
    outcome.assert_exact_in_any_order();
    // What Kafka has acknowledged on the intake topic is in its lane only when the intake job has moved it. On a
    // busy machine that may be after its due time, and then later ones have overtaken it.
    if outcome.worst_ms() < ORDER_MS {
        outcome.assert_exact();
    }
}

fn steady(bed: &Bed, scenario: &'static str, load: Load) {
    let outcome = Run::start(bed, scenario, load).finish(None);
    outcome.assert_exact();
    let p99 = outcome.p99_ms();
    assert!(p99 < P99_BOUND_MS, "{scenario}: p99 of visible lateness is {p99} ms");
}
