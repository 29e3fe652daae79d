//! The systems of one scenario as they are shown.

use super::palette::{self, Colour};
use crate::run::Run;

/// One system of a scenario.
#[derive(Clone, Debug)]
pub(super) struct Shown<'a> {
    /// Its place in the page's order, which decides its colour.
    pub(super) place: usize,
    /// Its name for people.
    pub(super) label: String,
    /// The repeat that plots show.
    pub(super) run: &'a Run,
}

impl<'a> Shown<'a> {
    /// Of a system's repeats the one in the middle by its p99, of those that count if any does.
    pub(super) fn of(place: usize, repeats: &[&'a Run]) -> Option<Self> {
        let any_valid = repeats.iter().any(|run| run.valid);
        let mut runs: Vec<&Run> = repeats.iter().copied().filter(|run| run.valid || !any_valid).collect();
        let p99 = |run: &Run| run.lateness().map_or(f64::INFINITY, |lateness| lateness.summary.p99_ms);
        runs.sort_by(|a, b| p99(a).total_cmp(&p99(b)));
        let run = *runs.get(runs.len().saturating_sub(1) / 2)?;
        // Whatever is told of it is told of a run that does not count.
        let void = if run.valid { "" } else { " (void)" };
        Some(Self { place, label: label(&run.system) + void, run })
    }

    pub(super) fn colour(&self) -> Colour {
        palette::system(self.place)
    }
}

/// `postgresql-100ms` as `PostgreSQL 100 ms`; names that are not known as they are.
pub(super) fn label(system: &str) -> String {
    let (name, rest) = system.split_once('-').unwrap_or((system, ""));
    let name = match name {
        "postgresql" | "postgres" => "PostgreSQL",
        "mariadb" => "MariaDB",
        "mysql" => "MySQL",
        "ksched" => "ksched",
        _ => return system.to_owned(),
    };
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match rest.split_at(digits) {
        ("", "") => name.to_owned(),
        ("", rest) => format!("{name} {}", rest.replace('-', " ")),
        (number, unit) => format!("{name} {number} {unit}").trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_people_use() {
        for (system, wanted) in [
            ("ksched", "ksched"),
            ("postgresql-100ms", "PostgreSQL 100 ms"),
            ("mariadb-60s", "MariaDB 60 s"),
            ("ksched-at-least-once", "ksched at least once"),
            ("etf1-kafka", "etf1-kafka"),
            ("", ""),
        ] {
            assert_eq!(label(system), wanted);
        }
    }
}
