//! `verify`: judges an earlier run of `bench` by what is on the topic.

#[cfg(feature = "experiment")]
use std::path::PathBuf;

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
    #[cfg_attr(feature = "experiment", arg(long, required_unless_present = "ledger"))]
    #[cfg_attr(not(feature = "experiment"), arg(long, required = true))]
    seed: Option<u64>,
    /// The run's ledger: plan and topic are taken from it, and what was acknowledged, and when, is known. A run that
    /// was continued can be judged with it alone.
    #[cfg(feature = "experiment")]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "run"])]
    ledger: Option<PathBuf>,
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
        shape: arguments.plan.shape(arguments.seed.unwrap_or_default())?,
        topic: arguments.plan.topic.clone(),
        run: arguments.run,
        from: arguments.since.map_or(Since::Start, Since::At),
        bounds: arguments.plan.bounds(),
        past: None,
    };
    #[cfg(feature = "experiment")]
    let check = match &arguments.ledger {
        Some(file) => {
            let (shape, topic, past) = bench::read_ledger(file)?;
            Check { shape, topic, past: Some(past), ..check }
        }
        None => check,
    };
    let checked = tokio::task::spawn_blocking(move || bench::recheck(&check, log));
    let report = checked.await.map_err(|_| Failure::MayPass("the program is ending".to_owned()))??;
    conclude(&report, arguments.output)
}
