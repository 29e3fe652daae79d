//! Several runs side by side: medians with minimum and maximum over repeats, and ratios.
//!
//! Runs of one scenario and system are repeats of each other. Of a scenario's systems the one
//! whose run comes first is what the others are measured against. A run that does not count is
//! counted, and its figures are not used.

mod metric;
mod spread;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use self::metric::visible;
pub use self::{
    metric::{METRICS, Metric, Unit},
    spread::Spread,
};
use crate::run::{Plan, Run};

/// Scenarios in the order in which they first occur.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub scenarios: Vec<Scenario>,
}

/// What several systems did with the same plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scenario {
    pub name: String,
    /// Of the first run.
    pub plan: Plan,
    /// The system that the others are measured against.
    pub base: String,
    /// Why ratios may mislead, for people: plans that differ, runs that do not count.
    pub warnings: Vec<String>,
    /// In the order in which they first occur.
    pub systems: Vec<System>,
}

/// All repeats of one system.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct System {
    pub name: String,
    pub runs: usize,
    /// How many of them count; the figures are of these.
    pub valid: usize,
    /// By [`Metric::key`]; what no run has is absent.
    pub figures: BTreeMap<&'static str, Figure>,
}

/// One metric of one system.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    #[serde(flatten)]
    pub spread: Spread,
    /// Against the base: of the medians, with the least and the greatest of all pairs of runs.
    /// None for the base itself, and where a figure is 0 or infinite.
    pub ratio: Option<Spread>,
}

impl Comparison {
    /// Groups and compares.
    pub fn of(runs: &[Run]) -> Self {
        let scenarios = in_order(runs.iter().map(|run| run.scenario.as_str()));
        let of = |name: &str| runs.iter().filter(|run| run.scenario == name).collect();
        Self { scenarios: scenarios.into_iter().map(|name| Scenario::of(name, &of(name))).collect() }
    }

    /// As people read it.
    pub fn table(&self) -> String {
        let tables: Vec<_> = self.scenarios.iter().map(table::scenario).collect();
        tables.join("\n")
    }
}

impl Scenario {
    fn of(name: &str, runs: &Vec<&Run>) -> Self {
        let repeats: Vec<Vec<&Run>> = in_order(runs.iter().map(|run| run.system.as_str()))
            .into_iter()
            .map(|system| runs.iter().copied().filter(|run| run.system == system).collect())
            .collect();
        let base = repeats.first().map_or(&[][..], Vec::as_slice);
        let plan = runs.first().map(|run| run.plan.clone()).unwrap_or_default();
        Self {
            name: name.to_owned(),
            base: base.first().map(|run| run.system.clone()).unwrap_or_default(),
            warnings: warnings(&plan, runs),
            systems: repeats.iter().map(|own| System::of(own, base)).collect(),
            plan,
        }
    }
}

impl System {
    fn of(own: &[&Run], base: &[&Run]) -> Self {
        let name = own.first().map(|run| run.system.clone()).unwrap_or_default();
        let is_base = base.first().is_some_and(|run| run.system == name);
        let figure = |metric: &Metric| {
            let own = values(metric, own);
            let ratio = if is_base { None } else { Spread::of_ratios(&own, &values(metric, base)) };
            Some((metric.key, Figure { spread: Spread::of(&own)?, ratio }))
        };
        Self {
            runs: own.len(),
            valid: own.iter().filter(|run| run.valid).count(),
            figures: METRICS.iter().filter_map(figure).collect(),
            name,
        }
    }
}

fn values(metric: &Metric, runs: &[&Run]) -> Vec<f64> {
    runs.iter().filter(|run| run.valid).filter_map(|run| (metric.of)(run)).filter(|v| !v.is_nan()).collect()
}

fn warnings(plan: &Plan, runs: &[&Run]) -> Vec<String> {
    let mut warnings = Vec::new();
    // Repeats may differ in seed, and systems in how they are handed messages.
    let like = |other: &Plan| Plan { seed: plan.seed, door: plan.door.clone(), ..other.clone() };
    if runs.iter().any(|run| like(&run.plan) != *plan) {
        warnings.push("the runs do not have the same plan".to_owned());
    }
    if runs.iter().any(|run| run.machine != runs[0].machine) {
        warnings.push("the runs were made on different machines".to_owned());
    }
    for run in runs.iter().filter(|run| !run.valid) {
        let problems = run.problems.join(", ");
        warnings.push(format!("not counted: {} of {}: {problems}", run.system, run.started_at));
    }
    warnings
}

/// Each once, in the order in which they first occur.
pub(crate) fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    names.fold(Vec::new(), |mut seen, name| {
        if !seen.contains(&name) {
            seen.push(name);
        }
        seen
    })
}
