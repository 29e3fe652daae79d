//! What `top` draws. Colour only stresses what words say.

use std::{
    ffi::OsStr,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use ksched_core::{
    lateness::BEYOND_MS,
    words::{UNKNOWN, clock, decimal, plural, rate, span},
};
use ksched_proto::activity::BEHIND_MS;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Paragraph, Sparkline, Wrap},
};

use crate::{
    tail::preview,
    view::{Lane, Sample, Shown, View, Worker, lateness, told},
};

/// Below this nothing can be read.
const SMALLEST: (u16, u16) = (70, 16);
/// Below this a table leaves columns out.
const ROOM: usize = 90;
/// Of a worker's name.
const NAME: usize = 26;
/// From here on lanes and workers stand side by side.
const WIDE: u16 = 140;
/// Rows of all but tables and charts.
const AROUND: u16 = 6;
/// Charts are as high as tables let them be, within these.
const CHART_ROWS: RangeInclusive<u16> = 4..=14;
/// What the charts reach back, or two looks a column.
const HISTORY_MS: i64 = 300_000;

/// Columns as wide as this, numbers to the right; 0: what is left.
struct Column(&'static str, usize, Side);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
    /// Left out of a table that is narrow.
    RightIfRoom,
}

/// How it is to be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Quiet,
    Warn,
    Bad,
}

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Colours,
    /// <https://no-color.org>
    None,
}

const LANE_COLUMNS: [Column; 7] = [
    Column(Lane::HEADING[0], 4, Side::Left),
    Column(Lane::HEADING[1], 0, Side::Left),
    Column(Lane::HEADING[2], 10, Side::Right),
    Column(Lane::HEADING[3], 9, Side::RightIfRoom),
    Column(Lane::HEADING[4], 14, Side::Right),
    Column(Lane::HEADING[5], 11, Side::Right),
    Column(Lane::HEADING[6], 17, Side::Right),
];

pub(super) fn draw(frame: &mut Frame<'_>, shown: &Shown, now: Instant, every: Duration, ink: Ink) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (has, needs) = ((area.width, area.height), SMALLEST);
        let text = format!(
            "This terminal has {}x{} characters, top needs {}x{}. q ends it.",
            has.0, has.1, needs.0, needs.1
        );
        return frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
    }
    let [head, state, totals, tables, charts, foot] = areas(area, shown.view.as_ref());
    let (text, tone) = state_of(shown, now);
    frame.render_widget(Paragraph::new(text).style(tone.style(ink)).wrap(Wrap { trim: true }), state);
    let footer =
        format!("q, Esc or Ctrl-C ends; looks each {}; rates and lateness: last 10 s", span(ms(every)));
    frame.render_widget(Line::styled(footer, Tone::Quiet.style(ink)), foot);
    let Some(view) = &shown.view else { return };
    let time = format!(" {}Z", clock(view.at_ms));
    let room = usize::from(head.width).saturating_sub(time.len());
    let header = format!("{:<room$}{time}", preview(Some(&header_of(view)), room));
    frame.render_widget(Line::styled(header, Style::new().add_modifier(Modifier::REVERSED)), head);
    frame.render_widget(Paragraph::new(totals_of(view)), totals);
    let [for_lanes, for_workers] = share(tables, view);
    lanes(frame, for_lanes, view, ink);
    workers(frame, for_workers, view, ink);
    let [left, right] = halves(charts);
    chart(frame, left, shown, every, ink, "delivered/s", |sample| Some(sample.delivered_per_s));
    // One message from long ago would make all others a line on the ground.
    let late = |sample: &Sample| Some(sample.lateness_ms?.p99).filter(|ms| *ms < BEYOND_MS);
    chart(frame, right, shown, every, ink, "late p99, ms", late);
}

fn areas(area: Rect, view: Option<&View>) -> [Rect; 6] {
    let [lanes, workers] = view.map_or([0, 0], wanted);
    let tables = if area.width >= WIDE { lanes.max(workers) } else { lanes.saturating_add(workers) };
    let left = area.height.saturating_sub(AROUND).saturating_sub(tables);
    let charts = Constraint::Length(left.clamp(*CHART_ROWS.start(), *CHART_ROWS.end()));
    let [one, two] = [1, 2].map(Constraint::Length);
    Layout::vertical([one, two, two, Constraint::Fill(1), charts, one]).areas(area)
}

