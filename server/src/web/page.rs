//! The status as HTML: words and numbers are made here, the templates only place them.

use askama::Template;
use jiff::Timestamp;
use ksched_proto::v1;

use super::{
    cache::Shown,
    chart::{self, Bar},
    status::{Level, Quantiles, Status, Worker, WorkerState},
};

/// What the charts show.
const SPAN_MS: i64 = 300_000;
/// Rows of long tables.
const ROWS: usize = 12;

/// The parts that change, each to be put in its place: the id of that and the HTML.
pub(super) struct Rendered {
    sections: Vec<(&'static str, String)>,
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

#[derive(Template)]
#[template(path = "table.html")]
struct Table {
    caption: &'static str,
    head: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
    /// Said instead of rows.
    empty: &'static str,
    /// Said below them.
    more: String,
}

struct Cell {
    text: String,
    class: &'static str,
}

impl Rendered {
    fn of(&self, id: &str) -> &str {
        self.sections.iter().find(|(known, _)| *known == id).map_or("", |(_, html)| html)
    }
}

impl Notice {
    pub(super) fn scheduled(told: &v1::ScheduleResponse) -> Self {
        let due = told.due_time.as_ref().map_or(0, |at| at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000);
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
    let sections = now.page.sections.iter();
    let changed = sections.filter(|(id, html)| before.is_none_or(|before| before.page.of(id) != html));
    changed.map(|(id, html)| serde_json::json!({ "id": id, "html": html }).to_string()).collect()
}

/// All parts that change.
pub(super) fn render(status: &Status) -> Rendered {
    let sections = vec![
        ("clock", format!("{} UTC", clock(status.at_ms))),
        ("state", html(&state(status))),
        ("tiles", html(&tiles(status))),
        ("lines", html(&lines(status))),
        (
            "pending",
            html(&BarCharts { charts: status.pending.iter().map(|l| bars(l, status.at_ms)).collect() }),
        ),
        ("lanes", html(&lanes(status))),
        ("workers", html(&workers(status))),
        ("jobs", html(&jobs(status))),
        ("job-log", html(&job_log(status))),
        ("dead-letters", html(&dead_letters(status))),
        ("coordinators", html(&coordinators(status))),
    ];
    Rendered { sections }
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
            tile("Scheduled", rate(totals.scheduled_per_s), "/s", "over gRPC, last 10 s".to_owned(), ""),
            tile(
                "Lateness p99",
                lateness.map_or_else(|| "–".to_owned(), |q| decimal(q.p99)),
                if lateness.is_some() { "ms" } else { "" },
                match (lateness, overdue > OVERDUE_MS) {
                    (_, true) => format!("a lane is {} behind", span(overdue)),
                    (Some(q), false) => format!("p50 {} ms", decimal(q.p50)),
                    (None, false) => "nothing delivered".to_owned(),
                },
                if overdue > OVERDUE_MS || lateness.is_some_and(|q| q.p99 > 1_000.0) { "warn" } else { "" },
            ),
            tile("Pending", count(totals.pending), "", "records in wheel and lanes".to_owned(), ""),
            tile(
                "Workers",
                format!("{up}/{known}"),
                "up",
                format!("{lanes_held} of {} lanes held", status.lanes.len()),
                if up < known || lanes_held < status.lanes.len() { "warn" } else { "" },
            ),
            tile(
                "Dead letters",
                totals.dead_letters.map_or_else(|| "–".to_owned(), count),
                "",
                totals.intake_lag.map_or_else(String::new, |lag| format!("intake lag {}", count(lag))),
                if totals.dead_letters.is_some_and(|n| n > 0) { "warn" } else { "" },
            ),
        ],
    }
}

/// A lane is behind when its next message is late by more than a heartbeat may hide.
const OVERDUE_MS: i64 = 3_000;

fn lines(status: &Status) -> Lines {
    let history = &status.history;
    let peak = |value: &dyn Fn(&super::status::Sample) -> f64| {
        chart::axis_top(history.iter().map(value).fold(0.0, f64::max))
    };
    let per_s = peak(&|sample| sample.delivered_per_s.max(sample.scheduled_per_s));
    let ms = peak(&|sample| sample.lateness_ms.map_or(0.0, |q| q.p99));
    let latest = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let last = history.last();
    let late = |value: fn(Quantiles) -> f64| {
        latest(last.and_then(|sample| sample.lateness_ms).map(|q| format!("{} ms", decimal(value(q)))))
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
                        points: chart::line(history, SPAN_MS, per_s, |s| Some(s.delivered_per_s)),
                    },
                    Line {
                        class: "b",
                        name: "scheduled over gRPC",
                        latest: latest(last.map(|s| rate(s.scheduled_per_s))),
                        points: chart::line(history, SPAN_MS, per_s, |s| Some(s.scheduled_per_s)),
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
                        latest: late(|q| q.p99),
                        points: chart::line(history, SPAN_MS, ms, |s| s.lateness_ms.map(|q| q.p99)),
                    },
                    Line {
                        class: "b",
                        name: "p50",
                        latest: late(|q| q.p50),
                        points: chart::line(history, SPAN_MS, ms, |s| s.lateness_ms.map(|q| q.p50)),
                    },
                ],
            },
        ],
    }
}

