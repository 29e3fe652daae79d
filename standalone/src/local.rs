//! `ksched local`: real Apache Kafka, etcd, coordinators and workers as processes on this machine.

mod show;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ksched_local::{
    Error, Result,
    cluster::{Cluster, Description, Entry, Geometry, Options},
    control::{self, Request},
    database,
    launch::{self, Launch},
    parts,
    process::State,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::sleep,
};

use self::show::{hint, show, us, with_leader};

/// How often a cluster that starts in the background is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Real Apache Kafka, etcd, coordinators and workers as processes on loopback
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Data, logs and ports are kept here; clusters in different directories do not meet
    /// [default: `local` in ksched's cache folder]
    #[arg(long, global = true, env = "KSCHED_LOCAL_DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start a cluster and keep it until Ctrl-C, or in the background until `down`
    #[command(after_help = "Examples:
  ksched local up --coordinators 2 --workers 3 --observe
  ksched local up --detach --slot-width 4s --ratio 4 --levels 3    a wheel that is crossed within minutes
  ksched local up --with postgresql --kafka-metrics                to compare with, by bench and report")]
    Up(Box<Up>),
    /// Show what runs where
    #[command(after_help = "Example:\n  ksched local status --output json | jq -r .kafka")]
    Status {
        /// As a table, or as JSON for scripts
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print what a process has written (all of them, if none is named)
    #[command(after_help = "Example:\n  ksched local logs worker-1")]
    Logs {
        /// The process, such as worker-1; see `status`
        name: Option<String>,
    },
    /// End a process: SIGTERM (and SIGKILL if it does not heed that), or -9 at once
    #[command(after_help = "Example:\n  ksched local kill -9 worker-1")]
    Kill {
        /// The process, such as worker-1; see `status`
        name: String,
        /// SIGKILL at once
        #[arg(short = '9')]
        nine: bool,
    },
    /// Stop a process in its tracks (SIGSTOP)
    #[command(after_help = "Example:\n  ksched local pause kafka-1")]
    Pause {
        /// The process, such as worker-1; see `status`
        name: String,
    },
    /// Let a paused process go on (SIGCONT)
    #[command(after_help = "Example:\n  ksched local resume kafka-1")]
    Resume {
        /// The process, such as worker-1; see `status`
        name: String,
    },
    /// End a process if it runs, and start it again on its ports and data
    #[command(after_help = "Example:\n  ksched local restart coordinator-1")]
    Restart {
        /// The process, such as worker-1; see `status`
        name: String,
    },
    /// End everything; data and ports are kept for the next `up`
    #[command(after_help = "Example:\n  ksched local down --purge")]
    Down {
        /// Remove data, logs and ports too
        #[arg(long)]
        purge: bool,
    },
    /// Own a cluster in the background; `up --detach` runs this
    #[command(hide = true)]
    Own,
}

#[derive(Debug, clap::Args)]
struct Up {
    /// Processes that take schedules and hand out jobs
    #[arg(long, default_value_t = 1)]
    coordinators: u16,
    /// Processes that do the jobs
    #[arg(long, default_value_t = 1)]
    workers: u16,
    /// Kafka nodes: 1, or 3 with replication 3
    #[arg(long, default_value_t = 1)]
    brokers: u16,
    /// A database beside the rest, for `ksched-client bench` to compare with
    #[arg(long = "with", value_name = "DATABASE[,DATABASE]", value_enum, value_delimiter = ',')]
    databases: Vec<Database>,
    /// Leave it running in the background until `down`
    #[arg(long)]
    detach: bool,
    /// As a table, or as JSON for scripts, which implies --detach
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Width of a level-1 slot, such as 4s
    #[arg(long)]
    slot_width: Option<String>,
    /// Slots of one level in a slot of the next
    #[arg(long)]
    ratio: Option<u32>,
    /// Levels of the wheel
    #[arg(long)]
    levels: Option<u32>,
    /// Independent streams of work
    #[arg(long)]
    lanes: Option<u32>,
    /// How long a silent worker keeps its jobs, such as 2s
    #[arg(long)]
    lease_ttl: Option<String>,
    /// exactly-once or at-least-once
    #[arg(long)]
    delivery: Option<String>,
    /// Of each worker, such as 256MiB
    #[arg(long)]
    memory_limit: Option<String>,
    /// Fixed heap of each Kafka node, as -Xmx takes it [default: 512m]
    #[arg(long)]
    kafka_heap: Option<String>,
    /// A Kafka broker property, NAME=VALUE
    #[arg(long = "kafka-property", value_name = "NAME=VALUE", value_parser = property)]
    kafka_properties: Vec<(String, String)>,
    /// Have Kafka count requests and bytes for `ksched-client bench --local` (Prometheus' JMX exporter, a Java agent)
    #[arg(long)]
    kafka_metrics: bool,
    /// Start Prometheus beside the rest, with all metrics, Kafka's and etcd's too, and the alerts; and, where there is a
    /// `jaeger` 2 (on the path, or by scripts/install-parts) and OTEL_EXPORTER_OTLP_ENDPOINT is not set, Jaeger, which
    /// gets the spans of every message: not for measuring
    #[arg(long)]
    observe: bool,
    /// Where ksched-server and ksched-worker are [default: beside this program]
    #[arg(long)]
    bin_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Database {
    #[value(alias = "postgres")]
    Postgresql,
    Mariadb,
}

impl Database {
    fn kind(self) -> database::Kind {
        match self {
            Self::Postgresql => database::Kind::Postgresql,
            Self::Mariadb => database::Kind::Mariadb,
        }
    }
}

/// Runs the subcommand: 0 done, 1 failed for a reason that may pass, 2 refused, 3 no such cluster or process.
pub(crate) async fn run(args: Args) -> ExitCode {
    let done = match args.dir.map_or_else(default_dir, Ok) {
        Ok(dir) => dispatch(args.command, dir).await,
        Err(error) => Err(error),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ksched local: {error}");
            ExitCode::from(match error {
                Error::Unknown { .. } | Error::NoCluster { .. } => 3,
                Error::Invalid(_) | Error::Taken { .. } | Error::Missing { .. } => 2,
                _ => 1,
            })
        }
    }
}

