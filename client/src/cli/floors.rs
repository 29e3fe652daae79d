//! `floors`: what the broker itself allows, for the ratios that a run's figures are quoted as.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use ksched_client::{
    bench::floors::{self, Options},
    clock, kafka,
};
use ksched_report::run::Floor;

use crate::{
    connection::KafkaArguments,
    output::{self, Failure, Format},
    plan::span,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Messages that B1 and B2 copy.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    count: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Messages a second of B3.
    #[arg(long, default_value_t = 20_000.0)]
    rate: f64,
    /// How long B3 is measured, after its warm-up.
    #[arg(long, default_value = "30s", value_parser = span)]
    duration: Duration,
    /// Partitions of a copy, each with a thread; threads of B3.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=64))]
    lanes: i32,
    /// Writes them into this file, for `bench --floors`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// How they are printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.kafka.is_told()?;
    if !(arguments.rate.is_finite() && arguments.rate > 0.0) {
        return Err(Failure::Refused("--rate must be above 0".to_owned()));
    }
    let log = arguments.kafka.connect_directly()?;
    let options = Options {
        topic: format!("ksched-floor-{}", clock::now_ms()),
        count: arguments.count,
        size: arguments.size,
        rate: arguments.rate,
        duration: arguments.duration,
        lanes: arguments.lanes,
    };
    let measured = tokio::task::spawn_blocking(move || measure(&log, &options)).await;
    let floors = measured.map_err(|_| Failure::MayPass("the program is ending".to_owned()))??;
    if let Some(file) = &arguments.out {
        std::fs::write(file, serde_json::to_vec_pretty(&floors).unwrap_or_default())?;
        output::note(&format!("written: {}", file.display()));
    }
    match arguments.output {
        Format::Json => output::json(&floors),
        Format::Table => output::write(table(&floors).as_bytes()),
    }
}

fn measure(
    log: &std::sync::Arc<ksched_kafka::Librdkafka>,
    options: &Options,
) -> Result<Vec<Floor>, ksched_kafka::Error> {
    let topic = |part: &str| format!("{}-{part}", options.topic);
    let make = |name: &str| {
        kafka::make_target(log, name, options.lanes)?;
        Ok::<_, ksched_kafka::Error>(name.to_owned())
    };
    let source = make(&topic("source"))?;
    output::note("floors: filling the source");
    floors::fill(log.as_ref(), &source, options)?;
    let mut all = Vec::new();
    output::note("floors: B1");
    all.push(floors::b1(log.as_ref(), &source, &make(&topic("b1"))?, options)?);
    output::note("floors: B2");
    all.push(floors::b2(log.as_ref(), &source, &make(&topic("b2"))?, options)?);
    output::note("floors: B3");
    all.push(floors::b3(log, &make(&topic("b3"))?, options)?);
    Ok(all)
}

/// Floors that [`run`] wrote.
pub(crate) fn read(file: &std::path::Path) -> Result<Vec<Floor>, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::Refused(format!("{}: {error}", file.display()));
    let text = std::fs::read(file).map_err(|error| bad(&error))?;
    serde_json::from_slice(&text).map_err(|error| bad(&error))
}

fn table(floors: &[Floor]) -> String {
    let row = |floor: &Floor| {
        let rate = floor.rate_per_s.map_or_else(String::new, |rate| format!("{rate:.0}"));
        let visible = floor.visible.as_ref();
        let ms = |value: Option<f64>| value.map_or_else(String::new, |ms| format!("{ms:.1}"));
        let (p50, p99) = (visible.map(|v| v.p50_ms), visible.map(|v| v.p99_ms));
        format!("{:<4}  {:<44}  {rate:>9}  {:>8}  {:>8}\n", floor.name, floor.what, ms(p50), ms(p99))
    };
    let head = format!("{:<4}  {:<44}  {:>9}  {:>8}  {:>8}\n", "", "WHAT", "PER S", "P50 MS", "P99 MS");
    floors.iter().fold(head, |table, floor| table + &row(floor))
}
