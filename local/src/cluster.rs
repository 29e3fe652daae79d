//! Kafka, etcd, coordinators and workers, each a process with a name.

mod binaries;
mod description;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::binaries::Role;
pub(crate) use self::description::Record;
pub use self::description::{Coordinator, DatabaseServer, Description, Entry, Worker};
use crate::{
    Error, Result,
    beside::Beside,
    database::{self, Database},
    etcd::{self, Etcd},
    jaeger,
    kafka::{self, Kafka},
    parts::{self, Progress},
    ports::Ports,
    process::Process,
    prometheus,
};

/// How long a coordinator or worker may take to hand over and end before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// What the cluster consists of and how its parts are set. What is `None` is left to the part's own default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// One or three.
    pub brokers: u16,
    /// Servers beside the rest, for the bench to compare with.
    pub databases: Vec<database::Kind>,
    pub coordinators: u16,
    pub workers: u16,
    /// Fixed heap of each Kafka node, as `-Xmx` takes it.
    pub kafka_heap: Option<String>,
    /// Broker properties that win over ours.
    pub kafka_properties: Vec<(String, String)>,
    /// Whether Kafka tells what it counts ([`kafka::metrics`]).
    pub kafka_metrics: bool,
    /// Whether Prometheus, and Jaeger where there is one, run beside the rest; Kafka tells what it counts then.
    pub observe: bool,
    /// Where `ksched-server` and `ksched-worker` are; else beside the running program.
    pub bin_dir: Option<PathBuf>,
    pub geometry: Geometry,
    /// `exactly-once` or `at-least-once`.
    pub delivery: Option<String>,
    /// Of each worker, such as `256MiB`.
    pub memory_limit: Option<String>,
    /// Added to every coordinator's command line.
    pub coordinator_args: Vec<String>,
    /// Added to every worker's command line.
    pub worker_args: Vec<String>,
    /// Added to the environment of single processes, by their names.
    pub env: BTreeMap<String, Vec<(String, String)>>,
    /// Further doors of Kafka, for proxies; with one broker only.
    pub kafka_listeners: Vec<kafka::Listener>,
    /// By their names, processes that find others through a proxy.
    pub detours: BTreeMap<String, Detour>,
}

/// Where a process is told that others are; what is `None` is where they really are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Detour {
    /// `HOST:PORT[,HOST:PORT…]`, as the rest.
    pub kafka: Option<String>,
    /// For workers.
    pub coordinators: Option<String>,
    /// For coordinators.
    pub etcd: Option<String>,
}

/// The wheel's measures as the coordinator's flags take them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Geometry {
    /// w_1, such as `4s`.
    pub slot_width: Option<String>,
    /// R.
    pub ratio: Option<u32>,
    /// K.
    pub levels: Option<u32>,
    /// N.
    pub lanes: Option<u32>,
    /// Such as `2s`.
    pub lease_ttl: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            brokers: 1,
            databases: Vec::new(),
            coordinators: 1,
            workers: 1,
            kafka_heap: None,
            kafka_properties: Vec::new(),
            kafka_metrics: false,
            observe: false,
            bin_dir: None,
            geometry: Geometry::default(),
            delivery: None,
            memory_limit: None,
            coordinator_args: Vec::new(),
            worker_args: Vec::new(),
            env: BTreeMap::new(),
            kafka_listeners: Vec::new(),
            detours: BTreeMap::new(),
        }
    }
}

impl Options {
    fn detour_of(&self, name: &str) -> Detour {
        self.detours.get(name).cloned().unwrap_or_default()
    }

    /// Whether somebody has said where spans go.
    fn sends_spans(&self) -> bool {
        let is_so = |name: &str| name.starts_with("OTEL_EXPORTER_OTLP_") && name.ends_with("ENDPOINT");
        let own = self.env.values().flatten().any(|(name, _)| is_so(name));
        own || std::env::vars_os().any(|(name, _)| name.to_str().is_some_and(is_so))
    }

    /// With this for all coordinators and workers, where nothing else is said.
    fn with_env(mut self, env: &[(String, String)]) -> Self {
        let coordinators = (1..=self.coordinators).map(|n| format!("coordinator-{n}"));
        let names: Vec<_> = coordinators.chain((1..=self.workers).map(|n| format!("worker-{n}"))).collect();
        for name in names {
            // What comes last holds.
            self.env.entry(name).or_default().splice(0..0, env.iter().cloned());
        }
        self
    }

    fn env_of(&self, name: &str) -> Vec<(String, String)> {
        self.env.get(name).cloned().unwrap_or_default()
    }
}

/// A running cluster. It can be shared between threads; dropping it kills everything and keeps the data.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    // In the order in which they are to end.
    workers: Vec<Role>,
    coordinators: Vec<Role>,
    kafka: Kafka,
    etcd: Etcd,
    databases: Vec<Database>,
    prometheus: Option<Beside>,
    jaeger: Option<Beside>,
    /// Serialises the writing of `state.json`.
    record: Mutex<()>,
    /// Held locked as long as the cluster lives: one owner a directory.
    _lock: fs::File,
}

