//! Starting: what must be there first, and in which order.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ksched_core::{cluster::Cluster, host::Host, wheel::Inlet};
use ksched_kafka::{
    self as kafka, Librdkafka, Log, Offset, TopicPartition,
    append::{Appender, Limits},
    topics,
};
use ksched_telemetry::{
    http,
    metrics::{CoordinatorMetrics, KafkaProducers, Metrics},
    readiness::Readiness,
};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Coordinator, Ended, StartError, spawn, watch};
use crate::{
    activity::{Activity, Teller},
    admin::Admin,
    config::{Config, StoreAddress},
    grpc,
    host::Machine,
    job_log,
    job_maker::{JobMaker, membership::membership, observed::Observed, passed::open_passed},
    leasing::{self, Leasing, Views},
    patience::{Impatience, wait_for},
    scheduler::{Placer, Scheduler},
    store::{CoordinatorInfo, SettingsError, Store, etcd, memory::MemoryStore},
    web,
};

/// Buckets waiting to be told to the store; the job maker finds the rest.
const PASSED_QUEUE: usize = 64;
/// A name server that does not answer must not hold the start up.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(2);
/// Calls in progress at the shutdown wait for Kafka this long.
const LAND_TIMEOUT: Duration = Duration::from_secs(10);

/// The store that the settings name. An etcd may be away still.
///
/// # Errors
/// The addresses make no sense, or the user is refused.
pub async fn connect_store(config: &Config) -> Result<Arc<dyn Store>, StartError> {
    match &config.store {
        StoreAddress::Memory => Ok(Arc::new(MemoryStore::new())),
        StoreAddress::Etcd { endpoints, user } => {
            let user = user.clone().map(|(name, password)| (name, password.0));
            let options = etcd::Options { endpoints: endpoints.clone(), user };
            Ok(Arc::new(etcd::EtcdStore::connect(&options, &config.cluster.name).await?))
        }
    }
}

impl Coordinator {
    /// Starts a coordinator. Kafka and the store may come up up to two minutes later;
    /// `/healthz` answers from the beginning, the gRPC door opens when both are there.
    /// Cancelling `shutdown` stops it.
    ///
    /// # Errors
    /// What is missing or wrong. What was started by then is stopped.
    pub async fn start(
        config: Config,
        store: Arc<dyn Store>,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        // Whatever was started ends with this if a later step fails.
        let shutdown = shutdown.child_token();
        let guard = shutdown.clone().drop_guard();
        let mut tasks = JoinSet::new();

        let metrics = Metrics::new(&config.name, env!("CARGO_PKG_VERSION"));
        let counters = CoordinatorMetrics::register(&metrics);
        let readiness = Readiness::waiting_for(&["kafka", "store"]);
        metrics.show(&readiness);
        let door = web::Door::default();
        // Bound later, when what it needs is there; refused before anything is touched.
        http::may_bind(&config.listen, config.exposure).await?;
        let listener = http::bind(&config.http, config.exposure).await?;
        let http_address = listener.local_addr()?;
        spawn(
            &mut tasks,
            "http",
            http::serve(
                listener,
                http::router(&metrics, &readiness).merge(web::router(&door, &readiness)),
                shutdown.clone(),
            ),
        );

        settle(&store, &config, &shutdown).await?;
        let log = open_log(&config, &metrics)?;
        let warnings = prepare_topics(&log, &config, &shutdown).await?;
        let cluster = Arc::new(config.cluster.clone());
        let listener = http::bind(&config.listen, config.exposure).await?;
        let grpc_address = listener.local_addr()?;
        let appender =
            Appender::new(&log, Limits::default(), cluster.due_topic().into()).map_err(StartError::Kafka)?;
        let (views, refresher) = leasing::views(Arc::clone(&store), &cluster);
        spawn(&mut tasks, "view of the store", endless(refresher.run(shutdown.clone())));
        let (passed, asked) = mpsc::channel(PASSED_QUEUE);
        let open_passed = open_passed(Arc::clone(&store), views.clone(), asked, shutdown.clone());
        spawn(&mut tasks, "drains asked for", endless(open_passed));
        let host: Arc<dyn Host> = Arc::new(Machine);
        let placer = Placer::new(
            config.cluster.clone(),
            Arc::new(appender.clone()),
            Arc::clone(&host),
            rand::random(),
            counters.clone(),
            passed,
        );

        let (finished, to_log) = mpsc::channel(job_log::QUEUE);
        let topic = cluster.job_log_topic().into();
        let log_jobs = job_log::write(topic, log.clone(), Arc::clone(&host), to_log, shutdown.clone());
        spawn(&mut tasks, "job log", endless(log_jobs));
        let observed = Arc::new(Observed::default());
        let activity = Activity::new(finished);
        let teller = Teller {
            activity: activity.clone(),
            counters: counters.clone(),
            observed: Arc::clone(&observed),
        };
        let job_leasing = Leasing::new(
            Arc::clone(&store),
            views.clone(),
            Arc::clone(&cluster),
            &config.kafka,
            Arc::clone(&host),
            activity,
            shutdown.clone(),
        );
        let admin = Admin::new(views.clone(), Arc::clone(&cluster), &config.kafka, teller.clone());
        let health = tonic_health::server::HealthReporter::new();
        let report = grpc::report_health(health.clone(), readiness.clone(), shutdown.clone());
        spawn(&mut tasks, "health", endless(report));
        let placer = Arc::new(placer);
        let scheduler = Scheduler::new(Arc::clone(&placer), shutdown.clone());
        let routes = grpc::routes(scheduler, job_leasing, admin, &health)?;
        let serve = grpc::serve(listener, routes, counters.calls.clone(), shutdown.clone());
        let closing = appender.clone();
        spawn(&mut tasks, "grpc", async move {
            let served = serve.await;
            let in_flight = closing.close(LAND_TIMEOUT).await;
            if in_flight > 0 {
                tracing::warn!(in_flight, "appends were not acknowledged before the end");
            }
            served
        });

        let info = CoordinatorInfo {
            name: config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            grpc_address: reached_at(grpc_address, &config.kafka).await.to_string(),
            http_address: reached_at(http_address, &config.kafka).await.to_string(),
        };
        door.open(web::Parts {
            info: info.clone(),
            config: &config,
            views: views.clone(),
            teller,
            log: log.clone(),
            host: Arc::clone(&host),
            readiness: readiness.clone(),
            placer,
            shutdown: shutdown.clone(),
        });
        let background = Background {
            log,
            appender,
            store,
            cluster,
            views,
            host,
            readiness: readiness.clone(),
            counters,
            observed,
            warnings,
        };
        background.spawn(info, &mut tasks, &shutdown);

        tracing::info!(grpc = %grpc_address, http = %http_address, name = config.name, "coordinator is up");
        drop(guard.disarm());
        Ok(Self { grpc_address, http_address, readiness, shutdown, tasks })
    }
}

