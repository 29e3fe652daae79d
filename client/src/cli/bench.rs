//! `bench`: a seeded run, judged at its end.

#[cfg(feature = "experiment")]
use std::path::{Path, PathBuf};
use std::{io::IsTerminal as _, sync::Arc, time::Duration};

use clap::Args;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
#[cfg(feature = "experiment")]
use ksched_client::bench::Book;
use ksched_client::{
    bench::{self, Door, Options, Progress, Reading, Report},
    kafka,
};

#[cfg(feature = "experiment")]
use crate::baseline::{ComparedArguments, Process};
use crate::{
    cluster_run::{About, ClusterArguments, Steering, run_of},
    connection::{KafkaArguments, ServerArguments, patiently},
    floors, job_times,
    output::{self, Failure, Format},
    plan::{PlanArguments, Scenario, span},
};

/// How often a line tells of the progress where there is no terminal to draw on.
const LINE_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    plan: PlanArguments,
    /// Decides the plan; chosen and told if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// unary, batch, stream or intake [default: unary].
    #[arg(long)]
    door: Option<Door>,
    /// Partitions of the target if it has to be made.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// How long after the last due time undelivered messages are waited for.
    #[arg(long, default_value = "30s", value_parser = span)]
    grace: Duration,
    /// Only schedules: `verify` judges later.
    #[arg(long, conflicts_with = "read_after")]
    no_read: bool,
    /// Reads what was delivered when the topic has stopped to grow, so that reading takes nothing from what is measured.
    #[arg(long)]
    read_after: bool,
    /// Keeps a ledger in this SQLite file, so that the run can be interrupted, continued and looked at.
    #[cfg(feature = "experiment")]
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Goes on with the ledger's run: plan and topic are taken from it.
    #[cfg(feature = "experiment")]
    #[arg(long = "continue", requires = "ledger", conflicts_with = "no_read")]
    goes_on: bool,
    #[cfg(feature = "experiment")]
    #[command(flatten)]
    compared: ComparedArguments,
    #[command(flatten)]
    around: ClusterArguments,
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// How the report is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let client = arguments.server.client()?;
    #[cfg(feature = "experiment")]
    let database = arguments.compared.database(&arguments.kafka).await?;
    #[cfg(feature = "experiment")]
    let arguments = match database {
        Some(_) => Arguments { door: Some(Door::Database), ..arguments },
        None => arguments,
    };
    let door = arguments.plan.door(arguments.door);
    let (log, address) = arguments.kafka.connect(&arguments.server).await?;
    let intake_topic = match door {
        Door::Intake => {
            let found = arguments.server.ask(|client| async move { client.cluster().await }).await?;
            found.cluster.unwrap_or_default().intake_topic
        }
        _ => String::new(),
    };
    let options = Options {
        shape: arguments.plan.shape(seed)?,
        door,
        topic: arguments.plan.topic.clone(),
        intake_topic,
        reading: match arguments.plan.scenario {
            _ if arguments.read_after => Reading::After,
            _ if arguments.no_read => Reading::None,
            Some(Scenario::Sustained | Scenario::Backlog) if !arguments.has_ledger() => Reading::After,
            Some(Scenario::FarAhead) => Reading::None,
            _ => Reading::Live,
        },
        grace: arguments.grace,
        bounds: arguments.plan.bounds(),
        #[cfg(feature = "experiment")]
        database,
    };
    #[cfg(feature = "experiment")]
    let (options, book) = match &arguments.ledger {
        Some(file) => arguments.keep(file, options)?,
        None => (options, None),
    };
    let (topic, partitions, admin) = (options.topic.clone(), arguments.partitions, Arc::clone(&log));
    let made = tokio::task::spawn_blocking(move || kafka::make_target(&admin, &topic, partitions));
    let made = patiently(&format!("no answer from Kafka at {address} yet"), made).await;
    made.map_err(|_| Failure::MayPass("the program is ending".to_owned()))??;
    output::note(&format!("seed {}", options.shape.seed));
    #[cfg(feature = "experiment")]
    let pollers = match options.database {
        Some(_) => Process::start(&arguments.compared, &arguments.kafka).await?,
        None => None,
    };
    #[cfg(feature = "experiment")]
    let (system, database, polled_by) = match (&options.database, &pollers) {
        (Some(database), pollers) => {
            let name = Some(database.dialect().name());
            (arguments.compared.name(database), name, pollers.as_ref().and_then(Process::id))
        }
        (None, _) => ("ksched".to_owned(), None, None),
    };
    #[cfg(not(feature = "experiment"))]
    let (system, database, polled_by) = ("ksched".to_owned(), None, None);
    let system = arguments.around.system_name.clone().unwrap_or(system);
    let scenario = arguments.plan.scenario;
    let floors = arguments.around.floors.as_deref().map_or(Ok(Vec::new()), floors::read)?;
    #[cfg(feature = "experiment")]
    let (version, polling) = match &options.database {
        Some(database) => {
            let version = database.version().await?;
            let short = version.split(" on ").next().unwrap_or_default();
            let version =
                format!("{} {}", database.dialect().name(), short.trim_start_matches("PostgreSQL "));
            (Some(version), arguments.compared.settings())
        }
        None => (None, Vec::new()),
    };
    #[cfg(not(feature = "experiment"))]
    let (version, polling) = (None, Vec::new());
    let about = About {
        scenario,
        system,
        shape: options.shape.clone(),
        door,
        topic: options.topic.clone(),
        partitions: arguments.partitions,
        database: version,
        polling,
    };
    let mut steering = Steering::begin(&arguments.around, scenario, database, polled_by)?;
    let mut watcher = Watcher::new(options.shape.count);
    let shown = |progress: &Progress| {
        watcher.show(progress);
        steering.at(progress);
    };
    #[cfg(feature = "experiment")]
    let report = match book {
        Some(book) => Box::pin(bench::run_kept(options, client, Arc::clone(&log), book, shown)).await,
        None => Box::pin(bench::run(options, client, Arc::clone(&log), shown)).await,
    };
    #[cfg(not(feature = "experiment"))]
    let report = Box::pin(bench::run(options, client, Arc::clone(&log), shown)).await;
    watcher.finish();
    let mut used = steering.end();
    #[cfg(feature = "experiment")]
    let rounds = match pollers {
        Some(pollers) => Some(pollers.stop().await),
        None => None,
    };
    let mut report = report?;
    #[cfg(feature = "experiment")]
    if let Some(rounds) = rounds {
        used.jobs = Some(job_times::polls(rounds, report.start_ms()));
    }
    if arguments.around.run_file.is_some() && report.system == Some("ksched") {
        let drains = job_times::drains(arguments.server.client()?, log, report.start_ms()).await;
        used.jobs =
            drains.inspect_err(|error| output::note(&format!("the job log is not read: {error}"))).ok();
    }
    #[cfg(feature = "experiment")]
    if arguments.goes_on {
        output::note("continued: what the run cost is not told, for only its last part was watched");
        used = used.of_a_part();
        report.figures.hops = None;
    }
    report.broker = used.broker(&report);
    if let Some(file) = &arguments.around.run_file {
        run_of(about, &report, used, floors).write(file)?;
        output::note(&format!("written: {}", file.display()));
    }
    conclude(&report, arguments.output)
}

