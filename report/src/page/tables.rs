//! A page's tables.

use std::collections::BTreeMap;

use super::{
    html::{Cell, Table},
    shown::{Shown, label},
};
use crate::{
    compare::{
        METRICS, Metric, Scenario, System, Unit, in_order,
        table::{range, spread},
    },
    run::{Counts, Process, Role, Run, ratio},
    text::{bytes, grouped, number},
};

/// Every figure of every system, with ratios below.
pub(super) fn side_by_side(scenario: &Scenario, systems: &[Shown<'_>]) -> String {
    let own = |shown: &Shown<'_>| scenario.systems.iter().find(|system| system.name == shown.run.system);
    let mut table = Table {
        caption: "Side by side: medians, with minimum–maximum and the ratio to the first system".to_owned(),
        columns: heading("", systems),
        rows: Vec::new(),
    };
    let runs = |system: &System| match system.valid == system.runs {
        true => system.runs.to_string(),
        false => format!("{} of {}", system.valid, system.runs),
    };
    let mut add = |name: &str, cell: &dyn Fn(&Shown<'_>) -> Cell| {
        table.rows.push(std::iter::once(name.into()).chain(systems.iter().map(cell)).collect());
    };
    add("runs that count", &|shown| own(shown).map(runs).unwrap_or_default().into());
    for (name, of) in COUNTS {
        if systems.iter().any(|shown| of(&shown.run.counts) > 0) || SHOWN_IF_NONE.contains(name) {
            add(name, &|shown| grouped(of(&shown.run.counts)).into());
        }
    }
    for metric in METRICS.iter().filter(|m| scenario.systems.iter().any(|s| s.figures.contains_key(m.key))) {
        add(metric.label, &|shown| own(shown).map_or_else(|| "–".into(), |system| figure(system, metric)));
    }
    table.html()
}

type Count = (&'static str, fn(&Counts) -> u64);

/// Of the run that plots show.
const COUNTS: &[Count] = &[
    ("planned", |c| c.planned),
    ("delivered", |c| c.delivered),
    ("refused", |c| c.refused),
    ("outcome unknown", |c| c.unknown),
    ("lost", |c| c.lost),
    ("doubled", |c| c.doubled),
    ("early", |c| c.early),
    ("later than the bound", |c| c.late_beyond_bound),
    ("corrupted", |c| c.corrupted),
    ("invented", |c| c.invented),
    ("out of order", |c| c.reordered),
];

/// That these are 0 is what is looked for.
const SHOWN_IF_NONE: &[&str] = &["planned", "delivered", "lost", "doubled", "early"];

fn figure(system: &System, metric: &Metric) -> Cell {
    let Some(figure) = system.figures.get(metric.key) else { return "–".into() };
    let ratio = figure.ratio.map(|ratio| format!("× {}", spread(ratio, Unit::Plain)));
    let notes = [range(figure.spread, metric.unit), ratio].into_iter().flatten().collect();
    Cell { text: metric.unit.show(figure.spread.median), notes, system: None }
}

fn heading(first: &str, systems: &[Shown<'_>]) -> Vec<Cell> {
    let system =
        |shown: &Shown<'_>| Cell { text: shown.label.clone(), system: Some(shown.place), ..Cell::default() };
    std::iter::once(first.into()).chain(systems.iter().map(system)).collect()
}

/// What Kafka allows, and how near each system comes to it.
pub(super) fn floors(systems: &[Shown<'_>]) -> String {
    let mut rows = Vec::new();
    for shown in systems {
        for (floor, ratio) in shown.run.floors.iter().zip(shown.run.derived().floors) {
            let cell = |value: Option<f64>| Cell::from(value.map_or_else(|| "–".to_owned(), number));
            rows.push(vec![
                Cell { text: shown.label.clone(), system: Some(shown.place), ..Cell::default() },
                Cell { text: floor.name.clone(), notes: vec![floor.what.clone()], system: None },
                floor.rate_per_s.map_or_else(|| "–".to_owned(), |rate| format!("{}/s", number(rate))).into(),
                cell(ratio.rate),
                cell(ratio.p50),
                cell(ratio.p99),
            ]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let columns = ["", "floor", "its rate", "delivered ÷ its rate", "p50 ÷ its p50", "p99 ÷ its p99"];
    let caption = "Against the floors: what the same broker does without a scheduler".to_owned();
    classed(&Table { caption, columns: columns.map(Cell::from).to_vec(), rows }, "named")
}

/// What Kafka was asked, by API: what is asked most comes first.
pub(super) fn requests(systems: &[Shown<'_>]) -> String {
    let mut apis: BTreeMap<&str, u64> = BTreeMap::new();
    for (api, count) in systems.iter().filter_map(|shown| asked(shown)).flatten() {
        *apis.entry(api).or_default() += count;
    }
    if apis.is_empty() {
        return String::new();
    }
    let mut apis: Vec<_> = apis.into_iter().collect();
    apis.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let cell = |shown: &Shown<'_>, count: Option<u64>| match count {
        Some(count) => {
            let each = ratio(count as f64, shown.run.counts.delivered as f64);
            let each = each.map(|each| format!("{} a message", number(each)));
            Cell { text: grouped(count), notes: each.into_iter().collect(), system: None }
        }
        None => "–".into(),
    };
    let row = |api: &str| {
        let count = |shown: &Shown<'_>| Some(asked(shown)?.get(api).copied().unwrap_or(0));
        std::iter::once(api.into()).chain(systems.iter().map(|shown| cell(shown, count(shown)))).collect()
    };
    let mut rows: Vec<Vec<Cell>> = apis.iter().map(|(api, _)| row(api)).collect();
    let sums = systems.iter().map(|shown| cell(shown, asked(shown).map(|requests| requests.values().sum())));
    rows.push(std::iter::once("all".into()).chain(sums).collect());
    let caption = "Requests that Kafka answered, the bench's reader's and those in vain included".to_owned();
    let table = Table { caption, columns: heading("API", systems), rows };
    format!("<details><summary>Kafka's requests, by API</summary>\n{}</details>\n", table.html())
}

/// None if nobody counted.
fn asked<'a>(shown: &Shown<'a>) -> Option<&'a BTreeMap<String, u64>> {
    Some(&shown.run.broker.as_ref()?.requests).filter(|requests| !requests.is_empty())
}

/// What each process used in all.
pub(super) fn processes(systems: &[Shown<'_>]) -> String {
    let rows: Vec<Vec<Cell>> = systems
        .iter()
        .flat_map(|shown| shown.run.processes.iter().map(|process| used(shown, process)))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns =
        ["", "process", "CPU", "memory at its peak", "read", "written", "received", "sent", "files open"];
    let caption = "What each process used over the run".to_owned();
    let table = Table { caption, columns: columns.map(Cell::from).to_vec(), rows };
    format!("<details><summary>Processes, one by one</summary>\n{}</details>\n", classed(&table, "named"))
}

fn used(shown: &Shown<'_>, process: &Process) -> Vec<Cell> {
    let totals = &process.totals;
    let volume = |count: Option<u64>| Cell::from(count.map_or_else(|| "–".to_owned(), |b| bytes(b as f64)));
    let note = if process.role == Role::Bench { "no part of the system" } else { "" };
    vec![
        Cell { text: shown.label.clone(), system: Some(shown.place), ..Cell::default() },
        Cell { text: process.name.clone(), notes: vec![note.to_owned()], system: None },
        format!("{} s", number(totals.cpu_s)).into(),
        bytes(totals.peak_rss_bytes as f64).into(),
        volume(totals.read_bytes),
        volume(totals.written_bytes),
        volume(totals.received_bytes),
        volume(totals.sent_bytes),
        totals.peak_fds.map_or_else(|| "–".to_owned(), |fds| fds.to_string()).into(),
    ]
}

/// How it was measured, with what, and with which settings.
pub(super) fn appendix(runs: &[Run]) -> String {
    let mut html = METHOD.to_owned();
    html.push_str("<details><summary>Versions and machine</summary>\n");
    html.push_str(&versions(runs));
    html.push_str("</details>\n<details><summary>Settings in force</summary>\n");
    html.push_str(&settings(runs));
    html.push_str("</details>\n<details><summary>Runs on this page</summary>\n");
    html.push_str(&list(runs));
    html.push_str("</details>\n</section>\n");
    html
}

const METHOD: &str = "<section>\n<h2>How it was measured</h2>\n<dl>\n\
<dt>Open loop</dt><dd>What is sent when, and when it is due, is decided by a seed before the run. The generator \
never waits for an answer; a run in which it falls more than 1 % behind does not count.</dd>\n\
<dt>Visible lateness</dt><dd>The time at which a read_committed consumer had the message, less its due time: what \
an application sees.</dd>\n\
<dt>Append lateness</dt><dd>The time at which the broker says it appended the message, less its due time.</dd>\n\
<dt>p50, p99, p99.9</dt><dd>Of all messages this share was no later. Messages that never came count as infinitely \
late.</dd>\n\
<dt>Repeats</dt><dd>Tables give the median of all runs that count, with the least and the greatest; ratios are \
those of the medians, with the least and the greatest of any two runs. Plots show the run whose p99 is in the \
middle.</dd>\n</dl>\n";

fn versions(runs: &[Run]) -> String {
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for run in first_of_each(runs) {
        let part = |version: &Option<String>| Cell::from(version.as_deref().unwrap_or("–"));
        let machine = &run.machine;
        let cpu = machine.cpu.as_deref().map(|cpu| format!(", {cpu}")).unwrap_or_default();
        rows.push(vec![
            label(&run.system).into(),
            run.versions.ksched.as_str().into(),
            part(&run.versions.kafka),
            part(&run.versions.librdkafka),
            part(&run.versions.etcd),
            part(&run.versions.database),
            Cell {
                text: format!("{} cores{cpu}, {}", machine.cores, bytes(machine.memory_bytes as f64)),
                notes: vec![machine.kernel.clone()],
                system: None,
            },
        ]);
    }
    let columns = ["system", "ksched", "Kafka", "librdkafka", "etcd", "database", "machine"];
    words(&Table { caption: "Versions".to_owned(), columns: columns.map(Cell::from).to_vec(), rows })
}

/// A row a setting, a column a system.
fn settings(runs: &[Run]) -> String {
    let systems = first_of_each(runs);
    let names: BTreeMap<&str, ()> =
        systems.iter().flat_map(|run| run.configuration.keys()).map(|name| (name.as_str(), ())).collect();
    let row = |name: &str| {
        let value = |run: &&Run| Cell::from(run.configuration.get(name).map_or("–", String::as_str));
        std::iter::once(name.into()).chain(systems.iter().map(value)).collect()
    };
    if names.is_empty() {
        return "<p>None were noted.</p>\n".to_owned();
    }
    let columns =
        std::iter::once("setting".into()).chain(systems.iter().map(|run| label(&run.system).into()));
    let rows = names.keys().map(|name| row(name)).collect();
    words(&Table { caption: "Settings".to_owned(), columns: columns.collect(), rows })
}

fn list(runs: &[Run]) -> String {
    let row = |run: &Run| {
        let counts = if run.valid { "yes".to_owned() } else { format!("no: {}", run.problems.join(", ")) };
        let generator = &run.generator;
        vec![
            run.started_at.as_str().into(),
            run.scenario.as_str().into(),
            label(&run.system).into(),
            run.plan.seed.to_string().into(),
            run.plan.door.as_deref().unwrap_or("–").into(),
            format!("{} s of {} s", number(generator.took_s), number(generator.planned_s)).into(),
            format!("{} ms", number(generator.worst_lag_ms)).into(),
            counts.into(),
        ]
    };
    let columns =
        ["started", "scenario", "system", "seed", "door", "generator took", "its worst lag", "counts"];
    let rows = runs.iter().map(row).collect();
    words(&Table { caption: "Runs".to_owned(), columns: columns.map(Cell::from).to_vec(), rows })
}

fn first_of_each(runs: &[Run]) -> Vec<&Run> {
    let systems = in_order(runs.iter().map(|run| run.system.as_str()));
    systems.into_iter().filter_map(|system| runs.iter().find(|run| run.system == system)).collect()
}

/// A table of words, not of numbers.
fn words(table: &Table) -> String {
    classed(table, "words")
}

/// `words`: nothing is a number; `named`: the second column is not.
fn classed(table: &Table, class: &str) -> String {
    table.html().replacen("<table>", &format!("<table class=\"{class}\">"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_none_is_shown_where_that_is_the_point() {
        for name in SHOWN_IF_NONE {
            assert!(COUNTS.iter().any(|(count, _)| count == name), "{name}");
        }
    }
}
