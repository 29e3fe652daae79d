//! What a run has to do with the cluster around it: processes are watched, workers killed or
//! held back as the scenario says, and all of it is written into the run's file.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use clap::Args;
use ksched_client::bench::{
    Door, Progress, Report, Shape,
    processes::{Sampler, Watched},
};
use ksched_local::{
    cluster::Description,
    control::{self, Request},
    kafka::metrics::{self, Counted},
    parts::{self, Versions},
};
use ksched_report::run::{self, Role, Run};
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    output::{self, Failure},
    plan::Scenario,
};

/// When `failover` kills a worker, and when it is started again.
const KILLED_AFTER: Duration = Duration::from_secs(10);
const BACK_AFTER: Duration = Duration::from_secs(20);
/// How often Kafka's logs are looked at: it frees nothing that is younger than some minutes.
const LOGS_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct ClusterArguments {
    /// The folder of the `ksched local` cluster that is measured: its processes are watched.
    #[arg(long, value_name = "DIR")]
    local: Option<PathBuf>,
    /// Writes what was measured into this file, for `report` and `compare`.
    #[arg(long, value_name = "FILE")]
    pub(crate) run_file: Option<PathBuf>,
    /// What `floors` wrote in the same session: the run's figures are told as ratios to them.
    #[arg(long, value_name = "FILE", requires = "run_file")]
    pub(crate) floors: Option<PathBuf>,
    /// What is measured is called so in the run's file [default: the system, a database with its poll interval].
    #[arg(long, value_name = "NAME")]
    pub(crate) system_name: Option<String>,
}

/// Does to the cluster what the scenario wants, and watches it.
pub(crate) struct Steering {
    dir: Option<PathBuf>,
    scenario: Option<Scenario>,
    sampler: Option<Sampler>,
    stage: Stage,
    /// What is under way in the cluster.
    orders: Vec<JoinHandle<()>>,
    /// Of Kafka's logs since the run began.
    growth: Arc<Mutex<Growth>>,
    /// What Kafka had counted then, if it counts.
    counted_before: Option<Counted>,
    /// Of the parts of a cluster that can be seen from here.
    versions: Versions,
}

/// What a run took.
#[derive(Debug)]
pub(crate) struct Used {
    processes: Vec<run::Process>,
    /// By Kafka into its logs, if it can be seen from here.
    written_bytes: Option<u64>,
    /// By Kafka, if it counts and did not begin anew.
    counted: Option<Counted>,
    /// How the cluster was started, by names.
    cluster: BTreeMap<String, String>,
    versions: Versions,
    /// None if nobody told.
    pub(crate) jobs: Option<Vec<run::Job>>,
}

impl Used {
    /// Without what was counted: of a run that goes on it is the last part's only.
    pub(crate) fn of_a_part(self) -> Self {
        Self { processes: Vec::new(), written_bytes: None, counted: None, jobs: None, ..self }
    }

