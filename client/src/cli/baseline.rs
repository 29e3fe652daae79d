//! `baseline`: the pollers of the scheduler that `bench` compares with, in a process of their own, so that what
//! they cost can be told from what the bench costs.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::{Args, ValueEnum};
use ksched_baseline::{Database, Dialect, Pollers, Round, Settings};
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinHandle, spawn_blocking},
};

use crate::{
    connection::KafkaArguments,
    output::{self, Failure},
    plan::span,
};

/// What the process says when its pollers run.
const POLLING: &str = "polling";
/// Where its looks are, in what it says at its end.
const ROUNDS: &str = "rounds";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    polling: PollingArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// Removes first whatever is scheduled.
    #[arg(long)]
    clear: bool,
    /// End when standard input ends, with whoever started this.
    #[arg(long, hide = true)]
    until_input_ends: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PollingArguments {
    /// postgres://USER@HOST:PORT/DATABASE or mariadb://…; `ksched local up --with` tells it.
    #[arg(long, value_name = "URL", env = "KSCHED_DATABASE_URL")]
    database_url: Option<String>,
    /// From one look for what is due to the next, of each poller.
    #[arg(long, default_value = "100ms", value_parser = span)]
    poll: Duration,
    /// Pollers; with several, messages of one key may overtake each other. 0 with bench: they run elsewhere.
    #[arg(long, default_value_t = 4)]
    pollers: u32,
    /// Messages that a poller takes at once.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
}

/// What `bench` is told of the system that takes the place of ksched.
#[derive(Debug, Args)]
pub(crate) struct ComparedArguments {
    /// What is measured: ksched, or a database with pollers, started here in a process of their own.
    #[arg(long, value_enum, default_value_t)]
    system: System,
    #[command(flatten)]
    polling: PollingArguments,
    /// Connections that insert into the database.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Removes first whatever is scheduled in the database.
    #[arg(long)]
    clear: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum System {
    #[default]
    Ksched,
    Postgresql,
    Mariadb,
}

impl ComparedArguments {
    /// The table to schedule into; none if it is ksched that is measured.
    pub(crate) async fn database(&self, kafka: &KafkaArguments) -> Result<Option<Database>, Failure> {
        let dialect = match self.system {
            System::Ksched => return Ok(None),
            System::Postgresql => Dialect::Postgresql,
            System::Mariadb => Dialect::Mariadb,
        };
        // There is no coordinator that could be asked.
        kafka.is_told()?;
        let database = self.polling.connect(self.connections).await?;
        if database.dialect() != dialect {
            return Err(Failure::Refused(format!("--database-url is not of a {}", dialect.name())));
        }
        if self.clear {
            database.clear().await?;
        }
        let waiting = database.waiting().await?;
        if waiting > 0 {
            output::note(&format!(
                "{waiting} messages of earlier runs are in the table; --clear removes them"
            ));
        }
        Ok(Some(database))
    }
}

impl ComparedArguments {
    /// What is measured, with how often it looks: the interval decides its lateness.
    pub(crate) fn name(&self, database: &Database) -> String {
        let every = self.polling.poll;
        let every = match every.as_millis() {
            ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
            ms => format!("{ms}ms"),
        };
        format!("{}-{every}", database.dialect().name())
    }
}

impl ComparedArguments {
    /// For the run's file.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let PollingArguments { poll, pollers, batch, .. } = &self.polling;
        vec![
            ("baseline.poll_ms", poll.as_millis().to_string()),
            ("baseline.pollers", pollers.to_string()),
            ("baseline.batch", batch.to_string()),
            ("baseline.connections", self.connections.to_string()),
        ]
    }
}

impl PollingArguments {
    /// The table, with so many connections.
    pub(crate) async fn connect(&self, connections: u32) -> Result<Database, Failure> {
        let unknown = || Failure::Refused("--database-url is wanted".to_owned());
        let url = self.database_url.as_ref().ok_or_else(unknown)?;
        let database = Database::connect(url, connections).await?;
        database.prepare_table().await?;
        Ok(database)
    }

    fn to_flags(&self) -> Vec<String> {
        let mut flags = vec!["--poll".to_owned(), format!("{}ms", self.poll.as_millis())];
        flags.extend(["--pollers".to_owned(), self.pollers.to_string()]);
        flags.extend(["--batch".to_owned(), self.batch.to_string()]);
        if let Some(url) = &self.database_url {
            flags.extend(["--database-url".to_owned(), url.clone()]);
        }
        flags
    }
}

/// Polls until told to stop; then says on stdout, as JSON, what was done.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let polling = &arguments.polling;
    let log = arguments.kafka.connect_directly()?;
    let database = polling.connect(polling.pollers.max(1)).await?;
    if arguments.clear {
        database.clear().await?;
    }
    let settings = Settings { every: polling.poll, pollers: polling.pollers, batch: polling.batch };
    output::note(&format!("{}: {}", database.dialect().name(), database.version().await?));
    let pollers = Pollers::start(&database, &log, settings);
    output::line(POLLING)?;
    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
        _ = spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())), if arguments.until_input_ends => {}
    }
    let done = pollers.stop().await;
    let mut said = json!({
        "delivered": done.delivered,
        "batches": done.batches,
        "in_vain": done.in_vain,
        "refused": done.refused,
        "failed": done.failed,
    });
    // For the program that started this one.
    if arguments.until_input_ends {
        said[ROUNDS] = json!(done.rounds);
    }
    output::json(&said)
}

/// Such a process, started by this one; it ends with it, however that ends.
#[derive(Debug)]
pub(crate) struct Process {
    child: Option<Child>,
    /// What it says at its end.
    said: Option<JoinHandle<Vec<Round>>>,
}

impl Process {
    /// Returns when the pollers run; none if there are to be none.
    pub(crate) async fn start(
        compared: &ComparedArguments,
        kafka: &KafkaArguments,
    ) -> Result<Option<Self>, Failure> {
        let polling = &compared.polling;
        if polling.pollers == 0 {
            return Ok(None);
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["baseline", "--until-input-ends"]).args(polling.to_flags()).args(kafka.to_flags());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self { child: Some(command.spawn()?), said: None };
        let output = process.child.as_mut().and_then(|child| child.stdout.take());
        let ready = spawn_blocking(move || {
            let mut line = String::new();
            let mut output = BufReader::new(output?);
            output.read_line(&mut line).ok().filter(|_| line.trim_end() == POLLING)?;
            Some(output)
        });
        let Ok(Some(mut output)) = ready.await else {
            return Err(Failure::MayPass("the pollers did not start".to_owned()));
        };
        output::note(&format!("pollers: process {}", process.child.as_ref().map_or(0, Child::id)));
        process.said = Some(spawn_blocking(move || {
            let mut line = String::new();
            let mut said: Value = output
                .read_line(&mut line)
                .ok()
                .and_then(|_| serde_json::from_str(&line).ok())
                .unwrap_or_default();
            let rounds = said.as_object_mut().and_then(|said| said.remove(ROUNDS)).unwrap_or_default();
            output::note(&format!("pollers: {said}"));
            serde_json::from_value(rounds).unwrap_or_default()
        }));
        Ok(Some(process))
    }

    /// Of the process.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Lets it end what it has begun; the looks that found something.
    pub(crate) async fn stop(mut self) -> Vec<Round> {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ = spawn_blocking(move || child.wait()).await;
        }
        match self.said.take() {
            Some(said) => said.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It has ended already, or ends now.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
