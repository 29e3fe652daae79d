//! Coordinators and workers: the shipped code, put together as its own processes do.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ksched_core::{cluster::Cluster, host::Host};
use ksched_kafka::memory::Request as LogRequest;
use ksched_proto::v1::{self, job_leasing_server::JobLeasing};
use ksched_server::{
    activity::Activity,
    job_maker::{JobMaker, membership::membership, observed::Observed, passed::open_passed},
    leasing::{Leasing, views},
    scheduler::{Placer, Scheduler},
    store::{CoordinatorInfo, Store},
};
use ksched_telemetry::{
    metrics::{CoordinatorMetrics, Metrics, WorkerMetrics},
    readiness::Readiness,
};
use ksched_worker::{
    Parts,
    coordinator::{Coordinator, Error},
    settings::IntakeSettings,
};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    coroutine, network,
    process::{Process, SimHost},
    store::SimStore,
    world::World,
};

const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Of each worker; there is no load here that would meet it.
const MEMORY_LIMIT: usize = 1 << 30;

/// A coordinator and its doors.
#[derive(Clone, Debug)]
pub(crate) struct CoordinatorNode {
    pub(crate) process: Arc<Process>,
    leasing: Leasing,
    pub(crate) scheduler: Scheduler,
}

/// A worker.
#[derive(Clone, Debug)]
pub(crate) struct WorkerNode {
    pub(crate) process: Arc<Process>,
    /// Cancelled: it stops cleanly.
    pub(crate) shutdown: CancellationToken,
}

/// The coordinators there are, for those who call them.
pub(crate) type Directory = Arc<Mutex<Vec<CoordinatorNode>>>;

/// Starts a coordinator.
pub(crate) fn start_coordinator(world: &Arc<World>, name: &str, skew_us: i64) -> CoordinatorNode {
    let process = Process::new(world, name, skew_us);
    let host: Arc<dyn Host> = Arc::new(SimHost(Arc::clone(&process)));
    let cluster: Arc<Cluster> = Arc::new(world.cluster.clone());
    let store: Arc<dyn Store> = Arc::new(SimStore(Arc::clone(&process)));
    let ttl = Duration::from_millis(cluster.geometry.lease_ttl_ms.unsigned_abs());
    // Nothing stops a coordinator cleanly here: to be killed is the harder case.
    let never = CancellationToken::new();
    let metrics = CoordinatorMetrics::register(&Metrics::new(name, "sim"));

    let (views, refresher) = views(Arc::clone(&store), &cluster);
    within(&process, refresher.run(never.clone()));
    let (passed, asked) = mpsc::channel(64);
    within(&process, open_passed(Arc::clone(&store), views.clone(), asked, never.clone()));
    let appender = Arc::new(network::SimAppender(Arc::clone(&process)));
    let origin = world.draw(rand::RngExt::random);
    let placer = Placer::new(world.cluster.clone(), appender, Arc::clone(&host), origin, metrics, passed);
    let leasing = Leasing::new(
        Arc::clone(&store),
        views.clone(),
        Arc::clone(&cluster),
        "sim",
        Arc::clone(&host),
        Activity::new(mpsc::channel(1).0),
        never.clone(),
    );
    let info = CoordinatorInfo {
        name: name.to_owned(),
        version: "sim".to_owned(),
        grpc_address: String::new(),
        http_address: String::new(),
    };
    let (membership, leadership) = membership(Arc::clone(&store), info, ttl);
    within(&process, membership.run(never.clone()));
    let deleter = Arc::clone(&process);
    let job_maker = JobMaker {
        log: Arc::new(network::log(&process)),
        delete_records: Arc::new(move |before| {
            let (process, before) = (Arc::clone(&deleter), before.to_vec());
            let answer = coroutine::wait(async move {
                network::exchange(&process, LogRequest::DeleteRecords { before }).await
            });
            answer.map(drop).map_err(|error| ksched_kafka::Error::Unavailable(error.to_string()))
        }),
        store,
        views,
        cluster,
        leadership,
        observed: Arc::new(Observed::default()),
        host,
    };
    within(&process, job_maker.run(never.clone()));
    let scheduler = Scheduler::new(Arc::new(placer), never);
    CoordinatorNode { process, leasing, scheduler }
}

fn within(process: &Arc<Process>, part: impl Future<Output = ()> + Send + 'static) {
    let process = Arc::clone(process);
    tokio::spawn(async move { process.within(part).await });
}

/// Starts a worker.
pub(crate) fn start_worker(
    world: &Arc<World>,
    directory: &Directory,
    name: &str,
    skew_us: i64,
) -> WorkerNode {
    let process = Process::new(world, name, skew_us);
    let shutdown = CancellationToken::new();
    let metrics = WorkerMetrics::register(&Metrics::new(name, "sim"));
    world.counted.lock().push(metrics.clone());
    let coordinators = SimCoordinators {
        process: Arc::clone(&process),
        directory: Arc::clone(directory),
        current: AtomicUsize::new(0),
    };
    let parts = Parts {
        name: name.to_owned(),
        http_address: String::new(),
        host: Arc::new(SimHost(Arc::clone(&process))),
        coordinators: Arc::new(coordinators),
        metrics,
        memory_limit: MEMORY_LIMIT,
        intake: IntakeSettings { zone: jiff::tz::TimeZone::UTC, ..IntakeSettings::default() },
        origin: world.draw(rand::RngExt::random),
    };
    let (theirs, stop) = (Arc::clone(&process), shutdown.clone());
    tokio::spawn(async move {
        let readiness = Readiness::waiting_for(&["coordinator"]);
        let log = network::log(&theirs);
        let ended = theirs.within(ksched_worker::work(parts, |_, _| Ok(log.clone()), &readiness, stop)).await;
        match ended {
            None => {}
            Some(Ok(())) => theirs.kill(),
            Some(Err(error)) => theirs.world.violated(format!("{} cannot go on: {error}", theirs.name)),
        }
    });
    WorkerNode { process, shutdown }
}

