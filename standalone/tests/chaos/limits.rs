//! A process that can open nothing more, or make no thread.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

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
            bed.links().etcd_of(&leader).close_all();
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

/// In the log of a process that librdkafka has ended.
const ENDED_BY_LIBRDKAFKA: &str = "Assertion `rkb && *\"failed to create broker thread\"' failed";

/// Another's lanes come to it, and it cannot have the threads for them: whoever can takes them. librdkafka 2.12.1
/// may end the whole process when it cannot make a thread; then it is as if it were killed.
pub(crate) fn worker_out_of_threads(bed: &Bed) {
    let scenario = "limits::worker_out_of_threads";
    bed.wait_lane_on(LINKED);
    let killed = "worker-3";
    bed.wait_lane_on(killed);
    let log = bed.log_length(LINKED);
    let outcome = until_ended(bed, scenario, light(22), || {
        let survived = without_threads(bed, scenario, LINKED, || {
            bed.cluster.kill(killed).unwrap();
            bed.links().worker_kafka.close_all();
        });
        if !survived {
            table::note(scenario, "librdkafka ended it, as it does when it cannot make a thread");
            let said = bed.log_since(LINKED, log);
            assert!(said.contains(ENDED_BY_LIBRDKAFKA), "{LINKED} ended for another reason:\n{said}");
            bed.cluster.start_again(LINKED).unwrap();
        }
        bed.cluster.start_again(killed).unwrap();
    });
    outcome.assert_exact_but_order();
    // One worker is left, and takes over twice.
    outcome.assert_worst_below(Duration::from_secs(20));
}

/// What it does aside, it does a little later.
pub(crate) fn coordinator_out_of_threads(bed: &Bed) {
    let scenario = "limits::coordinator_out_of_threads";
    let leader = bed.leader();
    let outcome = until_ended(bed, scenario, light(22), || {
        let survived = without_threads(bed, scenario, &leader, || {
            bed.links().coordinators_kafka.close_all();
            bed.links().etcd_of(&leader).close_all();
        });
        assert!(survived, "{leader} did not survive");
    });
    outcome.assert_nothing_wrong();
    outcome.assert_worst_below(Duration::from_secs(20));
}

/// Whether it has survived. Kept threads of a pool end after ten idle seconds, and then new ones are wanted.
fn without_threads(bed: &Bed, scenario: &str, process: &str, then: impl FnOnce()) -> bool {
    let pid = bed.cluster.process(process).unwrap().pid().expect("it runs");
    let threads = Threads::limit_to_present(pid);
    then();
    thread::sleep(WITHOUT + WITHOUT / 2);
    let refused = threads.refused();
    table::note(scenario, format!("{process} was refused a thread {refused} times"));
    assert!(refused > 0, "{process} has wanted no thread");
    drop(threads);
    bed.cluster.process(process).unwrap().pid() == Some(pid)
}

/// A control group with the controller `pids`: unlike `ulimit -u` it binds root as well, whom it takes to make one.
struct Threads {
    pid: u32,
    group: PathBuf,
    /// The process's own group, to which it goes back.
    home: PathBuf,
}

impl Threads {
    fn limit_to_present(pid: u32) -> Self {
        let (v1, v2) = (Path::new("/sys/fs/cgroup/pids"), Path::new("/sys/fs/cgroup"));
        let root = if v1.is_dir() { v1 } else { v2 };
        let home = root.join(group_of(pid, root == v1));
        if root == v2 {
            fs::write(root.join("cgroup.subtree_control"), "+pids").expect("control groups need root");
        }
        let group = root.join(format!("ksched-chaos-{pid}"));
        fs::create_dir_all(&group).expect("control groups need root");
        fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
        let present = fs::read_to_string(group.join("pids.current")).unwrap();
        fs::write(group.join("pids.max"), present.trim()).unwrap();
        Self { pid, group, home }
    }

    fn refused(&self) -> u64 {
        let events = fs::read_to_string(self.group.join("pids.events")).unwrap();
        events.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("max and a number")
    }
}

/// A process's control group, below the root of its hierarchy. Each line is `ID:CONTROLLERS:/PATH`; of version 2
/// there is one, without controllers.
fn group_of(pid: u32, is_v1: bool) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let wanted = if is_v1 { "pids" } else { "" };
    let path = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == wanted).then_some(path)
    });
    path.expect("such a hierarchy").trim_start_matches('/').to_owned()
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A process that has died has left by itself; then nothing is left to be done.
        let _ = fs::write(self.group.join("pids.max"), "max");
        let _ = fs::write(self.home.join("cgroup.procs"), self.pid.to_string());
        let _ = fs::remove_dir(&self.group);
    }
}