fn bars(level: &Level, now_ms: i64) -> BarChart {
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
    let middle = now_ms + reach_ms / 2;
    BarChart {
        title: format!("Next {}", span(reach_ms)),
        note: format!("{} in slots of {}{overdue}", count(total), span(level.slot_width_ms)),
        summary,
        bars: bars.collect(),
        ticks: ["now".to_owned(), stamp(middle), stamp(now_ms + reach_ms)],
        peak: count(peak.records),
    }
}

fn lanes(status: &Status) -> Table {
    let rows = status.lanes.iter().map(|lane| {
        let next = match lane.next_due_ms {
            Some(due) if due > status.at_ms => format!("in {}", span(due - status.at_ms)),
            Some(_) if lane.overdue_ms > OVERDUE_MS => format!("{} ago", span(lane.overdue_ms)),
            Some(_) => "now".to_owned(),
            None => "–".to_owned(),
        };
        let holder = if lane.worker.is_empty() { ("nobody", "bad") } else { (&*lane.worker, "") };
        vec![
            plain(lane.lane.to_string()),
            toned(holder.0.to_owned(), holder.1),
            number(lane.lag.map_or_else(|| "–".to_owned(), count)),
            number(lane.held.map_or_else(|| "–".to_owned(), |held| count(held as i64))),
            toned(next, if lane.overdue_ms > OVERDUE_MS { "num warn" } else { "num" }),
            number(rate(lane.delivered_per_s)),
            number(lateness(lane.lateness_ms)),
        ]
    });
    Table {
        caption: "Lanes",
        head: &["Lane", "Holder", "Lag", "In memory", "Next due", "Delivered /s", "Late p50 / p99, ms"],
        rows: rows.collect(),
        empty: "There are no lanes.",
        more: String::new(),
    }
}

fn workers(status: &Status) -> Table {
    let rows = status.workers.iter().map(|worker| {
        let tone = match worker.state {
            WorkerState::Up => "badge good",
            WorkerState::Silent => "badge warn",
            WorkerState::Gone => "badge bad",
        };
        let lanes = worker.lanes.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
        vec![
            plain(worker.name.clone()),
            toned(state_of(worker), tone),
            plain(if lanes.is_empty() { "–".to_owned() } else { lanes }),
            number(worker.intakes.to_string()),
            number(worker.drains.to_string()),
            number(count(worker.held as i64)),
            number(rate(worker.delivered_per_s)),
            number(lateness(worker.lateness_ms)),
            plain(date(worker.registered_at_ms)),
        ]
    });
    Table {
        caption: "Workers",
        head: &[
            "Worker",
            "State",
            "Lanes",
            "Intakes",
            "Drains",
            "In memory",
            "Delivered /s",
            "Late p50 / p99, ms",
            "Registered",
        ],
        rows: rows.collect(),
        empty: "No worker is registered.",
        more: String::new(),
    }
}

/// Lanes have a table of their own; intake partitions, which are many and stay, come last.
fn jobs(status: &Status) -> Table {
    let mut jobs: Vec<_> = status.jobs.iter().filter(|job| job.kind != "lane").collect();
    jobs.sort_by_key(|job| (job.kind == "intake" && !job.worker_id.is_empty(), job.opened_at_ms));
    let left = jobs.len().saturating_sub(ROWS);
    let rows = jobs.iter().take(ROWS).map(|job| {
        let free = job.worker_id.is_empty();
        let holder = match (free, job.worker.is_empty()) {
            (true, _) => "nobody yet",
            (false, true) => job.worker_id.as_str(),
            (false, false) => job.worker.as_str(),
        };
        vec![
            plain(job.name.clone()),
            toned(holder.to_owned(), if free { "warn" } else { "" }),
            number(job.fence.map_or_else(|| "–".to_owned(), |fence| fence.to_string())),
        ]
    });
    Table {
        caption: "Jobs",
        head: &["Job", "Holder", "Fence"],
        rows: rows.collect(),
        empty: "No job is open.",
        more: if left > 0 { format!("and {left} more") } else { String::new() },
    }
}

