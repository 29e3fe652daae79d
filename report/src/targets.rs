//! What speed is aimed at, and how far runs come up to it: the table of bench.md, for the runs that
//! `scripts/bench-targets` makes.
//!
//! A run finds its row by its scenario, its system and its plan. Floors are those in the run's own
//! file, measured in the same session: a ratio is taken run by run, then the median of the ratios.

use crate::{
    compare::{Spread, Unit, visible},
    run::{Floor, Role, Run},
    text::number,
};

/// None where a run does not have it.
type Figure = fn(&Run) -> Option<f64>;

/// A line of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    what: &'static str,
    is_of: fn(&Run) -> bool,
    figure: Figure,
    unit: Unit,
    /// What the figure is divided by, and its name.
    floor: Option<(&'static str, Figure)>,
    target: Target,
}

/// Of the figure itself, or of its ratio where there is a floor.
#[derive(Clone, Copy, Debug)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Only told.
    None,
}

/// Base of a row: an absolute figure that is only told.
const ROW: Row =
    Row { what: "", is_of: |_| false, figure: |_| None, unit: Unit::Span, floor: None, target: Target::None };

/// Base of a row: scheduled and delivered by one of the doors.
const SUSTAINED: Row = Row {
    figure: |run| run.rates.sustained_per_s,
    unit: Unit::PerSecond,
    floor: Some(("B2", |run| speed(run, "B2"))),
    target: Target::AtLeast(0.35),
    ..ROW
};

const MIB: f64 = 1024.0 * 1024.0;

