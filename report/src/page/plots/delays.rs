//! How late: a row for each system on one logarithmic axis.

use super::Figure;
use crate::{
    page::{
        Error,
        axis::Axis,
        canvas::{Anchor, Canvas, Frame, Panel, SMALL, STRONG, Type},
        palette::{FADED, INK},
        shown::Shown,
    },
    run::{Lateness, Run},
    text::{grouped, number, span_ms},
};

/// Both divide the hundred buckets of `run::compact`, or bins would have unequally many of them.
const BINS_PER_DECADE: f64 = 20.0;
const BINS_PER_FEW_DECADES: f64 = 50.0;
/// Nothing earlier is told apart.
const LEAST_MS: f64 = 0.1;
/// For the name, and below it the marks' names.
const HEADER: f64 = 36.0;
const CURVE: f64 = 60.0;
const ROW: f64 = HEADER + CURVE + 8.0;
const BELOW: f64 = 46.0;
/// For the name of a mark at the end of the axis.
const RIGHT: f64 = 28.0;

pub(super) fn figure<'a>(systems: &'a [Shown<'a>]) -> Option<Figure<'a>> {
    let rows: Vec<Row<'_>> = systems.iter().filter_map(Row::of).collect();
    let first = rows.first()?;
    let max_ms = rows.iter().flat_map(|row| &row.lateness.histogram).map(|b| b.upper_ms).fold(10.0, f64::max);
    // Below most of the messages of any there is nothing to see.
    let p50_ms = rows.iter().map(|row| row.lateness.summary.p50_ms).fold(f64::INFINITY, f64::min);
    let x = Axis::log(if p50_ms < 3.0 { LEAST_MS } else { 1.0 }, max_ms, tick);
    let most = rows.iter().flat_map(|row| row.shares(&x)).map(|(_, share)| share).fold(0.0, f64::max);
    // Without labels: finely, to leave no room unused.
    let y = Axis::linear(most, 20.0, |_| String::new());
    let summary = first.lateness.summary;
    let title = match summary.p99_ms.is_finite() {
        true => format!(
            "How late: {} delivers half within {}, 99 of 100 within {}",
            first.shown.label,
            span_ms(summary.p50_ms),
            span_ms(summary.p99_ms)
        ),
        false => "How late messages were delivered".to_owned(),
    };
    let clock =
        if first.shown.run.visible.is_some() { "until a reader saw the message" } else { "until the append" };
    let count = rows.len() as f64;
    Some(Figure {
        name: "delay-histogram",
        title,
        note: format!(
            "Messages by the time from due {clock}, on a logarithmic axis: each step to the right is ten times as \
             late. Heights are shares of the system's messages, on one scale. The lines mark the p50 and the p99."
        ),
        height: Box::new(move |_| count * ROW + BELOW),
        draw: Box::new(move |canvas| draw(canvas, &rows, &x, &y)),
    })
}

struct Row<'a> {
    shown: &'a Shown<'a>,
    lateness: &'a Lateness,
}

impl<'a> Row<'a> {
    fn of(shown: &'a Shown<'a>) -> Option<Self> {
        let lateness = shown.run.lateness().filter(|lateness| !lateness.histogram.is_empty())?;
        Some(Self { shown, lateness })
    }

    /// Each bin's upper edge in ms, and its share of the messages in percent.
    fn shares(&self, x: &Axis) -> Vec<(f64, f64)> {
        let per_decade = if x.decades() > 2.0 { BINS_PER_DECADE } else { BINS_PER_FEW_DECADES };
        let bins = (x.decades() * per_decade).round().max(1.0) as usize;
        let mut counts = vec![0_u64; bins];
        for bucket in &self.lateness.histogram {
            let place = (x.place(bucket.upper_ms) * bins as f64).ceil() as usize;
            counts[place.saturating_sub(1).min(bins - 1)] += bucket.count;
        }
        let all = counts.iter().sum::<u64>().max(1) as f64;
        let upper = |bin: usize| x.from() * 10_f64.powf((bin + 1) as f64 / per_decade);
        counts.iter().enumerate().map(|(bin, count)| (upper(bin), *count as f64 * 100.0 / all)).collect()
    }
}

fn draw(canvas: &Canvas<'_>, rows: &[Row<'_>], x: &Axis, y: &Axis) -> Result<(), Error> {
    let frame = canvas.frame;
    for (place, row) in rows.iter().enumerate() {
        let top = frame.y + place as f64 * ROW;
        let area = Frame { x: frame.x + 2.0, y: top + HEADER, width: frame.width - RIGHT, height: CURVE };
        let panel = canvas.panel(area, x, y)?;
        panel.vertical_grid()?;
        row.draw(canvas, &panel, x)?;
        if place + 1 == rows.len() {
            panel.x_labels(canvas)?;
        }
    }
    let axis_y = frame.y + rows.len() as f64 * ROW + 24.0;
    canvas.text((frame.x + frame.width / 2.0, axis_y), "late by (logarithmic)", SMALL.anchor(Anchor::Middle))
}

impl Row<'_> {
    fn draw(&self, canvas: &Canvas<'_>, panel: &Panel<'_, '_>, x: &Axis) -> Result<(), Error> {
        let colour = self.shown.colour();
        // Steps, from edge to edge.
        let mut outline = vec![(x.from(), 0.0)];
        let mut left = x.from();
        for (right, share) in self.shares(x) {
            outline.extend([(left, share), (right, share)]);
            left = right;
        }
        panel.area(&outline, colour, 0.75)?;
        let summary = self.lateness.summary;
        let marks = [("p50", summary.p50_ms, Anchor::End), ("p99", summary.p99_ms, Anchor::Start)];
        for (name, ms, anchor) in marks.into_iter().filter(|(_, ms, _)| ms.is_finite()) {
            let (at, top) = (panel.x_of(ms), panel.frame.y);
            canvas.segment([(at, top - 10.0), (at, top + panel.frame.height)], INK, 1.25)?;
            let aside = if anchor == Anchor::Start { 3.0 } else { -3.0 };
            let small = Type { size: 11.0, ..SMALL }.colour(INK).anchor(anchor);
            canvas.text((at + aside, top - 6.0), name, small)?;
        }
        self.header(canvas, panel)
    }

    fn header(&self, canvas: &Canvas<'_>, panel: &Panel<'_, '_>) -> Result<(), Error> {
        let (frame, label) = (panel.frame, &self.shown.label);
        let y = frame.y - HEADER + 10.0;
        canvas.text((frame.x, y), label, STRONG.colour(self.shown.colour()))?;
        let told = told(self.shown.run, self.lateness, canvas.layout.pick(true, false));
        let right = (canvas.frame.x + canvas.frame.width, y);
        canvas.text(right, &told, SMALL.colour(FADED).anchor(Anchor::End))
    }
}

fn told(run: &Run, lateness: &Lateness, all: bool) -> String {
    let s = lateness.summary;
    let mut told = match all {
        true => format!("p50 {} · p99 {} · max {}", span_ms(s.p50_ms), span_ms(s.p99_ms), span_ms(s.max_ms)),
        false => format!("p50 {} · p99 {}", span_ms(s.p50_ms), span_ms(s.p99_ms)),
    };
    for (count, what) in [(run.counts.lost, "lost"), (run.counts.early, "early")] {
        if count > 0 {
            told.push_str(&format!(" · {} {what}", grouped(count)));
        }
    }
    told
}

fn tick(ms: f64) -> String {
    if ms < 1000.0 { format!("{} ms", number(ms)) } else { format!("{} s", number(ms / 1000.0)) }
}
