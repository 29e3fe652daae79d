//! `tail`: a topic's records as they come.

use std::{
    convert::Infallible,
    ops::ControlFlow,
    sync::{Arc, Once},
    time::Duration,
};

use clap::Args;
use ksched_client::{
    reader::{Received, Since, TopicReader, Until},
    table::visible,
};
use ksched_core::message::Content;
use ksched_kafka::{Error, Librdkafka, Log as _};
use serde::Serialize;

use crate::{
    connection::{KafkaArguments, ServerArguments, patiently},
    output::{self, Failure, Format},
};

const HEADING: [&str; 7] = ["PART/OFFSET", "KEY", "VALUE", "DUE", "APPEND LATE", "VISIBLE LATE", "HOPS"];
/// A row with all columns, and one of a narrow terminal without its value.
const WIDE: usize = 122;
const NARROW_BUT_VALUE: usize = 63;
/// Characters that are shown of why it is a dead letter.
const CODE: usize = 32;
const WHY: usize = 400;
const TOPIC: usize = 60;
/// How often it is looked whether Kafka is there.
const LOOK_FOR_KAFKA: Duration = Duration::from_secs(5);
/// How often it is looked whether reading has ended by itself.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The topic.
    topic: String,
    /// Begins with the first record instead of the next one.
    #[arg(long)]
    from_start: bool,
    /// Ends after so many records.
    #[arg(long, allow_negative_numbers = true, value_parser = crate::plan::count)]
    count: Option<u64>,
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// How records are printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

/// One record. Times in ms; lateness only of what ksched delivered.
#[derive(Debug, Serialize)]
struct Line {
    partition: i32,
    offset: i64,
    key: Option<String>,
    value: Option<String>,
    id: Option<String>,
    due_time: Option<String>,
    append_late_ms: Option<i64>,
    visible_late_ms: Option<f64>,
    hops: Option<u32>,
    headers: Vec<Header>,
}

/// In the record's order; `null` for no value.
#[derive(Debug, Serialize)]
struct Header {
    name: String,
    value: Option<String>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let (log, address) = arguments.kafka.connect(&arguments.server).await?;
    let (since, topic, format) = (
        if arguments.from_start { Since::Start } else { Since::End },
        arguments.topic.clone(),
        arguments.output,
    );
    if arguments.count == Some(0) {
        return Ok(());
    }
    let mut left = arguments.count;
    let layout = Layout::of(output::width());
    let watched = Arc::clone(&log);
    // By whoever comes first: records may be there at once.
    let heading = Arc::new(Once::new());
    let above = Arc::clone(&heading);
    let started = tokio::task::spawn_blocking(move || {
        TopicReader::start(log, &topic, since.clone(), Until::Stopped, move |received| {
            above.call_once(|| head(format, layout));
            if print(&received, &since, format, layout).is_err() {
                return ControlFlow::Break(());
            }
            if let Some(left) = &mut left {
                *left -= 1;
                if *left == 0 {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })
    });
    let started = patiently(&format!("no answer from Kafka at {address} yet"), started).await;
    let reader = started.map_err(|_| Failure::MayPass("the program is ending".to_owned()))??;
    heading.call_once(|| head(format, layout));
    let mut watch = std::pin::pin!(watch(watched, &arguments.topic, &address));
    while !reader.is_finished() {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            () = tokio::time::sleep(LOOK) => {}
            never = &mut watch => match never {},
        }
    }
    let stopped = tokio::task::spawn_blocking(move || reader.stop());
    Ok(stopped.await.map_err(|_| Failure::MayPass("the program is ending".to_owned()))??)
}

fn head(format: Format, layout: Layout) {
    if format == Format::Table {
        output::note(&layout.row(HEADING));
    }
}

/// Tells when Kafka goes and comes: the reader waits for it without a word.
async fn watch(log: Arc<Librdkafka>, topic: &str, address: &str) -> Infallible {
    let mut is_away = false;
    loop {
        tokio::time::sleep(LOOK_FOR_KAFKA).await;
        let (log, topic) = (Arc::clone(&log), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || log.partitions(&topic)).await;
        match asked {
            Ok(Err(Error::Unavailable(why))) if !is_away => {
                output::note(&format!("no answer from Kafka at {address}: {why}; waiting for it"));
                is_away = true;
            }
            Ok(Ok(_)) if is_away => {
                output::note(&format!("Kafka at {address} is back"));
                is_away = false;
            }
            _ => {}
        }
    }
}

fn print(received: &Received, since: &Since, format: Format, layout: Layout) -> Result<(), Failure> {
    let line = Line::new(received, since);
    if format == Format::Json {
        return output::json(&line);
    }
    let late = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), lateness);
    let row = layout.row([
        &format!("{}/{}", line.partition, line.offset),
        &preview(line.key.as_deref(), layout.key),
        &preview(line.value.as_deref(), layout.value),
        line.due_time.as_deref().unwrap_or("-"),
        &late(line.append_late_ms.map(|ms| ms as f64)),
        &late(line.visible_late_ms),
        &line.hops.map_or_else(|| "-".to_owned(), |hops| hops.to_string()),
    ]);
    // Of a dead letter it is this that one wants to know.
    let told = |name| header(&received.record.content, name);
    let Some(code) = told("ksched-error-code") else { return output::lines(&format!("{row}\n")) };
    let why = preview(told("ksched-error").or(Some("")), WHY);
    let target = told("ksched-topic").map(|topic| format!(" for {}", preview(Some(topic), TOPIC)));
    let said = format!("{}{}: {why}", preview(Some(code), CODE), target.unwrap_or_default());
    if layout.has_room(&row, &said) {
        return output::line(&format!("{row}  {said}"));
    }
    output::lines(&format!("{row}\n"))?;
    // Uncut, over as many lines as it takes: it is this that one wants to know.
    output::line(&format!("    {said}"))
}

