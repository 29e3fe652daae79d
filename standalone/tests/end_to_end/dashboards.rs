//! Grafana's dashboards, without Grafana: what Prometheus, which watches this cluster, answers to their panels.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ksched_client::Message;
use ksched_testbed::http;
use serde_json::Value;

use crate::{
    bed::{Bed, block_on},
    table,
};

/// Some rates want two scrapes after the first message, which are five seconds apart.
const WITHIN: Duration = Duration::from_secs(90);

/// Kafka's and etcd's panels too, whose names of metrics are not ours.
pub(crate) fn each_panel_finds_something(bed: &Bed) {
    let scenario = "dashboards::each_panel_finds_something";
    let prometheus = bed.cluster.describe().prometheus.expect("Prometheus");
    let client = bed.client();
    let topic = bed.target(scenario);
    let schedule = |topic: &str, delay| {
        block_on(client.schedule(Message::new(topic).value("x").delay(Duration::from_secs(delay))))
    };
    schedule("ksched.due", 1).unwrap_err();
    let mut silent = panels();
    let all = silent.len();
    let began_at = Instant::now();
    while !silent.is_empty() && began_at.elapsed() < WITHIN {
        schedule(&topic, 0).unwrap();
        // What waits in a lane.
        schedule(&topic, 30).unwrap();
        silent.retain(|(_, query)| ask(&prometheus, query).as_array().is_none_or(Vec::is_empty));
        thread::sleep(Duration::from_secs(1));
    }
    assert!(silent.is_empty(), "nothing is found by {silent:?}");
    table::note(scenario, format!("{all} queries, each answered"));
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

/// What PromQL finds now.
fn ask(address: &str, query: &str) -> Value {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = http::post(
        address,
        "/api/v1/query",
        "application/x-www-form-urlencoded",
        &format!("query={encoded}"),
    );
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let mut body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["status"], "success", "{query}: {body}");
    body["data"]["result"].take()
}
