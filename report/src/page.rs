//! One HTML page, complete in itself, that shows runs side by side: in words, in tables and in
//! plots. No script, no font, nothing from a network.
//!
//! Each plot is drawn twice, for a screen and for a phone, of which the page shows the one that fits.

mod axis;
mod canvas;
mod html;
mod palette;
mod panels;
mod plots;
mod scenario;
mod series;
mod shown;
mod summary;
mod tables;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use self::html::escape;
use crate::{
    compare::{Comparison, in_order},
    run::Run,
    text::grouped,
};

/// A page that has been made.
#[derive(Clone, Debug)]
pub struct Page {
    html: String,
    plots: Vec<Plot>,
}

/// A plot that stands alone, on white paper and under its title.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Of its file: `<scenario>-<plot>.svg`.
    pub file_name: String,
    pub svg: String,
}

/// A page could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no run to show")]
    Empty,
    /// The library refused to draw.
    #[error("drawing: {0}")]
    Drawing(String),
    #[error("{path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

impl Page {
    /// Shows these runs: scenarios one below the other, systems side by side, in the order in
    /// which they first occur. Of repeats tables tell all, plots one.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Drawing`].
    pub fn of(runs: &[Run]) -> Result<Self, Error> {
        let first = runs.first().ok_or(Error::Empty)?;
        let systems = in_order(runs.iter().map(|run| run.system.as_str()));
        let comparison = Comparison::of(runs);
        let mut plots = Vec::new();
        let mut body = String::new();
        for scenario in &comparison.scenarios {
            let own: Vec<&Run> = runs.iter().filter(|run| run.scenario == scenario.name).collect();
            let section = scenario::section(scenario, &own, &systems)?;
            body.push_str(&section.html);
            plots.extend(section.plots);
        }
        let title = title(runs, systems.len());
        let lead = format!(
            "{} on {}; first run {}",
            grouped(runs.len() as u64) + if runs.len() == 1 { " run" } else { " runs" },
            machine(first),
            first.started_at
        );
        let html = format!(
            "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n\
             <meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n\
             <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n\
             <p class=\"lead\">{}</p>\n</header>\n{body}{}</main>\n</body>\n</html>\n",
            style(),
            escape(&lead),
            tables::appendix(runs),
            title = escape(&title),
        );
        Ok(Self { html, plots })
    }

    pub fn html(&self) -> &str {
        &self.html
    }

    pub fn plots(&self) -> &[Plot] {
        &self.plots
    }

    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        fs::write(path, &self.html).map_err(|source| Error::Write { path: path.to_owned(), source })
    }

    /// Writes each plot into a folder, which is made if need be; returns their paths.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write_plots(&self, folder: &Path) -> Result<Vec<PathBuf>, Error> {
        fs::create_dir_all(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
        let write = |plot: &Plot| {
            let path = folder.join(&plot.file_name);
            let written = fs::write(&path, &plot.svg);
            written.map_err(|source| Error::Write { path: path.clone(), source }).map(|()| path)
        };
        self.plots.iter().map(write).collect()
    }
}

fn title(runs: &[Run], systems: usize) -> String {
    let name = runs.first().map(|run| shown::label(&run.system)).unwrap_or_default();
    match systems {
        1 => format!("How late are messages that {name} delivers?"),
        _ => "How late are scheduled messages?".to_owned(),
    }
}

fn machine(run: &Run) -> String {
    let machine = &run.machine;
    let cores = if machine.cores == 1 { "core" } else { "cores" };
    format!("{} {cores} and {} of memory", machine.cores, crate::text::bytes(machine.memory_bytes as f64))
}

/// The style sheet with the palette's colours, which it needs in both modes.
fn style() -> String {
    let (light, dark) = (palette::variables(false), palette::variables(true));
    format!(
        ":root{{{light}}}\n{}@media (prefers-color-scheme: dark){{\n:root{{{dark}}}\n{}}}\n",
        include_str!("page/style.css"),
        palette::dark_rules()
    )
}
