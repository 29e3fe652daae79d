//! How late over the run: a panel for each system.

use super::{Figure, end_s};
use crate::{
    page::{
        Error,
        axis::Axis,
        canvas::{Anchor, Canvas, Panel, SMALL, Type},
        panels::Grid,
        series::{Late, bin_s, late, unbroken},
        shown::Shown,
    },
    text::{number, span_ms},
};

/// For the names of the curves.
const RIGHT: f64 = 34.0;

pub(super) fn figure<'a>(systems: &'a [Shown<'a>]) -> Option<Figure<'a>> {
    let series =
        |shown: &Shown<'a>| shown.run.lateness().map_or(&[][..], |lateness| lateness.series.as_slice());
    let end_s = end_s(systems);
    let bin_s = bin_s(end_s);
    let all: Vec<Vec<Late>> = systems.iter().map(|shown| late(series(shown), bin_s)).collect();
    let max_ms = all.iter().flatten().map(|late| late.max_ms).filter(|ms| ms.is_finite()).fold(0.0, f64::max);
    let min_ms = all.iter().flatten().map(|late| late.p50_ms).fold(f64::INFINITY, f64::min).max(0.1);
    if all.iter().all(Vec::is_empty) {
        return None;
    }
    let y = Axis::log(min_ms, max_ms, |ms| match ms {
        ms if ms < 1000.0 => format!("{} ms", number(ms)),
        ms => format!("{} s", number(ms / 1000.0)),
    });
    let grid = Grid { count: systems.len(), most_columns: 2, height: 150.0, header: 24.0 };
    let title = match worst(&all[0]) {
        Some(worst) => {
            format!("Over the run: {}'s worst second has a p99 of {}", systems[0].label, span_ms(worst))
        }
        None => "Lateness over the run".to_owned(),
    };
    let worst = if bin_s == 1 { String::new() } else { format!(", the worst of each {bin_s} s") };
    Some(Figure {
        name: "lateness-over-time",
        title,
        note: format!(
            "The greatest lateness, the p99 and the p50 of the messages due in one second{worst}, by the time when they \
             were due. Logarithmic, the same scale for all."
        ),
        height: Box::new(move |layout| grid.total_height(layout)),
        draw: Box::new(move |canvas| {
            let x = Axis::time(end_s, 6.0);
            grid.draw(canvas, systems, (&x, &y), RIGHT, |shown, panel| {
                let place = systems.iter().position(|other| other.place == shown.place);
                match place.and_then(|place| all.get(place)).filter(|late| !late.is_empty()) {
                    Some(late) => curves(canvas, panel, shown, late, bin_s),
                    None => Grid::absent(canvas, panel, "not measured"),
                }
            })
        }),
    })
}

fn worst(late: &[Late]) -> Option<f64> {
    late.iter().map(|late| late.p99_ms).filter(|ms| ms.is_finite()).reduce(f64::max)
}

fn curves(
    canvas: &Canvas<'_>,
    panel: &Panel<'_, '_>,
    shown: &Shown<'_>,
    late: &[Late],
    bin_s: u32,
) -> Result<(), Error> {
    let colour = shown.colour();
    let curve = |of: fn(&Late) -> f64| late.iter().map(|late| (late.at_s, of(late))).collect::<Vec<_>>();
    let (max, p99, p50) = (curve(|l| l.max_ms), curve(|l| l.p99_ms), curve(|l| l.p50_ms));
    for (upper, lower) in unbroken(&max, bin_s).zip(unbroken(&p50, bin_s)) {
        panel.band(upper, lower, colour, 0.13)?;
    }
    let mut names = Vec::new();
    for (name, points, width, opacity) in
        [("max", &max, 1.0, 0.55), ("p99", &p99, 1.5, 0.8), ("p50", &p50, 2.5, 1.0)]
    {
        for points in unbroken(points, bin_s) {
            panel.line(points, colour, width, opacity)?;
        }
        names.push((name, points.last().map_or(0.0, |(_, ms)| panel.y_of(*ms))));
    }
    let right = panel.frame.x + panel.frame.width + 6.0;
    for (name, y) in apart(names, panel.frame.y + panel.frame.height - 4.0) {
        canvas.text((right, y), name, Type { size: 11.5, ..SMALL }.colour(colour).anchor(Anchor::Start))?;
    }
    Ok(())
}

/// Names from above to below, moved up until none is on another.
fn apart(names: Vec<(&str, f64)>, lowest: f64) -> Vec<(&str, f64)> {
    let mut below = lowest + 13.0;
    let mut moved: Vec<_> = names
        .into_iter()
        .rev()
        .map(|(name, y)| {
            below = y.min(below - 13.0);
            (name, below)
        })
        .collect();
    moved.reverse();
    moved
}
