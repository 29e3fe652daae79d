//! A comparison as people read it.

use super::{METRICS, Metric, Scenario, Spread, System, Unit};
use crate::text::{columns, grouped, number, span_ms};

/// The plan, the medians, the ratios, what to beware of.
pub(super) fn scenario(scenario: &Scenario) -> String {
    let mut parts = vec![format!("{}: {}\n", scenario.name, plan(scenario)), medians(scenario)];
    parts.extend(ratios(scenario));
    if !scenario.warnings.is_empty() {
        parts.push(scenario.warnings.iter().map(|warning| format!("note: {warning}\n")).collect());
    }
    parts.join("\n")
}

fn plan(scenario: &Scenario) -> String {
    let plan = &scenario.plan;
    let (count, rate) = (grouped(plan.count), number(plan.rate_per_s));
    let (from, to) = (span_ms(plan.delay_min_ms as f64), span_ms(plan.delay_max_ms as f64));
    format!(
        "{count} messages of {} bytes, {rate}/s, due {from} to {to} after they are sent, seed {}",
        plan.size_bytes, plan.seed
    )
}

fn medians(scenario: &Scenario) -> String {
    let head = |system: &System| system.name.to_uppercase();
    let runs = |system: &System| match system.valid == system.runs {
        true => system.runs.to_string(),
        false => format!("{} of {}", system.valid, system.runs),
    };
    let cell = |system: &System, metric: &Metric| match system.figures.get(metric.key) {
        Some(figure) => spread(figure.spread, metric.unit),
        None => "–".to_owned(),
    };
    let mut rows = vec![
        row("MEDIAN (MIN–MAX)", &scenario.systems, head),
        row("runs that count", &scenario.systems, runs),
    ];
    let metrics = METRICS.iter().filter(|m| scenario.systems.iter().any(|s| s.figures.contains_key(m.key)));
    rows.extend(metrics.map(|metric| row(metric.label, &scenario.systems, |system| cell(system, metric))));
    columns(&rows)
}

/// Nothing if there is none.
fn ratios(scenario: &Scenario) -> Option<String> {
    let others = scenario.systems.get(1..)?;
    let ratio = |system: &System, metric: &Metric| system.figures.get(metric.key)?.ratio;
    let cell = |system: &System, metric: &Metric| match ratio(system, metric) {
        Some(ratio) => spread(ratio, Unit::Plain),
        None => "–".to_owned(),
    };
    let head = format!("÷ {}", scenario.base.to_uppercase());
    let mut rows = vec![row(&head, others, |system| system.name.to_uppercase())];
    let metrics = METRICS.iter().filter(|metric| others.iter().any(|s| ratio(s, metric).is_some()));
    rows.extend(metrics.map(|metric| row(metric.label, others, |system| cell(system, metric))));
    (rows.len() > 1).then(|| columns(&rows))
}

fn row(label: &str, systems: &[System], cell: impl Fn(&System) -> String) -> Vec<String> {
    std::iter::once(label.to_owned()).chain(systems.iter().map(cell)).collect()
}

/// `9.8 ms (9.6–10 ms)`; the median alone if that is what the others are shown as.
pub(crate) fn spread(spread: Spread, unit: Unit) -> String {
    let median = unit.show(spread.median);
    match range(spread, unit) {
        Some(range) => format!("{median} ({range})"),
        None => median,
    }
}

/// `9.6–10 ms`; none if both are shown as the median is.
pub(crate) fn range(spread: Spread, unit: Unit) -> Option<String> {
    let (median, min, max) = (unit.show(spread.median), unit.show(spread.min), unit.show(spread.max));
    if min == median && max == median {
        return None;
    }
    // The unit once, where it is the same.
    let number = |text: &str| {
        text.find(|c: char| !matches!(c, '0'..='9' | '.' | ',' | '−' | '-')).unwrap_or(text.len())
    };
    let (digits, unit) = min.split_at(number(&min));
    let least = if max.split_at(number(&max)).1 == unit { digits } else { &min };
    Some(format!("{least}–{max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_tells_its_unit_once_and_no_more_than_is_seen() {
        let of = |median, min, max| Spread { median, min, max };
        assert_eq!(spread(of(9.8, 9.6, 10.0), Unit::Span), "9.8 ms (9.6–10 ms)");
        assert_eq!(spread(of(900.0, 800.0, 1100.0), Unit::Span), "900 ms (800 ms–1.1 s)");
        assert_eq!(spread(of(9.801, 9.8, 9.802), Unit::Span), "9.8 ms");
        assert_eq!(spread(of(1e6, 1e6, f64::INFINITY), Unit::Span), "16.7 min (16.7 min–never)");
        assert_eq!(spread(of(277.0, 270.0, 280.0), Unit::PerSecond), "277/s (270–280/s)");
    }
}
