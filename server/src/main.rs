//! The coordinator as a process: settings, logging, start, run, exit code.

use std::process::ExitCode;

use ksched_server::{
    config::{Config, SETTINGS},
    coordinator::{Coordinator, connect_store},
};
use ksched_telemetry::{
    logging,
    settings::{self, Given, Task},
    stop, traces,
};
use tokio_util::sync::CancellationToken;

const ABOUT: &str = "Coordinator of ksched: takes schedules and hands out jobs";
const FAILED: u8 = 1;
const WRONG_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let command = settings::command("ksched-server", ABOUT, env!("CARGO_PKG_VERSION"), SETTINGS);
    let matches = command.get_matches();
    let mut given = Given::gather(SETTINGS, &matches, settings::environment());
    let config = match Config::read(&mut given) {
        Ok(config) => config,
        Err(mistakes) => return complain(WRONG_CONFIGURATION, mistakes),
    };
    match settings::task(&matches) {
        Task::Check => {
            given.notes().iter().for_each(|note| eprintln!("note: {note}"));
            println!("ok");
            ExitCode::SUCCESS
        }
        Task::Show => {
            print!("{}", given.show());
            ExitCode::SUCCESS
        }
        Task::Run => run(config, given.notes()),
    }
}

#[tokio::main]
async fn run(config: Config, notes: &[String]) -> ExitCode {
    if let Err(error) = logging::init(config.log_format, &config.log_filter) {
        return complain(WRONG_CONFIGURATION, error);
    }
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    let (name, version) = (config.name.as_str(), env!("CARGO_PKG_VERSION"));
    tracing::info!(name, version, kafka = config.kafka, store = %config.store, "starting");
    let shutdown = CancellationToken::new();
    if let Err(error) = stop::on_signal(shutdown.clone()) {
        return give_up(FAILED, error);
    }
    let traces = match traces::init("ksched-server", name, version) {
        Ok(traces) => traces,
        Err(error) => return give_up(WRONG_CONFIGURATION, error),
    };
    let started = match connect_store(&config).await {
        Ok(store) => Coordinator::start(config, store, shutdown.clone()).await,
        Err(error) => Err(error),
    };
    let code = match started {
        Ok(coordinator) => match coordinator.run().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => give_up(FAILED, failure),
        },
        Err(_) if shutdown.is_cancelled() => ExitCode::SUCCESS,
        Err(error) if error.is_configuration() => give_up(WRONG_CONFIGURATION, error),
        Err(error) => give_up(FAILED, error),
    };
    traces.stop().await;
    code
}

fn give_up(code: u8, reason: impl std::fmt::Display) -> ExitCode {
    tracing::error!(%reason, "cannot go on");
    ExitCode::from(code)
}

/// Before there is a log.
fn complain(code: u8, why: impl std::fmt::Display) -> ExitCode {
    eprintln!("ksched-server: {why}");
    ExitCode::from(code)
}
