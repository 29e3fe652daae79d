//! What processes used over the run: a panel for each system, its processes on each other.

use super::{Figure, end_s};
use crate::{
    compare::in_order,
    page::{
        Error,
        axis::Axis,
        canvas::{Canvas, Key, Panel, SMALL, Swatch},
        palette::{Colour, INK, KAFKA, PAPER},
        panels::Grid,
        series::{Looked, usage},
        shown::Shown,
    },
    run::{Process, Role},
    text::{bytes, number},
};

const MOST_BINS: f64 = 120.0;
/// Name, mean, and two lines of legend.
const HEADER: f64 = 82.0;

/// One resource.
struct Resource {
    name: &'static str,
    title: &'static str,
    /// What a system does with so much of it.
    uses: fn(&str) -> String,
    unit: &'static str,
    looked: Looked,
    label: fn(f64) -> String,
}

const RESOURCES: [Resource; 4] = [
    Resource {
        name: "cpu",
        title: "CPU",
        uses: |much| format!("uses {much} of a core"),
        unit: "Percent of one core",
        looked: Looked::Growth(|sample| Some(sample.cpu_s)),
        label: |cores| format!("{} %", number(cores * 100.0)),
    },
    Resource {
        name: "memory",
        title: "Memory",
        uses: |much| format!("holds {much}"),
        unit: "Resident memory",
        looked: Looked::Level(|sample| Some(sample.rss_bytes as f64)),
        label: bytes,
    },
    Resource {
        name: "disk",
        title: "Disk",
        uses: |much| format!("reads and writes {much} a second"),
        unit: "Bytes read and written a second",
        looked: Looked::Growth(|sample| {
            Some(sample.written_bytes? as f64 + sample.read_bytes.unwrap_or(0) as f64)
        }),
        label: bytes,
    },
    Resource {
        name: "network",
        title: "Network",
        uses: |much| format!("receives and sends {much} a second"),
        unit: "Bytes received and sent a second, loopback included",
        looked: Looked::Growth(|sample| Some(sample.received_bytes? as f64 + sample.sent_bytes? as f64)),
        label: bytes,
    },
];

/// Those of which any process tells.
pub(super) fn figures<'a>(systems: &'a [Shown<'a>]) -> Vec<Figure<'a>> {
    RESOURCES.iter().filter_map(|resource| figure(resource, systems)).collect()
}

fn figure<'a>(resource: &'static Resource, systems: &'a [Shown<'a>]) -> Option<Figure<'a>> {
    let end_s = end_s(systems);
    let bin_s = (end_s / MOST_BINS).max(2.0);
    let stacks: Vec<Vec<Band>> =
        systems.iter().map(|shown| stack(shown, resource.looked, end_s, bin_s)).collect();
    let peak = |stack: &Vec<Band>| stack.last()?.upper.iter().map(|(_, value)| *value).reduce(f64::max);
    let most = stacks.iter().filter_map(peak).reduce(f64::max)?;
    let y = Axis::linear(most, 4.0, resource.label);
    let grid = Grid { count: systems.len(), most_columns: 4, height: 150.0, header: HEADER };
    Some(Figure {
        name: resource.name,
        title: title(resource, systems, &stacks),
        note: format!(
            "{}, process upon process: the upper edge is their sum. Grey is Kafka; the bench's own process is left \
             out. The same scale for all.",
            resource.unit
        ),
        height: Box::new(move |layout| grid.total_height(layout)),
        draw: Box::new(move |canvas| {
            let x = Axis::time(end_s, canvas.layout.pick(if systems.len() > 2 { 4.0 } else { 6.0 }, 6.0));
            grid.draw(canvas, systems, (&x, &y), 0.0, |shown, panel| {
                let place = systems.iter().position(|other| other.place == shown.place);
                match place.and_then(|place| stacks.get(place)).filter(|stack| !stack.is_empty()) {
                    Some(stack) => draw(canvas, panel, stack, resource.label),
                    None => Grid::absent(canvas, panel, "not measured"),
                }
            })
        }),
    })
}

/// One process, between two curves.
struct Band {
    /// The process' name without its number.
    kind: String,
    colour: Colour,
    opacity: f64,
    lower: Vec<(f64, f64)>,
    upper: Vec<(f64, f64)>,
}

