//! The status as HTML: words and numbers are made here, the templates only place them.

mod tables;

use askama::Template;
use ksched_core::{
    lateness::{BEYOND_MS, Quantiles},
    words::{UNKNOWN, clock, count, date, decimal, late, plural, rate, span},
};
use ksched_proto::{activity::BEHIND_MS, v1};

use super::{
    cache::Shown,
    chart::{self, Bar},
    status::{HISTORY_MS, Level, Status, WorkerState},
};
use crate::leasing::wire;

/// The parts that change.
pub(super) struct Rendered {
    sections: Vec<Section>,
}

/// Made once, however many pages show it.
struct Section {
    /// Of the element that it is put into.
    id: &'static str,
    html: String,
    /// Both as the script expects them.
    event: String,
}

/// What came of the form.
pub(super) struct Notice {
    tone: &'static str,
    text: String,
}

#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    status: &'a Status,
    sections: &'a Rendered,
    form: bool,
    notice: Option<&'a Notice>,
}

#[derive(Template)]
#[template(path = "state.html")]
struct State {
    tone: &'static str,
    word: &'static str,
    alarms: Vec<String>,
    unknown: Vec<String>,
}

#[derive(Template)]
#[template(path = "tiles.html")]
struct Tiles {
    tiles: Vec<Tile>,
}

struct Tile {
    label: &'static str,
    value: String,
    unit: &'static str,
    note: String,
    tone: &'static str,
}

#[derive(Template)]
#[template(path = "lines.html")]
struct Lines {
    charts: Vec<LineChart>,
}

struct LineChart {
    title: &'static str,
    top: String,
    lines: Vec<Line>,
}

struct Line {
    class: &'static str,
    name: &'static str,
    latest: String,
    points: String,
}

#[derive(Template)]
#[template(path = "bars.html")]
struct BarCharts {
    charts: Vec<BarChart>,
}

struct BarChart {
    title: String,
    note: String,
    summary: String,
    bars: Vec<(Bar, String)>,
    ticks: [String; 3],
    peak: String,
}

impl Rendered {
    fn of(&self, id: &str) -> &str {
        self.sections.iter().find(|section| section.id == id).map_or("", |section| &section.html)
    }
}

impl Notice {
    pub(super) fn scheduled(told: &v1::ScheduleResponse) -> Self {
        let due = told.due_time.as_ref().map_or(0, wire::at_ms);
        Self { tone: "good", text: format!("Scheduled for {}: {}", date(due), told.id) }
    }

    pub(super) fn refused(why: String) -> Self {
        Self { tone: "bad", text: why }
    }
}

/// The page as it is first sent.
pub(super) fn whole(shown: &Shown, form: bool, notice: Option<&Notice>) -> String {
    html(&Page { status: &shown.status, sections: &shown.page, form, notice })
}

/// What differs from what a page shows already, as the script expects it.
pub(super) fn changes(before: Option<&Shown>, now: &Shown) -> Vec<String> {
    let is_new = |section: &&Section| before.is_none_or(|before| before.page.of(section.id) != section.html);
    now.page.sections.iter().filter(is_new).map(|section| section.event.clone()).collect()
}

/// All parts that change.
pub(super) fn render(status: &Status) -> Rendered {
    let sections = vec![
        ("clock", format!("{} UTC", clock(status.at_ms))),
        ("state", html(&state(status))),
        ("tiles", html(&tiles(status))),
        ("lines", html(&lines(status))),
        ("pending", html(&pending(status))),
        ("slots", html(&tables::slots(status))),
        ("lanes", html(&tables::lanes(status))),
        ("workers", html(&tables::workers(status))),
        ("jobs", html(&tables::jobs(status))),
        ("job-log", html(&tables::job_log(status))),
        ("dead-letters", html(&tables::dead_letters(status))),
        ("coordinators", html(&tables::coordinators(status))),
    ];
    let section = |(id, html)| {
        let event = serde_json::json!({ "id": id, "html": html }).to_string();
        Section { id, html, event }
    };
    Rendered { sections: sections.into_iter().map(section).collect() }
}