fn job_log(status: &Status) -> Table {
    let rows = status.job_log.iter().take(ROWS).map(|job| {
        vec![
            plain(clock(job.finished_at_ms)),
            plain(job.job.clone()),
            plain(if job.worker.is_empty() { job.worker_id.clone() } else { job.worker.clone() }),
            number(count(i64::try_from(job.moved).unwrap_or(i64::MAX))),
            number(span((job.finished_at_ms - job.begun_at_ms).max(0))),
        ]
    });
    Table {
        caption: "Job log",
        head: &["Finished", "Job", "Worker", "Moved", "Took"],
        rows: rows.collect(),
        empty: "No job has been finished yet.",
        more: String::new(),
    }
}

fn dead_letters(status: &Status) -> Table {
    let rows = status.dead_letters.iter().take(ROWS).map(|letter| {
        vec![
            plain(date(letter.at_ms)),
            plain(letter.code.clone()),
            toned(letter.reason.clone(), "text"),
            plain(letter.origin.clone()),
        ]
    });
    Table {
        caption: "Dead letters",
        head: &["At", "Code", "Reason", "Came from"],
        rows: rows.collect(),
        empty: "There are none.",
        more: String::new(),
    }
}

fn coordinators(status: &Status) -> Table {
    let rows = status.coordinators.iter().map(|coordinator| {
        vec![
            plain(coordinator.name.clone()),
            plain(if coordinator.makes_jobs { "makes jobs".to_owned() } else { "serves".to_owned() }),
            plain(coordinator.grpc.clone()),
            plain(coordinator.http.clone()),
            plain(coordinator.version.clone()),
        ]
    });
    Table {
        caption: "Coordinators",
        head: &["Coordinator", "Role", "gRPC", "HTTP", "Version"],
        rows: rows.collect(),
        empty: "None is known.",
        more: String::new(),
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

fn state_of(worker: &Worker) -> String {
    let for_ms = worker.silent_for_ms.unwrap_or(0);
    match worker.state {
        WorkerState::Up => "up".to_owned(),
        WorkerState::Silent => format!("silent for {}", span(for_ms)),
        WorkerState::Gone => format!("gone since {}", span(for_ms)),
    }
}

fn plain(text: String) -> Cell {
    Cell { text, class: "" }
}

fn number(text: String) -> Cell {
    Cell { text, class: "num" }
}

fn toned(text: String, class: &'static str) -> Cell {
    Cell { text, class }
}

fn lateness(quantiles: Option<Quantiles>) -> String {
    quantiles.map_or_else(|| "–".to_owned(), |q| format!("{} / {}", decimal(q.p50), decimal(q.p99)))
}

fn rate(per_s: f64) -> String {
    if per_s > 0.0 && per_s < 10.0 { format!("{per_s:.1}") } else { count(per_s.round() as i64) }
}

fn decimal(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}") } else { count(ms.round() as i64) }
}

/// Thousands are set apart, by a space that does not break.
fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "−".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn plural(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A span in its two largest units at most.
fn span(ms: i64) -> String {
    let s = ms / 1_000;
    let two = |large: i64, large_unit, small: i64, small_unit| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match s {
        ..1 => format!("{ms} ms"),
        1..120 => format!("{s} s"),
        120..7_200 => two(s / 60, "min", s % 60, "s"),
        7_200..172_800 => two(s / 3_600, "h", s / 60 % 60, "min"),
        _ => two(s / 86_400, "d", s / 3_600 % 24, "h"),
    }
}

fn clock(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| String::new(), |at| at.strftime("%H:%M:%S").to_string())
}

fn date(ms: i64) -> String {
    Timestamp::from_millisecond(ms)
        .map_or_else(|_| String::new(), |at| at.strftime("%b %-d %H:%M").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::status::DeadLetter;

    #[test]
    fn numbers_and_spans_read_well() {
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((&*count(12), &*count(123), &*count(0)), ("12", "123", "0"));
        let spans = [0, 999, 10_000, 320_000, 15_680_000, 501_760_000].map(span);
        assert_eq!(spans, ["0 ms", "999 ms", "10 s", "5 min 20 s", "4 h 21 min", "5 d 19 h"]);
    }

    #[test]
    fn what_users_wrote_is_text_and_not_markup() {
        let letter = DeadLetter {
            at_ms: 0,
            code: "<script>alert(1)</script>".to_owned(),
            reason: "a & b".to_owned(),
            origin: String::new(),
            place: String::new(),
        };
        let html = html(&dead_letters(&Status { dead_letters: vec![letter], ..Status::default() }));
        assert!(!html.contains("<script") && html.contains("&#38; b"), "{html}");
    }
}