    /// What Kafka did in a run, as far as it is known.
    pub(crate) fn broker(&self, report: &Report) -> Option<run::Broker> {
        let counted = self.counted.as_ref();
        let requests = |api| counted.map(|counted| counted.requests.get(api).copied().unwrap_or(0));
        if self.written_bytes.is_none() && counted.is_none() {
            return None;
        }
        Some(run::Broker {
            written_bytes: self.written_bytes,
            produce_requests: requests("Produce"),
            fetch_requests: requests("Fetch"),
            requests: counted.map(|counted| counted.requests.clone()).unwrap_or_default(),
            in_bytes: counted.map(|counted| counted.in_bytes),
            out_bytes: counted.map(|counted| counted.out_bytes),
            record_bytes: Some(report.figures.record_bytes).filter(|bytes| *bytes > 0),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Before,
    /// A worker is dead, or all are stopped.
    Without,
    Done,
}

impl Steering {
    /// `database`: the process that is measured instead of ksched; `pollers`: its, beside the cluster's.
    pub(crate) fn begin(
        around: &ClusterArguments,
        scenario: Option<Scenario>,
        database: Option<&str>,
        pollers: Option<u32>,
    ) -> Result<Self, Failure> {
        let dir = around.local.clone();
        let needs = matches!(scenario, Some(Scenario::Backlog | Scenario::Failover));
        if needs && dir.is_none() {
            return Err(Failure::Refused("this scenario stops workers: --local DIR is wanted".to_owned()));
        }
        let mut stage = Stage::Before;
        if let (Some(Scenario::Backlog), Some(dir)) = (scenario, &dir) {
            for worker in workers(dir)? {
                control::ask(dir, &Request::Stop { name: worker })?;
            }
            stage = Stage::Without;
        }
        let growth = Arc::new(Mutex::new(Growth::default()));
        let (watched_dir, database, grows) = (dir.clone(), database.map(str::to_owned), Arc::clone(&growth));
        let mut looked_at: Option<Instant> = None;
        let who = move || {
            // Beside it, on the sampler's thread.
            if let Some(dir) = &watched_dir
                && looked_at.is_none_or(|at| at.elapsed() >= LOGS_EVERY)
            {
                looked_at = Some(Instant::now());
                grows.lock().look(dir);
            }
            watched(watched_dir.as_deref(), database.as_deref(), pollers)
        };
        let sampler = around.run_file.is_some().then(|| Sampler::start(who)).transpose()?;
        let counted_before = dir.as_deref().and_then(counted);
        let versions = dir.as_deref().map_or_else(Versions::default, |_| parts::versions());
        Ok(Self { dir, scenario, sampler, stage, orders: Vec::new(), growth, counted_before, versions })
    }

    /// Told how far the run is.
    pub(crate) fn at(&mut self, progress: &Progress) {
        let Some(dir) = self.dir.clone() else { return };
        let settled = progress.acknowledged + progress.refused + progress.unknown;
        match (self.scenario, self.stage) {
            (Some(Scenario::Backlog), Stage::Without) if settled >= progress.planned => {
                self.stage = Stage::Done;
                self.orders.push(restart(dir, |_| true));
            }
            (Some(Scenario::Failover), Stage::Before) if progress.elapsed >= KILLED_AFTER => {
                self.stage = Stage::Without;
                self.orders.push(thread::spawn(move || {
                    let first = workers(&dir).ok().and_then(|names| names.into_iter().next());
                    let killed = first.map(|name| control::ask(&dir, &Request::Kill { name }));
                    if !matches!(killed, Some(Ok(()))) {
                        output::note("no worker was killed");
                    }
                }));
            }
            (Some(Scenario::Failover), Stage::Without) if progress.elapsed >= BACK_AFTER => {
                self.stage = Stage::Done;
                self.orders.push(restart(dir, |name| name == "worker-1"));
            }
            _ => {}
        }
    }

    /// Waits for what is under way; what the run took.
    pub(crate) fn end(self) -> Used {
        let mut orders = self.orders;
        // The run ended before its time: whoever comes next wants workers.
        if let (Stage::Without, Some(dir)) = (self.stage, self.dir.clone()) {
            orders.push(restart(dir, |_| true));
        }
        for order in orders {
            // Whoever died has said why.
            let _ = order.join();
        }
        let processes = self.sampler.map(Sampler::stop);
        let written_bytes = self.dir.as_deref().filter(|_| processes.is_some()).map(|dir| {
            let mut growth = self.growth.lock();
            growth.look(dir);
            growth.bytes
        });
        let now = self.counted_before.as_ref().and(self.dir.as_deref()).and_then(counted);
        Used {
            counted: self.counted_before.zip(now).and_then(|(before, now)| now.since(&before)),
            processes: processes.unwrap_or_default(),
            written_bytes,
            cluster: self.dir.as_deref().map(options).unwrap_or_default(),
            versions: self.versions,
            jobs: None,
        }
    }
}

fn workers(dir: &Path) -> Result<Vec<String>, Failure> {
    Ok(Description::read(dir)?.workers.into_iter().map(|worker| worker.name).collect())
}

/// In the background: the run goes on meanwhile.
fn restart(dir: PathBuf, wanted: impl Fn(&str) -> bool + Send + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        for name in workers(&dir).unwrap_or_default().into_iter().filter(|name| wanted(name)) {
            if let Err(error) = control::ask(&dir, &Request::Restart { name }) {
                output::note(&format!("a worker was not started again: {error}"));
            }
        }
    })
}

/// What Kafka has counted so far; none unless the cluster was started for that.
fn counted(dir: &Path) -> Option<Counted> {
    let nodes = Description::read(dir).ok()?.kafka_metrics;
    if nodes.is_empty() {
        return None;
    }
    metrics::read(&nodes)
        .inspect_err(|error| output::note(&format!("Kafka does not tell its counts: {error}")))
        .ok()
}

/// Bytes that the log files of every node's partitions grew by from look to look; what Kafka frees is not subtracted.
#[derive(Debug, Default)]
struct Growth {
    /// At the last look, the first if there was none.
    sizes: Option<HashMap<PathBuf, u64>>,
    bytes: u64,
}

impl Growth {
    fn look(&mut self, dir: &Path) {
        let nodes = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let is_node = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("kafka-");
        let mut sizes = HashMap::new();
        nodes.filter(is_node).for_each(|node| log_files(&node.path(), &mut sizes));
        if let Some(before) = &self.sizes {
            let grew =
                |(path, size): (&PathBuf, &u64)| size.saturating_sub(before.get(path).copied().unwrap_or(0));
            self.bytes += sizes.iter().map(grew).sum::<u64>();
        }
        self.sizes = Some(sizes);
    }
}

/// What the cluster was started with (`options.json`): settings that are no defaults, by name.
fn options(dir: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(dir.join("options.json")).unwrap_or_default();
    let mut found = BTreeMap::new();
    flatten("local", serde_json::from_str(&text).unwrap_or_default(), &mut found);
    found
}

fn flatten(name: &str, value: Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            fields.into_iter().for_each(|(field, value)| flatten(&format!("{name}.{field}"), value, into));
        }
        Value::Array(all) if all.is_empty() => {}
        Value::String(text) => {
            into.insert(name.to_owned(), text);
        }
        other => {
            into.insert(name.to_owned(), other.to_string());
        }
    }
}

