//! `tail`: a topic's records as they come.

use std::{ops::ControlFlow, time::Duration};

use clap::Args;
use ksched_client::reader::{Received, Since, TopicReader, Until};
use ksched_core::message::Content;
use serde::Serialize;

use crate::{
    connection::{KafkaArguments, ServerArguments},
    output::{self, Failure, Format},
};

/// Characters of key and value that the table shows.
const PREVIEW: usize = 32;
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
    #[arg(long)]
    count: Option<u64>,
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
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
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let log = arguments.kafka.connect(&arguments.server).await?;
    let (since, topic, format) = (
        if arguments.from_start { Since::Start } else { Since::End },
        arguments.topic.clone(),
        arguments.output,
    );
    if arguments.count == Some(0) {
        return Ok(());
    }
    let mut left = arguments.count;
    let started = tokio::task::spawn_blocking(move || {
        TopicReader::start(log, &topic, since, Until::Stopped, move |received| {
            if print(&received, since, format).is_err() {
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
    let reader = started.await.map_err(|_| Failure::MayPass("the program is ending".to_owned()))??;
    if format == Format::Table {
        output::note("PARTITION/OFFSET  KEY  VALUE  DUE  APPEND LATE  VISIBLE LATE  HOPS");
    }
    while !reader.is_finished() {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    let stopped = tokio::task::spawn_blocking(move || reader.stop());
    Ok(stopped.await.map_err(|_| Failure::MayPass("the program is ending".to_owned()))??)
}

fn print(received: &Received, since: Since, format: Format) -> Result<(), Failure> {
    let line = Line::new(received, since);
    if format == Format::Json {
        return output::json(&line);
    }
    let ms = |value: Option<String>| value.map_or_else(|| "-".to_owned(), |v| format!("{v} ms"));
    output::line(&format!(
        "{}/{}  {}  {}  {}  {}  {}  {}",
        line.partition,
        line.offset,
        preview(line.key.as_deref()),
        preview(line.value.as_deref()),
        line.due_time.as_deref().unwrap_or("-"),
        ms(line.append_late_ms.map(|v| v.to_string())),
        ms(line.visible_late_ms.map(|v| format!("{v:.1}"))),
        line.hops.map_or_else(|| "-".to_owned(), |hops| hops.to_string()),
    ))
}

impl Line {
    fn new(received: &Received, since: Since) -> Self {
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
                .filter(|_| since == Since::End)
                .map(|due_ms| (received.at_us - due_ms.saturating_mul(1000)) as f64 / 1000.0),
            hops: header(&record.content, "ksched-hops").and_then(|text| text.parse().ok()),
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

/// The beginning, on one line; `null` for none.
fn preview(text: Option<&str>) -> String {
    let Some(text) = text else { return "null".to_owned() };
    let mut short: String =
        text.chars().take(PREVIEW).map(|c| if c.is_control() { '·' } else { c }).collect();
    if text.chars().nth(PREVIEW).is_some() {
        short.push('…');
    }
    short
}
