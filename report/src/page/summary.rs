//! What came out, in a few sentences.

use super::{
    html::{chip, escape},
    shown::{Shown, label},
};
use crate::{
    compare::{Figure, Scenario, System, in_order},
    run::{Counts, Run},
    text::{grouped, number, span_ms},
};

/// Of what is about all systems.
const PLAIN_CHIP: &str = "<i class=\"chip plain\" aria-hidden=\"true\"></i>";

/// A list: lateness of each system, what became of the messages, what it cost.
pub(super) fn html(scenario: &Scenario, systems: &[Shown<'_>], runs: &[&Run]) -> String {
    let mut items = Vec::new();
    for shown in systems {
        let told = scenario.systems.iter().find(|system| system.name == shown.run.system).map(lateness);
        if let Some(told) = told {
            items.push(format!(
                "{}<strong>{}</strong> {}",
                chip(shown.place),
                escape(&shown.label),
                escape(&told)
            ));
        }
    }
    let common = std::iter::once(kept(runs)).chain(cost(scenario, systems));
    items.extend(common.map(|text| PLAIN_CHIP.to_owned() + &escape(&text)));
    let items: String = items.iter().map(|item| format!("<li>{item}</li>\n")).collect();
    format!("<ul class=\"short\">\n{items}</ul>\n")
}

fn lateness(system: &System) -> String {
    let figure = |name: &str| {
        let keys = [format!("visible_{name}_ms"), format!("append_{name}_ms")];
        keys.iter().find_map(|key| system.figures.get(key.as_str()))
    };
    let (Some(p50), Some(p99)) = (figure("p50"), figure("p99")) else {
        return match system.valid {
            0 => "has no run that counts.".to_owned(),
            _ => "was not looked at for lateness.".to_owned(),
        };
    };
    let times = match (p50.ratio, p99.ratio) {
        (Some(p50), Some(p99)) => {
            format!(" – {} and {} times as late", number(p50.median), number(p99.median))
        }
        _ => String::new(),
    };
    let within = |figure: &Figure| match figure.spread.median.is_finite() {
        true => format!("within {} of their due time", span_ms(figure.spread.median)),
        false => "never".to_owned(),
    };
    let p99 = match p99.spread.median.is_finite() {
        true => format!("99 of 100 within {}", span_ms(p99.spread.median)),
        false => "more than 1 of 100 never".to_owned(),
    };
    format!("delivers half of the messages {}, {p99}{times}.", within(p50))
}

/// What the verifier found in all runs, those that do not count included.
fn kept(runs: &[&Run]) -> String {
    let sum = |of: fn(&Counts) -> u64| runs.iter().map(|run| of(&run.counts)).sum::<u64>();
    let planned = sum(|counts| counts.planned);
    let delivered = match sum(|counts| counts.delivered) {
        delivered if delivered == planned => "all".to_owned(),
        delivered => grouped(delivered),
    };
    let systems = in_order(runs.iter().map(|run| run.system.as_str()));
    let wrong = |system: &str| {
        let own = runs.iter().filter(|run| run.system == system);
        let wrong: Vec<String> = own.filter_map(|run| wrong(&run.counts)).collect();
        (!wrong.is_empty()).then(|| format!("{}: {}", label(system), wrong.join("; ")))
    };
    let wrong: Vec<String> = systems.into_iter().filter_map(wrong).collect();
    let found = match wrong.is_empty() {
        true => "none was lost, doubled, early or altered".to_owned(),
        false => wrong.join(" – "),
    };
    format!(
        "Of {} messages in {} {delivered} were delivered, each checked by number and checksum: {found}.",
        grouped(planned),
        if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) }
    )
}

fn wrong(counts: &Counts) -> Option<String> {
    let kinds = [
        (counts.lost, "lost"),
        (counts.doubled, "doubled"),
        (counts.early, "early"),
        (counts.corrupted, "corrupted"),
        (counts.invented, "invented"),
        (counts.reordered, "out of order"),
    ];
    let told = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(*count)));
    Some(told.collect::<Vec<_>>().join(", ")).filter(|told| !told.is_empty())
}

/// The base's cost, and the others' against it.
fn cost(scenario: &Scenario, systems: &[Shown<'_>]) -> Option<String> {
    const KEY: &str = "cpu_seconds_per_million";
    let figure = |name: &str| scenario.systems.iter().find(|system| system.name == name)?.figures.get(KEY);
    let base = systems.iter().find(|shown| shown.run.system == scenario.base)?;
    let own = figure(&scenario.base)?.spread.median;
    let ratio = |shown: &Shown<'_>| {
        let ratio = figure(&shown.run.system)?.ratio?.median;
        Some(format!("{} {} times that", shown.label, number(ratio)))
    };
    let others: Vec<String> = systems.iter().filter_map(ratio).collect();
    let others = if others.is_empty() { String::new() } else { format!("; {}", others.join(", ")) };
    Some(format!(
        "A million messages cost {} {} CPU-seconds, Kafka's included{others}.",
        base.label,
        number(own)
    ))
}
