//! `report` and `compare`: what runs of `bench` left behind, shown side by side.

use std::path::PathBuf;

use clap::Args;
use ksched_report::{Comparison, Page, Run, targets};

use crate::output::{self, Failure, Format};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Files of runs, as bench writes them. The system whose file comes first is what the others
    /// are measured against.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page to write: one HTML file, complete in itself.
    #[arg(short = 'o', long = "out", value_name = "FILE", default_value = "report.html")]
    page: PathBuf,
    /// Writes each plot into this folder as well, as an SVG file that stands alone.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Files of runs, as bench writes them. Runs of one scenario and system are repeats of each
    /// other; the system whose file comes first is what the others are measured against.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// How the comparison is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct TargetsArguments {
    /// Files of runs, as `scripts/bench-targets` makes them.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
}

/// Writes the page.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let runs = read(&arguments.runs)?;
    let page = Page::of(&runs)?;
    page.write(&arguments.page)?;
    output::note(&format!("{}: runs: {}", arguments.page.display(), runs.len()));
    if let Some(folder) = &arguments.plots {
        let plots = page.write_plots(folder)?;
        output::note(&format!("{}: plots: {}", folder.display(), plots.len()));
    }
    for scenario in Comparison::of(&runs).scenarios {
        for warning in scenario.warnings {
            output::note(&format!("{}: {warning}", scenario.name));
        }
    }
    Ok(())
}

/// Prints medians and ratios.
pub(crate) fn compare(arguments: &CompareArguments) -> Result<(), Failure> {
    let comparison = Comparison::of(&read(&arguments.runs)?);
    match arguments.output {
        Format::Json => output::json(&comparison),
        Format::Table => output::write(comparison.table().as_bytes()),
    }
}

/// Prints how far runs come up to what is aimed at.
pub(crate) fn targets(arguments: &TargetsArguments) -> Result<(), Failure> {
    output::write(targets::table(&read(&arguments.runs)?).as_bytes())
}

fn read(paths: &[PathBuf]) -> Result<Vec<Run>, Failure> {
    Ok(paths.iter().map(|path| Run::read(path)).collect::<Result<_, _>>()?)
}