fn stack(shown: &Shown<'_>, looked: Looked, end_s: f64, bin_s: f64) -> Vec<Band> {
    let mut processes: Vec<&Process> = shown.run.processes.iter().filter(|p| p.role != Role::Bench).collect();
    processes.sort_by_key(|process| (process.role, process.name.clone()));
    let mut bands: Vec<Band> = Vec::new();
    for process in processes {
        let Some(values) = usage(&process.samples, looked, end_s, bin_s) else { continue };
        let at = |bin: usize| ((bin as f64 + 0.5) * bin_s).min(end_s);
        let flat = || (0..values.len()).map(|bin| (at(bin), 0.0)).collect();
        let lower: Vec<(f64, f64)> = bands.last().map_or_else(flat, |below| below.upper.clone());
        let upper = lower.iter().zip(&values).map(|((at, below), value)| (*at, below + value)).collect();
        let (colour, opacity) = look(process.role, shown.colour());
        bands.push(Band { kind: kind(&process.name).to_owned(), colour, opacity, lower, upper });
    }
    bands
}

/// The nearer to the messages the stronger.
fn look(role: Role, own: Colour) -> (Colour, f64) {
    match role {
        Role::Kafka | Role::Bench => (KAFKA, 0.55),
        Role::Store | Role::Database => (own, 0.38),
        Role::Coordinator => (own, 0.65),
        Role::Worker => (own, 0.95),
    }
}

fn kind(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-')
}

fn draw(
    canvas: &Canvas<'_>,
    panel: &Panel<'_, '_>,
    stack: &[Band],
    label: fn(f64) -> String,
) -> Result<(), Error> {
    for band in stack {
        panel.band(&band.upper, &band.lower, band.colour, band.opacity)?;
    }
    // Between processes of one kind paper shows, so that they are seen to be several; a peak
    // narrower than that is kept visible by its outline.
    for (band, above) in
        stack.iter().zip(stack.iter().skip(1)).filter(|(band, above)| band.kind == above.kind)
    {
        panel.line(&above.lower, PAPER, 0.75, band.opacity)?;
    }
    let edges = stack
        .iter()
        .enumerate()
        .filter(|(place, band)| stack.get(place + 1).is_none_or(|above| above.kind != band.kind));
    for (_, band) in edges {
        panel.line(&band.upper, band.colour, 0.75, 1.0)?;
    }
    let key = |kind: &str| {
        let own: Vec<&Band> = stack.iter().filter(|band| band.kind == kind).collect();
        let text = if own.len() > 1 { format!("{kind} ×{}", own.len()) } else { kind.to_owned() };
        Some(Key { text, colour: own.first()?.colour, opacity: own.first()?.opacity, swatch: Swatch::Square })
    };
    // As they lie: the uppermost first.
    let kinds = in_order(stack.iter().rev().map(|band| band.kind.as_str()));
    let keys: Vec<Key> = kinds.into_iter().filter_map(key).collect();
    let frame = panel.frame;
    if let Some(mean) = mean(stack) {
        let at = (frame.x, frame.y - HEADER + 29.0);
        canvas.text_within(at, &format!("{} in the mean", label(mean)), SMALL.colour(INK), frame.width)?;
    }
    canvas.legend((frame.x, frame.y - 33.0), frame.x + frame.width, &keys)?;
    Ok(())
}

/// The sum of all processes, over the run.
fn mean(stack: &[Band]) -> Option<f64> {
    let upper = &stack.last()?.upper;
    Some(upper.iter().map(|(_, value)| value).sum::<f64>() / upper.len().max(1) as f64)
}

/// What the first system uses that tells.
fn title(resource: &Resource, systems: &[Shown<'_>], stacks: &[Vec<Band>]) -> String {
    let told = systems.iter().zip(stacks).find_map(|(shown, stack)| {
        let much = (resource.label)(mean(stack)?);
        Some(format!(
            "{}: {} {} in the mean, Kafka included",
            resource.title,
            shown.label,
            (resource.uses)(&much)
        ))
    });
    told.unwrap_or_else(|| resource.title.to_owned())
}
