//! What scenarios have in common: a run, and a fault in the middle of it.

use std::time::Duration;

use crate::{
    bed::{Bed, now_ms},
    run::{Load, Outcome, Run},
};

/// From the start of the run to the fault.
const BEFORE: Duration = Duration::from_secs(3);

/// Enough to see it, little enough for two cores: due at once or within some seconds.
pub(crate) fn light(seconds: u32) -> Load {
    Load { rate: 200, seconds, delays_ms: (0, 4_000), ..Load::default() }
}

/// Makes the fault and ends it; healing is counted from then.
pub(crate) fn until_ended(bed: &Bed, scenario: &'static str, load: Load, fault: impl FnOnce()) -> Outcome {
    during(bed, scenario, load, || {
        fault();
        now_ms()
    })
}

/// The fault says from when on healing counts, in Unix ms.
pub(crate) fn during(bed: &Bed, scenario: &'static str, load: Load, fault: impl FnOnce() -> i64) -> Outcome {
    bed.wait_all_lanes_held();
    let run = Run::start(bed, scenario, load);
    run.get_under_way(BEFORE);
    let healed_at_ms = fault();
    run.finish(Some(healed_at_ms))
}