/// The coordinators as a worker reaches them: calls to the one that answered last, then
/// once to each other, as `ksched_worker::coordinator::Coordinators` does.
#[derive(Debug)]
struct SimCoordinators {
    process: Arc<Process>,
    directory: Directory,
    current: AtomicUsize,
}

/// A call that was heard goes on, whatever its caller does.
type Answer<A> = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send>>;

impl SimCoordinators {
    async fn call<Q: Clone, A: Send + 'static>(
        &self,
        patience: Duration,
        request: Q,
        call: impl Fn(Leasing, Request<Q>) -> Answer<A>,
    ) -> Result<A, Error> {
        let known = self.directory.lock().len();
        let mut last = Error::Unavailable("no coordinator".to_owned());
        for _ in 0..known.max(1) {
            let current = self.current.load(Ordering::Relaxed);
            let node = {
                let directory = self.directory.lock();
                directory.get(current % directory.len().max(1)).cloned()
            };
            let answer = match node {
                Some(node) => timeout(patience, self.reach(&node, &request, &call)).await,
                None => {
                    sleep(Duration::from_millis(1)).await;
                    Ok(None)
                }
            };
            last = match answer {
                Ok(Some(Ok(answer))) => return Ok(answer.into_inner()),
                Ok(Some(Err(status))) => match Error::from(status) {
                    answer @ (Error::LeaseGone(_) | Error::NotHeld(_)) => return Err(answer),
                    unavailable @ Error::Unavailable(_) => unavailable,
                },
                Ok(None) | Err(_) => Error::Unavailable("no answer".to_owned()),
            };
            self.current.store(current + 1, Ordering::Relaxed);
        }
        Err(last)
    }

    /// `None`: no answer came; the call may have been heard.
    async fn reach<Q: Clone, A: Send + 'static>(
        &self,
        node: &CoordinatorNode,
        request: &Q,
        call: &impl Fn(Leasing, Request<Q>) -> Answer<A>,
    ) -> Option<Result<Response<A>, Status>> {
        let (world, weather) = (&self.process.world, &self.process.world.weather);
        world.step(&self.process.name, || format!("calls {}", node.process.name));
        let cut = || self.process.cut_off.lock().coordinators || node.process.cut_off.lock().coordinators;
        let lost = !weather.is_healed() && world.once_in(weather.calls_lost_in);
        if cut() || (lost && world.once_in(3)) {
            return std::future::pending().await;
        }
        if lost && world.once_in(2) {
            // It is heard all the same, when the caller has long asked something else.
            let (late, node) = (world.draw_ms(1, 3_000), node.clone());
            let call = call(node.leasing.clone(), Request::new(request.clone()));
            tokio::spawn(async move {
                sleep(late).await;
                node.process.within(call).await.map(drop)
            });
            return std::future::pending().await;
        }
        sleep(world.draw_ms(0, 3)).await;
        let answer = node.process.within(call(node.leasing.clone(), Request::new(request.clone()))).await?;
        sleep(world.draw_ms(0, 3)).await;
        if lost || cut() {
            return std::future::pending().await;
        }
        Some(answer)
    }
}

impl Coordinator for SimCoordinators {
    async fn register(
        &self,
        request: v1::RegisterWorkerRequest,
    ) -> Result<v1::RegisterWorkerResponse, Error> {
        let call = |leasing: Leasing, request| -> Answer<_> {
            Box::pin(async move { leasing.register_worker(request).await })
        };
        let answer = self.call(CALL_TIMEOUT, request, call).await?;
        *self.process.registered.lock() = answer.lease.as_ref().map(|lease| lease.worker_id.clone());
        Ok(answer)
    }

    async fn acquire(&self, request: v1::AcquireJobsRequest) -> Result<v1::AcquireJobsResponse, Error> {
        let wait = request.wait.and_then(|w| Duration::try_from(w).ok()).unwrap_or_default();
        let call = |leasing: Leasing, request| -> Answer<_> {
            Box::pin(async move { leasing.acquire_jobs(request).await })
        };
        self.call(CALL_TIMEOUT + wait, request, call).await
    }

    async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
        patience: Duration,
    ) -> Result<v1::HeartbeatResponse, Error> {
        let call = |leasing: Leasing, request| -> Answer<_> {
            Box::pin(async move { leasing.heartbeat(request).await })
        };
        self.call(patience, request, call).await
    }

    async fn complete(&self, request: v1::CompleteJobRequest) -> Result<(), Error> {
        let call = |leasing: Leasing, request| -> Answer<_> {
            Box::pin(async move { leasing.complete_job(request).await })
        };
        self.call(CALL_TIMEOUT, request, call).await.map(drop)
    }

    async fn release(&self, request: v1::ReleaseJobsRequest) -> Result<(), Error> {
        let call = |leasing: Leasing, request| -> Answer<_> {
            Box::pin(async move { leasing.release_jobs(request).await })
        };
        self.call(CALL_TIMEOUT, request, call).await.map(drop)
    }
}