/// Of the cluster only those that the measured system needs: what else runs there idles.
fn watched(dir: Option<&Path>, database: Option<&str>, pollers: Option<u32>) -> Vec<Watched> {
    let cluster = dir.and_then(|dir| Description::read(dir).ok());
    let of_cluster = cluster.into_iter().flat_map(|cluster| cluster.processes).filter_map(|process| {
        let role = role(&process.name);
        let is_needed = match (role, database) {
            (Role::Kafka, _) => true,
            (Role::Database, Some(name)) => process.name == name,
            (_, database) => role != Role::Database && database.is_none(),
        };
        is_needed.then_some(())?;
        Some(Watched { role, pid: process.pid?, name: process.name })
    });
    let bench = Watched { name: "bench".to_owned(), role: Role::Bench, pid: std::process::id() };
    let pollers = pollers.map(|pid| Watched { name: "pollers".to_owned(), role: Role::Worker, pid });
    of_cluster.chain([bench]).chain(pollers).collect()
}

fn role(name: &str) -> Role {
    match name.split('-').next() {
        Some("kafka") => Role::Kafka,
        Some("etcd") => Role::Store,
        Some("coordinator") => Role::Coordinator,
        Some("worker") => Role::Worker,
        _ => Role::Database,
    }
}

/// What was run, for its file.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) scenario: Option<Scenario>,
    pub(crate) system: String,
    pub(crate) shape: Shape,
    pub(crate) door: Door,
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    /// Name and version of the one that was measured.
    pub(crate) database: Option<String>,
    /// Settings of its pollers.
    pub(crate) polling: Vec<(&'static str, String)>,
}

