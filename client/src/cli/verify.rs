//! `verify`: judges an earlier run of `bench` by what is on the topic.

use clap::Args;
use ksched_client::{
    bench::{self, RunId, recheck::Check},
    reader::Since,
};

use crate::{
    bench::conclude,
    connection::{KafkaArguments, ServerArguments},
    output::{Failure, Format},
    plan::PlanArguments,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    plan: PlanArguments,
    /// The seed of the plan, as bench told it.
    #[arg(long)]
    seed: u64,
    /// The run, as bench told it; the last one of the seed if absent.
    #[arg(long)]
    run: Option<RunId>,
    /// Reads only from this append time on: RFC 3339 or epoch milliseconds.
    #[arg(long, value_parser = crate::plan::at)]
    since: Option<i64>,
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// How the report is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let (log, _) = arguments.kafka.connect(&arguments.server).await?;
    let check = Check {
        shape: arguments.plan.shape(arguments.seed)?,
        topic: arguments.plan.topic.clone(),
        run: arguments.run,
        from: arguments.since.map_or(Since::Start, Since::At),
        bounds: arguments.plan.bounds(),
    };
    let checked = tokio::task::spawn_blocking(move || bench::recheck(&check, log));
    let report = checked.await.map_err(|_| Failure::MayPass("the program is ending".to_owned()))??;
    conclude(&report, arguments.output)
}
