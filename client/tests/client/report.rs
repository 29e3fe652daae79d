//! `report` and `compare`, from files to files.

use std::fs;

use crate::cli::run;

const RUN: &str = r#"{"format": 1, "scenario": "steady", "system": "ksched", "started_at": "2026-11-24T10:00:00Z",
    "versions": {"ksched": "0.1.0"}, "machine": {"cores": 2, "memory_bytes": 1, "kernel": "Linux"},
    "plan": {"seed": 1, "count": 1, "rate_per_s": 1, "size_bytes": 1, "delay_min_ms": 0, "delay_max_ms": 0},
    "generator": {"planned_s": 1, "took_s": 1, "worst_lag_ms": 0, "on_plan": true}, "valid": true,
    "counts": {"planned": 1, "acknowledged": 1, "refused": 0, "unknown": 0, "delivered": 1, "lost": 0,
        "doubled": 0, "early": 0, "corrupted": 0, "invented": 0, "reordered": 0},
    "rates": {"delivered_per_s": 12.5}, "hops": [{"hops": 1, "count": 1}]}"#;

#[test]
fn a_page_its_plots_and_a_comparison_are_made_of_files() {
    let folder = std::env::temp_dir().join(format!("ksched-report-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let path = |name: &str| folder.join(name).display().to_string();
    fs::write(path("a.json"), RUN).expect("written");
    fs::write(
        path("b.json"),
        RUN.replace("\"system\": \"ksched\"", "\"system\": \"rival\"").replace("12.5", "25"),
    )
    .expect("written");
    let (a, b, page, plots) = (path("a.json"), path("b.json"), path("r.html"), path("plots"));

    let output = run(&["report", &a, &b, "-o", &page, "--plots", &plots]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    assert!(fs::read_to_string(&page).expect("a page").starts_with("<!DOCTYPE html>"));
    assert!(fs::read_to_string(path("plots/steady-hops.svg")).expect("a plot").starts_with("<svg "));

    let output = run(&["compare", &a, &b, "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rival = &json["scenarios"][0]["systems"][1];
    assert_eq!(rival["figures"]["delivered_per_s"]["ratio"]["median"], 2.0, "{json}");

    // What is no run, or not there, was given wrongly; what cannot be written may be another time.
    for (arguments, code) in [
        (["compare", &page, "--output", "json"], 2),
        (["report", "/no/such/run.json", "-o", &page], 2),
        (["report", &a, "-o", "/no/such/folder/r.html"], 1),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{output:?}");
    }
    fs::remove_dir_all(folder).expect("removed");
}
