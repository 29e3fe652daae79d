//! `workers` and `jobs`.

use clap::Args;
use ksched_proto::v1;
use serde::Serialize;

use crate::{
    connection::ServerArguments,
    output::{self, Failure, Format},
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Serialize)]
struct Worker {
    name: String,
    worker_id: String,
    version: String,
    http: String,
    registered_time: String,
    jobs: Vec<String>,
}

#[derive(Serialize)]
struct Job {
    name: String,
    kind: &'static str,
    worker: String,
    worker_id: String,
    fence: i64,
}

pub(crate) async fn workers(arguments: Arguments) -> Result<(), Failure> {
    let found = arguments.server.client()?.workers().await?;
    let workers: Vec<_> = found.into_iter().map(Worker::from).collect();
    if arguments.output == Format::Json {
        return output::json(&workers);
    }
    let rows: Vec<_> = workers
        .into_iter()
        .map(|w| [w.name, w.worker_id, w.version, w.registered_time, w.jobs.join(",")])
        .collect();
    output::table(["WORKER", "ID", "VERSION", "REGISTERED", "JOBS"], &rows)
}

pub(crate) async fn jobs(arguments: Arguments) -> Result<(), Failure> {
    let found = arguments.server.client()?.jobs().await?;
    let jobs: Vec<_> = found.into_iter().map(Job::from).collect();
    if arguments.output == Format::Json {
        return output::json(&jobs);
    }
    let rows: Vec<_> = jobs
        .into_iter()
        .map(|j| {
            let holder = if j.worker_id.is_empty() { "-".to_owned() } else { j.worker };
            [j.name, j.kind.to_owned(), holder, j.fence.to_string()]
        })
        .collect();
    output::table(["JOB", "KIND", "WORKER", "FENCE"], &rows)
}

impl From<v1::Worker> for Worker {
    fn from(worker: v1::Worker) -> Self {
        Self {
            name: worker.name,
            worker_id: worker.worker_id,
            version: worker.version,
            http: worker.http_address,
            registered_time: worker.registered_time.map(|at| at.to_string()).unwrap_or_default(),
            jobs: worker.jobs,
        }
    }
}

impl From<v1::JobState> for Job {
    fn from(state: v1::JobState) -> Self {
        let job = state.job.unwrap_or_default();
        let kind = match job.kind() {
            v1::JobKind::Lane => "lane",
            v1::JobKind::Drain => "drain",
            v1::JobKind::Intake => "intake",
            v1::JobKind::Unspecified => "unknown",
        };
        Self { name: job.name, kind, worker: state.worker_name, worker_id: state.worker_id, fence: job.fence }
    }
}
