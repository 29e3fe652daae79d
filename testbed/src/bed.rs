//! The clusters that scenarios run on, and ways to them.

use std::{
    collections::BTreeMap,
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ksched_client::{Client, Settings};
use ksched_kafka::Librdkafka;
use ksched_local::{
    cluster::{Cluster, Geometry, Options},
    process::State,
};
use ksched_proto::v1::{JobState, scheduler_client::SchedulerClient};
use ksched_telemetry::traces::receiver::Receiver;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use crate::links::{Clock, Links, TIMED};

/// Zone of the earlier system's `time` header, on every worker.
pub const ZONE: &str = "Europe/Berlin";

/// By then the broker has written the markers of what was committed.
const ENDED_WITHIN: Duration = Duration::from_secs(1);
/// As `ksched_local` names them, where there are so many.
pub const COORDINATORS: [&str; 2] = ["coordinator-1", "coordinator-2"];
pub const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];

/// A wheel whose highest level is crossed within minutes, and short leases.
pub fn short_wheel() -> Geometry {
    Geometry {
        slot_width: Some("4s".to_owned()),
        ratio: Some(4),
        levels: Some(3),
        lanes: Some(4),
        lease_ttl: Some("2s".to_owned()),
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Bed {
    pub cluster: Cluster,
    pub log: Arc<Librdkafka>,
    /// Connected once, for questions.
    client: Client,
    pub(crate) links: Option<Links>,
    pub(crate) clock: Option<Clock>,
    /// Takes the processes' spans, where they have any.
    pub spans: Option<Receiver>,
}

impl Bed {
    /// Two coordinators, three workers, everything at its default; Kafka tells what it counts.
    pub fn usual() -> Self {
        let options = Options { coordinators: 2, workers: 3, kafka_metrics: true, ..Options::default() };
        Self::start("usual", options)
    }

    /// With the [`short_wheel`].
    pub fn small() -> Self {
        // The least a worker takes, for the scenario about memory.
        let memory_limit = Some("16MiB".to_owned());
        Self::start(
            "small",
            Options {
                coordinators: 2,
                workers: 2,
                geometry: short_wheel(),
                memory_limit,
                ..Options::default()
            },
        )
    }

    /// With the [`short_wheel`] and seen by all means. Prometheus watches; of traces, the coordinator tells by
    /// gRPC of what callers record, workers by HTTP of their leases, too. [`TIMED`] has a clock of its own.
    pub fn seen() -> Self {
        let spans = block_on(Receiver::start()).expect("ports for spans");
        let told = |protocol: Vec<_>, roots: &str| {
            let sampler = ("OTEL_TRACES_SAMPLER".to_owned(), format!("parentbased_always_{roots}"));
            protocol.into_iter().chain([sampler]).collect::<Vec<_>>()
        };
        let coordinators = COORDINATORS.map(|name| (name.to_owned(), told(spans.by_grpc(), "off")));
        let workers = WORKERS.map(|name| (name.to_owned(), told(spans.by_http(), "on")));
        let dir = root().join("seen");
        fs::create_dir_all(&dir).unwrap();
        let clock = Clock::new(&dir);
        let mut env: BTreeMap<_, _> = coordinators.into_iter().chain(workers).collect();
        env.entry(TIMED.to_owned()).or_default().extend(clock.env());
        let options = Options {
            coordinators: 1,
            workers: 2,
            geometry: short_wheel(),
            env,
            observe: true,
            ..Options::default()
        };
        Self { spans: Some(spans), clock: Some(clock), ..Self::start("seen", options) }
    }

    /// Delivers at least once.
    pub fn loose() -> Self {
        let delivery = Some("at-least-once".to_owned());
        Self::start("loose", Options { coordinators: 1, workers: 2, delivery, ..Options::default() })
    }

    /// A cluster of its own making, under this name.
    pub fn start(name: &str, options: Options) -> Self {
        let worker_args = vec!["--compat-zone".to_owned(), ZONE.to_owned()];
        let options = Options { worker_args, ..options };
        let began_at = Instant::now();
        let cluster = Cluster::start(&root().join(name), &options, |_| ()).expect("a cluster");
        println!("{name} cluster is up after {:.1} s", began_at.elapsed().as_secs_f64());
        let _runtime = runtime().enter();
        let log = ksched_client::kafka::connect(&cluster.kafka().address(), Default::default()).unwrap();
        let client = Client::connect(&cluster.coordinators(), Settings::default()).unwrap();
        Self { cluster, log: Arc::new(log), client, links: None, clock: None, spans: None }
    }

    /// A client of its own, so that one scenario's trouble is not another's.
    pub fn client(&self) -> Client {
        let _runtime = runtime().enter();
        Client::connect(&self.cluster.coordinators(), Settings::default()).unwrap()
    }

    /// The contract's own stubs on one of the coordinators.
    pub fn scheduler(&self, coordinator: usize) -> SchedulerClient<Channel> {
        let _runtime = runtime().enter();
        let address = format!("http://{}", self.cluster.coordinators()[coordinator]);
        SchedulerClient::new(Endpoint::from_shared(address).unwrap().connect_lazy())
    }

    /// A target of its own for a scenario, stamped by the broker.
    pub fn target(&self, name: &str) -> String {
        let name = name.replace("::", ".").replace([',', ' '], "-");
        let name = format!("e2e.{name}");
        ksched_client::kafka::make_target(&self.log, &name, 4).unwrap();
        name
    }

    /// Name of the coordinator that makes jobs.
    pub fn leader(&self) -> String {
        eventually("a leading coordinator", Duration::from_secs(30), || {
            let cluster = block_on(self.client.cluster()).ok()?;
            Some(cluster.leader).filter(|leader| !leader.is_empty())
        })
    }

    pub fn jobs(&self) -> Vec<JobState> {
        // Whoever asks may have to wait for a leader.
        eventually("the jobs", Duration::from_secs(30), || block_on(self.client.jobs()).ok())
    }

    /// A worker that runs lanes.
    pub fn worker_with_lanes(&self) -> String {
        eventually("a worker with lanes", Duration::from_secs(30), || {
            let jobs = self.jobs();
            let lane = jobs
                .iter()
                .find(|state| job_name(state).starts_with("lane/") && !state.worker_name.is_empty());
            lane.map(|state| state.worker_name.clone())
        })
    }

    /// Waits until this worker runs a lane.
    pub fn wait_lane_on(&self, worker: &str) {
        let is_its = |state: &JobState| job_name(state).starts_with("lane/") && state.worker_name == worker;
        let what = format!("lane on {worker}");
        eventually(&what, Duration::from_secs(60), || self.jobs().iter().any(is_its).then_some(()));
    }

    /// Waits until every lane has a holder.
    pub fn wait_all_lanes_held(&self) {
        eventually("holders of all lanes", Duration::from_secs(60), || {
            let jobs = self.jobs();
            let lanes = || jobs.iter().filter(|state| job_name(state).starts_with("lane/"));
            (lanes().count() == 4 && lanes().all(|state| !state.worker_id.is_empty())).then_some(())
        });
    }

    /// The most that any of these processes has resident, in bytes, while something is done.
    pub fn peak_rss<T>(&self, names: &[&str], run: impl FnOnce() -> T) -> (T, u64) {
        let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
        let looking = || {
            while !done.load(Ordering::Relaxed) {
                for name in names {
                    // One that does not run has nothing.
                    peak.fetch_max(self.cluster.rss_bytes(name).unwrap_or(0), Ordering::Relaxed);
                }
                thread::sleep(Duration::from_millis(100));
            }
        };
        let outcome = thread::scope(|scope| {
            scope.spawn(looking);
            // A panic must not leave the other thread looking for ever.
            let outcome = panic::catch_unwind(AssertUnwindSafe(run));
            done.store(true, Ordering::Relaxed);
            outcome
        });
        (outcome.unwrap_or_else(|why| panic::resume_unwind(why)), peak.into_inner())
    }

    /// Makes a fault while none of the workers ends a transaction. Seen with Kafka 4.4 in 2 of 4 kills and in 2 of
    /// some 12 runs with a full disk: a lone broker that stops between PrepareCommit and the markers calls that
    /// transaction complete when it comes back, and never writes them.
    pub fn between_transactions(&self, workers: &[&str], fault: impl FnOnce()) {
        workers.iter().for_each(|name| self.cluster.pause(name).unwrap());
        thread::sleep(ENDED_WITHIN);
        fault();
        workers.iter().for_each(|name| self.cluster.resume(name).unwrap());
    }

    /// How long a process's log is now, to read later what has come.
    pub fn log_length(&self, process: &str) -> u64 {
        fs::metadata(self.cluster.log(process).unwrap()).map_or(0, |meta| meta.len())
    }

    pub fn log_since(&self, process: &str, length: u64) -> String {
        let bytes = fs::read(self.cluster.log(process).unwrap()).unwrap();
        String::from_utf8_lossy(bytes.get(length as usize..).unwrap_or_default()).into_owned()
    }

    /// Brings back whatever does not run, whatever a scenario left behind.
    pub fn mend(&self) -> Result<(), ksched_local::Error> {
        if let Some(links) = &self.links {
            links.heal();
        }
        if let Some(clock) = &self.clock {
            clock.set("+0");
        }
        let entries = self.cluster.describe().processes;
        for entry in entries.iter().filter(|entry| entry.state == State::Paused) {
            self.cluster.resume(&entry.name)?;
        }
        for entry in entries.iter().filter(|entry| entry.state == State::Dead) {
            println!("mending: starting {}", entry.name);
            self.cluster.start_again(&entry.name)?;
        }
        Ok(())
    }

    pub fn end(&self) {
        self.cluster.shut_down().expect("a clean end of everything");
    }
}

pub fn job_name(state: &JobState) -> &str {
    state.job.as_ref().map_or("", |job| job.name.as_str())
}

/// Asks until there is an answer.
pub fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let began_at = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began_at.elapsed() < within, "no {what} within {within:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// One for all scenarios: they are threads, what they wait for is not.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"))
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Where this run's data and logs are, and those of earlier ones.
static ROOT: OnceLock<Root> = OnceLock::new();

#[derive(Debug)]
struct Root {
    tmp: PathBuf,
    suite: &'static str,
}

/// To be called first: `tmp` is cargo's `CARGO_TARGET_TMPDIR`, which only a test binary knows.
pub fn set_root(tmp: &str, suite: &'static str) {
    ROOT.set(Root { tmp: tmp.into(), suite }).expect("one suite a process");
}

/// Data and logs of this run.
pub fn root() -> PathBuf {
    let Root { tmp, suite } = ROOT.get().expect("set_root comes first");
    tmp.join(format!("{suite}-{}", process::id()))
}

/// Removes what earlier runs of this suite left.
pub fn sweep() {
    let Root { tmp, suite } = ROOT.get().expect("set_root comes first");
    for entry in fs::read_dir(tmp).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(&format!("{suite}-")).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