fn html(template: &impl Template) -> String {
    // It can only fail where memory cannot be written to.
    template.render().unwrap_or_default()
}

fn state(status: &Status) -> State {
    let silent = status.workers.iter().filter(|worker| worker.state != WorkerState::Up);
    let mut alarms = status.alarms.clone();
    alarms.extend(silent.map(|worker| format!("worker {} is {}", worker.name, word_of(worker.state))));
    let homeless = status.lanes.iter().filter(|lane| lane.worker.is_empty()).count();
    if homeless > 0 && !status.jobs.is_empty() {
        alarms.push(format!("{} without a worker", plural(homeless, "lane")));
    }
    let (tone, word) = match (status.ready, alarms.is_empty()) {
        (true, true) => ("good", "all well"),
        (true, false) => ("warn", "look here"),
        (false, _) => ("bad", "not ready"),
    };
    State { tone, word, alarms, unknown: status.unknown.clone() }
}

fn tiles(status: &Status) -> Tiles {
    let totals = &status.totals;
    let up = status.workers.iter().filter(|worker| worker.state == WorkerState::Up).count();
    let known = status.workers.iter().filter(|worker| worker.state != WorkerState::Gone).count();
    let lanes_held = status.lanes.iter().filter(|lane| !lane.worker.is_empty()).count();
    let overdue = status.lanes.iter().map(|lane| lane.overdue_ms).max().unwrap_or(0);
    let lateness = totals.lateness_ms;
    let tile = |label, value, unit, note, tone| Tile { label, value, unit, note, tone };
    Tiles {
        tiles: vec![
            tile("Delivered", rate(totals.delivered_per_s), "/s", "last 10 s".to_owned(), ""),
            tile(
                "Scheduled",
                totals.scheduled_per_s.map_or_else(|| UNKNOWN.to_owned(), rate),
                "/s",
                "over gRPC, last 10 s".to_owned(),
                "",
            ),
            tile(
                "Lateness p99",
                match lateness {
                    None => UNKNOWN.to_owned(),
                    Some(q) if q.p99 >= BEYOND_MS => "> 1".to_owned(),
                    Some(q) => decimal(q.p99),
                },
                match lateness {
                    None => "",
                    Some(q) if q.p99 >= BEYOND_MS => "h",
                    Some(_) => "ms",
                },
                match (lateness, overdue > BEHIND_MS) {
                    (_, true) => format!("a lane is {} behind", span(overdue)),
                    (Some(q), false) => format!("p50 {}", late(q.p50)),
                    (None, false) => "nothing delivered".to_owned(),
                },
                if overdue > BEHIND_MS || lateness.is_some_and(|q| q.p99 > 1_000.0) { "warn" } else { "" },
            ),
            tile("Pending", told(totals.pending), "", "records in wheel and lanes".to_owned(), ""),
            tile(
                "Workers",
                format!("{up}/{known}"),
                "up",
                format!("{lanes_held} of {} lanes held", status.lanes.len()),
                if up < known || lanes_held < status.lanes.len() { "warn" } else { "" },
            ),
            tile(
                "Dead letters",
                told(totals.dead_letters),
                "",
                totals.intake_lag.map_or_else(String::new, |lag| format!("intake lag {}", count(lag))),
                if totals.dead_letters.is_some_and(|n| n > 0) { "warn" } else { "" },
            ),
        ],
    }
}

fn told(number: Option<i64>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), count)
}

