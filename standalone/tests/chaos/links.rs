//! One link cut at a time. Packets vanish; nobody is told.

use std::{thread, time::Duration};

use ksched_testbed::{
    links::LINKED,
    proxy::{Action, Cut, Proxy},
    wire::Api,
};

use crate::{
    bed::Bed,
    mischief::{FENCED, Logs, assert_said, lanes_of, light, taken_over, until_ended},
    run::Load,
};

const CUT: Duration = Duration::from_secs(8);
/// Well beyond the lease of 5 s.
const BEYOND_LEASE: Duration = Duration::from_secs(12);
/// Beyond the time after which a schedule's outcome is unknown.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(14);
/// Answers of each kind, if they are asked for so often.
const LOST: u32 = 2;
/// What comes on top of the cut itself.
const AFTERWARDS: Duration = Duration::from_secs(12);

/// Each kind of request of a transaction is done, and whoever asked never hears so.
pub(crate) fn answers_lost(bed: &Bed) {
    let scenario = "links::answers_lost";
    bed.wait_lane_on(LINKED);
    let link = &bed.links().worker_kafka;
    let outcome = until_ended(bed, scenario, light(16), || {
        for api in [Api::PRODUCE, Api::ADD_OFFSETS_TO_TXN, Api::TXN_OFFSET_COMMIT, Api::END_TXN, Api::FETCH] {
            link.on(api, LOST, Action::LoseAnswer);
            thread::sleep(Duration::from_secs(2));
        }
        let unused: Vec<_> = link.rules().into_iter().filter(|rule| rule.times == LOST).collect();
        assert!(unused.is_empty(), "no answer was lost to {unused:?}");
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(AFTERWARDS);
}

/// Its lease goes on, so nobody takes over: its lanes wait.
pub(crate) fn worker_from_kafka(bed: &Bed) {
    worker_kafka(bed, "links::worker_from_kafka", Cut::Both);
}

/// Requests are done and their answers vanish; then requests vanish.
pub(crate) fn worker_from_kafka_one_way(bed: &Bed) {
    worker_kafka(bed, "links::worker_from_kafka_one_way, answers", Cut::Answers);
    worker_kafka(bed, "links::worker_from_kafka_one_way, requests", Cut::Requests);
}

fn worker_kafka(bed: &Bed, scenario: &'static str, cut: Cut) {
    bed.wait_lane_on(LINKED);
    let link = &bed.links().worker_kafka;
    let outcome = until_ended(bed, scenario, light(15), || cut_off([link], cut, CUT));
    // Records time out after as long as this: their target counts as one that takes nothing, and what is put off
    // for that may be overtaken.
    outcome.assert_exact_in_any_order();
    outcome.assert_worst_below(CUT + AFTERWARDS);
}

/// Others take its lanes over, and fence it while it still fires.
pub(crate) fn worker_from_coordinators(bed: &Bed) {
    worker_coordinators(bed, "links::worker_from_coordinators", Cut::Both);
}

pub(crate) fn worker_from_coordinators_one_way(bed: &Bed) {
    worker_coordinators(bed, "links::worker_from_coordinators_one_way, answers", Cut::Answers);
    worker_coordinators(bed, "links::worker_from_coordinators_one_way, requests", Cut::Requests);
}

fn worker_coordinators(bed: &Bed, scenario: &'static str, cut: Cut) {
    bed.wait_lane_on(LINKED);
    let links = &bed.links().worker_coordinators;
    // While its heartbeats arrive, the lease goes on.
    let is_taken_over = cut != Cut::Answers;
    let since = bed.log_length(LINKED);
    let outcome = until_ended(bed, scenario, light(18), || {
        let (lanes, before) = (lanes_of(bed, LINKED), Logs::now(bed));
        cut_off(links, cut, BEYOND_LEASE);
        if is_taken_over {
            lanes.iter().for_each(|lane| _ = taken_over(bed, lane, LINKED, &before));
        }
    });
    match cut {
        Cut::Answers => {}
        Cut::Both => assert_said(bed, LINKED, since, &[FENCED]),
        // A poll that waits at the coordinator is answered when the lease ends.
        Cut::Requests => assert_said(bed, LINKED, since, &[FENCED, "lease is gone"]),
    }
    outcome.assert_exact_but_order();
    // It fires until it is fenced: nothing has to wait for the lease.
    outcome.assert_worst_below(Duration::from_secs(6));
}

/// Schedules are not acknowledged meanwhile; what lanes hold goes out.
pub(crate) fn coordinators_from_kafka(bed: &Bed) {
    coordinators_kafka(bed, "links::coordinators_from_kafka", light(15), Cut::Both, CUT);
}

/// Schedules are appended and nobody hears so; some for so long that their callers are told that it is not known,
/// while those that came later are repeated.
pub(crate) fn coordinators_from_kafka_one_way(bed: &Bed) {
    let scenario = "links::coordinators_from_kafka_one_way";
    coordinators_kafka(bed, scenario, light(22), Cut::Answers, BEYOND_TIMEOUT);
    let scenario = "links::coordinators_from_kafka_one_way, requests";
    coordinators_kafka(bed, scenario, light(15), Cut::Requests, CUT);
}

fn coordinators_kafka(bed: &Bed, scenario: &'static str, load: Load, cut: Cut, time: Duration) {
    let link = &bed.links().coordinators_kafka;
    let outcome = until_ended(bed, scenario, load, || cut_off([link], cut, time));
    outcome.assert_nothing_wrong();
    outcome.assert_worst_below(time + AFTERWARDS);
}

/// Lanes go on, schedules are taken: nothing is late.
pub(crate) fn coordinators_from_etcd(bed: &Bed) {
    coordinators_etcd(bed, "links::coordinators_from_etcd", Cut::Both);
}

pub(crate) fn coordinators_from_etcd_one_way(bed: &Bed) {
    coordinators_etcd(bed, "links::coordinators_from_etcd_one_way, answers", Cut::Answers);
    coordinators_etcd(bed, "links::coordinators_from_etcd_one_way, requests", Cut::Requests);
}

fn coordinators_etcd(bed: &Bed, scenario: &'static str, cut: Cut) {
    let links = &bed.links().etcd;
    let outcome = until_ended(bed, scenario, light(18), || cut_off(links, cut, BEYOND_LEASE));
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(Duration::from_secs(5));
}

fn cut_off<'a>(links: impl IntoIterator<Item = &'a Proxy> + Clone, cut: Cut, time: Duration) {
    links.clone().into_iter().for_each(|link| link.cut(cut));
    thread::sleep(time);
    links.into_iter().for_each(Proxy::heal);
}