async fn dispatch(command: Command, dir: PathBuf) -> Result<ExitCode> {
    match command {
        Command::Up(up) if up.detach || up.output == Output::Json => {
            let output = up.output;
            up_in_background(&dir, &up.into_options(), output).await
        }
        Command::Up(up) => own(&dir, up.into_options(), Shown::Yes).await,
        Command::Own => {
            launch::detach()?;
            let options = launch::load_options(&dir)?;
            own(&dir, options, Shown::No).await
        }
        Command::Status { output } => {
            let description = Description::read(&dir)?;
            show(&with_leader(description).await, output);
            Ok(ExitCode::SUCCESS)
        }
        Command::Logs { name } => blocking(move || print_logs(&dir, name)).await,
        Command::Kill { name, nine: true } => ask(dir, Request::Kill { name }).await,
        Command::Kill { name, nine: false } => ask(dir, Request::Stop { name }).await,
        Command::Pause { name } => ask(dir, Request::Pause { name }).await,
        Command::Resume { name } => ask(dir, Request::Resume { name }).await,
        Command::Restart { name } => ask(dir, Request::Restart { name }).await,
        Command::Down { purge } => blocking(move || down(&dir, purge)).await,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Yes,
    No,
}

/// Starts the cluster, owns it until a signal or `down`, and ends it.
async fn own(dir: &Path, options: Options, shown: Shown) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let stop = Arc::new(AtomicBool::new(false));
    let (ready, mut started) = oneshot::channel();
    let (finished, mut ended) = oneshot::channel();
    let (path, told) = (dir.to_owned(), Arc::clone(&stop));
    // A plain thread: if we leave before it is done, it must not hold up the end of the process, with which the
    // kernel kills whatever was started.
    thread::spawn(move || {
        let outcome = Cluster::start(&path, &options, say).and_then(|cluster| {
            // Nobody listens only if we are about to leave.
            let _ = ready.send(cluster.describe());
            control::supervise(&cluster, &told, say)
        });
        let _ = finished.send(outcome);
    });

    let description = tokio::select! {
        Ok(description) = &mut started => description,
        outcome = &mut ended => return done(outcome),
        () = signals.next() => return Ok(ExitCode::FAILURE),
    };
    if shown == Shown::Yes {
        let description = with_leader(description).await;
        show(&description, Output::Table);
        let us = us(&description.dir);
        hint(
            &description,
            &format!("Ctrl-C ends it and keeps the data; `{us} down --purge` removes that too."),
        );
    }
    tokio::select! {
        outcome = &mut ended => return done(outcome),
        () = signals.next() => {}
    }
    say("ending everything; once more kills it");
    stop.store(true, Ordering::Relaxed);
    tokio::select! {
        outcome = &mut ended => done(outcome),
        () = signals.next() => Ok(ExitCode::FAILURE),
    }
}

fn done(outcome: std::result::Result<Result<()>, oneshot::error::RecvError>) -> Result<ExitCode> {
    outcome.unwrap_or(Err(Error::Invalid("the thread that owns the cluster ended early")))?;
    Ok(ExitCode::SUCCESS)
}

async fn up_in_background(dir: &Path, options: &Options, output: Output) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let mut launch = Launch::begin(dir, options, &["local", "own"])?;
    let description = loop {
        let polled = launch.poll();
        eprint!("{}", launch.said());
        if let Some(description) = polled? {
            break description;
        }
        tokio::select! {
            () = sleep(POLL) => {}
            () = signals.next() => {
                launch.abort();
                return Ok(ExitCode::FAILURE);
            }
        }
    };
    let description = with_leader(description).await;
    show(&description, output);
    if output == Output::Table {
        hint(&description, &format!("`{} down` ends it, with --purge the data too.", us(&description.dir)));
    }
    Ok(ExitCode::SUCCESS)
}

