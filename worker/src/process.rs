//! A whole worker: from its settings until it is told to stop.

use std::{convert::Infallible, sync::Arc, time::Duration};

use ksched_core::{
    cluster::{Cluster, DeliveredHeaders, Delivery, Geometry},
    host::Host,
};
use ksched_kafka::{Librdkafka, Log, Offset, Settings, Statistics, TopicPartition, librdkafka::Told};
use ksched_proto::v1;
use ksched_telemetry::{
    http,
    logging::{REPEAT_EVERY, Repeats},
    metrics::{KafkaProducers, Metrics, WorkerMetrics},
    readiness::Readiness,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    clock::{Clock, Machine},
    coordinator::{Coordinator, Coordinators},
    figures::Figures,
    job::Lease,
    memory::Budget,
    node::Node,
    session::Session,
    settings::{Config, IntakeSettings},
    targets::Targets,
};

/// Pause between two tries to register.
const REGISTER_PAUSE: Duration = Duration::from_millis(500);
/// The parts that `/readyz` tells of.
const COORDINATOR: &str = "coordinator";
const LOOK_AT_LEASE_EVERY: Duration = Duration::from_secs(1);
const KAFKA: &str = "kafka";
/// Between two questions to Kafka, which a worker that is busy asks enough.
const ASK_KAFKA_EVERY: Duration = Duration::from_secs(5);

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
    let readiness = Readiness::waiting_for(&[COORDINATOR, KAFKA]);
    metrics.show(&readiness);
    let listener = http::bind(&config.http, config.exposure).await?;
    let http_address = listener.local_addr()?.to_string();
    // Not the shutdown itself: a server that ends with it would end the hand-over as well.
    let serving = CancellationToken::new();
    let server = http::serve(listener, http::router(metrics, &readiness), serving);
    let coordinators = Arc::new(Coordinators::new(&config.coordinators)?);
    let parts = Parts {
        name: config.name.clone(),
        http_address,
        host: Arc::new(Machine),
        coordinators,
        metrics: WorkerMetrics::register(metrics),
        memory_limit: config.memory_limit,
        intake: config.intake.clone(),
        origin: rand::random(),
    };
    info!(
        name = config.name,
        version = env!("CARGO_PKG_VERSION"),
        coordinators = config.coordinators.join(","),
        "starting"
    );
    let waiting = tell_of_waiting(readiness.clone(), config.coordinators.join(", "));
    let statistics = Statistics::default();
    let shown = statistics.clone();
    metrics.show_kafka_producers(move || {
        let Told { queued, retries, timeouts, round_trip } = shown.told();
        KafkaProducers { queued, retries, timeouts, round_trip }
    });
    let (opened, mut log) = watch::channel(None);
    let open_log = move |cluster: &Cluster, kafka: &str| {
        let log = open_log(&config, &statistics, cluster, kafka)?;
        let inlet = TopicPartition { topic: cluster.due_topic().into(), partition: 0 };
        opened.send_replace(Some((log.clone(), inlet)));
        Ok(log)
    };
    let (round_trip, stopping) = (parts.metrics.kafka_round_trip.clone(), shutdown.clone());
    let ask_kafka = async {
        // Where Kafka is, a coordinator tells.
        if log.wait_for(Option::is_some).await.is_ok() {
            // Where it is by now: another cluster's follows when lanes were raised.
            let ask = move || match log.borrow().clone() {
                Some((log, inlet)) => log.offsets(std::slice::from_ref(&inlet), Offset::StableEnd).map(drop),
                None => Ok(()),
            };
            let answered = |took: Duration| round_trip.set(took.as_secs_f64());
            readiness.ask(KAFKA, ASK_KAFKA_EVERY, &stopping, ask, answered).await;
        }
        std::future::pending::<Infallible>().await
    };
    let work = work(parts, open_log, &readiness, shutdown);
    tokio::pin!(server);
    tokio::select! {
        result = work => result,
        result = &mut server => result.map_err(StartError::Serve),
        never = waiting => match never {},
        never = ask_kafka => match never {},
    }
}

/// Says when no coordinator serves this worker, where they should be, and why: at once,
/// then now and then until one does.
async fn tell_of_waiting(readiness: Readiness, coordinators: String) -> Infallible {
    let mut changes = readiness.watch();
    let mut waiting = Repeats::default();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return std::future::pending().await },
            () = sleep(REPEAT_EVERY) => {}
        }
        match changes.borrow_and_update().get(COORDINATOR).cloned().flatten() {
            None => waiting = Repeats::default(),
            Some(why) if waiting.tell().is_some() => {
                warn!("waiting for a coordinator at {coordinators}: {why}");
            }
            Some(_) => {}
        }
    }
}

