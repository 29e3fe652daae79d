//! Two versions of ksched at work together.

use std::{env, fs, os::unix::fs::symlink, path::PathBuf, thread, time::Duration};

use ksched_client::bench::Door;
use ksched_local::cluster::Options;
use ksched_testbed::bed;

use crate::{
    bed::{Bed, now_ms},
    mischief::during,
    run::Load,
    table,
};

/// Names the folder with the `ksched-server` and `ksched-worker` of an earlier version.
pub(crate) const EARLIER: &str = "KSCHED_EARLIER_BIN";
const PROGRAMS: [&str; 2] = ["ksched-server", "ksched-worker"];
const ALL: [&str; 5] = ["coordinator-1", "coordinator-2", "worker-1", "worker-2", "worker-3"];
/// Old and new at work side by side.
const MIXED: Duration = Duration::from_secs(3);
const BOUND: Duration = Duration::from_secs(10);

/// Everything is of the earlier version at first; of ours alone if none is named.
pub(crate) fn bed() -> Bed {
    let (earlier, _) = versions();
    fs::create_dir_all(programs()).unwrap();
    use_version(&earlier);
    let bin_dir = Some(programs());
    Bed::start("versions", Options { coordinators: 2, workers: 3, bin_dir, ..Options::default() })
}

/// One process after the other becomes new, then, coordinators first, old again, as an upgrade that is given up.
pub(crate) fn rolled_forth_and_back(bed: &Bed) {
    let scenario = "versions::rolled_forth_and_back";
    let (earlier, ours) = versions();
    table::note(scenario, format!("from {} to {} and back", earlier.display(), ours.display()));
    let differs = |program| fs::read(earlier.join(program)).unwrap() != fs::read(ours.join(program)).unwrap();
    assert!(PROGRAMS.into_iter().all(differs), "{EARLIER} holds this version");
    let load = Load { door: Door::Unary, rate: 200, seconds: 60, delays_ms: (0, 20_000), ..Load::default() };
    let outcome = during(bed, scenario, load, || {
        let mut at_ms = 0;
        for (version, names) in [(&ours, ALL), (&earlier, ALL)] {
            use_version(version);
            for name in names {
                at_ms = now_ms();
                bed.cluster.restart(name).unwrap();
                let pid = bed.cluster.process(name).unwrap().pid().expect("it runs");
                let runs = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
                assert_eq!(runs.parent(), Some(version.as_path()), "{name} is of another version");
                thread::sleep(MIXED);
            }
        }
        at_ms
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
}

/// The earlier version's folder and ours.
fn versions() -> (PathBuf, PathBuf) {
    let test = env::current_exe().unwrap();
    let ours = test.ancestors().nth(2).expect("where cargo puts binaries").canonicalize().unwrap();
    let earlier = env::var_os(EARLIER).map(|dir| PathBuf::from(dir).canonicalize().expect(EARLIER));
    (earlier.unwrap_or_else(|| ours.clone()), ours)
}

/// What processes are started from.
fn programs() -> PathBuf {
    bed::root().join("programs")
}

fn use_version(dir: &std::path::Path) {
    for program in PROGRAMS {
        let link = programs().join(program);
        // None is there at first.
        let _ = fs::remove_file(&link);
        symlink(dir.join(program), &link).unwrap();
    }
}
