//! The page and its plots as markup.

use std::sync::LazyLock;

use ksched_report::{
    Page, Run,
    page::Error,
    run::{Bucket, Counts, Hops, Job, Lateness, Process, Role, Sample, Second, Throughput, Totals},
};
use roxmltree::{Document, Node};

use crate::synthetic;

/// Parses a page or a plot; anything that is not well-formed is a failure.
fn parsed(text: &str) -> Document<'_> {
    let text = text.strip_prefix("<!DOCTYPE html>").unwrap_or(text);
    Document::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Checks everything that must hold for any page.
fn check(page: &Page) {
    let html = page.html();
    let document = parsed(html);
    for plot in page.plots() {
        let svg = parsed(&plot.svg);
        no_odd_numbers(svg.root_element(), &plot.file_name);
    }
    let named = |name: &'static str| {
        document.descendants().filter(move |node| node.has_tag_name(("http://www.w3.org/1999/xhtml", name)))
    };
    assert_eq!(named("h1").count(), 1);
    assert_eq!(named("script").count() + named("link").count() + named("img").count(), 0);
    for figure in named("figure") {
        let of =
            |name| figure.descendants().filter(|node| node.tag_name().name() == name).collect::<Vec<_>>();
        assert_eq!(of("figcaption").len(), 1);
        let plots = of("svg");
        assert_eq!(plots.len(), 2, "one for a screen, one for a phone");
        for plot in plots {
            assert_eq!(plot.attribute("role"), Some("img"));
            assert!(plot.attribute("aria-label").is_some_and(|label| label.len() > 20));
            no_odd_numbers(plot, "inline");
        }
    }
    for table in named("table") {
        let headings = table.descendants().filter(|node| node.tag_name().name() == "th");
        assert!(headings.clone().count() > 1);
        assert!(headings.clone().all(|th| matches!(th.attribute("scope"), Some("col" | "row"))));
        assert!(table.descendants().any(|node| node.tag_name().name() == "caption"));
        // Each row as long as the heading.
        let rows = table.descendants().filter(|node| node.tag_name().name() == "tr");
        let lengths: Vec<_> = rows.map(|row| row.children().filter(Node::is_element).count()).collect();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    }
    // The names of XML's own vocabularies are all that looks like an address.
    let addresses =
        html.replace("http://www.w3.org/1999/xhtml", "").replace("http://www.w3.org/2000/svg", "");
    assert!(!addresses.contains("://") && !addresses.contains("url("), "nothing is fetched");
}

/// All that is drawn is within its drawing.
fn no_odd_numbers(svg: Node<'_, '_>, of: &str) {
    let size: Vec<f64> =
        svg.attribute("viewBox").expect("a size").split(' ').map(|n| n.parse().expect("a number")).collect();
    for node in svg.descendants().filter(Node::is_element) {
        for attribute in node.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            let limit = match name {
                "x" | "x1" | "x2" | "cx" | "width" => size[2],
                "y" | "y1" | "y2" | "cy" | "height" => size[3],
                "points" => {
                    for pair in value.split_whitespace() {
                        let (x, y) = pair.split_once(',').expect("a pair");
                        within(x, size[2], of, node);
                        within(y, size[3], of, node);
                    }
                    continue;
                }
                _ => continue,
            };
            within(value, limit, of, node);
        }
        assert!(
            node.text().is_none_or(|text| !text.contains("NaN") && !text.contains("inf")),
            "{node:?} in {of}"
        );
    }
}

fn within(value: &str, limit: f64, of: &str, node: Node<'_, '_>) {
    let number: f64 = value.parse().unwrap_or(f64::NAN);
    assert!((-8.0..=limit + 8.0).contains(&number), "{value} of 0..{limit} in {of}: {node:?}");
}

/// Making them up takes longer than drawing them.
static RUNS: LazyLock<Vec<Run>> = LazyLock::new(synthetic::four_systems);

fn one(change: impl FnOnce(&mut Run)) -> Page {
    let mut run = RUNS[2].clone();
    change(&mut run);
    Page::of(&[run]).expect("drawn")
}

#[test]
fn four_systems_side_by_side() {
    let page = Page::of(&RUNS).expect("drawn");
    check(&page);
    let names: Vec<_> = page.plots().iter().map(|plot| plot.file_name.as_str()).collect();
    let wanted = [
        "delay-histogram",
        "lateness-over-time",
        "throughput",
        "backlog",
        "hops",
        "job-times",
        "cpu",
        "memory",
        "disk",
        "network",
    ];
    assert_eq!(names, wanted.map(|name| format!("seed-experiment-{name}.svg")));
    // Small enough to be sent about and to be kept in a repository.
    assert!(page.html().len() < 1_500_000, "{}", page.html().len());
    assert!(page.html().contains("none was lost, doubled, early or altered"));
}