fn halves(area: Rect) -> [Rect; 2] {
    Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(area)
}

/// Rows that would hold all lanes, and all workers: with a heading, and one below to set them apart.
fn wanted(view: &View) -> [u16; 2] {
    let workers = view.workers.as_ref().map_or(1, |workers| workers.len().max(1));
    [view.lanes.len(), workers].map(|rows| u16::try_from(rows + 2).unwrap_or(u16::MAX))
}

/// Beside each other, or one above the other: then lanes leave workers what they need, up to half.
fn share(tables: Rect, view: &View) -> [Rect; 2] {
    if tables.width >= WIDE {
        return halves(tables);
    }
    let [lanes, workers] = wanted(view);
    let for_lanes = lanes.min(tables.height - workers.min(tables.height / 2));
    Layout::vertical([Constraint::Length(for_lanes), Constraint::Fill(1)]).areas(tables)
}

fn lanes(frame: &mut Frame<'_>, area: Rect, view: &View, ink: Ink) {
    let row = |lane: &Lane| {
        let tone = match lane.worker.as_deref() {
            Some("") => Tone::Bad,
            _ if lane.overdue_ms > BEHIND_MS => Tone::Warn,
            _ => Tone::Plain,
        };
        (lane.cells(view.at_ms).to_vec(), tone)
    };
    table(frame, area, &LANE_COLUMNS, view.lanes.iter().map(row).collect(), ink);
}

fn workers(frame: &mut Frame<'_>, area: Rect, view: &View, ink: Ink) {
    let tone = |worker: &Worker| if worker.is_silent { Tone::Warn } else { Tone::Plain };
    let row = |worker: &Worker| (worker.cells().to_vec(), tone(worker));
    let mut rows: Vec<_> = view.workers.iter().flatten().map(row).collect();
    if rows.is_empty() {
        let (text, tone) = if view.workers.is_some() { ("none", Tone::Bad) } else { (UNKNOWN, Tone::Plain) };
        rows.push((vec![text.to_owned()], tone));
    }
    let widest = rows.iter().map(|(cells, _)| cells[0].chars().count()).max().unwrap_or(0);
    let [name, silent_for, held, delivered, late, jobs] = Worker::HEADING;
    let columns = [
        Column(name, widest.clamp(name.len(), NAME), Side::Left),
        Column(silent_for, 13, Side::Right),
        Column(held, 9, Side::RightIfRoom),
        Column(delivered, 11, Side::Right),
        Column(late, 17, Side::RightIfRoom),
        Column(jobs, 0, Side::Left),
    ];
    table(frame, area, &columns, rows, ink);
}

fn header_of(view: &View) -> String {
    let all = plural(view.coordinators, "coordinator");
    let coordinators = match (view.coordinators, view.ready) {
        (0, _) => "coordinators not known".to_owned(),
        (number, ready) if ready == number => format!("{all} ready"),
        (_, ready) => format!("{ready} of {all} ready"),
    };
    let leader = if view.leader.is_empty() { "nobody" } else { &view.leader };
    format!("cluster {} {}, {coordinators}, {leader} makes jobs", view.cluster, view.versions)
}

/// In one word, and what is behind it.
fn state_of(shown: &Shown, now: Instant) -> (String, Tone) {
    match (shown.away(now), &shown.view) {
        (Some(away), None) => (away, Tone::Bad),
        (Some(away), Some(_)) => (format!("{away}; this is what was seen last:"), Tone::Bad),
        (None, None) => ("asking the coordinators…".to_owned(), Tone::Quiet),
        (None, Some(view)) => {
            let (word, tone) = match (view.alarms.is_empty(), view.unknown.is_empty(), view.ready) {
                (true, true, _) => ("all well", Tone::Plain),
                (true, false, _) => ("partly unknown", Tone::Warn),
                (false, _, 0) => ("not ready", Tone::Bad),
                (false, ..) => ("look here", Tone::Warn),
            };
            let said = [word.to_owned()].into_iter().chain(view.alarms.clone()).chain(view.unknown.clone());
            (said.collect::<Vec<_>>().join("; "), tone)
        }
    }
}

