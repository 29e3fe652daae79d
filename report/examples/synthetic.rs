//! Writes made-up runs and their page into a folder, for looking at the page without measuring:
//! `cargo run -p ksched-report --example synthetic -- DIR`.

#[path = "../tests/page/synthetic.rs"]
mod synthetic;

use std::{error::Error, path::PathBuf};

use ksched_report::{Comparison, Page};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("where to write to is missing")?);
    std::fs::create_dir_all(&folder)?;
    let runs = synthetic::four_systems();
    for (number, run) in runs.iter().enumerate() {
        run.write(&folder.join(format!("{}-{}.json", run.system, number / 4)))?;
    }
    print!("{}", Comparison::of(&runs).table());
    let page = Page::of(&runs)?;
    page.write(&folder.join("report.html"))?;
    page.write_plots(&folder.join("plots"))?;
    Ok(())
}
