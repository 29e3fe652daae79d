//! Every fault that one machine can make, on real Apache Kafka and etcd: a scenario each, with its name, a bound on
//! the time to heal, and the verifier at the end.
//!
//! `cargo test --test chaos` runs the short ones, as the CI does; `make chaos` runs all, those of the end-to-end
//! tests included, which the CI runs there. `-- WORD…` runs those whose names contain one of the words, `--seed N`
//! decides by chance, `--soak-seconds N` sets how long the soak lasts, `--list` names them. They run one after the
//! other, those of a cluster together; the table at the end comes whatever happened.
//!
//! Data and logs are left under cargo's `target/tmp/chaos-<pid>` until the next run.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod brokers;
mod clocks;
mod control_plane;
mod disk;
mod failpoints;
mod flood;
mod hostile;
mod limits;
mod links;
mod loads;
mod mischief;
mod open_jobs;
mod recovery;
mod replays;
mod scenarios;
mod soak;
mod streams;
mod targets;
mod versions;
mod zombies;

// What the end-to-end tests do on their clusters belongs to the same list.
#[path = "../end_to_end/faults.rs"]
mod faults;
#[path = "../end_to_end/memory.rs"]
mod memory;
#[path = "../end_to_end/restarts.rs"]
mod restarts;
#[path = "../end_to_end/wheel.rs"]
mod wheel;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use ksched_testbed::{
    bed::{self, Bed},
    catch, dice, run, table,
};
use scenarios::{Scenario, Stage};

fn main() -> ExitCode {
    let asked = Asked::read(std::env::args().skip(1));
    let stages: Vec<Stage> = scenarios::all().into_iter().filter_map(|stage| asked.of(stage)).collect();
    if asked.list {
        stages.iter().flat_map(|stage| &stage.scenarios).for_each(|one| println!("{}: test", one.name));
        return ExitCode::SUCCESS;
    }
    if asked.all && stages.is_empty() {
        println!("chaos: no scenario has such a name");
        return ExitCode::FAILURE;
    }
    dice::set_seed(asked.seed);
    println!("chaos: seed {}", asked.seed);
    bed::set_root(env!("CARGO_TARGET_TMPDIR"), "chaos");
    bed::sweep();
    thread::spawn(watch);
    let began_at = Instant::now();
    let ended: Vec<Ended> = stages.iter().flat_map(run_on).collect();
    table::print_all(ended.iter().map(|one| (one.scenario, one.verdict())));
    let failed: Vec<_> = ended.iter().filter(|one| one.problem.is_some()).map(|one| one.scenario).collect();
    println!("\nchaos: {} scenarios in {} s, seed {}", ended.len(), began_at.elapsed().as_secs(), asked.seed);
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("chaos: FAILED: {}", failed.join(", "));
    println!("logs: {}", bed::root().display());
    ExitCode::FAILURE
}

/// Says when this whole process did not run for a while: then nobody else did either, and what was late may have
/// been so for that reason alone.
fn watch() {
    const EACH: Duration = Duration::from_millis(100);
    loop {
        let slept_at = Instant::now();
        thread::sleep(EACH);
        let stood_still = slept_at.elapsed() - EACH;
        if stood_still > Duration::from_secs(1) {
            println!("the machine stood still for {stood_still:.1?}");
        }
    }
}

/// The command line.
#[derive(Debug, Default)]
struct Asked {
    seed: u64,
    all: bool,
    list: bool,
    words: Vec<String>,
}

impl Asked {
    fn read(mut args: impl Iterator<Item = String>) -> Self {
        let mut asked = Self { seed: 42, ..Self::default() };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--seed" => {
                    asked.seed = args.next().and_then(|n| n.parse().ok()).expect("a number after --seed")
                }
                "--soak-seconds" => soak::set_seconds(
                    args.next().and_then(|n| n.parse().ok()).expect("a number after --soak-seconds"),
                ),
                "--all" => asked.all = true,
                "--list" => asked.list = true,
                // What cargo hands to every harness.
                flag if flag.starts_with('-') => {}
                _ => asked.words.push(arg),
            }
        }
        asked
    }

    /// What is left of a stage; nothing if nothing is.
    fn of(&self, mut stage: Stage) -> Option<Stage> {
        stage.scenarios.retain(|one| {
            if self.words.is_empty() {
                one.is_short || self.all || self.list
            } else {
                self.words.iter().any(|word| one.name.contains(word.as_str()))
            }
        });
        (!stage.scenarios.is_empty()).then_some(stage)
    }
}

/// A scenario that has been run.
#[derive(Debug)]
struct Ended {
    scenario: &'static str,
    fault: u8,
    problem: Option<String>,
}

impl Ended {
    fn verdict(&self) -> String {
        let Self { fault, problem, .. } = self;
        problem.as_ref().map_or_else(|| format!("passed (fault {fault})"), |why| format!("FAILED: {why}"))
    }
}

fn run_on(stage: &Stage) -> Vec<Ended> {
    let ended = |one: &Scenario, problem| Ended { scenario: one.name, fault: one.fault, problem };
    let all = |why: &str| stage.scenarios.iter().map(|one| ended(one, Some(why.to_owned()))).collect();
    let Ok(bed) = catch_unwind(stage.start) else { return all("its cluster did not start") };
    let mut done: Vec<Ended> = Vec::new();
    for scenario in &stage.scenarios {
        done.push(ended(scenario, run_one(scenario, &bed)));
        // A scenario that failed half-way must not spoil the next.
        if let Err(why) = bed.mend() {
            println!("cannot go on: {why}");
            let rest = &stage.scenarios[done.len()..];
            done.extend(
                rest.iter().map(|one| ended(one, Some("its cluster could not be mended".to_owned()))),
            );
            return done;
        }
    }
    bed.end();
    done
}

/// What is wrong, if anything is.
fn run_one(scenario: &Scenario, bed: &Bed) -> Option<String> {
    let began_at = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (scenario.run)(bed)));
    let slow = table::rows_of(scenario.name).into_iter().filter_map(|row| row.heal_ms).max();
    let bound_ms = scenario.heals_in.as_millis() as i64;
    let problem = match (outcome, slow) {
        (Err(panic), _) => Some(first_line(said(panic.as_ref()))),
        (Ok(()), Some(ms)) if ms > bound_ms => Some(format!("healed after {ms} ms, not {bound_ms}")),
        (Ok(()), _) => None,
    };
    let verdict = problem.as_ref().map_or_else(|| "passed".to_owned(), |why| format!("FAILED ({why})"));
    table::note(scenario.name, format!("{verdict} after {:.1} s", began_at.elapsed().as_secs_f64()));
    problem
}

/// What a panic said: a formatted text or a literal.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("see above")
}

/// Fit for a cell of the table.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(160).collect::<String>().replace('|', "/")
}