/// Where others reach what is bound to `bound`: of a door that is open on all addresses, at the
/// one by which Kafka is reached, as far as that can be told.
async fn reached_at(bound: SocketAddr, kafka: &str) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let broker = kafka.split(',').next().unwrap_or_default().trim();
    let broker = broker.split_once("://").map_or(broker, |(_, broker)| broker);
    let own = async {
        // A door on `::` takes both families.
        let families = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        for any in families.into_iter().filter(|any| any.is_ipv4() || bound.is_ipv6()) {
            // Nothing is sent: to connect such a socket is to look into the routes.
            let socket = UdpSocket::bind((any, 0)).await.ok()?;
            if socket.connect(broker).await.is_ok() {
                return socket.local_addr().ok();
            }
        }
        None
    };
    let own = timeout(ROUTE_TIMEOUT, own).await.ok().flatten();
    own.map_or(bound, |own| SocketAddr::new(own.ip(), bound.port()))
}

/// A part that only ends by the shutdown.
async fn endless(work: impl Future<Output = ()>) -> Result<(), Infallible> {
    work.await;
    Ok(())
}

/// Agrees with the cluster on its settings.
async fn settle(
    store: &Arc<dyn Store>,
    config: &Config,
    shutdown: &CancellationToken,
) -> Result<(), StartError> {
    let will_pass = |error: &SettingsError| matches!(error, SettingsError::Store(_));
    let attempt = || {
        let (store, cluster) = (Arc::clone(store), config.cluster.clone());
        async move { store.settle(&cluster).await }
    };
    match wait_for(&format!("the store ({})", config.store), shutdown, will_pass, attempt).await {
        Ok(()) => Ok(()),
        Err(Impatience::Failed(error)) => Err(StartError::Settings(error)),
        Err(Impatience::Stopped) => Err(StartError::Stopped),
    }
}

fn open_log(config: &Config, metrics: &Metrics) -> Result<Librdkafka, StartError> {
    let statistics = kafka::Statistics::default();
    let shown = statistics.clone();
    metrics.show_kafka_producers(move || {
        let kafka::librdkafka::Told { queued, retries, timeouts, round_trip } = shown.told();
        KafkaProducers { queued, retries, timeouts, round_trip }
    });
    let settings = kafka::Settings {
        bootstrap: config.kafka.clone(),
        group: config.cluster.group(),
        client_id: config.name.clone(),
        properties: config.kafka_properties.clone(),
        statistics: Some(statistics),
    };
    Librdkafka::new(settings).map_err(StartError::Kafka)
}

async fn prepare_topics(
    log: &Librdkafka,
    config: &Config,
    shutdown: &CancellationToken,
) -> Result<Vec<topics::Warning>, StartError> {
    let will_pass = |error: &topics::Error| matches!(error, topics::Error::Log(kafka::Error::Unavailable(_)));
    let attempt = || {
        let (log, cluster) = (log.clone(), config.cluster.clone());
        let options = topics::Options { replication: config.replication, intake_start: config.intake_start };
        async move {
            let prepared = spawn_blocking(move || prepare_or_verify(&log, &cluster, options)).await;
            prepared.unwrap_or_else(|join| Err(kafka::Error::Unavailable(join.to_string()).into()))
        }
    };
    match wait_for(&format!("Kafka at {}", config.kafka), shutdown, will_pass, attempt).await {
        Ok(prepared) => {
            if !prepared.created.is_empty() {
                tracing::info!(topics = prepared.created.join(" "), "made topics");
            }
            for warning in &prepared.warnings {
                tracing::warn!("{warning}");
            }
            Ok(prepared.warnings)
        }
        Err(Impatience::Failed(error)) => Err(error.into()),
        Err(Impatience::Stopped) => Err(StartError::Stopped),
    }
}

