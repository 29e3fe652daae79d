//! Whether Kafka and the store are within reach, and what the job maker sees.

use std::{sync::Arc, time::Duration};

use ksched_core::{cluster::Cluster, jobs::JobKind};
use ksched_kafka::{Librdkafka, Log, Offset, TopicPartition, append::Appender, topics};
use ksched_telemetry::{
    metrics::{CoordinatorMetrics, Kind},
    readiness::Readiness,
};
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    backlog,
    job_maker::observed::Observed,
    leasing::{Seen, Views},
};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two verifications of all topics' settings.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Between two looks at the intake.
const INTAKE_INTERVAL: Duration = Duration::from_secs(10);
/// Kinds of jobs, as the store and as the metrics name them.
const KINDS: [(JobKind, Kind); 3] =
    [(JobKind::Lane, Kind::Lane), (JobKind::Drain, Kind::Drain), (JobKind::Intake, Kind::Intake)];

/// Looks at one partition of ours each second.
pub(super) async fn kafka(
    log: Librdkafka,
    inlet: TopicPartition,
    readiness: Readiness,
    counters: CoordinatorMetrics,
    shutdown: CancellationToken,
) {
    let ask = move || log.offsets(std::slice::from_ref(&inlet), Offset::StableEnd).map(drop);
    let answered = |took: Duration| counters.kafka_round_trip.set(took.as_secs_f64());
    readiness.ask("kafka", INTERVAL, &shutdown, ask, answered).await;
}

/// Looks each minute whether our topics are still as they must be: retention, say,
/// must never decide the life of a waiting message (design §3, Reclaiming). Warnings `known` from the start or from the
/// last look are not repeated.
pub(super) async fn topics(
    log: Librdkafka,
    cluster: Arc<Cluster>,
    readiness: Readiness,
    mut known: Vec<topics::Warning>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = sleep(SWEEP_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        let (log, cluster) = (log.clone(), Arc::clone(&cluster));
        match spawn_blocking(move || topics::verify(&log, &cluster)).await {
            Ok(Ok(warnings)) => {
                for warning in warnings.iter().filter(|warning| !known.contains(warning)) {
                    tracing::warn!("{warning}");
                }
                known = warnings;
                readiness.fine("topics");
            }
            Ok(Err(topics::Error::Wrong(wrong))) => {
                let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
                tracing::error!("topics of ksched were changed: {}", wrong.join("; "));
                readiness.failing("topics", wrong.join("; "));
            }
            // Kafka is away: the other watch tells.
            Ok(Err(error)) => tracing::debug!(%error, "topics could not be verified"),
            Err(join) => tracing::error!(%join, "verification of topics"),
        }
    }
}

/// Asks now and then, while this coordinator leads, how far the intake is behind. Apart from the job maker: the topic is
/// its users', and what is wrong with it must not hold up jobs.
pub(super) async fn intake(
    log: Librdkafka,
    cluster: Arc<Cluster>,
    observed: Arc<Observed>,
    counters: CoordinatorMetrics,
    shutdown: CancellationToken,
) {
    let topic: Arc<str> = cluster.intake_topic.as_str().into();
    let partition = |partition| TopicPartition { topic: Arc::clone(&topic), partition };
    let partitions: Arc<[_]> = (0..cluster.intake_partitions).map(partition).collect();
    loop {
        let (log, partitions, leads) = (log.clone(), Arc::clone(&partitions), observed.get().leads);
        let look = async {
            match spawn_blocking(move || backlog::behind(&log, &partitions)).await {
                Ok(Ok(records)) => records,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "intake backlog not seen");
                    None
                }
                Err(join) => {
                    tracing::error!(%join, "look at the intake");
                    None
                }
            }
        };
        let (records, again_in) = if leads { (look.await, INTAKE_INTERVAL) } else { (None, INTERVAL) };
        counters.set_intake_backlog(records);
        tokio::select! {
            () = sleep(again_in) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Looks each second whether the view of the store is fresh, and which jobs it shows nobody to hold.
pub(super) async fn store(
    views: Views,
    readiness: Readiness,
    counters: CoordinatorMetrics,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        match views.with(None).await {
            Ok(seen) => {
                for (kind, metric) in KINDS {
                    counters.set_without_holder(metric, free(&seen, kind));
                }
                readiness.fine("store");
            }
            Err(stale) => {
                // Others may see what we do not.
                counters.forget_without_holder();
                readiness.failing("store", stale.to_string());
            }
        }
        pause(&shutdown).await;
    }
}

fn free(seen: &Seen, kind: JobKind) -> usize {
    seen.free_since.keys().filter(|job| job.kind() == kind).count()
}

/// Puts into the metrics each second what is in flight and what the job maker saw. What only the leader
/// knows is zero elsewhere, so that sums over coordinators are right.
pub(super) async fn report(
    appender: Appender,
    observed: Arc<Observed>,
    counters: CoordinatorMetrics,
    shutdown: CancellationToken,
) {
    let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    while !shutdown.is_cancelled() {
        counters.appends_in_flight.set(gauge(appender.records_in_flight()));
        let state = observed.get();
        counters.making_jobs.set(i64::from(state.leads));
        counters.open_drains.set(gauge(state.open_drains));
        counters.hanging_transactions.set(gauge(state.observation.hanging_transactions));
        counters.missing_positions.set(gauge(state.observation.missing_positions));
        let pending = state.observation.pending.iter();
        counters.set_pending(pending.map(|pending| (pending.level, pending.lane, pending.records)));
        pause(&shutdown).await;
    }
}

async fn pause(shutdown: &CancellationToken) {
    tokio::select! {
        () = sleep(INTERVAL) => {}
        () = shutdown.cancelled() => {}
    }
}
