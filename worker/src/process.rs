//! A whole worker: from its settings until it is told to stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ksched_core::cluster::{Cluster, DeliveredHeaders, Delivery, Geometry};
use ksched_kafka::{Librdkafka, Log, Settings};
use ksched_proto::v1;
use ksched_telemetry::{
    http,
    metrics::{Metrics, WorkerMetrics},
    readiness::Readiness,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    clock::Clock, coordinator::Coordinators, memory::Budget, node::Node, session::Session, settings::Config,
    targets::Targets,
};

/// Pause between two tries to register.
const REGISTER_PAUSE: Duration = Duration::from_millis(500);
/// The part that `/readyz` tells of.
const COORDINATOR: &str = "coordinator";

/// A worker cannot start as it is set.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Http(#[from] http::BindError),
    #[error("coordinator address: {0}")]
    Address(#[from] tonic::transport::Error),
    #[error("the coordinator tells no usable cluster: {0}")]
    Cluster(String),
    #[error(transparent)]
    Kafka(#[from] ksched_kafka::Error),
    #[error("HTTP server: {0}")]
    Serve(#[from] std::io::Error),
}

impl StartError {
    /// Whether only changed settings help.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Http(_) | Self::Address(_) | Self::Kafka(_) => true,
            Self::Cluster(_) | Self::Serve(_) => false,
        }
    }
}

/// Runs a worker until `shutdown`; its lanes are handed over when this returns.
///
/// # Errors
/// Only what no waiting mends: an absent coordinator is waited for.
pub async fn run(config: Config, metrics: &Metrics, shutdown: CancellationToken) -> Result<(), StartError> {
    let readiness = Readiness::waiting_for(&[COORDINATOR]);
    let listener = http::bind(&config.http, config.exposure).await?;
    let http_address = listener.local_addr()?.to_string();
    // Not the shutdown itself: a server that ends with it would end the hand-over as well.
    let serving = CancellationToken::new();
    let server = http::serve(listener, http::router(metrics, &readiness), serving);
    let work = work(config, http_address, WorkerMetrics::register(metrics), &readiness, shutdown);
    tokio::pin!(server);
    tokio::select! {
        result = work => result,
        result = &mut server => result.map_err(StartError::Serve),
    }
}

/// Registers, works until the lease is gone, registers again.
async fn work(
    config: Config,
    http_address: String,
    metrics: WorkerMetrics,
    readiness: &Readiness,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let coordinators = Arc::new(Coordinators::new(&config.coordinators)?);
    let clock = Arc::new(Clock::unconfirmed());
    let mut node: Option<Arc<Node<Librdkafka>>> = None;
    loop {
        let request = v1::RegisterWorkerRequest {
            name: config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            http_address: http_address.clone(),
        };
        let registered_at = Instant::now();
        let registered = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            registered = coordinators.register(request) => registered,
        };
        let (lease, ttl, told) = match registered {
            Ok(v1::RegisterWorkerResponse {
                lease: Some(lease),
                lease_ttl: Some(ttl),
                cluster: Some(cluster),
            }) => (lease, Duration::try_from(ttl).unwrap_or(Duration::from_secs(5)), cluster),
            Ok(_) => return Err(StartError::Cluster("an incomplete answer".to_owned())),
            Err(reason) => {
                warn!(%reason, "waiting for a coordinator");
                readiness.failing(COORDINATOR, reason.to_string());
                sleep(REGISTER_PAUSE).await;
                continue;
            }
        };
        let cluster = cluster(&told).map_err(StartError::Cluster)?;
        let node = match &mut node {
            // Geometry is fixed for ever, so the same node serves every registration.
            Some(node) if node.cluster == cluster => node.clone(),
            slot => {
                slot.insert(Arc::new(build(&config, cluster, &told, clock.clone(), metrics.clone())?)).clone()
            }
        };
        info!(worker_id = %lease.worker_id, cluster = %node.cluster.name, "registered");
        readiness.fine(COORDINATOR);
        let session = Session::new(coordinators.clone(), clock.clone(), node, lease, registered_at, ttl);
        session.run(shutdown.clone()).await;
        if shutdown.is_cancelled() {
            return Ok(());
        }
        readiness.failing(COORDINATOR, "the lease is gone");
    }
}

fn build(
    config: &Config,
    cluster: Cluster,
    told: &v1::Cluster,
    clock: Arc<Clock>,
    metrics: WorkerMetrics,
) -> Result<Node<Librdkafka>, StartError> {
    let log = Librdkafka::new(Settings {
        bootstrap: config.kafka.clone().unwrap_or_else(|| told.kafka.clone()),
        group: cluster.group(),
        client_id: config.name.clone(),
        properties: config.kafka_properties.clone(),
    })?;
    Ok(node(log, config, cluster, clock, metrics))
}

fn node<L: Log + Clone>(
    log: L,
    config: &Config,
    cluster: Cluster,
    clock: Arc<Clock>,
    metrics: WorkerMetrics,
) -> Node<L> {
    Node {
        targets: Arc::new(Targets::new(log.clone())),
        log,
        cluster,
        clock,
        metrics,
        memory: Arc::new(Budget::new(config.memory_limit)),
        intake: config.intake.clone(),
        origin: rand::random(),
    }
}

/// The cluster as a coordinator tells it.
fn cluster(told: &v1::Cluster) -> Result<Cluster, String> {
    let geometry = told.geometry.as_ref().ok_or("no geometry")?;
    let span_ms = |span: &Option<prost_types::Duration>| {
        span.as_ref().map(|d| d.seconds * 1_000 + i64::from(d.nanos) / 1_000_000).ok_or("a span is missing")
    };
    let geometry = Geometry {
        slot_width_ms: span_ms(&geometry.slot_width)?,
        ratio: geometry.ratio,
        levels: geometry.levels,
        lanes: u16::try_from(geometry.lanes).map_err(|e| e.to_string())?,
        lease_ttl_ms: span_ms(&geometry.lease_ttl)?,
    };
    geometry.check().map_err(|e| e.to_string())?;
    Ok(Cluster {
        name: told.name.clone(),
        geometry,
        topic_prefix: told.topic_prefix.clone(),
        intake_topic: told.intake_topic.clone(),
        intake_partitions: told.intake_partitions,
        dead_letter_topic: told.dead_letter_topic.clone(),
        delivery: match told.delivery() {
            v1::Delivery::ExactlyOnce => Delivery::ExactlyOnce,
            v1::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
            v1::Delivery::Unspecified => return Err("no delivery".to_owned()),
        },
        delivered_headers: match told.delivered_headers() {
            v1::DeliveredHeaders::All => DeliveredHeaders::All,
            v1::DeliveredHeaders::Id => DeliveredHeaders::Id,
            v1::DeliveredHeaders::None => DeliveredHeaders::None,
            v1::DeliveredHeaders::Unspecified => return Err("no delivered headers".to_owned()),
        },
        compat_stamps: told.compat_stamps,
    })
}