impl Arguments {
    /// A run with a ledger is read while it lasts.
    fn has_ledger(&self) -> bool {
        #[cfg(feature = "experiment")]
        return self.ledger.is_some();
        #[cfg(not(feature = "experiment"))]
        return false;
    }
}

#[cfg(feature = "experiment")]
impl Arguments {
    /// The ledger, and the run that is in it if there is to be one.
    fn keep(&self, file: &Path, options: Options) -> Result<(Options, Option<Book>), Failure> {
        if !self.goes_on {
            let book = Book::create(file, &options.shape, &options.topic)?;
            return Ok((options, Some(book)));
        }
        let (book, shape, topic) = Book::open(file)?;
        Ok((Options { shape, topic, ..options }, Some(book)))
    }
}

/// Shows on stderr how far a run is: a bar on a terminal, elsewhere a line now and then.
enum Watcher {
    Bar(ProgressBar),
    Lines { last: Duration },
}

impl Watcher {
    fn new(count: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: Duration::ZERO };
        }
        let bar = ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr());
        if let Ok(style) =
            ProgressStyle::with_template("{elapsed} [{bar:30}] {pos}/{len} delivered\n{wide_msg}")
        {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    fn show(&mut self, progress: &Progress) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(progress.delivered);
                bar.set_message(told(progress));
            }
            Self::Lines { last } if progress.elapsed >= *last + LINE_EVERY => {
                *last = progress.elapsed;
                let Progress { elapsed, delivered, planned, .. } = progress;
                let (seconds, told) = (elapsed.as_secs(), told(progress));
                output::note(&format!("{seconds:>3} s  {delivered} of {planned} delivered  {told}"));
            }
            Self::Lines { .. } => {}
        }
    }

    fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn told(progress: &Progress) -> String {
    let Progress { sent, acknowledged, delivered, visible_ms, left, .. } = progress;
    let pending = acknowledged.saturating_sub(*delivered);
    let lateness = match visible_ms.p99.is_finite() {
        true => format!(", lately p50 {:.1} p99 {:.1} ms late", visible_ms.p50, visible_ms.p99),
        false => String::new(),
    };
    let left = match left.as_secs() {
        0 => String::new(),
        seconds => format!(", {} left", HumanDuration(Duration::from_secs(seconds))),
    };
    format!("sent {sent}, acknowledged {acknowledged}, pending {pending}{lateness}{left}")
}

/// Prints a report; whether it is valid is the exit code.
pub(crate) fn conclude(report: &Report, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(report)?,
        Format::Table => output::write(report.table().as_bytes())?,
    }
    if format == Format::Json {
        for problem in &report.problems {
            output::note(&format!("not valid: {problem}"));
        }
    }
    if report.valid { Ok(()) } else { Err(Failure::Verification) }
}
