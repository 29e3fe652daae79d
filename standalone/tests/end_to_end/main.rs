//! The whole of ksched on real Apache Kafka and etcd: every scenario is run by its name, judged by the
//! verifier, and has its row in the table that is printed as it goes.
//!
//! There are two clusters, side by side: the *usual* one with the default wheel, whose processes are killed and
//! paused, and the *small* one, whose wheel turns within minutes; after that the *loose* one, which delivers at
//! least once, and the *seen* one, which Prometheus watches and whose processes send their spans. The scenarios of a stage run at the same
//! time, the stages of a cluster one after the other.
//! `cargo test --test end_to_end -- WORD…` runs the scenarios whose names contain one of the words, `--list`
//! names them.
//!
//! Data and logs are left under cargo's `target/tmp/end_to_end-<pid>` until the next run.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod alerts;
mod at_least_once;
mod costs;
mod dashboards;
mod dedupe;
mod doors;
mod faults;
mod grpcurl;
mod intake;
mod memory;
mod open_transactions;
mod restarts;
mod targets;
mod traces;
mod wheel;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    thread,
    time::Instant,
};

use ksched_testbed::{
    bed::{self, Bed},
    catch, run, table,
};

/// One thing that must hold; a panic says that it does not.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    run: fn(&Bed),
}

type Stages = Vec<Vec<Scenario>>;
/// A cluster's name, what runs on it, and how it is started.
type Row = (&'static str, Stages, fn() -> Bed);

/// Names each scenario after its module and function.
macro_rules! stage {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$(Scenario { name: concat!(stringify!($module), "::", stringify!($name)), run: $module::$name }),*]
    };
}

/// On the usual cluster.
fn usual() -> Stages {
    vec![
        stage![grpcurl::lists_and_schedules, doors::unary_at_a_thousand_a_second],
        stage![doors::batch, doors::stream, doors::intake],
        stage![intake::dialects, intake::compressions_and_transactions, dedupe::repeats_are_delivered_once],
        stage![costs::of_a_backlog],
        stage![targets::what_just_fits_is_delivered],
        stage![targets::one_bad_target_among_good],
        stage![open_transactions::hold_up_no_direct_message],
        stage![faults::worker_killed],
        stage![faults::worker_paused],
        stage![faults::leading_coordinator_killed],
        stage![faults::etcd_killed],
        stage![faults::kafka_killed],
        stage![restarts::worker_stopped_cleanly],
        stage![restarts::everything_rolling],
    ]
}

/// On the cluster with the small wheel.
fn small() -> Stages {
    vec![
        stage![wheel::crosses_all_levels, wheel::worker_killed_while_it_drains],
        stage![wheel::what_is_no_message_is_dead_lettered],
        stage![wheel::everything_stopped_for_three_slots],
        stage![memory::stays_bounded],
    ]
}

/// On a cluster that delivers at least once.
fn loose() -> Stages {
    vec![stage![at_least_once::target_grown], stage![at_least_once::worker_killed]]
}

/// On a cluster that is seen by all means.
fn seen() -> Stages {
    vec![
        stage![traces::of_a_call, traces::of_records_that_bring_one],
        stage![dashboards::each_panel_finds_something],
        stage![alerts::each_by_its_cause],
    ]
}

fn main() -> ExitCode {
    let (flags, words): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|arg| arg.starts_with('-'));
    // Those of a row run one after the other, beside the other row's: two cores are few.
    let rows: [Vec<Row>; 2] = [
        vec![("usual", usual(), Bed::usual)],
        vec![("small", small(), Bed::small), ("loose", loose(), Bed::loose), ("seen", seen(), Bed::seen)],
    ];
    let wanted = |stages: Stages| -> Stages {
        let is_wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
        let stages = stages.into_iter();
        let stages = stages.map(|stage| stage.into_iter().filter(|s| is_wanted(s.name)).collect::<Vec<_>>());
        stages.filter(|stage| !stage.is_empty()).collect()
    };
    let rows = rows.map(|row| {
        let row = row.into_iter().map(|(name, stages, start)| (name, wanted(stages), start));
        row.filter(|(_, stages, _)| !stages.is_empty()).collect::<Vec<_>>()
    });
    if flags.iter().any(|flag| flag == "--list") {
        let all = rows.iter().flatten().flat_map(|(_, stages, _)| stages.concat());
        all.for_each(|scenario| println!("{}: test", scenario.name));
        return ExitCode::SUCCESS;
    }
    bed::set_root(env!("CARGO_TARGET_TMPDIR"), "end_to_end");
    bed::sweep();
    let failed: Vec<_> = thread::scope(|scope| {
        let run_row = |row: Vec<Row>| {
            row.into_iter().flat_map(|(name, stages, start)| run_on(name, stages, start)).collect::<Vec<_>>()
        };
        let each: Vec<_> = rows.into_iter().map(|row| scope.spawn(move || run_row(row))).collect();
        each.into_iter().flat_map(|one| one.join().unwrap_or_else(|_| vec!["a cluster's thread"])).collect()
    });
    if failed.is_empty() {
        println!("\nend to end: all scenarios passed");
        return ExitCode::SUCCESS;
    }
    println!("\nend to end: FAILED: {}", failed.join(", "));
    println!("logs: {}", bed::root().display());
    ExitCode::FAILURE
}

fn run_one(scenario: &Scenario, bed: &Bed) -> bool {
    let began_at = Instant::now();
    let passed = catch_unwind(AssertUnwindSafe(|| (scenario.run)(bed))).is_ok();
    let verdict = if passed { "passed" } else { "FAILED" };
    table::note(scenario.name, format!("{verdict} after {:.1} s", began_at.elapsed().as_secs_f64()));
    passed
}

/// The names of those that failed.
fn run_on(cluster: &'static str, stages: Stages, start: fn() -> Bed) -> Vec<&'static str> {
    let Ok(bed) = catch_unwind(start) else { return vec![cluster] };
    let mut failed = Vec::new();
    for stage in stages {
        thread::scope(|scope| {
            let runs = stage.iter().map(|scenario| {
                let run = || run_one(scenario, &bed);
                let thread = thread::Builder::new().name(scenario.name.to_owned());
                (scenario.name, thread.spawn_scoped(scope, run).expect("a thread"))
            });
            for (name, run) in runs.collect::<Vec<_>>() {
                if !run.join().unwrap_or(false) {
                    failed.push(name);
                }
            }
        });
        // A scenario that failed half-way must not spoil the next.
        if let Err(why) = bed.mend() {
            println!("{cluster}: cannot go on: {why}");
            failed.push(cluster);
            return failed;
        }
    }
    bed.end();
    failed
}
