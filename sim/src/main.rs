//! `ksched-sim`: runs seeds, or replays one.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use clap::Parser;
use ksched_core::mutant::{self, Mutant};
use ksched_sim::{Options, Outcome, Trace, run};

/// Simulates whole clusters under faults, in virtual time. Exit code 4: an invariant does
/// not hold.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  ksched-sim --seeds 10000\n  ksched-sim --seed 7 --trace\n  ksched-sim --mutants --seeds 400"
)]
struct Arguments {
    /// Runs this one seed.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Prints every step of it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Runs so many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Breaks a rule on purpose: violations are what is wanted then.
    #[arg(long, value_name = "NAME", value_parser = mutant_named)]
    mutant: Option<Mutant>,
    /// Breaks every rule in turn and tells in how many seeds it is caught.
    #[arg(long, conflicts_with_all = ["seed", "mutant"])]
    mutants: bool,
    /// Faults last so many times as long.
    #[arg(long, default_value_t = 1)]
    stretch: u32,
    /// Goes on after a violation.
    #[arg(long)]
    keep_going: bool,
}

/// A [`Mutant`] by its name.
fn mutant_named(name: &str) -> Result<Mutant, String> {
    let names = Mutant::ALL.map(|mutant| format!("{mutant:?}"));
    let found = names.iter().position(|known| known.eq_ignore_ascii_case(name));
    found.map(|at| Mutant::ALL[at]).ok_or_else(|| format!("is none of {}", names.join(", ")))
}

/// Of each seed.
const LEAST_STEPS: u64 = 500;
/// Violations shown in full.
const SHOWN: usize = 10;

fn main() -> ExitCode {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        tracing_subscriber::fmt().with_env_filter(filter).without_time().with_writer(std::io::stdout).init();
    }
    let arguments = Arguments::parse();
    mutant::set(arguments.mutant);
    if arguments.mutants {
        return every_mutant(&arguments);
    }
    if let Some(seed) = arguments.seed {
        let trace = if arguments.trace { Trace::On } else { Trace::Off };
        return one(seed, Options { trace, stretch: arguments.stretch });
    }
    let began_at = Instant::now();
    let outcomes = many(&arguments, arguments.keep_going || arguments.mutant.is_some());
    let violated: Vec<_> = outcomes.iter().filter(|o| !o.violations.is_empty()).collect();
    let steps: u64 = outcomes.iter().map(|o| o.steps).sum();
    let fewest = outcomes.iter().map(|o| o.steps).min().unwrap_or(0);
    println!(
        "{} seeds from {}, {steps} steps (at least {fewest} each), {:.1} s: {} violated",
        outcomes.len(),
        arguments.from,
        began_at.elapsed().as_secs_f64(),
        violated.len()
    );
    let mut healed: Vec<_> = outcomes.iter().map(|o| o.healed_in.as_secs_f64()).collect();
    healed.sort_by(f64::total_cmp);
    let at = |share: f64| {
        healed.get((healed.len() as f64 * share) as usize).or(healed.last()).copied().unwrap_or(0.0)
    };
    println!(
        "all out after the last fault: median {:.1} s, 99 % {:.1} s, worst {:.1} s",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    for outcome in violated.iter().take(SHOWN) {
        println!("  seed {}: {}", outcome.seed, outcome.violations.join("; "));
    }
    if violated.is_empty() {
        // Shorter ones would not be what they are counted as.
        let all = outcomes.len() as u64 == arguments.seeds && fewest >= LEAST_STEPS;
        return if all { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    println!("replay: ksched-sim --seed {} --stretch {} --trace", violated[0].seed, arguments.stretch);
    ExitCode::from(4)
}

fn one(seed: u64, options: Options) -> ExitCode {
    let outcome = match run(seed, options) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("seed {seed}: {} steps, fingerprint {:016x}", outcome.steps, outcome.fingerprint);
    outcome.violations.iter().for_each(|violation| println!("  {violation}"));
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(4) }
}

fn every_mutant(arguments: &Arguments) -> ExitCode {
    let mut all_caught = true;
    println!("{:<22} {:>8} {:>8}  first", "rule left out", "caught", "of");
    for mutant in Mutant::ALL {
        mutant::set(Some(mutant));
        let outcomes = many(arguments, true);
        let caught: Vec<_> = outcomes.iter().filter(|o| !o.violations.is_empty()).collect();
        let first = caught.first().map(|o| format!("{}: {}", o.seed, o.violations[0]));
        println!(
            "{:<22} {:>8} {:>8}  {}",
            format!("{mutant:?}"),
            caught.len(),
            outcomes.len(),
            first.unwrap_or_default()
        );
        all_caught &= !caught.is_empty();
    }
    if all_caught { ExitCode::SUCCESS } else { ExitCode::from(4) }
}

/// Runs seeds on every core; in order of the seeds.
fn many(arguments: &Arguments, keep_going: bool) -> Vec<Outcome> {
    let Arguments { from, seeds, stretch, .. } = *arguments;
    let options = Options { trace: Trace::Off, stretch };
    let (next, stopped) = (AtomicU64::new(from), AtomicU64::new(u64::MAX));
    let outcomes = Mutex::new(Vec::new());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || seed > stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    match run(seed, options) {
                        Ok(outcome) => {
                            if !keep_going && !outcome.violations.is_empty() {
                                stopped.fetch_min(seed, Ordering::Relaxed);
                            }
                            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                        }
                        Err(error) => {
                            eprintln!("no runtime: {error}");
                            return;
                        }
                    }
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}
