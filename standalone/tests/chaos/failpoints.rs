//! A worker that dies at a named place of a transaction (`ksched-kafka`'s feature `failpoints`, which is on in what
//! is built together with the tests).

use std::{fs, path::PathBuf, thread, time::Duration};

use ksched_client::bench::Door;
use ksched_local::{cluster::Options, process::State};
use ksched_testbed::{
    bed::{self, WORKERS, eventually},
    dice::Dice,
};

use crate::{
    bed::{Bed, now_ms},
    mischief::during,
    run::Load,
    table,
};

const JOBS: [&str; 3] = ["intake", "drain", "lane"];
const POINTS: [&str; 5] = ["after-read", "after-produce", "after-offsets", "inside-commit", "after-commit"];
/// Drains of a lane come each four seconds, intake and lanes are at work all the time.
const DIES_WITHIN: Duration = Duration::from_secs(40);
/// The lease and a little: only the others can have taken over.
const STAYS_DEAD: Duration = Duration::from_secs(3);
const BOUND: Duration = Duration::from_secs(15);

fn file() -> PathBuf {
    bed::root().join("failpoint")
}

/// Short slots, so that there is always something to drain, and short leases.
pub(crate) fn bed() -> Bed {
    let env = vec![("KSCHED_FAILPOINT".to_owned(), file().display().to_string())];
    let env = WORKERS.map(|name| (name.to_owned(), env.clone())).into();
    Bed::start(
        "failing",
        Options { coordinators: 1, workers: 3, geometry: bed::short_wheel(), env, ..Options::default() },
    )
}

/// Whoever comes there first, or a little later by chance: all fifteen deaths in one run.
pub(crate) fn each_place_of_each_job(bed: &Bed) {
    let scenario = "failpoints::each_place_of_each_job";
    let mut dice = Dice::of(scenario);
    let load =
        Load { door: Door::Intake, rate: 150, seconds: 150, delays_ms: (0, 20_000), ..Load::default() };
    let outcome = during(bed, scenario, load, || {
        let mut died_at_ms = 0;
        for (job, point) in JOBS.iter().flat_map(|job| POINTS.map(|point| (*job, point))) {
            let nth = dice.below(1..if job == "drain" { 4 } else { 20 });
            // At once, or somebody may read half of it.
            let draft = file().with_extension("draft");
            fs::write(&draft, format!("{job} {point} {nth}")).unwrap();
            fs::rename(&draft, file()).unwrap();
            let what = format!("death of a worker's {job} {point}");
            let worker = eventually(&what, DIES_WITHIN, || dead(bed));
            died_at_ms = now_ms();
            // Whoever passes there removes it.
            assert!(!file().exists(), "{worker} died elsewhere than {job} {point}");
            table::note(scenario, format!("{worker} died: {job} {point}, passed for the {nth}. time"));
            thread::sleep(STAYS_DEAD);
            bed.cluster.start_again(&worker).unwrap();
            bed.wait_all_lanes_held();
        }
        died_at_ms
    });
    // What waits in the intake topic for a next holder is not in its lane yet, and may be due already.
    outcome.assert_exact_in_any_order();
    outcome.assert_worst_below(BOUND);
}

fn dead(bed: &Bed) -> Option<String> {
    let processes = bed.cluster.describe().processes;
    processes.into_iter().find(|process| process.state == State::Dead).map(|process| process.name)
}