/// What a worker is made of, besides its log.
#[derive(Debug)]
pub struct Parts<C> {
    pub name: String,
    pub http_address: String,
    pub host: Arc<dyn Host>,
    pub coordinators: Arc<C>,
    pub metrics: WorkerMetrics,
    /// Bytes.
    pub memory_limit: usize,
    pub intake: IntakeSettings,
    /// Random number of this process, part of the ids it makes.
    pub origin: u32,
}

/// Registers, works until the lease is gone, registers again. `open_log` is told the
/// cluster and where its Kafka is.
///
/// # Errors
/// As [`run`].
pub async fn work<L: Log + Clone, C: Coordinator>(
    parts: Parts<C>,
    open_log: impl Fn(&Cluster, &str) -> Result<L, ksched_kafka::Error>,
    readiness: &Readiness,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let clock = Arc::new(Clock::unconfirmed(parts.host.clone()));
    let mut node: Option<Arc<Node<L>>> = None;
    loop {
        let request = v1::RegisterWorkerRequest {
            name: parts.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            http_address: parts.http_address.clone(),
        };
        let registered_at = Instant::now();
        let registered = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            registered = parts.coordinators.register(request) => registered,
        };
        let (lease, ttl, told) = match registered {
            Ok(v1::RegisterWorkerResponse {
                lease: Some(lease),
                lease_ttl: Some(ttl),
                cluster: Some(cluster),
            }) => (lease, Duration::try_from(ttl).unwrap_or(Duration::from_secs(5)), cluster),
            Ok(_) => return Err(StartError::Cluster("an incomplete answer".to_owned())),
            Err(reason) => {
                debug!(%reason, "not registered");
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
                let log = open_log(&cluster, &told.kafka)?;
                slot.insert(Arc::new(build(&parts, log, cluster, clock.clone()))).clone()
            }
        };
        info!(worker_id = %lease.worker_id, cluster = %node.cluster.name, "registered");
        readiness.fine(COORDINATOR);
        let (coordinators, host) = (parts.coordinators.clone(), parts.host.clone());
        let session = Session::new(coordinators, host, clock.clone(), node, lease, registered_at, ttl);
        let lasting = session.lasting();
        tokio::select! {
            biased;
            () = session.run(shutdown.clone()) => {}
            never = tell_of_lease(&lasting, readiness) => match never {},
        }
        if shutdown.is_cancelled() {
            return Ok(());
        }
        readiness.failing(COORDINATOR, "the lease is gone");
    }
}

/// Lanes go on when nobody renews their lease; that they do so alone is told.
async fn tell_of_lease(lasting: &Lease, readiness: &Readiness) -> Infallible {
    loop {
        sleep(LOOK_AT_LEASE_EVERY).await;
        match lasting.left() {
            Duration::ZERO => readiness.failing(COORDINATOR, "none has renewed the lease; lanes go on"),
            _ => readiness.fine(COORDINATOR),
        }
    }
}

fn open_log(
    config: &Config,
    statistics: &Statistics,
    cluster: &Cluster,
    kafka: &str,
) -> Result<Librdkafka, ksched_kafka::Error> {
    Librdkafka::new(Settings {
        bootstrap: config.kafka.clone().unwrap_or_else(|| kafka.to_owned()),
        group: cluster.group(),
        client_id: config.name.clone(),
        properties: config.kafka_properties.clone(),
        statistics: Some(statistics.clone()),
    })
}

fn build<L: Log + Clone, C>(parts: &Parts<C>, log: L, cluster: Cluster, clock: Arc<Clock>) -> Node<L> {
    let (figures, host) = (Arc::new(Figures::default()), parts.host.clone());
    let lanes = Arc::clone(&figures);
    parts.metrics.lanes.ask(move || lanes.now(host.wall_ms()));
    Node {
        targets: Targets::new(log.clone(), parts.host.clone()),
        log,
        cluster,
        host: parts.host.clone(),
        clock,
        metrics: parts.metrics.clone(),
        figures,
        memory: Arc::new(Budget::new(parts.memory_limit)),
        intake: parts.intake.clone(),
        origin: parts.origin,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_nobody_renews_is_told_until_somebody_does() {
        let (ttl, readiness) = (Duration::from_secs(5), Readiness::waiting_for(&[COORDINATOR]));
        let lease = Arc::new(Lease::new(Instant::now(), ttl));
        let (lasting, told) = (Arc::clone(&lease), readiness.clone());
        let telling = tokio::spawn(async move { tell_of_lease(&lasting, &told).await });
        sleep(Duration::from_millis(4_500)).await;
        assert!(readiness.is_ready());
        sleep(Duration::from_secs(2)).await;
        assert!(!readiness.is_ready());
        lease.renewed(Instant::now(), ttl);
        sleep(Duration::from_secs(2)).await;
        assert!(readiness.is_ready());
        telling.abort();
    }
}
