//! One scenario of a page: words, tables, plots.

use super::{Error, Plot, html::escape, plots, plots::Figure, shown::Shown, summary, tables};
use crate::{
    compare::Scenario,
    page::canvas::Layout,
    run::Run,
    text::{bytes, grouped, number, span_ms},
};

/// What a scenario adds to the page.
pub(super) struct Section {
    pub(super) html: String,
    pub(super) plots: Vec<Plot>,
}

/// `order`: all systems of the page, for their colours.
pub(super) fn section(scenario: &Scenario, runs: &[&Run], order: &[&str]) -> Result<Section, Error> {
    let shown = |name: &str| {
        let repeats: Vec<&Run> = runs.iter().copied().filter(|run| run.system == name).collect();
        Shown::of(order.iter().position(|other| *other == name)?, &repeats)
    };
    let systems: Vec<Shown<'_>> = scenario.systems.iter().filter_map(|system| shown(&system.name)).collect();
    let mut html = format!("<section>\n<h2>{}</h2>\n", escape(&scenario.name));
    html.push_str(&format!("<p class=\"plan\">{}</p>\n", escape(&plan(scenario))));
    html.push_str(&warnings(scenario));
    html.push_str(&summary::html(scenario, &systems, runs));
    html.push_str(&tables::side_by_side(scenario, &systems));
    html.push_str(&tables::floors(&systems));
    let mut plots = Vec::new();
    for figure in plots::all(&systems) {
        html.push_str(&inline(&figure)?);
        plots.push(Plot { file_name: file_name(&scenario.name, figure.name), svg: figure.alone()? });
    }
    html.push_str(&tables::requests(&systems));
    html.push_str(&tables::processes(&systems));
    html.push_str("</section>\n");
    Ok(Section { html, plots })
}

fn plan(scenario: &Scenario) -> String {
    let plan = &scenario.plan;
    let due = match plan.delay_min_ms == plan.delay_max_ms {
        true => format!("due {} after they are sent", span_ms(plan.delay_max_ms as f64)),
        false => format!(
            "due {} to {} after they are sent",
            span_ms(plan.delay_min_ms as f64),
            span_ms(plan.delay_max_ms as f64)
        ),
    };
    format!(
        "The plan: {} messages of {}, {} a second, {due}; seed {}.",
        grouped(plan.count),
        bytes(plan.size_bytes as f64),
        number(plan.rate_per_s),
        plan.seed
    )
}

fn warnings(scenario: &Scenario) -> String {
    if scenario.warnings.is_empty() {
        return String::new();
    }
    let items: String =
        scenario.warnings.iter().map(|warning| format!("<li>{}</li>", escape(warning))).collect();
    format!("<div class=\"warning\" role=\"note\"><strong>To beware of</strong><ul>{items}</ul></div>\n")
}

fn inline(figure: &Figure<'_>) -> Result<String, Error> {
    let classed = |layout, class: &str| {
        let svg = figure.inline(layout)?;
        Ok::<_, Error>(svg.replacen("<svg ", &format!("<svg class=\"{class}\" "), 1))
    };
    Ok(format!(
        "<figure>\n<figcaption><h3>{}</h3><p>{}</p></figcaption>\n{}{}</figure>\n",
        escape(&figure.title),
        escape(&figure.note),
        classed(Layout::Wide, "wide")?,
        classed(Layout::Narrow, "narrow")?
    ))
}

/// Names of scenarios come from files; none may lead out of the folder.
fn file_name(scenario: &str, plot: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    format!("{}-{plot}.svg", scenario.chars().map(safe).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_stay_in_their_folder() {
        assert_eq!(file_name("seed-experiment", "cpu"), "seed-experiment-cpu.svg");
        assert_eq!(file_name("../a b/c", "cpu"), "___a_b_c-cpu.svg");
    }
}
