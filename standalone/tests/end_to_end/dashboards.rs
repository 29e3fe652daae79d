//! Grafana's dashboards, without Grafana: what Prometheus, which watches this cluster, answers to their panels.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ksched_client::Message;
use ksched_core::trace;
use ksched_proto::v1::JobState;
use ksched_telemetry::traces::receiver::Received;
use ksched_testbed::{bed::job_name, http};
use serde_json::Value;

use crate::{
    bed::{Bed, block_on, eventually, now_ms},
    table,
    traces::{sampled, spans},
};

/// Some rates want two scrapes after the first message, which are five seconds apart.
const WITHIN: Duration = Duration::from_secs(90);
const SCRAPED_TWICE: Duration = Duration::from_secs(12);

/// Kafka's and etcd's panels too, whose names of metrics are not ours.
pub(crate) fn each_panel_finds_something(bed: &Bed) {
    let scenario = "dashboards::each_panel_finds_something";
    let prometheus = bed.cluster.describe().prometheus.expect("Prometheus");
    let client = bed.client();
    let topic = bed.target(scenario);
    let span = sampled(5).to_string();
    let schedule = |topic: &str, delay| {
        let message = Message::new(topic).value("x").header(trace::HEADER, span.clone());
        block_on(client.schedule(message.delay(Duration::from_secs(delay))))
    };
    schedule("ksched.due", 1).unwrap_err();
    let mut silent = panels();
    let all = silent.len();
    let mut are_all_well = true;
    let began_at = Instant::now();
    while !silent.is_empty() && began_at.elapsed() < WITHIN {
        schedule(&topic, 0).unwrap();
        // What waits in a lane.
        schedule(&topic, 30).unwrap();
        silent.retain(|(_, query)| !finds_a_number(&query_now(&prometheus, query)));
        if are_all_well && began_at.elapsed() > SCRAPED_TWICE {
            are_all_well = false;
            lose_a_worker(bed);
        }
        thread::sleep(Duration::from_secs(1));
    }
    assert!(silent.is_empty(), "nothing is found by {silent:?}");
    table::note(scenario, format!("{all} queries, each answered"));

    // From what was late to the transaction that fired it.
    let trace_id = eventually("an exemplar of lateness", WITHIN, || exemplar(&prometheus));
    let is_it = |span: &Received| span.context.trace_id_hex() == trace_id;
    let found = eventually("the exemplar's trace", WITHIN, || spans(bed).into_iter().find(is_it));
    assert_eq!(found.name, "fire");
}

/// Title and query of each panel, but for alerts, which do not fire here.
fn panels() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/dashboards");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let board: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                let query = query.replace("$__rate_interval", "20s").replace("$__range", "1h");
                found.push((panel["title"].to_string(), query.replace("$instance", ".*")));
            }
        }
    }
    assert!(found.len() > 50, "{} queries", found.len());
    found.retain(|(_, query)| !query.contains("ALERTS"));
    found
}

/// So that its lanes are taken over.
fn lose_a_worker(bed: &Bed) {
    bed.cluster.kill("worker-1").unwrap();
    let is_held = |job: &JobState| !job_name(job).starts_with("lane/") || job.worker_name == "worker-2";
    eventually("the other's lanes", WITHIN, || bed.jobs().iter().all(is_held).then_some(()));
    bed.cluster.start_again("worker-1").unwrap();
}

/// Not only "nothing by nothing".
fn finds_a_number(found: &Value) -> bool {
    found
        .as_array()
        .into_iter()
        .flatten()
        .any(|sample| sample["value"][1].as_str().is_some_and(|v| v != "NaN"))
}

/// What PromQL finds now.
pub(crate) fn query_now(address: &str, query: &str) -> Value {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    ask(address, &format!("query?query={encoded}"))["result"].take()
}

/// The trace that the last quarter of an hour's lateness leads to.
fn exemplar(address: &str) -> Option<String> {
    let (query, now) = ("ksched_lateness_seconds_bucket", now_ms() / 1_000);
    let found = ask(address, &format!("query_exemplars?query={query}&start={}&end={}", now - 900, now + 60));
    Some(found[0]["exemplars"][0]["labels"]["trace_id"].as_str()?.to_owned())
}

/// One of Prometheus's own answers.
pub(crate) fn ask(address: &str, call: &str) -> Value {
    let answer = http::get(address, &format!("/api/v1/{call}"));
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let mut body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["status"], "success", "{call}: {body}");
    body["data"].take()
}
