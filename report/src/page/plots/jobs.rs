//! How long jobs took: a row for each system and kind on one logarithmic axis.

use super::Figure;
use crate::{
    compare::in_order,
    page::{
        Error,
        axis::Axis,
        canvas::{Anchor, Canvas, Frame, Layout, SMALL, STRONG},
        palette::PAPER,
        shown::Shown,
    },
    text::{grouped, number, span_ms},
};

const HEADER: f64 = 24.0;
const STRIP: f64 = 24.0;
const ROW: f64 = HEADER + STRIP + 8.0;
const BELOW: f64 = 46.0;
/// Nothing shorter is told apart.
const LEAST_S: f64 = 1e-4;

pub(super) fn figure<'a>(systems: &'a [Shown<'a>]) -> Option<Figure<'a>> {
    let rows: Vec<Row<'_>> = systems.iter().flat_map(Row::all).collect();
    let first = rows.first()?;
    let all = || rows.iter().flat_map(|row| row.took_s.iter().copied());
    let x = Axis::log(all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max), tick);
    let count = rows.len() as f64;
    Some(Figure {
        name: "job-times",
        title: format!(
            "Jobs: half of {}'s {} jobs are done within {}",
            first.shown.label,
            first.kind,
            span_ms(first.at(0.5) * 1000.0)
        ),
        note: "Execution times by system and kind of job, on a logarithmic axis. The box holds the middle half \
               of the jobs, the thin line nine in ten; the gap in the box is the median, the dot the longest job."
            .to_owned(),
        height: Box::new(move |_| count * ROW + BELOW),
        draw: Box::new(move |canvas| draw(canvas, &rows, &x)),
    })
}

/// Jobs of one kind of one system.
struct Row<'a> {
    shown: &'a Shown<'a>,
    kind: &'a str,
    /// Ascending.
    took_s: Vec<f64>,
    moved: u64,
}

impl<'a> Row<'a> {
    fn all(shown: &'a Shown<'a>) -> Vec<Self> {
        let jobs = shown.run.jobs.as_deref().unwrap_or_default();
        let of = |kind| {
            let own = || jobs.iter().filter(move |job| job.kind == kind);
            let mut took_s: Vec<f64> =
                own().map(|job| job.took_s.max(LEAST_S)).filter(|s| s.is_finite()).collect();
            took_s.sort_by(f64::total_cmp);
            Self { shown, kind, took_s, moved: own().map(|job| job.moved).sum() }
        };
        let rows = in_order(jobs.iter().map(|job| job.kind.as_str())).into_iter().map(of);
        rows.filter(|row| !row.took_s.is_empty()).collect()
    }

    /// The job at this quantile.
    fn at(&self, quantile: f64) -> f64 {
        let last = self.took_s.len() - 1;
        self.took_s[((last as f64 * quantile).round() as usize).min(last)]
    }
}

fn draw(canvas: &Canvas<'_>, rows: &[Row<'_>], x: &Axis) -> Result<(), Error> {
    let frame = canvas.frame;
    let y = Axis::linear(1.0, 1.0, |_| String::new());
    for (place, row) in rows.iter().enumerate() {
        let top = frame.y + place as f64 * ROW;
        let area = Frame { x: frame.x + 2.0, y: top + HEADER, width: frame.width - 4.0, height: STRIP };
        let panel = canvas.panel(area, x, &y)?;
        panel.vertical_grid()?;
        let colour = row.shown.colour();
        let span = |from: f64, to: f64| (panel.x_of(from), (panel.x_of(to) - panel.x_of(from)).max(2.0));
        let middle = area.y + area.height / 2.0 - 1.0;
        let bar = |(left, width): (f64, f64), thick: f64| Frame {
            x: left,
            y: middle - thick / 2.0,
            width,
            height: thick,
        };
        canvas.fill(bar(span(row.at(0.05), row.at(0.95)), 3.0), colour, 0.6)?;
        canvas.fill(bar(span(row.at(0.25), row.at(0.75)), 15.0), colour, 0.85)?;
        let median = panel.x_of(row.at(0.5));
        canvas.segment([(median, middle - 7.5), (median, middle + 7.5)], PAPER, 2.5)?;
        let longest = (row.at(1.0), 0.5 + 1.0 / area.height);
        panel.dot(longest, 3.0, colour, 1.0)?;
        let name = format!("{} · {}", row.shown.label, row.kind);
        canvas.text((area.x, top + 10.0), &name, STRONG.colour(colour))?;
        canvas.text(
            (area.x + area.width, top + 10.0),
            &told(row, canvas.layout),
            SMALL.anchor(Anchor::End),
        )?;
        if place + 1 == rows.len() {
            panel.x_labels(canvas)?;
        }
    }
    let words_at = (frame.x + frame.width / 2.0, frame.y + rows.len() as f64 * ROW + 28.0);
    canvas.text(words_at, "execution time (logarithmic)", SMALL.anchor(Anchor::Middle))
}

fn told(row: &Row<'_>, layout: Layout) -> String {
    let (jobs, median) = (row.took_s.len() as u64, span_ms(row.at(0.5) * 1000.0));
    let moved = row.moved as f64 / jobs.max(1) as f64;
    match layout {
        Layout::Wide => {
            format!("{} jobs · median {median} · {} messages each", grouped(jobs), number(moved))
        }
        Layout::Narrow => format!("{} jobs · {median}", grouped(jobs)),
    }
}

fn tick(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{} µs", number(s * 1e6)),
        s if s < 1.0 => format!("{} ms", number(s * 1e3)),
        s => format!("{} s", number(s)),
    }
}
