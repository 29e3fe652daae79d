//! Files of runs.

use std::fs;

use ksched_report::{
    Run,
    run::{Error, FORMAT},
};

use crate::synthetic;

#[test]
fn a_run_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.json");
    let mut run = synthetic::ksched(0);
    run.write(&path).expect("written");
    assert!(Run::read(&path).expect("read") == run);
    // Messages that were lost make lateness infinite, which JSON cannot say.
    if let Some(visible) = &mut run.visible {
        visible.summary.p999_ms = f64::INFINITY;
        visible.summary.max_ms = f64::INFINITY;
    }
    run.write(&path).expect("written over");
    assert!(Run::read(&path).expect("read") == run);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
}

#[test]
fn what_follows_from_a_run_stands_in_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.json");
    let run = synthetic::ksched(0);
    run.write(&path).expect("written");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    assert_eq!(json["format"], FORMAT);
    assert_eq!(json["derived"]["requests_per_message"], 1.63);
    let own: f64 = run.processes.iter().filter(|p| p.name != "bench").map(|p| p.totals.cpu_s).sum();
    let per_million = json["derived"]["cpu_seconds_per_million"].as_f64().expect("a number");
    assert!((per_million - own * 10.0).abs() < 1e-6, "{per_million}");
    let floor = &json["derived"]["floors"][1];
    assert_eq!(floor["name"], "B3");
    assert!(floor["rate"].is_null() && floor["p50"].as_f64().expect("a ratio") > 1.0);
    assert!(json["visible"]["histogram"][0].is_array());
}

#[test]
fn what_is_absent_was_not_measured_and_unknown_keys_are_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.json");
    let least = r#"{"format": 1, "scenario": "s", "system": "x", "started_at": "2026-11-24T10:00:00Z",
        "versions": {"ksched": "0.1.0"}, "machine": {"cores": 2, "memory_bytes": 1, "kernel": "Linux"},
        "plan": {"seed": 1, "count": 1, "rate_per_s": 1, "size_bytes": 1, "delay_min_ms": 0, "delay_max_ms": 0},
        "generator": {"planned_s": 1, "took_s": 1, "worst_lag_ms": 0, "on_plan": true}, "valid": true,
        "counts": {"planned": 1, "acknowledged": 1, "refused": 0, "unknown": 0, "delivered": 1, "lost": 0,
            "doubled": 0, "early": 0, "corrupted": 0, "invented": 0, "reordered": 0},
        "rates": {}, "of a later version": [1, 2]}"#;
    fs::write(&path, least).expect("written");
    let run = Run::read(&path).expect("read");
    assert_eq!((run.visible.is_none(), run.jobs, run.processes.len()), (true, None, 0));
}

#[test]
fn what_is_no_run_is_told_with_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.json");
    let read = |text: &str| {
        fs::write(&path, text).expect("written");
        Run::read(&path).expect_err("no run")
    };
    let newer = read(r#"{"format": 2, "everything": "else"}"#);
    assert!(matches!(newer, Error::Format { found: 2, .. }));
    assert!(newer.to_string().ends_with("run.json has format 2, and this program reads format 1"), "{newer}");
    assert!(matches!(read(r#"{"valid": true}"#), Error::NoFormat { .. }));
    assert!(matches!(read("{"), Error::Content { .. }));
    let incomplete = read(r#"{"format": 1}"#).to_string();
    assert!(incomplete.contains("missing field `scenario`"), "{incomplete}");
    let absent = Run::read(&folder.path().join("absent.json")).expect_err("no file");
    assert!(absent.to_string().contains("absent.json: No such file"), "{absent}");
}
