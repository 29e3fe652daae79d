//! What scenarios have in common: a run, and a fault in the middle of it; lanes that change hands.

use std::{collections::BTreeMap, time::Duration};

use ksched_proto::v1::JobState;
use ksched_testbed::bed::{eventually, job_name};

use crate::{
    bed::{Bed, now_ms},
    run::{Load, Outcome, Run},
};

/// From the start of the run to the fault.
const BEFORE: Duration = Duration::from_secs(3);
/// The lease, and the time that a coordinator and the next holder take.
pub(crate) const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(30);
pub(crate) const FENCED: &str = "fenced: a newer holder has the job";

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

/// Jobs of the lanes that it holds.
pub(crate) fn lanes_of(bed: &Bed, worker: &str) -> Vec<String> {
    let is_its = |state: &&JobState| job_name(state).starts_with("lane/") && state.worker_name == worker;
    bed.jobs().iter().filter(is_its).map(|state| job_name(state).to_owned()).collect()
}

/// How long each worker's log was.
pub(crate) struct Logs(BTreeMap<String, u64>);

impl Logs {
    pub(crate) fn now(bed: &Bed) -> Self {
        let workers = bed.cluster.describe().workers.into_iter();
        Self(workers.map(|worker| (worker.name.clone(), bed.log_length(&worker.name))).collect())
    }
}

/// Waits for another holder of that lane, and for it to have said since that it has taken over.
pub(crate) fn taken_over(bed: &Bed, lane: &str, from: &str, before: &Logs) -> String {
    let by = eventually("next holder", TAKEN_OVER_WITHIN, || {
        let jobs = bed.jobs();
        let it = jobs.into_iter().find(|state| job_name(state) == lane)?;
        Some(it.worker_name).filter(|name| !name.is_empty() && name != from)
    });
    let is_about_it = |line: &str| line.contains("lane taken over") && line.contains(lane);
    let since = before.0.get(&by).copied().unwrap_or_default();
    eventually("take-over", TAKEN_OVER_WITHIN, || {
        bed.log_since(&by, since).lines().any(is_about_it).then_some(())
    });
    by
}

/// It said one of these.
pub(crate) fn assert_said(bed: &Bed, worker: &str, since: u64, words: &[&str]) {
    let said = bed.log_since(worker, since);
    assert!(words.iter().any(|words| said.contains(words)), "{worker} said nothing of {words:?}:\n{said}");
}
