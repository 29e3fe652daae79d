//! etcd and every coordinator gone, or not of one mind; and everything stopped for longer than whole slots.

use std::{
    thread,
    time::{Duration, Instant},
};

use ksched_client::bench::Door;
use ksched_testbed::{
    bed::eventually,
    etcd,
    proxy::{Cut, Proxy},
};

use crate::{
    bed::{Bed, COORDINATORS, now_ms},
    mischief::until_ended,
    run::{Load, Outcome, Run},
    table,
};

pub(crate) const PARTS: [&str; 3] = ["coordinator-1", "coordinator-2", "etcd"];
const GONE: Duration = Duration::from_secs(60);
/// A slot of level 2 of the small wheel is 16 s wide.
const STOPPED: Duration = Duration::from_secs(20);
/// Shorter than any lease.
const BEHIND: Duration = Duration::from_secs(2);
/// Half of it through the wheel, so that drain jobs are made and done all the while.
const THROUGH_THE_WHEEL: Load =
    Load { door: Door::Unary, rate: 200, seconds: 30, delays_ms: (0, 30_000), size: 200, clock_ms: 0 };

/// Exactly-once lanes go on firing, and intake jobs feeding them: nothing is late.
pub(crate) fn gone_for_a_minute(bed: &Bed) {
    let outcome = without_control_plane(bed, "control_plane::gone_for_a_minute");
    outcome.assert_worst_below(Duration::from_secs(3));
}

/// Plain records scheduled all the while, which need no coordinator to be taken.
pub(crate) fn without_control_plane(bed: &Bed, scenario: &'static str) -> Outcome {
    bed.wait_all_lanes_held();
    let load =
        Load { door: Door::Intake, rate: 150, seconds: 70, delays_ms: (500, 5_000), ..Load::default() };
    let run = Run::start(bed, scenario, load);
    thread::sleep(Duration::from_secs(3));
    PARTS.iter().for_each(|name| bed.cluster.kill(name).unwrap());
    let gone_at_ms = now_ms();
    thread::sleep(GONE);
    ["etcd", "coordinator-1", "coordinator-2"].iter().for_each(|name| bed.cluster.start_again(name).unwrap());
    table::note(scenario, format!("all back after {} ms", now_ms() - gone_at_ms));
    let outcome = run.finish(Some(gone_at_ms));
    outcome.assert_exact_but_order();
    bed.wait_all_lanes_held();
    outcome
}

/// Overdue buckets of every level are drained at once; nothing waits for its slot to come round again.
pub(crate) fn all_stopped_beyond_level_two(bed: &Bed) {
    let scenario = "control_plane::all_stopped_beyond_level_two";
    bed.wait_all_lanes_held();
    let load =
        Load { door: Door::Batch, rate: 400, seconds: 5, delays_ms: (5_000, 90_000), ..Load::default() };
    let run = Run::start(bed, scenario, load);
    thread::sleep(Duration::from_secs(7));
    let names = ["worker-1", "worker-2", "coordinator-1", "coordinator-2"];
    names.iter().for_each(|name| bed.cluster.kill(name).unwrap());
    thread::sleep(STOPPED);
    names.iter().rev().for_each(|name| bed.cluster.start_again(name).unwrap());
    let outcome = run.finish(Some(now_ms()));
    outcome.assert_exact_but_order();
}

/// What watchers have not heard is gone when they come back, and while they hear everything the past goes as well.
pub(crate) fn compacted_under_watch(bed: &Bed) {
    let scenario = "control_plane::compacted_under_watch";
    let (address, links) = (bed.cluster.etcd().address(), &bed.links().etcd);
    let outcome = until_ended(bed, scenario, THROUGH_THE_WHEEL, || {
        let mut compacted = 0;
        for _ in 0..3 {
            links.iter().for_each(|link| link.cut(Cut::Both));
            let before = etcd::write(&address, 1);
            thread::sleep(BEHIND);
            compacted = etcd::write(&address, 50);
            etcd::compact(&address, compacted);
            assert!(!etcd::remembers(&address, before), "etcd still has revision {before}");
            links.iter().for_each(Proxy::close_all);
            links.iter().for_each(Proxy::heal);
            thread::sleep(BEHIND);
        }
        for _ in 0..10 {
            compacted = etcd::write(&address, 1);
            etcd::compact(&address, compacted);
            thread::sleep(Duration::from_millis(500));
        }
        table::note(scenario, format!("compacted 13 times, up to revision {compacted}"));
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(Duration::from_secs(5));
}

/// The time of an etcd call is 1.5 s, and the old leader believes at least until its first one ends without an answer.
const BOTH_LEAD_FOR: Duration = Duration::from_millis(500);
/// One that stood still in the middle of a campaign learns at once that it had no answer, and believes no longer.
const TRIES: usize = 3;

/// The one that led stands still beyond its lease, another is elected, and it goes on in the belief that it leads,
/// with nobody to tell it otherwise; what it writes then comes to etcd late.
pub(crate) fn two_leaders(bed: &Bed) {
    let scenario = "control_plane::two_leaders";
    let outcome = until_ended(bed, scenario, THROUGH_THE_WHEEL, || {
        let long_enough = (0..TRIES).any(|_| both_lead(bed, scenario) > BOTH_LEAD_FOR);
        assert!(long_enough, "never did two believe for {BOTH_LEAD_FOR:?} that they lead");
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(Duration::from_secs(10));
}

/// For how long they did.
fn both_lead(bed: &Bed, scenario: &str) -> Duration {
    let old = bed.leader();
    let new = COORDINATORS.into_iter().find(|name| *name != old).expect("another");
    let (old_log, new_log) = (bed.log_length(&old), bed.log_length(new));
    bed.cluster.pause(&old).unwrap();
    let leads = |name: &str, since: u64, leads: bool| {
        bed.log_since(name, since).contains(&format!("leads={leads}")).then_some(())
    };
    eventually("new leader", Duration::from_secs(30), || leads(new, new_log, true));
    let link = bed.links().etcd_of(&old);
    link.cut(Cut::Both);
    // Its next question goes out on a new connection and waits there; on the old one a ping is overdue, by which it
    // would know at once.
    link.close_all();
    let began_at = Instant::now();
    bed.cluster.resume(&old).unwrap();
    eventually("end of the old lead", Duration::from_secs(30), || leads(&old, old_log, false));
    let both = began_at.elapsed();
    table::note(scenario, format!("{old} believed for {both:.1?} that it leads, as {new} did"));
    thread::sleep(BEHIND);
    link.heal();
    both
}
