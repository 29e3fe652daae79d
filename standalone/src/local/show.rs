//! What a person or a script is shown of a cluster.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use ksched_local::{
    cluster::{Description, Entry},
    parts,
    process::State,
};
use ksched_proto::v1::{GetClusterRequest, admin_client::AdminClient};
use tokio::time::timeout;

use super::{Output, default_dir};

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
    let mut lines = vec![format!("{:<15}{:<9}{:<9}ADDRESS", "NAME", "STATE", "PID")];
    for entry in &description.processes {
        let state = match entry.state {
            State::Running => "running",
            State::Paused => "paused",
            State::Dead => "dead",
        };
        let pid = entry.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let address = description.address(&entry.name).unwrap_or_default();
        let http = description.coordinators.iter().find(|one| one.name == entry.name);
        let http = http.map_or_else(String::new, |one| format!(", http://{}", one.http));
        let leads = if description.leader.as_ref() == Some(&entry.name) { " (makes jobs)" } else { "" };
        lines.push(format!("{:<15}{state:<9}{pid:<9}{address}{http}{leads}", entry.name));
    }
    lines.push(format!("\nData and logs: {}", description.dir.display()));
    lines.join("\n")
}

/// What to type next.
pub(super) fn hint(description: &Description, last: &str) {
    let us = us(&description.dir);
    let kafka = &description.kafka;
    eprintln!("\nTry:");
    // A message to a topic that does not exist goes to the dead letters.
    eprintln!(
        "  kcat -L -b {kafka} -t orders -X allow.auto.create.topics=true > /dev/null  # makes the topic"
    );
    if let Some(grpc) = description.coordinators.first().map(|coordinator| &coordinator.grpc) {
        let message = r#"{"topic": "orders", "value_text": "hello", "delay": "10s"}"#;
        eprintln!("  {} -plaintext -d '{message}' {grpc} ksched.v1.Scheduler/Schedule", at_hand("grpcurl"));
        let client = at_hand("ksched-client");
        eprintln!("  {client} schedule --server {grpc} --topic orders --delay 10s 'hello'");
        eprintln!("  {client} tail --server {grpc} orders");
        eprintln!(
            "  echo hello | kcat -P -b {kafka} -t SCHEDULED_MESSAGES -H topic=orders \
             -H \"time=$(date -d '+20 seconds' '+%F %T')\""
        );
    }
    eprintln!("  kcat -C -b {kafka} -t orders -f '%T %h %s\\n'");
    eprintln!(
        "  {us} status\n  {us} kill {} -9",
        description.workers.first().map_or("etcd", |one| &one.name)
    );
    eprintln!("{last}");
}

/// How this program is called for the cluster in `dir`.
pub(super) fn us(dir: &Path) -> String {
    let program = at_hand("ksched");
    match default_dir() {
        Ok(default) if default == dir => format!("{program} local"),
        _ => format!("{program} local --dir {}", dir.display()),
    }
}

/// A program's name if the shell finds it, else where we do.
fn at_hand(program: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
        return program.to_owned();
    }
    let beside = std::env::current_exe().ok().and_then(|us| Some(us.parent()?.join(program)));
    let cached = parts::cache_dir().ok().map(|cache| cache.join("bin").join(program));
    let found = beside.into_iter().chain(cached).find(|file| file.is_file());
    found.map_or_else(|| program.to_owned(), |file| file.display().to_string())
}
