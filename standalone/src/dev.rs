//! `ksched dev`: an embedded broker, a coordinator and a worker in one process.
//!
//! The broker (crate `noida-db`) speaks Kafka's protocol to any client, keeps all
//! in memory and is not Apache Kafka: this is for a first try, not for messages
//! that matter.

mod broker;

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use ksched_server::{
    config::Config as CoordinatorConfig,
    coordinator::{Coordinator, StartError},
    store::memory::MemoryStore,
};
use ksched_telemetry::{logging, metrics::Metrics, stop, traces};
use ksched_worker::Config as WorkerConfig;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    demo,
    programs::{lacking, path},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// HOST:PORT of the gRPC door; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    /// HOST:PORT of the coordinator's /metrics, /healthz and /readyz.
    #[arg(long, default_value = "127.0.0.1:8000")]
    http: SocketAddr,
    /// HOST:PORT of the worker's /metrics, /healthz and /readyz.
    #[arg(long, default_value = "127.0.0.1:8001")]
    worker_http: SocketAddr,
    /// HOST:PORT of the embedded Kafka broker.
    #[arg(long, default_value = "127.0.0.1:9092")]
    kafka: SocketAddr,
    /// Schedule a short run of messages, show it, prove that none was lost, and end.
    /// Takes free ports.
    #[arg(long)]
    demo: bool,
    /// Messages a second of the demo.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Messages of the demo.
    #[arg(long, default_value_t = 5_000)]
    count: u64,
    /// Which log lines are written to stderr
    #[arg(long, default_value = "warn,librdkafka=off,rdkafka=off")]
    log_filter: String,
}

/// A topic to play with.
const TOPIC: &str = "orders";
/// How a shell tells of a program that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;
/// How long the parts may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// `HOST:PORT` of each door.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) kafka: String,
    pub(crate) grpc: String,
    http: String,
}

/// What runs, and where.
struct Running {
    addresses: Addresses,
    /// Cancelled by a signal.
    shutdown: CancellationToken,
    coordinator: CancellationToken,
    worker: CancellationToken,
    parts: JoinSet<Result<(), String>>,
    /// Ends with this.
    _broker: JoinSet<()>,
}

/// Runs until Ctrl-C, or until the demo has ended.
pub(crate) async fn run(arguments: Arguments) -> ExitCode {
    if let Err(error) = logging::init(logging::Format::Text, &arguments.log_filter) {
        return complain(2, error);
    }
    let traces = match traces::init("ksched-dev", "dev", env!("CARGO_PKG_VERSION")) {
        Ok(traces) => traces,
        Err(error) => return complain(2, error),
    };
    let mut running = match start(&arguments).await {
        Ok(running) => running,
        Err(why) => return complain(1, why),
    };
    let addresses = running.addresses.clone();
    let code = if arguments.demo {
        tokio::select! {
            code = demo::run(&addresses, arguments.rate, arguments.count) => code,
            failed = running.until_stopped() => match failed {
                Some(code) => code,
                None => complain(INTERRUPTED, "interrupted: the demo has no result"),
            },
        }
    } else {
        if let Err(why) = demo::make_topic(&addresses.kafka, TOPIC, 1).await {
            return complain(1, why);
        }
        introduce(&addresses);
        running.until_stopped().await.unwrap_or(ExitCode::SUCCESS)
    };
    running.stop().await;
    traces.stop().await;
    code
}

