//! What is plotted, and how a plot comes to the page.

mod backlog;
mod delays;
mod hops;
mod jobs;
mod lateness;
mod throughput;
mod usage;

use super::{
    Error,
    canvas::{Canvas, Layout, svg},
    shown::Shown,
};

type Draw<'a> = dyn Fn(&Canvas<'_>) -> Result<(), Error> + 'a;

/// A plot with what is written about it.
pub(super) struct Figure<'a> {
    /// Of its file, without scenario and ending.
    pub(super) name: &'static str,
    /// What is seen.
    pub(super) title: String,
    /// How to read it.
    pub(super) note: String,
    height: Box<dyn Fn(Layout) -> f64 + 'a>,
    draw: Box<Draw<'a>>,
}

impl Figure<'_> {
    /// For a page that tells the title itself.
    pub(super) fn inline(&self, layout: Layout) -> Result<String, Error> {
        svg(layout, (self.height)(layout), None, &self.label(), &self.draw)
    }

    /// For a slide or a paper.
    pub(super) fn alone(&self) -> Result<String, Error> {
        let layout = Layout::Wide;
        svg(layout, (self.height)(layout), Some(&self.title), &self.label(), &self.draw)
    }

    /// For those who do not see it.
    fn label(&self) -> String {
        format!("{}. {}", self.title, self.note)
    }
}

/// All that these systems give something for, in the page's order.
pub(super) fn all<'a>(systems: &'a [Shown<'a>]) -> Vec<Figure<'a>> {
    let single = [
        delays::figure(systems),
        lateness::figure(systems),
        throughput::figure(systems),
        backlog::figure(systems),
        hops::figure(systems),
        jobs::figure(systems),
    ];
    single.into_iter().flatten().chain(usage::figures(systems)).collect()
}

/// The common end of the systems' runs; beyond a year a file is wrong.
fn end_s(systems: &[Shown<'_>]) -> f64 {
    systems.iter().map(|shown| shown.run.ends_s()).fold(1.0, f64::max).min(366.0 * 86_400.0)
}

/// `A`, `A and B`, `A, B and C`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
