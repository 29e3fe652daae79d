//! The `ksched-client` command: data on stdout, all else on stderr.

#[cfg(feature = "experiment")]
mod baseline;
mod bench;
mod cluster;
mod cluster_run;
mod connection;
mod floors;
mod job_times;
mod onlooker;
mod output;
mod plan;
mod report;
mod schedule;
mod tail;
mod top;
mod verify;
mod view;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use self::output::Failure;

/// Schedules messages for Kafka topics and looks at what became of them.
///
/// Exit codes: 0 done, 1 failed for a reason that may pass, 2 wrong usage or refused
/// input, 3 not found or already fired, 4 verification failed.
#[derive(Debug, Parser)]
#[command(name = "ksched-client", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Schedules a message, or each line of the input.
    #[command(after_help = "Examples:
  ksched-client schedule --topic orders --delay 90s hello
  ksched-client schedule --topic reminders --at 'tomorrow 09:00 Europe/Berlin' --key user-7 --header kind=mail 'good morning'
  ksched-client schedule --topic orders --delay 1h --lines --file orders.txt --output json")]
    Schedule(schedule::Arguments),
    /// Shows a topic's records as they come, with their lateness.
    #[command(after_help = "Examples:
  ksched-client tail orders
  ksched-client tail ksched.dlq --from-start --count 10 --output json

Columns, of what ksched delivered: DUE, its due time; VISIBLE LATE, from then until it came here (`-` for what was there
before); and, in a pipe or from 122 columns on, APPEND LATE, from then to Kafka's time of the record, and HOPS, how often it
was moved in the wheel.")]
    Tail(tail::Arguments),
    /// Lists the workers and what they hold.
    #[command(after_help = "Example:\n  ksched-client workers --server 10.0.0.1:50051,10.0.0.2:50051")]
    Workers(cluster::Arguments),
    /// Lists the jobs and who holds them.
    #[command(after_help = "Example:\n  ksched-client jobs --server 10.0.0.1:50051 --output json")]
    Jobs(cluster::Arguments),
    /// Lists the due lanes: holder, what waits, rate and lateness of the last seconds.
    #[command(after_help = "Example:\n  ksched-client lanes --server 10.0.0.1:50051 --output json")]
    Lanes(cluster::Arguments),
    /// Shows the cluster live, on the whole terminal: lanes, workers, rates, lateness.
    Top(top::Arguments),
    /// Schedules a seeded plan of messages, reads what is delivered, judges it.
    #[command(after_help = "Examples:
  ksched-client bench --rate 1000 --duration 30s
  ksched-client bench --scenario burst --count 100000 --run-file burst.json")]
    Bench(bench::Arguments),
    /// Polls a database for what is due and produces it: what `bench --system` compares with.
    #[cfg(feature = "experiment")]
    #[command(after_help = "Example:
  ksched-client baseline --database-url postgres://me@127.0.0.1:5432/ksched --poll 100ms --kafka 127.0.0.1:9092")]
    Baseline(baseline::Arguments),
    /// Measures what the broker itself allows, for `bench --floors`.
    #[command(after_help = "Example:\n  ksched-client floors --kafka 127.0.0.1:9092 --out floors.json")]
    Floors(floors::Arguments),
    /// Judges an earlier run of bench by what is on the topic.
    #[command(after_help = "Example:\n  ksched-client verify --seed 42 --rate 1000 --duration 30s")]
    Verify(verify::Arguments),
    /// Makes a page of runs of bench, with plots.
    #[command(after_help = "Example:\n  ksched-client report ksched.json postgresql.json -o report.html")]
    Report(report::Arguments),
    /// Prints medians of runs of bench, and the ratios between systems.
    #[command(after_help = "Example:\n  ksched-client compare before.json after.json")]
    Compare(report::CompareArguments),
    /// Prints how far runs of bench come up to the speed that is aimed at.
    #[command(
        after_help = "Example:\n  ksched-client targets docs/results/targets/1-steady.json docs/results/targets/2-steady.json"
    )]
    Targets(report::TargetsArguments),
    /// Prints a completion script.
    #[command(after_help = "Example, for this shell alone:\n  source <(ksched-client completions bash)")]
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::exit(Err(Failure::MayPass(error.to_string()))),
    };
    let result = runtime.block_on(run(arguments.command));
    // A blocking call that still hangs must not keep the program.
    runtime.shutdown_background();
    output::exit(result)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Schedule(arguments) => Box::pin(schedule::run(arguments)).await,
        Command::Tail(arguments) => Box::pin(tail::run(arguments)).await,
        Command::Workers(arguments) => Box::pin(cluster::workers(arguments)).await,
        Command::Jobs(arguments) => Box::pin(cluster::jobs(arguments)).await,
        Command::Lanes(arguments) => Box::pin(cluster::lanes(arguments)).await,
        Command::Top(arguments) => Box::pin(top::run(arguments)).await,
        Command::Bench(arguments) => Box::pin(bench::run(arguments)).await,
        #[cfg(feature = "experiment")]
        Command::Baseline(arguments) => Box::pin(baseline::run(arguments)).await,
        Command::Floors(arguments) => Box::pin(floors::run(arguments)).await,
        Command::Verify(arguments) => Box::pin(verify::run(arguments)).await,
        Command::Report(arguments) => report::run(&arguments),
        Command::Compare(arguments) => report::compare(&arguments),
        Command::Targets(arguments) => report::targets(&arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "ksched-client", &mut script);
            output::write(&script)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn examples_are_understood() {
        let commands = Arguments::command();
        let lines = commands.get_subcommands().flat_map(|command| {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("\n  "), "{} has no example", command.get_name());
            let lines = help.lines().filter_map(|line| line.strip_prefix("  ksched-client"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        });
        for line in lines {
            // What stands between quotation marks is one word.
            let words = line.split('\'').enumerate().flat_map(|(n, text)| match n % 2 {
                0 => text.split_whitespace().collect(),
                _ => vec![text],
            });
            let parsed = Arguments::try_parse_from(std::iter::once("ksched-client").chain(words));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}