const ROWS: &[Row] = &[
    Row {
        what: "schedule and deliver, streaming door",
        is_of: |run| is_sustained(run, "stream"),
        ..SUSTAINED
    },
    Row { what: "the same, batch door", is_of: |run| is_sustained(run, "batch"), ..SUSTAINED },
    Row {
        what: "the same, intake topic",
        is_of: |run| is_sustained(run, "intake"),
        target: Target::AtLeast(0.25),
        ..SUSTAINED
    },
    Row {
        what: "draining a backlog that is all due",
        is_of: |run| is(run, "backlog", "ksched"),
        figure: |run| run.rates.delivered_per_s,
        unit: Unit::PerSecond,
        floor: Some(("B2", |run| speed(run, "B2"))),
        target: Target::AtLeast(0.85),
    },
    Row {
        what: "visible late at 20,000/s, p50",
        is_of: |run| is(run, "steady", "ksched"),
        figure: |run| Some(visible(run)?.p50_ms),
        floor: Some(("B3", |run| Some(floor(run, "B3")?.visible?.p50_ms))),
        target: Target::AtMost(1.5),
        ..ROW
    },
    Row {
        what: "visible late at 20,000/s, p99",
        is_of: |run| is(run, "steady", "ksched"),
        figure: |run| Some(visible(run)?.p99_ms),
        floor: Some(("B3", |run| Some(floor(run, "B3")?.visible?.p99_ms))),
        target: Target::AtMost(2.0),
        ..ROW
    },
    Row {
        what: "visible late, one a second, p99",
        is_of: |run| is(run, "idle", "ksched"),
        figure: |run| Some(visible(run)?.p99_ms),
        target: Target::AtMost(15.0),
        ..ROW
    },
    Row {
        what: "at least once, 20,000/s, visible p50",
        is_of: |run| is(run, "steady", "ksched-at-least-once"),
        figure: |run| Some(visible(run)?.p50_ms),
        target: Target::AtMost(3.0),
        ..ROW
    },
    Row {
        what: "at least once, 20,000/s, visible p99",
        is_of: |run| is(run, "steady", "ksched-at-least-once"),
        figure: |run| Some(visible(run)?.p99_ms),
        target: Target::AtMost(15.0),
        ..ROW
    },
    Row {
        what: "2,000 at each whole second, visible p50",
        is_of: |run| is(run, "whole-seconds", "ksched"),
        figure: |run| Some(visible(run)?.p50_ms),
        target: Target::AtMost(12.0),
        ..ROW
    },
    Row {
        what: "2,000 at each whole second, visible p99",
        is_of: |run| is(run, "whole-seconds", "ksched"),
        figure: |run| Some(visible(run)?.p99_ms),
        target: Target::AtMost(30.0),
        ..ROW
    },
    Row {
        what: "100,000 at one instant, the last visible",
        is_of: |run| is(run, "burst", "ksched") && run.plan.count == 100_000,
        figure: |run| Some(visible(run)?.max_ms),
        target: Target::AtMost(600.0),
        ..ROW
    },
    Row {
        what: "1,000,000 at one instant, the last visible",
        is_of: |run| is(run, "burst", "ksched") && run.plan.count == 1_000_000,
        figure: |run| Some(visible(run)?.max_ms),
        target: Target::AtMost(4_000.0),
        ..ROW
    },
    Row {
        what: "1,000,000 at one instant, a worker's memory",
        is_of: |run| is(run, "burst", "ksched") && run.plan.count == 1_000_000,
        figure: |run| peak(run, Role::Worker),
        unit: Unit::Bytes,
        target: Target::AtMost(1024.0 * MIB),
        ..ROW
    },
    Row {
        what: "single schedule at 1,000/s, acknowledged, p50",
        is_of: |run| is(run, "unary", "ksched"),
        figure: |run| Some(run.acknowledged?.p50_ms),
        target: Target::AtMost(2.0),
        ..ROW
    },
    Row {
        what: "single schedule at 1,000/s, acknowledged, p99",
        is_of: |run| is(run, "unary", "ksched"),
        figure: |run| Some(run.acknowledged?.p99_ms),
        target: Target::AtMost(10.0),
        ..ROW
    },
    Row {
        what: "bytes Kafka writes ÷ bytes delivered, 20,000/s",
        is_of: |run| is(run, "steady", "ksched"),
        figure: |run| run.derived().bytes_ratio,
        unit: Unit::Plain,
        target: Target::AtMost(2.1),
        ..ROW
    },
    Row {
        what: "10,000,000 pending over 30 days, accepted",
        is_of: |run| is(run, "far-ahead", "ksched"),
        figure: |run| run.rates.acknowledged_per_s,
        unit: Unit::PerSecond,
        ..ROW
    },
    Row {
        what: "… a worker's memory",
        is_of: |run| is(run, "far-ahead", "ksched"),
        figure: |run| peak(run, Role::Worker),
        unit: Unit::Bytes,
        target: Target::AtMost(150.0e6),
        ..ROW
    },
    Row {
        what: "… a coordinator's memory",
        is_of: |run| is(run, "far-ahead", "ksched"),
        figure: |run| peak(run, Role::Coordinator),
        unit: Unit::Bytes,
        target: Target::AtMost(150.0e6),
        ..ROW
    },
    Row {
        what: "idle with 10,000,000 pending, cores used",
        is_of: |run| is(run, "idle", "ksched-pending"),
        figure: cores,
        unit: Unit::Plain,
        target: Target::AtMost(0.02),
        ..ROW
    },
];

fn is(run: &Run, scenario: &str, system: &str) -> bool {
    run.scenario == scenario && run.system == system
}

fn is_sustained(run: &Run, door: &str) -> bool {
    is(run, "sustained", "ksched") && run.plan.door.as_deref() == Some(door)
}

fn floor<'a>(run: &'a Run, name: &str) -> Option<&'a Floor> {
    run.floors.iter().find(|floor| floor.name == name)
}

fn speed(run: &Run, name: &str) -> Option<f64> {
    floor(run, name)?.rate_per_s
}

fn peak(run: &Run, role: Role) -> Option<f64> {
    let peaks = run.processes.iter().filter(|process| process.role == role);
    peaks.map(|process| process.totals.peak_rss_bytes as f64).reduce(f64::max)
}

/// Of coordinators and workers together.
fn cores(run: &Run) -> Option<f64> {
    let own = || run.processes.iter().filter(|p| matches!(p.role, Role::Coordinator | Role::Worker));
    let last_s = own().filter_map(|p| p.samples.last()).map(|sample| sample.at_s).reduce(f64::max)?;
    Some(own().map(|process| process.totals.cpu_s).sum::<f64>() / last_s)
}