async fn start(arguments: &Arguments) -> Result<Running, String> {
    let place = |address: SocketAddr| {
        let port = if arguments.demo { 0 } else { address.port() };
        SocketAddr::new(address.ip(), port)
    };
    if !arguments.kafka.ip().is_loopback() {
        return Err(format!("{} is not on loopback: the embedded broker has no protection", arguments.kafka));
    }
    let (kafka, broker) = broker::start(place(arguments.kafka)).await.map_err(|error| {
        format!("cannot listen on {}: {error}; --kafka HOST:PORT takes another", arguments.kafka)
    })?;
    let kafka = kafka.to_string();
    let shutdown = CancellationToken::new();
    let (stop_coordinator, stop_worker) = (CancellationToken::new(), CancellationToken::new());
    stop::on_signal(shutdown.clone()).map_err(|error| error.to_string())?;
    let mut parts = JoinSet::new();
    let config = CoordinatorConfig {
        name: "dev".to_owned(),
        listen: place(arguments.listen).to_string(),
        http: place(arguments.http).to_string(),
        kafka: kafka.clone(),
        kafka_properties: patient(),
        ..CoordinatorConfig::default()
    };
    let coordinator = Coordinator::start(config, Arc::new(MemoryStore::new()), stop_coordinator.clone())
        .await
        .map_err(|error: StartError| error.to_string())?;
    let (grpc, http) = (coordinator.grpc_address().to_string(), coordinator.http_address().to_string());
    parts.spawn(async move { coordinator.run().await.map_err(|failure| failure.to_string()) });
    let config = WorkerConfig {
        name: "dev".to_owned(),
        coordinators: vec![grpc.clone()],
        http: place(arguments.worker_http).to_string(),
        kafka: Some(kafka.clone()),
        kafka_properties: patient(),
        ..WorkerConfig::default()
    };
    let stopping = stop_worker.clone();
    parts.spawn(async move {
        let metrics = Metrics::new(&config.name, env!("CARGO_PKG_VERSION"));
        ksched_worker::run(config, &metrics, stopping).await.map_err(|error| error.to_string())
    });
    Ok(Running {
        addresses: Addresses { kafka, grpc, http },
        shutdown,
        coordinator: stop_coordinator,
        worker: stop_worker,
        parts,
        _broker: broker,
    })
}

/// The embedded broker answers a fetch with all that a partition holds, whatever was asked for.
fn patient() -> BTreeMap<String, String> {
    BTreeMap::from([("receive.message.max.bytes".to_owned(), i32::MAX.to_string())])
}

impl Running {
    /// Ctrl-C, which is `None`, or the end of a part, which is a failure.
    async fn until_stopped(&mut self) -> Option<ExitCode> {
        tokio::select! {
            () = self.shutdown.cancelled() => None,
            ended = self.parts.join_next() => Some(match ended {
                Some(Ok(Err(why))) => complain(1, why),
                _ => complain(1, "a part ended although nobody had asked it to"),
            }),
        }
    }

    async fn stop(mut self) {
        // The worker first: it hands its jobs back to the coordinator.
        let stopped = async {
            self.worker.cancel();
            self.parts.join_next().await;
            self.coordinator.cancel();
            while self.parts.join_next().await.is_some() {}
        };
        if timeout(STOP_WITHIN, stopped).await.is_err() {
            eprintln!("ksched dev: some parts did not stop in time");
        }
    }
}

fn introduce(addresses: &Addresses) {
    let Addresses { kafka, grpc, http } = addresses;
    let path = path();
    println!(
        "ksched dev is up. Everything is kept in memory and gone when it ends; the broker is not Apache Kafka.\n\
         \n\
         \x20 Kafka   {kafka}   (with an empty topic {TOPIC})\n\
         \x20 gRPC    {grpc}\n\
         \x20 HTTP    http://{http}   (a live page at /; /metrics, /healthz, /readyz)\n\
         \n\
         Try, in another terminal:\n\
         \n\
         \x20 export {path}\n\
         \x20 ksched-client tail --server {grpc} {TOPIC}   # in a terminal of its own: Ctrl-C ends it\n\
         \x20 ksched-client schedule --server {grpc} --topic {TOPIC} --delay 5s 'by the client'\n\
         \x20 grpcurl -plaintext -d '{{\"topic\":\"{TOPIC}\",\"delay\":\"5s\",\"value_text\":\"by gRPC\"}}' {grpc} ksched.v1.Scheduler/Schedule\n\
         \x20 echo 'by a record' | kcat -P -b {kafka} -t SCHEDULED_MESSAGES -H topic={TOPIC} -H \"time=$(date -ud '+5 sec' '+%F %T') UTC\""
    );
    if let Some(missing) = lacking(&["ksched-client", "grpcurl", "kcat"]) {
        println!("\n{missing}");
    }
    println!("\nCtrl-C ends it.");
}

fn complain(code: u8, why: impl std::fmt::Display) -> ExitCode {
    eprintln!("ksched dev: {why}");
    ExitCode::from(code)
}
