//! Messages a second over the run: a panel for each system.

use super::{Figure, end_s};
use crate::{
    page::{
        axis::Axis,
        canvas::{Frame, Key, Swatch},
        palette::{AXIS, INK},
        panels::Grid,
        series::{bin_s, pace},
        shown::Shown,
    },
    text::number,
};

const LEGEND: f64 = 30.0;

pub(super) fn figure<'a>(systems: &'a [Shown<'a>]) -> Option<Figure<'a>> {
    if systems.iter().all(|shown| shown.run.throughput.is_empty()) {
        return None;
    }
    let end_s = end_s(systems);
    let bin_s = bin_s(end_s);
    let peak = move |shown: &Shown<'_>| {
        let rates =
            pace(&shown.run.throughput, end_s, bin_s, |s| s.delivered.max(s.sent).max(s.acknowledged));
        rates.into_iter().map(|(_, rate)| rate).fold(0.0, f64::max)
    };
    let peaks: Vec<f64> = systems.iter().map(peak).filter(|peak| *peak > 0.0).collect();
    let (least, most) =
        (peaks.iter().copied().fold(f64::INFINITY, f64::min), peaks.iter().copied().fold(0.0, f64::max));
    // One that delivers in bursts would press the others to the ground.
    let logarithmic = most > 8.0 * least && least > 0.0;
    let y = match logarithmic {
        true => Axis::log(1.0, most, number),
        false => Axis::linear(most, 4.0, number),
    };
    let scale = if logarithmic { ", on a logarithmic axis" } else { "" };
    let grid = Grid { count: systems.len(), most_columns: 2, height: 120.0, header: 24.0 };
    let title = match logarithmic {
        true => "Throughput: evenly as planned, or in bursts",
        false => "Throughput: what was sent, acknowledged and delivered",
    };
    Some(Figure {
        name: "throughput",
        title: title.to_owned(),
        note: format!("Messages a second{scale}, the same scale for all; means of {bin_s} s."),
        height: Box::new(move |layout| grid.total_height(layout) + LEGEND),
        draw: Box::new(move |canvas| {
            let key =
                |text: &str, colour, opacity, swatch| Key { text: text.to_owned(), colour, opacity, swatch };
            let frame = canvas.frame;
            let keys = [
                key("sent", AXIS, 0.9, Swatch::Line(4.0)),
                key("acknowledged", INK, 1.0, Swatch::Line(1.5)),
                key("delivered (the system's colour)", systems[0].colour(), 0.8, Swatch::Square),
            ];
            canvas.legend((frame.x, frame.y + 8.0), frame.x + frame.width, &keys)?;
            let below = canvas.at(Frame { y: frame.y + LEGEND, height: frame.height - LEGEND, ..frame });
            let x = Axis::time(end_s, 6.0);
            grid.draw(&below, systems, (&x, &y), 0.0, |shown, panel| {
                if shown.run.throughput.is_empty() {
                    return Grid::absent(&below, panel, "not measured");
                }
                let curve = |of| pace(&shown.run.throughput, end_s, bin_s, of);
                panel.line(&curve(|s| s.sent), AXIS, 4.0, 0.9)?;
                let delivered = curve(|s| s.delivered);
                panel.area(&delivered, shown.colour(), 0.18)?;
                panel.line(&delivered, shown.colour(), 1.75, 1.0)?;
                panel.line(&curve(|s| s.acknowledged), INK, 1.0, 0.9)
            })
        }),
    })
}