/// Widths are fixed from the first row on: the rows to come are not known.
#[derive(Clone, Copy)]
struct Layout {
    /// Of the terminal, if there is one.
    width: Option<usize>,
    /// Characters of key and of value that are shown.
    key: usize,
    value: usize,
    /// A narrow terminal's rows leave two columns out.
    is_wide: bool,
}

impl Layout {
    fn of(width: Option<usize>) -> Self {
        match width {
            Some(columns) if columns < WIDE => {
                let value = columns.saturating_sub(NARROW_BUT_VALUE).max(8);
                Self { width, key: 8, value, is_wide: false }
            }
            _ => Self { width, key: 16, value: 32, is_wide: true },
        }
    }

    fn row(&self, [place, key, value, due, append, visible, hops]: [&str; 7]) -> String {
        let first = format!("{place:<11}  {key:<0$}  {value:<1$}  {due:<24}", self.key, self.value);
        if self.is_wide {
            format!("{first}  {append:>11}  {visible:>12}  {hops:>4}")
        } else {
            format!("{first}  {visible:>12}")
        }
    }

    /// Whether a row and what is to be said of it stand on one line.
    fn has_room(&self, row: &str, said: &str) -> bool {
        let width = row.chars().count() + 2 + said.chars().count();
        self.width.is_none_or(|columns| width <= columns)
    }
}

/// In ms as long as that can be read at a glance. What was due long before it was
/// scheduled is not late by anybody's fault: its lateness only tells how old it is.
fn lateness(ms: f64) -> String {
    const UNITS: [(f64, &str); 4] =
        [(31_557_600_000.0, "years"), (86_400_000.0, "days"), (3_600_000.0, "h"), (60_000.0, "min")];
    if ms.abs() < 100_000.0 {
        return format!("{ms:.1} ms");
    }
    let (unit_ms, unit) =
        UNITS.into_iter().find(|(unit_ms, _)| ms.abs() >= 2.0 * unit_ms).unwrap_or(UNITS[3]);
    format!("{:.0} {unit}", ms / unit_ms)
}

impl Line {
    fn new(received: &Received, since: &Since) -> Self {
        let record = &received.record;
        let due_ms: Option<i64> = header(&record.content, "ksched-due").and_then(|text| text.parse().ok());
        Self {
            partition: record.source.partition,
            offset: record.offset,
            key: record.content.key.as_deref().map(text),
            value: record.content.value.as_deref().map(text),
            id: header(&record.content, "ksched-id").map(str::to_owned),
            due_time: due_ms.map(output::instant),
            append_late_ms: due_ms.map(|due_ms| record.timestamp_ms.saturating_sub(due_ms)),
            // Of old records it would only tell how old they are.
            visible_late_ms: due_ms
                .filter(|_| *since == Since::End)
                .map(|due_ms| (received.at_us - due_ms.saturating_mul(1000)) as f64 / 1000.0),
            hops: header(&record.content, "ksched-hops").and_then(|text| text.parse().ok()),
            headers: record
                .content
                .headers
                .iter()
                .map(|header| Header {
                    name: header.name.to_string(),
                    value: header.value.as_deref().map(text),
                })
                .collect(),
        }
    }
}

/// The last header of a name: ours come after the user's.
fn header<'a>(content: &'a Content, name: &str) -> Option<&'a str> {
    let found = content.headers.iter().rev().find(|header| &*header.name == name)?;
    std::str::from_utf8(found.value.as_deref()?).ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The beginning, on one line, in at most so many characters; `null` for none.
pub(crate) fn preview(text: Option<&str>, most: usize) -> String {
    let Some(text) = text else { return "null".to_owned() };
    let fits = text.chars().nth(most).is_none();
    let shown = if fits { most } else { most - 1 };
    let short = text.chars().take(shown).map(visible);
    short.chain((!fits).then_some('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_line_up_under_the_heading() {
        for (width, wide) in [(None, WIDE), (Some(80), 80), (Some(121), 121), (Some(200), WIDE)] {
            let layout = Layout::of(width);
            let heading = layout.row(HEADING);
            assert_eq!(heading.chars().count(), wide, "{heading}");
            let long = |letter: &str, most| preview(Some(&letter.repeat(99)), most);
            let (key, value) = (long("k", layout.key), long("v", layout.value));
            for late in [lateness(1.0), lateness(99_999.9), lateness(150e9)] {
                let row =
                    layout.row(["3/1234567", &key, &value, "2026-11-18T11:06:40.250Z", &late, &late, "0"]);
                assert_eq!(row.chars().count(), wide, "\n{heading}\n{row}");
            }
        }
    }

    #[test]
    fn why_a_letter_is_dead_stands_beneath_where_there_is_no_room() {
        let has_room = |width| Layout::of(width).has_room("row", "why");
        assert!(has_room(None) && has_room(Some(8)) && !has_room(Some(7)));
    }

    #[test]
    fn lateness_is_in_ms_until_that_cannot_be_read() {
        let told = [-0.4, 12.34, 99_999.0, 100_000.0, 130_000.0, 10e6, 180e6, 158e9].map(lateness);
        assert_eq!(told, ["-0.4 ms", "12.3 ms", "99999.0 ms", "2 min", "2 min", "3 h", "2 days", "5 years"]);
    }

    #[test]
    fn previews_are_cut_with_a_mark() {
        assert_eq!(preview(None, 4), "null");
        assert_eq!(preview(Some("abcd"), 4), "abcd");
        assert_eq!(preview(Some("a\ncde"), 4), "a·c…");
    }
}