impl Cluster {
    /// Starts everything with its data under `dir` and returns when all answer as ready. What an earlier cluster
    /// left there (data, ports) is taken up again.
    ///
    /// # Errors
    /// [`Error::Taken`] if a cluster is running there; [`Error::Missing`], [`Error::Ended`], [`Error::NotReady`]
    /// name the part that would not start.
    pub fn start(dir: &Path, options: &Options, progress: Progress) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(format!("make {}", dir.display())))?;
        let dir = dir.canonicalize().map_err(Error::io(format!("find {}", dir.display())))?;
        let lock = take(&dir)?;
        let binaries = binaries::find(options)?;

        let (kafka, etcd) = start_parts(&dir, options, progress)?;
        let databases = start_databases(&dir, options, progress)?;
        let mut ports = Ports::open(&dir)?;
        let jaeger = parts::jaeger().filter(|_| options.observe && !options.sends_spans());
        let jaeger = jaeger.map(|program| jaeger::prepare(program, &dir, &mut ports)).transpose()?;
        let (jaeger, env) = jaeger.unzip();
        let options = &options.clone().with_env(&env.unwrap_or_default());
        let coordinators = binaries.coordinators(&dir, options, &kafka, &etcd, &mut ports)?;
        let workers = binaries.workers(&dir, options, &kafka, &coordinators, &mut ports)?;
        let jobs = || jobs(&kafka, &etcd, &coordinators, &workers);
        let prometheus =
            options.observe.then(|| prometheus::prepare(&dir, jobs(), &mut ports)).transpose()?;
        let record = Mutex::new(());
        let cluster = Self {
            dir,
            workers,
            coordinators,
            kafka,
            etcd,
            databases,
            prometheus,
            jaeger,
            record,
            _lock: lock,
        };
        if let Some(jaeger) = &cluster.jaeger {
            progress("starting Jaeger");
            jaeger.start_again()?;
        }
        start_all(&cluster.coordinators, "coordinators", progress)?;
        start_all(&cluster.workers, "workers", progress)?;
        if let Some(prometheus) = &cluster.prometheus {
            progress("starting Prometheus");
            prometheus.start_again()?;
        }
        cluster.record()?;
        Ok(cluster)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// `HOST:PORT` of each coordinator's gRPC door.
    pub fn coordinators(&self) -> Vec<String> {
        self.coordinators.iter().filter_map(Role::grpc).collect()
    }

    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    /// What runs where, now.
    pub fn describe(&self) -> Description {
        let entry = |process: &Process| Entry {
            name: process.name().to_owned(),
            pid: process.pid(),
            state: process.state(),
        };
        Description {
            dir: self.dir.clone(),
            kafka: self.kafka.address(),
            kafka_metrics: self.kafka.metrics(),
            etcd: format!("http://{}", self.etcd.address()),
            coordinators: self.coordinators.iter().map(Role::describe_coordinator).collect(),
            workers: self.workers.iter().map(Role::describe_worker).collect(),
            databases: self.databases.iter().map(DatabaseServer::of).collect(),
            prometheus: self.prometheus.as_ref().map(Beside::address),
            jaeger: self.jaeger.as_ref().map(Beside::address),
            leader: None,
            processes: self.processes().map(entry).collect(),
        }
    }

    /// Every process in the order in which they were started.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        let ours = self.coordinators.iter().chain(&self.workers).map(Role::process);
        let databases = self.databases.iter().map(Database::process);
        let prometheus = self.prometheus.iter().map(Beside::process);
        let jaeger = self.jaeger.iter().map(Beside::process);
        let parts = self.kafka.processes().chain([self.etcd.process()]).chain(databases);
        parts.chain(jaeger).chain(ours).chain(prometheus)
    }

    /// The process of that name.
    ///
    /// # Errors
    /// [`Error::Unknown`], here and in all that take a name.
    pub fn process(&self, name: &str) -> Result<&Process> {
        self.processes().find(|process| process.name() == name).ok_or_else(|| Error::Unknown {
            name: name.to_owned(),
            known: self.processes().map(Process::name).collect::<Vec<_>>().join(", "),
        })
    }

    /// `SIGKILL`; returns when it is gone.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.process(name)?.kill()?;
        self.record()
    }

    /// `SIGTERM`, and `SIGKILL` if that is not heeded; returns when it is gone.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.process(name)?.stop(STOP_WITHIN)?;
        self.record()
    }

    /// `SIGSTOP`.
    pub fn pause(&self, name: &str) -> Result<()> {
        self.process(name)?.pause()
    }

    /// `SIGCONT`.
    pub fn resume(&self, name: &str) -> Result<()> {
        self.process(name)?.resume()
    }

    /// Starts what has ended, on its ports and data, and returns when it answers as ready.
    pub fn start_again(&self, name: &str) -> Result<()> {
        if name == self.etcd.process().name() {
            self.etcd.start_again()?;
        } else if let Some(role) = self.coordinators.iter().chain(&self.workers).find(|role| role.is(name)) {
            role.start()?;
            role.wait_ready()?;
        } else if let Some(database) = self.databases.iter().find(|one| one.process().name() == name) {
            database.start_again()?;
        } else if let Some(beside) =
            self.prometheus.iter().chain(&self.jaeger).find(|one| one.process().name() == name)
        {
            beside.start_again()?;
        } else {
            // Names everyone if it is nobody's.
            self.process(name)?;
            self.kafka.start_node(name)?;
        }
        self.record()
    }

    /// Ends it cleanly if it runs, and starts it again.
    pub fn restart(&self, name: &str) -> Result<()> {
        self.stop(name)?;
        self.start_again(name)
    }

    /// Resident memory of a running process.
    pub fn rss_bytes(&self, name: &str) -> Result<u64> {
        self.process(name)?.rss_bytes().ok_or_else(|| Error::NotRunning { name: name.to_owned() })
    }

    /// The file to which a process writes what it has to say.
    pub fn log(&self, name: &str) -> Result<&Path> {
        Ok(self.process(name)?.log())
    }

    /// Ends everything in good order: Prometheus, workers, coordinators, then Jaeger, Kafka, etcd and databases.
    pub fn shut_down(&self) -> Result<()> {
        self.prometheus.iter().try_for_each(|prometheus| prometheus.process().stop(STOP_WITHIN))?;
        for roles in [&self.workers, &self.coordinators] {
            roles.iter().try_for_each(|role| role.process().terminate())?;
            roles.iter().try_for_each(|role| role.process().stop(STOP_WITHIN))?;
        }
        self.jaeger.iter().try_for_each(|jaeger| jaeger.process().stop(STOP_WITHIN))?;
        let databases = self.databases.iter().try_for_each(Database::stop);
        self.kafka.stop().and(self.etcd.stop()).and(databases)
    }

    /// Writes `state.json` anew, after something started or ended.
    pub(crate) fn record(&self) -> Result<()> {
        let _turn = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        Record::write(self.describe())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        Record::remove(&self.dir);
    }
}