#[test]
fn text_from_files_is_never_markup() {
    let evil = "<script>alert('&\u{1}\"')</script>";
    let page = one(|run| {
        run.system = evil.to_owned();
        run.scenario = evil.to_owned();
        run.started_at = evil.to_owned();
        run.problems = vec![evil.to_owned()];
        run.valid = false;
        run.machine.kernel = evil.to_owned();
        run.machine.cpu = Some(evil.to_owned());
        run.versions.database = Some(evil.to_owned());
        run.plan.door = Some(evil.to_owned());
        run.configuration.insert(evil.to_owned(), evil.to_owned());
        for process in &mut run.processes {
            process.name = evil.to_owned();
        }
        if let Some(broker) = &mut run.broker {
            broker.requests = [(evil.to_owned(), 5)].into();
        }
        for job in run.jobs.iter_mut().flatten() {
            job.kind = evil.to_owned();
        }
    });
    check(&page);
    assert!(!page.html().contains("<script") && page.html().contains("&lt;script&gt;"));
    assert!(page.plots().iter().all(|plot| !plot.svg.contains("<script")));
}

#[test]
fn what_was_not_measured_is_not_shown() {
    let page = one(|run| {
        run.visible = None;
        run.append = None;
        run.throughput.clear();
        run.jobs = None;
        run.processes.clear();
        run.broker = None;
    });
    check(&page);
    assert!(page.plots().is_empty());
    // Nor are drawings made of empty series.
    let page = one(|run| {
        run.visible = Some(Lateness::default());
        run.jobs = Some(Vec::new());
        run.hops = Some(Vec::new());
        run.throughput = vec![Throughput::default()];
        run.processes = vec![process("worker-1", Vec::new())];
    });
    check(&page);
}

#[test]
fn numbers_that_are_none_do_not_reach_a_drawing() {
    let odd = [0.0, -5.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e18];
    for value in odd {
        let page = one(|run| {
            let second = |second| Second { second, count: 1, p50_ms: value, p99_ms: value, max_ms: value };
            run.visible = Some(Lateness {
                histogram: vec![Bucket { upper_ms: value, count: 7 }],
                series: vec![second(0), second(1)],
                ..Lateness::default()
            });
            run.throughput = vec![Throughput { second: u32::MAX / 2, ..Throughput::default() }];
            run.jobs = Some(vec![Job { kind: "poll".to_owned(), started_s: value, took_s: value, moved: 0 }]);
            run.hops = Some(vec![Hops { hops: 0, count: 0 }, Hops { hops: 3, count: 1 }]);
            let sample = |at_s| Sample { at_s, cpu_s: value, ..Sample::default() };
            run.processes = vec![process("worker-1", vec![sample(0.0), sample(value), sample(3.0)])];
            run.rates.delivered_per_s = Some(value);
        });
        check(&page);
    }
}

#[test]
fn messages_that_went_wrong_are_told_first() {
    let page = one(|run| {
        run.counts = Counts { lost: 12, early: 1, ..run.counts };
        run.valid = false;
        run.problems = vec!["12 lost".to_owned(), "1 early".to_owned()];
    });
    check(&page);
    assert!(page.html().contains("12 lost, 1 early"));
    assert!(page.html().contains("has no run that counts"));
}

#[test]
fn many_systems_and_scenarios_fit_on_a_page() {
    let mut runs = Vec::new();
    for number in 0..8 {
        let mut run = RUNS[0].clone();
        run.system = format!("a system with a long name, number {number}");
        run.scenario = format!("scenario {}", number % 2);
        runs.push(run);
    }
    check(&Page::of(&runs).expect("drawn"));
}

#[test]
fn files_are_written_where_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = Page::of(&RUNS[..1]).expect("drawn");
    let plots = page.write_plots(&folder.path().join("deep/plots")).expect("written");
    assert_eq!(plots.len(), page.plots().len());
    page.write(&folder.path().join("report.html")).expect("written");
    let error = page.write(&folder.path().join("absent/report.html")).expect_err("no folder");
    assert!(error.to_string().contains("absent/report.html: "), "{error}");
    assert!(matches!(Page::of(&[]), Err(Error::Empty)));
}

fn process(name: &str, samples: Vec<Sample>) -> Process {
    Process { name: name.to_owned(), role: Role::Worker, totals: Totals::of(&samples), samples }
}
