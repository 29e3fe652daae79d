//! A process that can open nothing more.

use std::{fs, process::Command, thread, time::Duration};

use ksched_testbed::links::LINKED;

use crate::{
    bed::Bed,
    mischief::{light, until_ended},
    table,
};

const WITHOUT: Duration = Duration::from_secs(8);

/// Its connections to Kafka are closed, and it cannot make new ones.
pub(crate) fn worker_out_of_files(bed: &Bed) {
    let scenario = "limits::worker_out_of_files";
    bed.wait_lane_on(LINKED);
    let outcome = until_ended(bed, scenario, light(16), || {
        without_files(bed, scenario, LINKED, || bed.links().worker_kafka.close_all());
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(WITHOUT + Duration::from_secs(15));
}

/// Clients and workers go to the other one.
pub(crate) fn coordinator_out_of_files(bed: &Bed) {
    let scenario = "limits::coordinator_out_of_files";
    let leader = bed.leader();
    let outcome = until_ended(bed, scenario, light(16), || {
        without_files(bed, scenario, &leader, || {
            bed.links().coordinators_kafka.close_all();
            bed.links().etcd.close_all();
        });
    });
    outcome.assert_nothing_wrong();
    outcome.assert_worst_below(WITHOUT + Duration::from_secs(15));
}

fn without_files(bed: &Bed, scenario: &str, process: &str, then: impl FnOnce()) {
    let pid = bed.cluster.process(process).unwrap().pid().expect("it runs");
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = limit(pid);
    set_limit(pid, &format!("{}:", open.saturating_sub(4)));
    table::note(scenario, format!("{process} has {open} files open and may not open more"));
    then();
    thread::sleep(WITHOUT);
    set_limit(pid, &format!("{before}:"));
    let still = bed.cluster.process(process).unwrap().pid();
    assert_eq!(still, Some(pid), "{process} did not survive");
}

/// The soft limit.
fn limit(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("such a limit");
    line.split_ascii_whitespace().nth(3).expect("a soft limit").to_owned()
}

fn set_limit(pid: u32, soft: &str) {
    let status =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={soft}")]).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit (util-linux) did not set {soft}");
}