/// A Markdown table: of each row that there are valid runs for the target, the figure, and what it
/// comes to; and a line for each run that does not count.
pub fn table(runs: &[Run]) -> String {
    let mut text = "| what | target | measured: median (min–max) | floor | ratio | |\n\
                    | --- | ---: | ---: | ---: | ---: | --- |\n"
        .to_owned();
    text.extend(ROWS.iter().filter_map(|row| row.line(runs)));
    let void = runs.iter().filter(|run| !run.valid);
    text.extend(void.map(|run| {
        format!(
            "\nvoid: {} of {}, {}: {}\n",
            run.scenario,
            run.system,
            run.started_at,
            run.problems.join(", ")
        )
    }));
    text
}

impl Row {
    fn line(&self, runs: &[Run]) -> Option<String> {
        let own: Vec<&Run> = runs.iter().filter(|run| run.valid && (self.is_of)(run)).collect();
        let figures: Vec<f64> = own.iter().filter_map(|run| (self.figure)(run)).collect();
        let measured = Spread::of(&figures)?;
        let (floor_cell, ratio_cell, judged) = match self.floor {
            None => ("–".to_owned(), "–".to_owned(), Some(measured)),
            Some((name, floor)) => {
                let floors: Vec<f64> = own.iter().filter_map(|run| floor(run)).collect();
                let pairs = own.iter().filter_map(|run| Some((self.figure)(run)? / floor(run)?));
                let ratio = Spread::of(&pairs.collect::<Vec<_>>());
                let floor = Spread::of(&floors).map_or_else(|| "–".to_owned(), |f| self.unit.show(f.median));
                (
                    format!("{name} {floor}"),
                    ratio.map_or_else(|| "–".to_owned(), |r| Unit::Plain.spread(r)),
                    ratio,
                )
            }
        };
        let shown = |of: f64| match self.floor {
            Some((name, _)) => format!("{} × {name}", number(of)),
            None => self.unit.show(of),
        };
        let (target, met) = match self.target {
            Target::AtLeast(least) => (format!("≥ {}", shown(least)), judged.map(|j| j.median >= least)),
            Target::AtMost(most) => (format!("≤ {}", shown(most)), judged.map(|j| j.median <= most)),
            Target::None => ("–".to_owned(), None),
        };
        let met = met.map_or("", |met| if met { "met" } else { "short" });
        let measured = self.unit.spread(measured);
        Some(format!("| {} | {target} | {measured} | {floor_cell} | {ratio_cell} | {met} |\n", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Lateness, Summary};

    fn steady(p50_ms: f64, floor_ms: f64) -> Run {
        let summary = |p50_ms| Summary { p50_ms, p99_ms: 2.0 * p50_ms, ..Summary::default() };
        let b3 = Floor { name: "B3".to_owned(), visible: Some(summary(floor_ms)), ..Floor::default() };
        Run {
            scenario: "steady".to_owned(),
            system: "ksched".to_owned(),
            valid: true,
            visible: Some(Lateness { summary: summary(p50_ms), ..Lateness::default() }),
            floors: vec![b3],
            ..Run::default()
        }
    }

    #[test]
    fn figures_are_judged_by_their_ratio_to_the_floor_of_their_own_session() {
        let void = Run { valid: false, problems: vec!["3 lost".to_owned()], ..steady(1.0, 10.0) };
        let table = table(&[steady(12.0, 10.0), steady(14.0, 10.0), steady(30.0, 20.0), void]);
        let line = table.lines().find(|line| line.contains("p50")).expect("a row");
        assert_eq!(
            line,
            "| visible late at 20,000/s, p50 | ≤ 1.5 × B3 | 14 ms (12–30 ms) | B3 10 ms | 1.4 (1.2–1.5) | met |"
        );
        assert!(table.ends_with("void: steady of ksched, : 3 lost\n"), "{table}");
        // Nothing is said of what nobody ran.
        assert!(!table.contains("backlog"), "{table}");
    }
}
