//! What a person or a script is shown of a cluster.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use ksched_client::table::columns;
use ksched_local::{
    cluster::{Description, Entry},
    process::State,
};
use ksched_proto::v1::{GetClusterRequest, admin_client::AdminClient};
use tokio::time::timeout;

use super::{Output, default_dir};
use crate::programs::{lacking, path};

/// A coordinator that is paused or starting does not answer; then the leader is not shown.
const LEADER_WITHIN: Duration = Duration::from_secs(2);
/// Asks the coordinators, one after the other, who makes jobs.
pub(super) async fn with_leader(mut description: Description) -> Description {
    for coordinator in &description.coordinators {
        let url = format!("http://{}", coordinator.grpc);
        let asked = timeout(LEADER_WITHIN, async {
            let mut admin = AdminClient::connect(url).await.ok()?;
            Some(admin.get_cluster(GetClusterRequest {}).await.ok()?.into_inner().leader)
        });
        if let Ok(Some(leader)) = asked.await {
            // Until its lease is over, one that was killed is still told of.
            let lives = |entry: &Entry| entry.name == leader && entry.pid.is_some();
            description.leader = description.processes.iter().any(lives).then_some(leader);
            break;
        }
    }
    description
}

pub(super) fn show(description: &Description, output: Output) {
    let text = match output {
        Output::Json => description.to_json(),
        Output::Table => table(description),
    };
    // Whoever closes the pipe does not want to know.
    let _ = writeln!(io::stdout(), "{text}");
}

fn table(description: &Description) -> String {
    let rows: Vec<_> = description
        .processes
        .iter()
        .map(|entry| {
            let state = match entry.state {
                State::Running => "running",
                State::Paused => "paused",
                State::Dead => "dead",
            };
            let pid = entry.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            let leads = if description.leader.as_ref() == Some(&entry.name) { "makes jobs" } else { "" };
            let (speaks, address, http) = doors(description, &entry.name);
            let http = http.map_or_else(|| "-".to_owned(), |http| format!("http://{http}"));
            [entry.name.clone(), state.to_owned(), pid, speaks.to_owned(), address, http, leads.to_owned()]
        })
        .collect();
    let table = columns(["NAME", "STATE", "PID", "SPEAKS", "ADDRESS", "HTTP", ""], &rows);
    format!("{table}\nData and logs: {}", description.dir.display())
}

/// What a process speaks and where, and where its HTTP door is.
fn doors<'a>(description: &'a Description, name: &str) -> (&'static str, String, Option<&'a str>) {
    let address = || description.address(name).unwrap_or("-").to_owned();
    if let Some(coordinator) = description.coordinators.iter().find(|one| one.name == name) {
        ("gRPC", address(), Some(&coordinator.http))
    } else if let Some(worker) = description.workers.iter().find(|one| one.name == name) {
        ("-", "-".to_owned(), Some(&worker.http))
    } else if name == "prometheus" {
        ("PromQL", "-".to_owned(), description.prometheus.as_deref())
    } else if name == "jaeger" {
        ("OTLP", "-".to_owned(), description.jaeger.as_deref())
    } else if name == "etcd" {
        ("etcd", address(), None)
    } else if description.databases.iter().any(|one| one.name == name) {
        ("SQL", address(), None)
    } else {
        ("Kafka", address(), None)
    }
}

/// What to type next.
pub(super) fn hint(description: &Description, last: &str) {
    let us = us(&description.dir);
    let grpc = description.coordinators.first().map(|coordinator| coordinator.grpc.as_str());
    let doors: Vec<_> =
        description.coordinators.iter().map(|coordinator| coordinator.grpc.as_str()).collect();
    // Its own commands try the next when one does not answer; grpcurl knows one.
    let doors_are =
        grpc.map_or_else(String::new, |grpc| format!(" GRPC={grpc} KSCHED_SERVER={}", doors.join(",")));
    let export = format!("export KAFKA={}{doors_are} {}", description.kafka, path());
    eprintln!("\nTry, in another terminal (the first line says where things are):\n\n  {export}");
    // A message to a topic that does not exist goes to the dead letters.
    eprintln!("  echo first | kcat -P -b $KAFKA -t orders   # makes the topic");
    if grpc.is_some() {
        let message = r#"{"topic":"orders","delay":"5s","value_text":"by gRPC"}"#;
        eprintln!("  ksched-client tail orders   # in a terminal of its own: Ctrl-C ends it");
        eprintln!("  ksched-client schedule --topic orders --delay 5s 'by the client'");
        eprintln!("  grpcurl -plaintext -d '{message}' $GRPC ksched.v1.Scheduler/Schedule");
        eprintln!(
            "  echo 'by a record' | kcat -P -b $KAFKA -t SCHEDULED_MESSAGES -H topic=orders \
             -H \"time=$(date -ud '+5 sec' '+%F %T') UTC\""
        );
    }
    let victim = description.workers.first().map_or("etcd", |one| &one.name);
    eprintln!("  {us} kill {victim} -9   # and: status, restart, pause, resume, logs");
    if let Some(missing) = lacking(&["kcat", "grpcurl"]) {
        eprintln!("\n{missing}");
    }
    eprintln!("\n{last}");
}

/// How this program is called for the cluster in `dir`, with the PATH of [`hint`].
pub(super) fn us(dir: &Path) -> String {
    let program = "ksched";
    match default_dir() {
        Ok(default) if default == dir => format!("{program} local"),
        _ => format!("{program} local --dir {}", dir.display()),
    }
}
