//! `ksched-worker`: one process of workers' work.

use std::process::ExitCode;

use ksched_telemetry::{
    logging,
    metrics::Metrics,
    settings::{self, Given, Task},
    stop, traces,
};
use ksched_worker::{Config, settings::SETTINGS};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

const NAME: &str = "ksched-worker";
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() -> ExitCode {
    let command = settings::command(NAME, "Leases jobs of a ksched cluster and runs them", VERSION, SETTINGS);
    let matches = command.get_matches();
    let mut given = Given::gather(SETTINGS, &matches, settings::environment());
    let config = match (Config::read(&mut given), settings::task(&matches)) {
        (Err(mistakes), _) => {
            eprintln!("{mistakes}");
            return ExitCode::from(2);
        }
        (Ok(_), Task::Check) => {
            given.notes().iter().for_each(|note| eprintln!("note: {note}"));
            println!("ok");
            return ExitCode::SUCCESS;
        }
        (Ok(_), Task::Show) => {
            print!("{}", given.show());
            return ExitCode::SUCCESS;
        }
        (Ok(config), Task::Run) => config,
    };
    if let Err(reason) = logging::init(config.log_format, &config.log_filter) {
        eprintln!("{reason}");
        return ExitCode::from(2);
    }
    given.notes().iter().for_each(|note| warn!("{note}"));
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(reason) => {
            error!(%reason, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(config));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}

async fn run(config: Config) -> ExitCode {
    let traces = match traces::init(NAME, &config.name, VERSION) {
        Ok(traces) => traces,
        Err(reason) => {
            error!(%reason, "cannot go on");
            return ExitCode::from(2);
        }
    };
    let metrics = Metrics::new(&config.name, VERSION);
    let shutdown = CancellationToken::new();
    let result = match stop::on_signal(shutdown.clone()) {
        Ok(()) => ksched_worker::run(config, &metrics, shutdown).await,
        Err(reason) => Err(reason.into()),
    };
    traces.stop().await;
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            error!(%reason, "cannot go on");
            ExitCode::from(if reason.is_configuration() { 2 } else { 1 })
        }
    }
}
