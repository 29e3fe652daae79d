//! What a run has to do with the cluster around it: processes are watched, workers killed or
//! held back as the scenario says, and all of it is written into the run's file.

use std::{
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Duration,
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

use crate::{
    output::{self, Failure},
    plan::Scenario,
};

/// When `failover` kills a worker, and when it is started again.
const KILLED_AFTER: Duration = Duration::from_secs(10);
const BACK_AFTER: Duration = Duration::from_secs(20);

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
    /// Bytes of Kafka's logs when the run began.
    written_before: u64,
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
    versions: Versions,
    /// None if nobody told.
    pub(crate) jobs: Option<Vec<run::Job>>,
}

impl Used {
    /// What Kafka did in a run, as far as it is known.
    pub(crate) fn broker(&self, report: &Report) -> Option<run::Broker> {
        let counted = self.counted.as_ref();
        let requests = |api| counted.map(|counted| counted.requests.get(api).copied().unwrap_or(0));
        let written_bytes = self.written_bytes?;
        Some(run::Broker {
            written_bytes: Some(written_bytes),
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
        let (watched_dir, database) = (dir.clone(), database.map(str::to_owned));
        let who = move || watched(watched_dir.as_deref(), database.as_deref(), pollers);
        let sampler = around.run_file.is_some().then(|| Sampler::start(who)).transpose()?;
        let written_before = dir.as_deref().map_or(0, kafka_bytes);
        let counted_before = dir.as_deref().and_then(counted);
        let versions = dir.as_deref().map_or_else(Versions::default, |_| parts::versions());
        Ok(Self {
            dir,
            scenario,
            sampler,
            stage,
            orders: Vec::new(),
            written_before,
            counted_before,
            versions,
        })
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
        for order in self.orders {
            // Whoever died has said why.
            let _ = order.join();
        }
        let written = self.dir.as_deref().map(|dir| kafka_bytes(dir).saturating_sub(self.written_before));
        let now = self.counted_before.as_ref().and(self.dir.as_deref()).and_then(counted);
        Used {
            counted: self.counted_before.zip(now).and_then(|(before, now)| now.since(&before)),
            processes: self.sampler.map(Sampler::stop).unwrap_or_default(),
            written_bytes: written,
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

/// Of every node's partitions.
fn kafka_bytes(dir: &Path) -> u64 {
    let nodes = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_node = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("kafka-");
    nodes.filter(is_node).map(|node| bytes_under(&node.path())).sum()
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
            ksched: env!("CARGO_PKG_VERSION").to_owned(),
            kafka: used.versions.kafka.clone(),
            etcd: used.versions.etcd.clone().filter(|_| about.database.is_none()),
            database: about.database,
            librdkafka: Some(ksched_kafka::librdkafka_version()),
        },
        machine: machine(),
        configuration: configuration.map(|(name, value)| (name.to_owned(), value)).into(),
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

/// What all files in a folder hold.
fn bytes_under(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    // Files go while they are counted: those are none of what was written.
    let size = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_under(&entry.path()),
        Ok(_) if entry.path().extension().is_some_and(|e| e == "log") => {
            entry.metadata().map_or(0, |m| m.len())
        }
        _ => 0,
    };
    entries.map(size).sum()
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
