//! The table of scenarios, a line each as it ends.

use std::{fmt::Display, sync::Once};

use ksched_client::bench::Report;

/// What a run came to.
pub(crate) struct Row<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) report: &'a Report,
    /// Worst visible lateness, ms.
    pub(crate) worst_ms: f64,
    /// From the fault until the last message that was more than half a second late.
    pub(crate) heal_ms: Option<i64>,
}

impl Row<'_> {
    pub(crate) fn print(&self) {
        static HEAD: Once = Once::new();
        HEAD.call_once(|| {
            println!(
                "{:<44} {:>8} {:>6} {:>6} {:>6} {:>8} {:>9} {:>9} {:>9}",
                "scenario", "messages", "lost", "double", "early", "unknown", "p50 ms", "worst ms", "heal ms"
            );
        });
        let v = self.report.verification();
        let p50 = v.visible_ms.map_or(f64::NAN, |p| p.p50);
        let heal = self.heal_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        println!(
            "{:<44} {:>8} {:>6} {:>6} {:>6} {:>8} {p50:>9.1} {:>9.0} {heal:>9}",
            self.scenario, v.delivered, v.lost, v.doubled, v.early, v.unknown, self.worst_ms
        );
    }
}

/// A line for what is not a run.
pub(crate) fn note(scenario: &str, text: impl Display) {
    println!("{scenario:<44} {text}");
}