/// The lock is the kernel's and ends with the process, however it ends.
fn take(dir: &Path) -> Result<fs::File> {
    let lock = fs::File::create(dir.join("lock")).map_err(Error::io("open the directory's lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Taken { dir: dir.to_owned() }),
        Err(fs::TryLockError::Error(error)) => Err(Error::io("lock the directory")(error)),
    }
}

/// Kafka and etcd side by side: Kafka's start is most of the wait.
fn start_parts(dir: &Path, options: &Options, progress: Progress) -> Result<(Kafka, Etcd)> {
    let mut kafka = kafka::Options {
        brokers: options.brokers,
        metrics: options.kafka_metrics || options.observe,
        properties: options.kafka_properties.clone(),
        listeners: options.kafka_listeners.clone(),
        env: options.env_of("kafka-1"),
        progress,
        ..kafka::Options::default()
    };
    if let Some(heap) = &options.kafka_heap {
        kafka.heap.clone_from(heap);
    }
    let etcd = etcd::Options { env: options.env_of("etcd"), progress, ..etcd::Options::default() };
    progress("starting Kafka and etcd");
    // One after the other chooses ports and fetches parts; both only then wait.
    let kafka = Kafka::prepare(dir, &kafka)?;
    let etcd = Etcd::prepare(dir, &etcd)?;
    thread::scope(|scope| {
        let etcd_up = scope.spawn(|| etcd.start_again());
        let kafka_up = kafka.start_again();
        let etcd_up =
            etcd_up.join().unwrap_or(Err(Error::Invalid("the thread that starts etcd ended early")));
        kafka_up.and(etcd_up)
    })?;
    Ok((kafka, etcd))
}

/// What Prometheus asks; names of jobs as in deploy/.
fn jobs(kafka: &Kafka, etcd: &Etcd, coordinators: &[Role], workers: &[Role]) -> Vec<prometheus::Job> {
    let of = |roles: &[Role]| roles.iter().map(Role::http).collect();
    vec![
        ("ksched-coordinators", of(coordinators)),
        ("ksched-workers", of(workers)),
        ("etcd", vec![etcd.address()]),
        ("kafka", kafka.metrics()),
    ]
}

fn start_databases(dir: &Path, options: &Options, progress: Progress) -> Result<Vec<Database>> {
    let each = options.databases.iter().map(|kind| {
        progress(&format!("starting {}", kind.name()));
        Database::start(dir, *kind, progress)
    });
    each.collect()
}

fn start_all(roles: &[Role], what: &str, progress: Progress) -> Result<()> {
    if roles.is_empty() {
        return Ok(());
    }
    progress(&format!("starting {what} ({})", roles.len()));
    roles.iter().try_for_each(Role::start)?;
    roles.iter().try_for_each(Role::wait_ready)
}