impl Up {
    fn into_options(self) -> Options {
        Options {
            brokers: self.brokers,
            databases: self.databases.into_iter().map(Database::kind).collect(),
            coordinators: self.coordinators,
            workers: self.workers,
            kafka_heap: self.kafka_heap,
            kafka_properties: self.kafka_properties,
            kafka_metrics: self.kafka_metrics,
            observe: self.observe,
            bin_dir: self.bin_dir,
            geometry: Geometry {
                slot_width: self.slot_width,
                ratio: self.ratio,
                levels: self.levels,
                lanes: self.lanes,
                lease_ttl: self.lease_ttl,
            },
            delivery: self.delivery,
            memory_limit: self.memory_limit,
            ..Options::default()
        }
    }
}

/// What ends a program from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let on = |kind| {
            signal(kind).map_err(|source| Error::Io { doing: "listen for signals".to_owned(), source })
        };
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

async fn ask(dir: PathBuf, request: Request) -> Result<ExitCode> {
    blocking(move || {
        let ran = request.name().is_some_and(|name| is_alive(&dir, name));
        control::ask(&dir, &request)?;
        say(&outcome(&request, ran, &us(&dir)));
        Ok(ExitCode::SUCCESS)
    })
    .await
}

fn is_alive(dir: &Path, name: &str) -> bool {
    let alive = |entry: &Entry| entry.name == name && entry.state != State::Dead;
    Description::read(dir).is_ok_and(|description| description.processes.iter().any(alive))
}

/// What a request that succeeded has done to a process that ran before, or did not.
fn outcome(request: &Request, ran: bool, us: &str) -> String {
    let name = request.name().unwrap_or("everything");
    match request {
        Request::Kill { .. } | Request::Stop { .. } if !ran => format!("{name} was not running"),
        Request::Kill { .. } => format!("{name} is killed; `{us} restart {name}` starts it again"),
        Request::Stop { .. } => format!("{name} has ended; `{us} restart {name}` starts it again"),
        Request::Pause { .. } => format!("{name} is paused; `{us} resume {name}` lets it go on"),
        Request::Resume { .. } => format!("{name} goes on"),
        Request::Restart { .. } if !ran => format!("{name} is started and ready"),
        Request::Restart { .. } => format!("{name} has ended, is started again and ready"),
        Request::Down => "everything ends".to_owned(),
    }
}

async fn blocking(work: impl FnOnce() -> Result<ExitCode> + Send + 'static) -> Result<ExitCode> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(Error::Invalid("the thread that does the work ended early")))
}

fn down(dir: &Path, purge: bool) -> Result<ExitCode> {
    match control::down(dir) {
        Ok(()) => say("everything has ended"),
        Err(Error::NoCluster { .. }) => say(&format!("no cluster is running in {}", dir.display())),
        Err(error) => return Err(error),
    }
    if purge {
        let there = dir.exists();
        control::purge(dir)?;
        say(&match there {
            true => format!("removed the data, logs and ports in {}", dir.display()),
            false => format!("there is nothing in {} to remove", dir.display()),
        });
    }
    Ok(ExitCode::SUCCESS)
}

/// One process's log as it is; all of them with their names before each line.
fn print_logs(dir: &Path, name: Option<String>) -> Result<ExitCode> {
    let logs = dir.join("logs");
    let mut names: Vec<_> = fs::read_dir(&logs)
        .map_err(|_| Error::NoCluster { dir: dir.to_owned() })?
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    if let Some(name) = name {
        if !names.contains(&name) {
            return Err(Error::Unknown { name, known: names.join(", ") });
        }
        write_log(&logs, &name, "")?;
    } else {
        names.iter().try_for_each(|name| write_log(&logs, name, &format!("{name:13} | ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_log(logs: &Path, name: &str, before: &str) -> Result<()> {
    let file = logs.join(format!("{name}.log"));
    let bytes =
        fs::read(&file).map_err(|source| Error::Io { doing: format!("read {}", file.display()), source })?;
    let mut out = io::stdout().lock();
    for line in String::from_utf8_lossy(&bytes).lines() {
        // A reader that has seen enough (`| head`) closes the pipe.
        if writeln!(out, "{before}{line}").is_err() {
            break;
        }
    }
    Ok(())
}

fn default_dir() -> Result<PathBuf> {
    Ok(parts::cache_dir()?.join("local"))
}

fn say(text: &str) {
    eprintln!("{text}");
}

fn property(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told() {
        let name = || "worker-1".to_owned();
        assert!(outcome(&Request::Kill { name: name() }, true, "us").contains("`us restart worker-1`"));
        assert_eq!(outcome(&Request::Kill { name: name() }, false, "us"), "worker-1 was not running");
        assert_eq!(outcome(&Request::Stop { name: name() }, false, "us"), "worker-1 was not running");
        assert_eq!(outcome(&Request::Restart { name: name() }, false, "us"), "worker-1 is started and ready");
    }
}