fn lines(status: &Status) -> Lines {
    let history = &status.history;
    let peak = |value: &dyn Fn(&super::status::Sample) -> f64| {
        chart::axis_top(history.iter().map(value).fold(0.0, f64::max))
    };
    let per_s = peak(&|sample| sample.delivered_per_s.max(sample.scheduled_per_s.unwrap_or(0.0)));
    // One message from long ago would make all others a line on the ground.
    fn drawn(sample: &super::status::Sample, value: fn(Quantiles) -> f64) -> Option<f64> {
        sample.lateness_ms.map(value).filter(|ms| *ms < BEYOND_MS)
    }
    let ms = peak(&|sample| drawn(sample, |q| q.p99).unwrap_or(0.0));
    let latest = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    let last = history.last();
    let lately = |value: fn(Quantiles) -> f64| {
        latest(last.and_then(|sample| sample.lateness_ms).map(|q| late(value(q))))
    };
    Lines {
        charts: vec![
            LineChart {
                title: "Messages a second",
                top: count(per_s as i64),
                lines: vec![
                    Line {
                        class: "a",
                        name: "delivered",
                        latest: latest(last.map(|s| rate(s.delivered_per_s))),
                        points: chart::line(history, HISTORY_MS, per_s, |s| Some(s.delivered_per_s)),
                    },
                    Line {
                        class: "b",
                        name: "scheduled over gRPC",
                        latest: latest(last.and_then(|s| s.scheduled_per_s).map(rate)),
                        points: chart::line(history, HISTORY_MS, per_s, |s| s.scheduled_per_s),
                    },
                ],
            },
            LineChart {
                title: "Lateness of what was delivered",
                top: format!("{} ms", count(ms as i64)),
                lines: vec![
                    Line {
                        class: "a",
                        name: "p99",
                        latest: lately(|q| q.p99),
                        points: chart::line(history, HISTORY_MS, ms, |s| drawn(s, |q| q.p99)),
                    },
                    Line {
                        class: "b",
                        name: "p50",
                        latest: lately(|q| q.p50),
                        points: chart::line(history, HISTORY_MS, ms, |s| drawn(s, |q| q.p50)),
                    },
                ],
            },
        ],
    }
}

fn pending(status: &Status) -> BarCharts {
    let mut charts: Vec<_> = status.pending.iter().map(bars).collect();
    // What is due beyond the horizon waits in the last level, and is routed again when its slot opens.
    if let Some(last) = charts.last_mut() {
        last.note.push_str("; what is due later still is in them too");
    }
    BarCharts { charts }
}

fn bars(level: &Level) -> BarChart {
    let reach_ms = level.slot_width_ms * level.slots.len() as i64;
    let total: i64 = level.slots.iter().map(|slot| slot.records).sum();
    let peak = level.slots.iter().max_by_key(|slot| slot.records).copied().unwrap_or_default();
    let stamp = |at_ms: i64| if reach_ms > 86_400_000 { date(at_ms) } else { clock(at_ms) };
    let summary = match total {
        0 => "nothing pending".to_owned(),
        _ => format!(
            "{} pending; most, {}, in the slot from {}",
            count(total),
            count(peak.records),
            stamp(peak.starts_at_ms)
        ),
    };
    let overdue =
        if level.overdue > 0 { format!(", {} behind", count(level.overdue)) } else { String::new() };
    let bars = chart::bars(level).into_iter().map(|bar| {
        let title = format!("{} from {}", count(bar.records), stamp(bar.starts_at_ms));
        (bar, title)
    });
    // By slots, not by now: what says the same is not sent again.
    let begins =
        |place: usize| level.slots.get(place).map_or_else(String::new, |slot| stamp(slot.starts_at_ms));
    let last = level.slots.len().saturating_sub(1);
    BarChart {
        title: format!("Next {}", span(reach_ms)),
        note: format!("{} in slots of {}{overdue}", count(total), span(level.slot_width_ms)),
        summary,
        bars: bars.collect(),
        ticks: ["now".to_owned(), begins(last / 2), begins(last)],
        peak: count(peak.records),
    }
}

/// What a screen reader is to read out: no seconds, or it would do so each second.
fn word_of(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Up => "up",
        WorkerState::Silent => "silent",
        WorkerState::Gone => "gone",
    }
}
