//! `schedule`: one message, or one a line.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use ksched_client::{Error, Message, Scheduled, client::stream::Answers};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    connection::ServerArguments,
    output::{self, Failure, Format},
    plan::span,
};

/// Unsettled lines at once.
const WINDOW: usize = 4_096;
/// Lines read ahead.
const READ_AHEAD: usize = 256;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("when").required(true))]
pub(crate) struct Arguments {
    /// The value; read from --file or stdin if absent.
    #[arg(conflicts_with_all = ["file", "lines"])]
    payload: Option<String>,
    /// Reads the value from a file, byte for byte.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Makes each line of the file or of stdin a message of its own. With a --key they
    /// are delivered in their order; without one, those due at the same time in any.
    #[arg(long)]
    lines: bool,
    /// Target topic. If it, or the partition, is not there when the message is due, that becomes a dead letter.
    #[arg(long)]
    topic: String,
    /// Target partition; by the key's hash if absent.
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Key of the message: those of one key keep their order.
    #[arg(long)]
    key: Option<String>,
    /// A header; may be repeated, names as well.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Due so long from now: 90s, 1h30m, PT15M.
    #[arg(long, group = "when", value_parser = span, allow_hyphen_values = true)]
    delay: Option<Duration>,
    /// Due at: RFC 3339, epoch milliseconds, or `tomorrow 09:00 Europe/Berlin`.
    #[arg(long, group = "when", value_parser = crate::plan::at, allow_hyphen_values = true)]
    at: Option<i64>,
    /// Repeats with the same id within ten minutes schedule once, if all else is the same: say --at, for a --delay
    /// counts from each repeat.
    #[arg(long, conflicts_with = "lines")]
    request_id: Option<String>,
    #[command(flatten)]
    server: ServerArguments,
    /// How ids and due times are printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Format,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    if arguments.lines {
        arguments.server.reach().await?;
        let client = arguments.server.client()?;
        return lines(arguments, &client).await;
    }
    let value = match (&arguments.payload, &arguments.file) {
        (Some(payload), _) => payload.clone().into_bytes(),
        (None, Some(path)) => std::fs::read(path).map_err(|error| unreadable(path, &error))?,
        (None, None) => {
            let mut value = Vec::new();
            io::stdin().lock().read_to_end(&mut value)?;
            value
        }
    };
    let mut message = message(&arguments, value);
    if let Some(id) = &arguments.request_id {
        message = message.request_id(id);
    }
    let scheduled = arguments.server.ask(|client| async move { client.schedule(message).await }).await?;
    print(&scheduled, arguments.output)
}

async fn lines(arguments: Arguments, client: &ksched_client::Client) -> Result<(), Failure> {
    let (mut sender, mut outcomes) = client.stream(Answers::Each, WINDOW);
    let (to_here, mut read) = mpsc::channel(READ_AHEAD);
    let path = arguments.file.clone();
    let reading = tokio::task::spawn_blocking(move || read_lines(path, &to_here));
    let format = arguments.output;
    let sending = async move {
        while let Some(line) = read.recv().await {
            sender.send(message(&arguments, line)).await?;
        }
        Ok::<_, Error>(())
    };
    let printing = async move {
        let mut worst = Ok(());
        let mut early = BTreeMap::new();
        let mut next = 0;
        while let Some(outcome) = outcomes.next().await {
            early.insert(outcome.sequence, outcome.result);
            while let Some(result) = early.remove(&next) {
                next += 1;
                match result {
                    Ok(Some(scheduled)) => print(&scheduled, format)?,
                    Ok(None) => {}
                    Err(error) => {
                        output::note(&format!("line {next}: {error}"));
                        worst = worse(worst, error);
                    }
                }
            }
        }
        worst
    };
    let (sent, printed) = tokio::join!(sending, printing);
    printed?;
    sent?;
    match reading.await {
        Ok(read) => read,
        Err(_) => Err(Failure::MayPass("reading the input broke off".to_owned())),
    }
}

/// A refusal outweighs what may pass: repeating the whole is of no use.
fn worse(worst: Result<(), Failure>, error: Error) -> Result<(), Failure> {
    match worst {
        Err(Failure::Refused(_)) => worst,
        _ if error.is_refusal() => Err(Failure::Refused("not all lines were scheduled".to_owned())),
        _ => Err(Failure::MayPass("not all lines were scheduled".to_owned())),
    }
}

fn read_lines(path: Option<PathBuf>, to: &mpsc::Sender<Vec<u8>>) -> Result<(), Failure> {
    let mut input: Box<dyn BufRead> = match &path {
        Some(path) => Box::new(BufReader::new(File::open(path).map_err(|error| unreadable(path, &error))?)),
        None => Box::new(io::stdin().lock()),
    };
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if to.blocking_send(line).is_err() {
            return Ok(());
        }
    }
}

fn message(arguments: &Arguments, value: Vec<u8>) -> Message {
    let mut message = Message::new(&arguments.topic).value(value);
    if let Some(partition) = arguments.partition {
        message = message.partition(partition);
    }
    if let Some(key) = &arguments.key {
        message = message.key(key.clone());
    }
    for (name, value) in &arguments.headers {
        message = message.header(name.clone(), value.clone());
    }
    match (arguments.at, arguments.delay) {
        (Some(at_ms), _) => message.due_ms(at_ms),
        (None, delay) => message.delay(delay.unwrap_or_default()),
    }
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    due_time: String,
}

fn print(scheduled: &Scheduled, format: Format) -> Result<(), Failure> {
    let due_time = output::instant(scheduled.due_ms);
    match format {
        Format::Json => output::json(&Line { id: &scheduled.id, due_time }),
        Format::Table => output::line(&format!("{}  {due_time}", scheduled.id)),
    }
}

fn unreadable(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::Refused(format!("{}: {error}", path.display()))
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}
