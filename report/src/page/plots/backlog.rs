//! Messages that wait, over the run: a panel for each system.

use super::{Figure, end_s};
use crate::{
    page::{
        axis::Axis,
        panels::Grid,
        series::{bin_s, waiting},
        shown::Shown,
    },
    text::{grouped, number},
};

pub(super) fn figure<'a>(systems: &'a [Shown<'a>]) -> Option<Figure<'a>> {
    let end_s = end_s(systems);
    let bin_s = bin_s(end_s);
    let curves: Vec<Vec<(f64, f64)>> =
        systems.iter().map(|shown| waiting(&shown.run.throughput, end_s, bin_s)).collect();
    let peak = |curve: &[(f64, f64)]| curve.iter().map(|(_, waiting)| *waiting).fold(0.0, f64::max);
    let most = curves.iter().map(|curve| peak(curve)).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let y = Axis::linear(most, 4.0, number);
    let grid = Grid { count: systems.len(), most_columns: 2, height: 120.0, header: 24.0 };
    Some(Figure {
        name: "backlog",
        title: format!("Backlog: up to {} messages wait for their due time", grouped(most as u64)),
        note: format!(
            "Messages acknowledged and not yet delivered, at the end of each {bin_s} s; the same scale for all."
        ),
        height: Box::new(move |layout| grid.total_height(layout)),
        draw: Box::new(move |canvas| {
            let x = Axis::time(end_s, 6.0);
            grid.draw(canvas, systems, (&x, &y), 0.0, |shown, panel| {
                let place = systems.iter().position(|other| other.place == shown.place);
                match place.and_then(|place| curves.get(place)).filter(|_| !shown.run.throughput.is_empty()) {
                    Some(curve) => {
                        panel.area(curve, shown.colour(), 0.18)?;
                        panel.line(curve, shown.colour(), 1.75, 1.0)
                    }
                    None => Grid::absent(canvas, panel, "not measured"),
                }
            })
        }),
    })
}