/// Ours, with the commit that the scripts tell, of the sources beside them.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match std::env::var("KSCHED_COMMIT") {
        Ok(commit) if !commit.is_empty() => format!("{version} ({commit})"),
        _ => version.to_owned(),
    }
}

/// The run's file, of what was run and what came of it.
pub(crate) fn run_of(about: About, report: &Report, used: Used, floors: Vec<run::Floor>) -> Run {
    let (shape, v) = (about.shape, report.verification());
    let configuration = [
        ("bench.keys", shape.keys.to_string()),
        ("bench.headers", shape.headers.to_string()),
        ("bench.due", shape.due.name().to_owned()),
        ("bench.partitions", about.partitions.to_string()),
        ("bench.topic", about.topic),
    ];
    let generator = report.generator.map(|g| run::Generator {
        planned_s: g.planned_s,
        took_s: g.took_s,
        worst_lag_ms: g.worst_lag_ms,
        on_plan: g.is_on_plan(),
    });
    let known = |rate: f64| (rate.is_finite() && rate > 0.0).then_some(rate);
    let figures = report.figures.clone();
    Run {
        scenario: about.scenario.map_or_else(|| "custom".to_owned(), Scenario::name),
        system: about.system,
        started_at: report.started_at(),
        versions: run::Versions {
            ksched: version(),
            kafka: used.versions.kafka.clone(),
            etcd: used.versions.etcd.clone().filter(|_| about.database.is_none()),
            database: about.database,
            librdkafka: Some(ksched_kafka::librdkafka_version()),
        },
        machine: machine(),
        configuration: used
            .cluster
            .into_iter()
            .chain(configuration.map(|(name, value)| (name.to_owned(), value)))
            .chain(about.polling.into_iter().map(|(name, value)| (name.to_owned(), value)))
            .collect(),
        plan: run::Plan {
            seed: shape.seed,
            count: shape.count,
            rate_per_s: shape.rate,
            size_bytes: shape.size as u64,
            delay_min_ms: *shape.delays_ms.start(),
            delay_max_ms: *shape.delays_ms.end(),
            door: Some(about.door.name().to_owned()),
        },
        generator: generator.unwrap_or_default(),
        valid: report.valid,
        problems: report.problems.clone(),
        counts: run::Counts {
            planned: v.planned,
            acknowledged: v.acknowledged,
            refused: report.refused,
            unknown: v.unknown,
            delivered: v.delivered,
            lost: v.lost,
            doubled: v.doubled,
            early: v.early,
            late_beyond_bound: v.late_beyond_bound,
            corrupted: v.corrupted,
            invented: v.invented,
            reordered: v.reordered,
        },
        rates: run::Rates {
            acknowledged_per_s: known(report.accepted_per_s),
            delivered_per_s: known(report.rate_per_s),
            sustained_per_s: known(figures.sustained_per_s),
        },
        append: figures.append,
        visible: figures.visible,
        acknowledged: figures.acknowledged,
        throughput: figures.throughput,
        hops: figures.hops,
        jobs: used.jobs,
        processes: used.processes,
        broker: report.broker.clone(),
        floors,
    }
}

/// Logs in a folder, with their sizes. Files may go meanwhile.
fn log_files(dir: &Path, into: &mut HashMap<PathBuf, u64>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => log_files(&path, into),
            Ok(_) if path.extension().is_some_and(|e| e == "log") => {
                into.insert(path, entry.metadata().map_or(0, |m| m.len()));
            }
            _ => {}
        }
    }
}

fn machine() -> run::Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?.split(':').nth(1)?;
        Some(line.trim().to_owned())
    };
    let memory_kib = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|value| value.split(' ').next()?.parse::<u64>().ok());
    run::Machine {
        cores: thread::available_parallelism().map_or(0, |cores| cores.get() as u32),
        memory_bytes: memory_kib.unwrap_or(0) * 1024,
        kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        cpu: field(&read("/proc/cpuinfo"), "model name"),
    }
}