/// Makes what is missing while the cluster is new, and only then: later a missing
/// position is a loss that must not be papered over. New is a cluster that lacks a
/// topic, or whose due topic has never held anything.
fn prepare_or_verify(
    log: &Librdkafka,
    cluster: &Cluster,
    options: topics::Options,
) -> Result<topics::Prepared, topics::Error> {
    match topics::verify(log, cluster) {
        Ok(_) if is_untouched(log, cluster)? => topics::prepare(log, cluster, options),
        Ok(warnings) => Ok(topics::Prepared { created: Vec::new(), warnings }),
        Err(topics::Error::Wrong(wrong)) if wrong.iter().any(is_missing) => {
            topics::prepare(log, cluster, options)
        }
        Err(error) => Err(error),
    }
}

fn is_missing(wrong: &topics::Wrong) -> bool {
    matches!(wrong, topics::Wrong::Missing { .. })
}

fn is_untouched(log: &Librdkafka, cluster: &Cluster) -> Result<bool, kafka::Error> {
    let topic: Arc<str> = cluster.due_topic().into();
    let inlets = (0..cluster.geometry.lanes)
        .flat_map(|lane| Inlet::ALL.map(|inlet| cluster.geometry.due_partition(lane, inlet)));
    let inlets: Vec<_> =
        inlets.map(|partition| TopicPartition { topic: Arc::clone(&topic), partition }).collect();
    Ok(log.offsets(&inlets, Offset::End)?.iter().all(|end| *end == 0))
}

/// What goes on besides the doors.
struct Background {
    log: Librdkafka,
    appender: Appender,
    store: Arc<dyn Store>,
    cluster: Arc<Cluster>,
    views: Views,
    host: Arc<dyn Host>,
    readiness: Readiness,
    counters: CoordinatorMetrics,
    observed: Arc<Observed>,
    /// Those about topics that were told of already.
    warnings: Vec<topics::Warning>,
}

impl Background {
    /// Registers this coordinator, campaigns for the lead, makes jobs while it leads,
    /// and watches over it all.
    fn spawn(self, info: CoordinatorInfo, tasks: &mut JoinSet<Ended>, shutdown: &CancellationToken) {
        let Self { log, appender, store, cluster, views, host, readiness, counters, observed, warnings } =
            self;
        let ttl = Duration::from_millis(cluster.geometry.lease_ttl_ms.unsigned_abs());
        let (membership, leadership) = membership(Arc::clone(&store), info, ttl);
        spawn(tasks, "membership", endless(membership.run(shutdown.clone())));

        let inlet = TopicPartition { topic: cluster.due_topic().into(), partition: 0 };
        let kafka = watch::kafka(log.clone(), inlet, readiness.clone(), counters.clone(), shutdown.clone());
        spawn(tasks, "watch on Kafka", endless(kafka));
        let (of, told) = (Arc::clone(&cluster), readiness.clone());
        let topics = watch::topics(log.clone(), of, told, warnings, shutdown.clone());
        spawn(tasks, "watch on topics", endless(topics));
        let (of, seen, told) = (Arc::clone(&cluster), Arc::clone(&observed), counters.clone());
        let intake = watch::intake(log.clone(), of, seen, told, shutdown.clone());
        spawn(tasks, "watch on the intake", endless(intake));
        let seen = watch::store(views.clone(), readiness, counters.clone(), shutdown.clone());
        spawn(tasks, "watch on the store", endless(seen));
        let report = watch::report(appender, Arc::clone(&observed), counters, shutdown.clone());
        spawn(tasks, "report on jobs and appends", endless(report));

        let deleter = log.clone();
        let job_maker = JobMaker {
            log: Arc::new(log),
            delete_records: Arc::new(move |before| topics::delete_records(&deleter, before)),
            store,
            views,
            cluster,
            leadership,
            observed,
            host,
        };
        spawn(tasks, "job maker", endless(job_maker.run(shutdown.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_door_open_on_all_addresses_is_reached_at_one_of_them() {
        let at = |address: &str| address.parse::<SocketAddr>().unwrap();
        assert_eq!(reached_at(at("127.0.0.1:5"), "kafka.invalid:9092").await, at("127.0.0.1:5"));
        assert_eq!(reached_at(at("0.0.0.0:5"), "PLAINTEXT://127.0.0.1:9092,b:1").await, at("127.0.0.1:5"));
        assert_eq!(reached_at(at("[::]:5"), "127.0.0.1:9092").await, at("127.0.0.1:5"));
        assert_eq!(reached_at(at("0.0.0.0:5"), "nothing").await, at("0.0.0.0:5"));
    }
}