fn totals_of(view: &View) -> Vec<Line<'static>> {
    let scheduled = view.scheduled_per_s.map_or_else(|| UNKNOWN.to_owned(), rate);
    let (delivered, late) = (rate(view.delivered_per_s), lateness(view.lateness_ms));
    let jobs =
        view.jobs.map_or_else(|| UNKNOWN.to_owned(), |(held, free)| format!("{held} held, {free} free"));
    vec![
        format!("scheduled {scheduled}/s   delivered {delivered}/s   late p50/p99 {late}").into(),
        format!(
            "pending {}   jobs {jobs}   dead-lettered by these workers {}",
            told(view.pending),
            view.dead_lettered
        )
        .into(),
    ]
}

/// Rows under a heading. If not all fit, those that want a look come first, and the rest is counted.
fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: &[Column],
    mut rows: Vec<(Vec<String>, Tone)>,
    ink: Ink,
) {
    let (room, all) = (usize::from(area.height).saturating_sub(1), rows.len());
    if all > room {
        rows.sort_by_key(|(_, tone)| *tone == Tone::Plain);
        rows.truncate(room.saturating_sub(1));
    }
    let heading: Vec<_> = columns.iter().map(|column| column.0.to_owned()).collect();
    let width = usize::from(area.width);
    let mut lines = vec![Line::styled(row(columns, &heading, width), Tone::Quiet.style(ink))];
    lines.extend(rows.iter().map(|(cells, tone)| Line::styled(row(columns, cells, width), tone.style(ink))));
    if all > room {
        lines.push(Line::styled(format!("and {} more", all - rows.len()), Tone::Quiet.style(ink)));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn row(columns: &[Column], cells: &[String], width: usize) -> String {
    let is_shown = |column: &Column| width >= ROOM || column.2 != Side::RightIfRoom;
    let shown = || columns.iter().zip(cells).filter(|(column, _)| is_shown(column));
    let taken: usize = columns.iter().filter(|column| is_shown(column)).map(|column| column.1 + 1).sum();
    let cells = shown().map(|(Column(_, fixed, side), cell)| {
        let width = if *fixed > 0 { *fixed } else { (width + 1).saturating_sub(taken).max(1) };
        let cell = preview(Some(cell), width);
        if *side == Side::Left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    });
    cells.collect::<Vec<_>>().join(" ")
}

fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    shown: &Shown,
    every: Duration,
    ink: Ink,
    what: &str,
    value: impl Fn(&Sample) -> Option<f64>,
) {
    let columns = i64::from(area.width).max(1);
    let step_ms = (HISTORY_MS / columns).max(2 * ms(every));
    let values = shown.history.highest(usize::from(area.width), step_ms, value);
    let highest = values.iter().flatten().copied().reduce(f64::max);
    let highest = highest.map_or_else(|| UNKNOWN.to_owned(), decimal);
    let minutes = (step_ms * columns + 30_000) / 60_000;
    let [title, bars] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let text = format!("{what}: {minutes} min, highest {highest}");
    frame.render_widget(Line::styled(text, Tone::Quiet.style(ink)), title);
    // Tenths, since the widget takes whole numbers.
    let tenths = values.into_iter().map(|value| value.map(|value| (value * 10.0).round() as u64));
    let style = if ink == Ink::Colours { Style::new().fg(Color::Cyan) } else { Style::new() };
    frame.render_widget(Sparkline::default().data(tenths).absent_value_symbol(" ").style(style), bars);
}

fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl Ink {
    /// By the variable `NO_COLOR`.
    pub(super) fn wanted(no_color: Option<&OsStr>) -> Self {
        if no_color.is_some_and(|value| !value.is_empty()) { Self::None } else { Self::Colours }
    }
}

impl Tone {
    fn style(self, ink: Ink) -> Style {
        let (stress, colour) = match self {
            Self::Plain => return Style::new(),
            Self::Quiet => return Style::new().add_modifier(Modifier::DIM),
            Self::Warn => (Style::new().add_modifier(Modifier::BOLD), Color::Yellow),
            Self::Bad => (Style::new().add_modifier(Modifier::BOLD), Color::Red),
        };
        if ink == Ink::Colours { stress.fg(colour) } else { stress }
    }
}

#[cfg(test)]
mod tests;
