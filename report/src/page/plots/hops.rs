//! How often messages were moved before they fired.

use super::{Figure, listed};
use crate::{
    page::{
        Error,
        axis::Axis,
        canvas::{Anchor, Canvas, Frame, Key, SMALL, Swatch},
        palette::INK,
        shown::Shown,
    },
    text::number,
};

const LEGEND: f64 = 34.0;
const HEIGHT: f64 = 170.0;
const BELOW: f64 = 46.0;
const LEFT: f64 = 62.0;
const WIDEST_BAR: f64 = 84.0;

pub(super) fn figure<'a>(systems: &'a [Shown<'a>]) -> Option<Figure<'a>> {
    let (moving, others): (Vec<_>, Vec<_>) = systems.iter().partition(|shown| !shares(shown).is_empty());
    let all = moving.iter().flat_map(|shown| shares(shown));
    let most_hops = all.clone().map(|(hops, _)| hops).max()?;
    let most = all.map(|(_, share)| share).fold(0.0, f64::max);
    let (hops, share) = shares(moving.first()?).into_iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let times = match hops {
        0 => "not at all".to_owned(),
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        more => format!("{more} times"),
    };
    let others: Vec<&str> = others.iter().map(|shown| shown.label.as_str()).collect();
    let others = match others.len() {
        0 => String::new(),
        1 => format!(" {} moves nothing: its rows stay where they are.", listed(&others)),
        _ => format!(" {} move nothing: their rows stay where they are.", listed(&others)),
    };
    Some(Figure {
        name: "hops",
        title: format!("Moves: {} % of {}'s messages were promoted {times}", number(share), moving[0].label),
        note: format!("Share of the messages by how often each was copied nearer to its due time.{others}"),
        height: Box::new(|_| LEGEND + HEIGHT + BELOW),
        draw: Box::new(move |canvas| draw(canvas, &moving, most_hops, most)),
    })
}

/// Hops, and the percentage of messages with them.
fn shares(shown: &Shown<'_>) -> Vec<(u32, f64)> {
    let hops = shown.run.hops.as_deref().unwrap_or_default();
    let all = hops.iter().map(|h| h.count).sum::<u64>() as f64;
    hops.iter().filter(|h| h.count > 0).map(|h| (h.hops, h.count as f64 * 100.0 / all)).collect()
}

fn draw(canvas: &Canvas<'_>, systems: &[&Shown<'_>], most_hops: u32, most: f64) -> Result<(), Error> {
    let frame = canvas.frame;
    let key = |shown: &&Shown<'_>| Key {
        text: shown.label.clone(),
        colour: shown.colour(),
        opacity: 0.85,
        swatch: Swatch::Square,
    };
    let keys: Vec<Key> = systems.iter().map(key).collect();
    canvas.legend((frame.x + LEFT, frame.y + 8.0), frame.x + frame.width, &keys)?;
    let x = Axis::linear(1.0, 1.0, |_| String::new());
    let y = Axis::linear(most, 4.0, |share| format!("{} %", number(share)));
    let area = Frame { x: frame.x + LEFT, y: frame.y + LEGEND, width: frame.width - LEFT, height: HEIGHT };
    let panel = canvas.panel(area, &x, &y)?;
    panel.horizontal_grid()?;
    panel.y_labels(canvas)?;
    let group = area.width / f64::from(most_hops + 1);
    let bar = (group * 0.8 / systems.len() as f64).min(WIDEST_BAR);
    let bottom = area.y + area.height;
    for hops in 0..=most_hops {
        let middle = area.x + (f64::from(hops) + 0.5) * group;
        for (place, shown) in systems.iter().enumerate() {
            let share =
                shares(shown).into_iter().find(|(own, _)| *own == hops).map_or(0.0, |(_, share)| share);
            let left = middle + (place as f64 - systems.len() as f64 / 2.0) * bar;
            let top = panel.y_of(share);
            let upright = Frame { x: left + 1.0, y: top, width: bar - 2.0, height: bottom - top };
            canvas.fill(upright, shown.colour(), 0.85)?;
            if bar > 26.0 {
                let label = format!("{} %", number(share));
                canvas.text(
                    (left + bar / 2.0, top - 9.0),
                    &label,
                    SMALL.colour(INK).anchor(Anchor::Middle),
                )?;
            }
        }
        canvas.text((middle, bottom + 13.0), &hops.to_string(), SMALL.anchor(Anchor::Middle))?;
    }
    let words = "promotions before the message fired";
    canvas.text((area.x + area.width / 2.0, bottom + 34.0), words, SMALL.anchor(Anchor::Middle))
}
