use super::*;
use crate::run::{Counts, Lateness, Summary};

/// A run with these visible p50s and nothing else.
fn run(scenario: &str, system: &str, p50_ms: f64) -> Run {
    let summary = Summary { p50_ms, ..Summary::default() };
    Run {
        scenario: scenario.to_owned(),
        system: system.to_owned(),
        started_at: "2026-11-24T10:00:00Z".to_owned(),
        plan: Plan { count: 10, ..Plan::default() },
        valid: true,
        counts: Counts { delivered: 10, ..Counts::default() },
        visible: Some(Lateness { summary, ..Lateness::default() }),
        ..Run::default()
    }
}

#[test]
fn repeats_are_grouped_and_measured_against_the_first_system() {
    let runs = [
        run("steady", "ksched", 10.0),
        run("steady", "rival", 40.0),
        run("burst", "rival", 7.0),
        run("steady", "ksched", 12.0),
        run("steady", "rival", 60.0),
        run("steady", "ksched", 11.0),
    ];
    let comparison = Comparison::of(&runs);
    let names: Vec<_> = comparison.scenarios.iter().map(|s| (s.name.as_str(), s.base.as_str())).collect();
    assert_eq!(names, [("steady", "ksched"), ("burst", "rival")]);
    let [ksched, rival] = &comparison.scenarios[0].systems[..] else { panic!("two systems") };
    assert_eq!((ksched.runs, rival.runs), (3, 2));
    let figure = ksched.figures["visible_p50_ms"];
    assert_eq!(figure, Figure { spread: Spread { median: 11.0, min: 10.0, max: 12.0 }, ratio: None });
    let ratio = rival.figures["visible_p50_ms"].ratio.expect("both finite");
    assert_eq!(ratio, Spread { median: 50.0 / 11.0, min: 40.0 / 12.0, max: 6.0 });
    assert!(!ksched.figures.contains_key("append_p50_ms"));
}

#[test]
fn what_does_not_count_is_told_and_left_out() {
    let void = Run { valid: false, problems: vec!["3 lost".to_owned()], ..run("steady", "ksched", 1.0) };
    let comparison = Comparison::of(&[run("steady", "ksched", 10.0), void.clone()]);
    let scenario = &comparison.scenarios[0];
    assert_eq!((scenario.systems[0].runs, scenario.systems[0].valid), (2, 1));
    assert_eq!(scenario.systems[0].figures["visible_p50_ms"].spread.max, 10.0);
    assert!(comparison.table().contains("note: not counted: ksched of 2026-11-24T10:00:00Z: 3 lost\n"));
    let none = Comparison::of(&[void]);
    assert!(none.scenarios[0].systems[0].figures.is_empty());
    assert!(none.table().contains("0 of 1"), "{}", none.table());
}

#[test]
fn plans_and_machines_that_differ_are_pointed_out() {
    let mut other = run("steady", "rival", 10.0);
    other.plan.seed = 99;
    assert!(Comparison::of(&[run("steady", "ksched", 10.0), other.clone()]).scenarios[0].warnings.is_empty());
    other.plan.count = 11;
    other.machine.cores = 64;
    let comparison = Comparison::of(&[run("steady", "ksched", 10.0), other]);
    assert_eq!(
        comparison.scenarios[0].warnings,
        ["the runs do not have the same plan", "the runs were made on different machines"]
    );
}

#[test]
fn an_infinite_figure_has_no_ratio_and_is_said_in_words() {
    let comparison = Comparison::of(&[run("steady", "ksched", 10.0), run("steady", "rival", f64::INFINITY)]);
    assert!(comparison.table().contains("never"), "{}", comparison.table());
    let json = serde_json::to_value(&comparison).expect("serialises");
    let figure = &json["scenarios"][0]["systems"][1]["figures"]["visible_p50_ms"];
    assert_eq!(*figure, serde_json::json!({"median": null, "min": null, "max": null, "ratio": null}));
}

#[test]
fn of_nothing_there_is_nothing_to_say() {
    assert_eq!(Comparison::of(&[]).table(), "");
}
