//! A worker that is thought dead and is not: at most one of two that hold the same lane fires.

use std::{collections::BTreeMap, thread, time::Duration};

use ksched_proto::v1::JobState;
use ksched_testbed::{
    bed::{eventually, job_name},
    links::LINKED,
    proxy::{Action, Cut, Proxy},
    wire::Api,
};

use crate::{
    bed::Bed,
    mischief::{light, until_ended},
    table,
};

/// A lane under load sends each kind of request many times a second.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// The lease, and the time that a coordinator and the next holder take.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(30);
/// Some hundred transactions of the next holder, on both of its producers.
const FIRES_ON: Duration = Duration::from_millis(1_500);
const FENCED: &str = "fenced: a newer holder has the job";
const BOUND: Duration = Duration::from_secs(25);

/// Its EndTxn is on its way when it is stopped, beyond its lease. Another has taken over when the request comes to
/// the broker, and then the zombie goes on.
pub(crate) fn stopped_inside_a_commit(bed: &Bed) {
    let scenario = "zombies::stopped_inside_a_commit";
    bed.wait_lane_on(LINKED);
    let (link, log) = (&bed.links().worker_kafka, bed.log_length(LINKED));
    let outcome = until_ended(bed, scenario, light(24), || {
        let (lanes, before) = (lanes_of(bed, LINKED), Logs::now(bed));
        link.on(Api::END_TXN, 1, Action::Hold);
        assert!(link.wait_caught(1, SEEN_WITHIN), "no EndTxn came");
        bed.cluster.pause(LINKED).unwrap();
        for lane in &lanes {
            let by = taken_over(bed, lane, LINKED, &before);
            table::note(scenario, format!("{lane} taken over by {by}"));
        }
        thread::sleep(FIRES_ON);
        link.release();
        thread::sleep(Duration::from_millis(500));
        bed.cluster.resume(LINKED).unwrap();
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
    assert_said(bed, LINKED, log);
}

/// The first has made producer a its own and waits to be told the same of b. Nobody hears of it, its lease ends,
/// another takes over and fires; then its request for b comes to the broker and is granted. So one has a valid a
/// and the other a valid b: both must give up.
pub(crate) fn two_holders(bed: &Bed) {
    let scenario = "zombies::two_holders";
    let links = bed.links();
    bed.wait_all_lanes_held();
    bed.cluster.stop(LINKED).unwrap();
    let log = bed.log_length(LINKED);
    let mut other = (String::new(), 0);
    let outcome = until_ended(bed, scenario, light(28), || {
        let before = Logs::now(bed);
        // Only lanes have a producer b.
        links.worker_kafka.on_init(".b", 1, Action::Hold);
        bed.cluster.process(LINKED).unwrap().start().unwrap();
        assert!(links.worker_kafka.wait_caught(1, TAKEN_OVER_WITHIN), "{LINKED} took no lane over");
        let lane = lanes_of(bed, LINKED).pop().expect("the lane that it takes over");
        links.worker_coordinators.iter().for_each(|link| link.cut(Cut::Both));
        let by = taken_over(bed, &lane, LINKED, &before);
        other = (by.clone(), bed.log_length(&by));
        thread::sleep(FIRES_ON);
        table::note(scenario, format!("{lane} is {by}'s, and {LINKED} is let go on with it"));
        links.worker_kafka.release();
        eventually("fenced zombie", TAKEN_OVER_WITHIN, || {
            bed.log_since(LINKED, log).contains(FENCED).then_some(())
        });
        links.worker_coordinators.iter().for_each(Proxy::heal);
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
    // Its b was taken from it.
    let (by, since) = other;
    assert_said(bed, &by, since);
    bed.wait_all_lanes_held();
}

/// Jobs of the lanes that it holds.
fn lanes_of(bed: &Bed, worker: &str) -> Vec<String> {
    let is_its = |state: &&JobState| job_name(state).starts_with("lane/") && state.worker_name == worker;
    bed.jobs().iter().filter(is_its).map(|state| job_name(state).to_owned()).collect()
}

/// How long each worker's log was.
struct Logs(BTreeMap<String, u64>);

impl Logs {
    fn now(bed: &Bed) -> Self {
        let workers = bed.cluster.describe().workers.into_iter();
        Self(workers.map(|worker| (worker.name.clone(), bed.log_length(&worker.name))).collect())
    }
}

/// Waits for another holder of that lane, and for it to have said since that it has taken over.
fn taken_over(bed: &Bed, lane: &str, from: &str, before: &Logs) -> String {
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

fn assert_said(bed: &Bed, worker: &str, since: u64) {
    let said = bed.log_since(worker, since);
    assert!(said.contains(FENCED), "{worker} did not say that it was fenced:\n{said}");
}
