//! `workers`, `jobs` and `lanes`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use ksched_core::jobs::JobName;
use ksched_proto::v1;
use serde::Serialize;

use crate::{
    connection::ServerArguments,
    onlooker::Onlooker,
    output::{self, Failure, Format},
    view::Lane,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    /// How the list is printed.
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
    let found = arguments.server.ask(|client| async move { client.workers().await }).await?;
    let workers: Vec<_> = found.into_iter().map(Worker::from).collect();
    if arguments.output == Format::Json {
        return output::json(&workers);
    }
    let rows: Vec<_> = workers
        .into_iter()
        .map(|w| [w.name, w.worker_id, w.version, w.registered_time, summary(&w.jobs)])
        .collect();
    output::table(["WORKER", "ID", "VERSION", "REGISTERED", "JOBS"], &rows)
}

pub(crate) async fn jobs(arguments: Arguments) -> Result<(), Failure> {
    let found = arguments.server.ask(|client| async move { client.jobs().await }).await?;
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

pub(crate) async fn lanes(arguments: Arguments) -> Result<(), Failure> {
    let servers = arguments.server.addresses().to_vec();
    let look = |client| async move { Onlooker::new(client, servers).look().await };
    let view = arguments.server.ask(look).await?;
    view.unknown.iter().for_each(|what| output::note(&format!("not known: {what}")));
    if arguments.output == Format::Json {
        return output::json(&view.lanes);
    }
    let rows: Vec<_> = view.lanes.iter().map(|lane| lane.cells(view.at_ms)).collect();
    output::table(Lane::HEADING, &rows)
}

/// Jobs by kind: numbered ones as ranges, drains (whose partitions say nothing to
/// people) as a count.
pub(crate) fn summary(jobs: &[String]) -> String {
    let mut drains = 0;
    let mut kinds: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut others = Vec::new();
    for job in jobs {
        match job.parse() {
            Ok(JobName::Lane(lane)) => kinds.entry("lane").or_default().extend([u32::from(lane)]),
            Ok(JobName::Intake { partition, .. }) => {
                kinds.entry("intake").or_default().extend([partition.unsigned_abs()]);
            }
            Ok(JobName::Drain { .. }) => drains += 1,
            // Of a newer coordinator.
            Err(_) => others.push(job.clone()),
        }
    }
    let mut parts: Vec<_> = kinds.iter().rev().map(|(kind, ns)| format!("{kind}/{}", ranges(ns))).collect();
    if drains > 0 {
        parts.push(format!("{drains} drain{}", if drains == 1 { "" } else { "s" }));
    }
    parts.extend(others);
    if parts.is_empty() { "-".to_owned() } else { parts.join(" ") }
}

/// `0-1,3,5-7`.
fn ranges(numbers: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = runs
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    text.collect::<Vec<_>>().join(",")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_summed_up_by_kind() {
        let jobs = |names: &[&str]| summary(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        let some = ["intake/S/0", "intake/S/2", "intake/S/1", "lane/3", "lane/0", "lane/1", "new/1"];
        assert_eq!(jobs(&some), "lane/0-1,3 intake/0-2 new/1");
        assert_eq!(jobs(&["drain/ksched.wheel.1/17", "drain/ksched.wheel.1/3"]), "2 drains");
        assert_eq!(jobs(&["lane/10", "lane/9", "drain/ksched.wheel.1/3"]), "lane/9-10 1 drain");
        assert_eq!(jobs(&[]), "-");
    }
}
