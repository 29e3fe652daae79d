//! The table of scenarios: a line each as it ends, and all of them again with their verdicts.

use std::{fmt::Display, sync::Once};

use ksched_client::bench::Report;
use parking_lot::Mutex;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Row {
    pub scenario: String,
    pub messages: u64,
    pub lost: u64,
    pub doubled: u64,
    pub early: u64,
    pub unknown: u64,
    pub p50_ms: f64,
    /// Worst visible lateness.
    pub worst_ms: f64,
    /// From the fault until the last message that was more than half a second late.
    pub heal_ms: Option<i64>,
}

/// Every row so far, in the order in which runs ended.
static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());

impl Row {
    pub fn new(scenario: &str, report: &Report, worst_ms: f64, heal_ms: Option<i64>) -> Self {
        let v = report.verification();
        Self {
            scenario: scenario.to_owned(),
            messages: v.delivered,
            lost: v.lost,
            doubled: v.doubled,
            early: v.early,
            unknown: v.unknown,
            p50_ms: v.visible_ms.map_or(f64::NAN, |p| p.p50),
            worst_ms,
            heal_ms,
        }
    }

    /// Prints it, and keeps it for [`rows_of`].
    pub fn print(self) {
        static HEAD: Once = Once::new();
        HEAD.call_once(|| {
            println!(
                "{:<44} {:>8} {:>6} {:>6} {:>6} {:>8} {:>9} {:>9} {:>9}",
                "scenario", "messages", "lost", "double", "early", "unknown", "p50 ms", "worst ms", "heal ms"
            );
        });
        println!(
            "{:<44} {:>8} {:>6} {:>6} {:>6} {:>8} {:>9.1} {:>9.0} {:>9}",
            self.scenario,
            self.messages,
            self.lost,
            self.doubled,
            self.early,
            self.unknown,
            self.p50_ms,
            self.worst_ms,
            self.heal()
        );
        ROWS.lock().push(self);
    }

    fn heal(&self) -> String {
        self.heal_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string())
    }
}

/// The runs of a scenario: its name, or that and a comma with what it was about.
pub fn rows_of(scenario: &str) -> Vec<Row> {
    let is_its = |row: &&Row| {
        row.scenario.strip_prefix(scenario).is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
    };
    ROWS.lock().iter().filter(is_its).cloned().collect()
}

/// The whole table at the end of a suite, in Markdown, with a verdict for each scenario.
pub fn print_all<'a>(verdicts: impl IntoIterator<Item = (&'a str, String)>) {
    println!("\n| scenario | messages | lost | doubled | early | worst lateness | heal time | verdict |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |");
    for (scenario, verdict) in verdicts {
        let rows = rows_of(scenario);
        if rows.is_empty() {
            println!("| {scenario} | - | - | - | - | - | - | {verdict} |");
        }
        for row in rows {
            let heal = row.heal_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
            let Row { scenario, messages, lost, doubled, early, worst_ms, .. } = row;
            println!(
                "| {scenario} | {messages} | {lost} | {doubled} | {early} | {worst_ms:.0} ms | {heal} | {verdict} |"
            );
        }
    }
}

/// A line for what is not a run.
pub fn note(scenario: &str, text: impl Display) {
    println!("{scenario:<44} {text}");
}

/// A row of what was counted without the verifier: delivered; lost, doubled, early; the worst lateness.
pub fn push_counted(scenario: &str, messages: usize, [lost, doubled, early]: [usize; 3], worst_ms: i64) {
    let [messages, lost, doubled, early] = [messages, lost, doubled, early].map(|n| n as u64);
    let (scenario, worst_ms) = (scenario.to_owned(), worst_ms as f64);
    Row { scenario, messages, lost, doubled, early, unknown: 0, p50_ms: f64::NAN, worst_ms, heal_ms: None }
        .print();
}

/// The same from each delivered message's name and lateness, of so many in all.
pub fn tally(scenario: &str, delivered: &[(String, i64)], planned: usize) {
    let names: std::collections::HashSet<_> = delivered.iter().map(|(name, _)| name).collect();
    let early = delivered.iter().filter(|(_, late_ms)| *late_ms < 0).count();
    let worst_ms = delivered.iter().map(|(_, late_ms)| *late_ms).max().unwrap_or_default();
    let wrong = [planned.saturating_sub(names.len()), delivered.len() - names.len(), early];
    push_counted(scenario, names.len(), wrong, worst_ms);
}
