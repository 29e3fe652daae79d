//! What is printed, and the exit code.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::ValueEnum;
use ksched_client::{Error, bench, table::columns};
use ksched_report::{page, run};
use ratatui::crossterm::terminal;

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// Why a command did not do what it should, by exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 1
    MayPass(String),
    /// 2
    Refused(String),
    /// 4; the report has told why.
    Verification,
    /// Whoever read our output has gone: as good as done.
    OutputClosed,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        if error.is_refusal() { Self::Refused(text) } else { Self::MayPass(text) }
    }
}

impl From<ksched_kafka::Error> for Failure {
    fn from(error: ksched_kafka::Error) -> Self {
        let text = error.to_string();
        match error {
            ksched_kafka::Error::Unknown(_) | ksched_kafka::Error::Refused(_) => Self::Refused(text),
            _ => Self::MayPass(text),
        }
    }
}

impl From<bench::Error> for Failure {
    fn from(error: bench::Error) -> Self {
        match error {
            bench::Error::Kafka(error) => error.into(),
            bench::Error::Client(error) => error.into(),
            bench::Error::Settings(text) => Self::Refused(text),
            other => Self::MayPass(other.to_string()),
        }
    }
}

#[cfg(feature = "experiment")]
impl From<ksched_baseline::Error> for Failure {
    fn from(error: ksched_baseline::Error) -> Self {
        let text = error.to_string();
        match error {
            ksched_baseline::Error::Address(_) | ksched_baseline::Error::Refused(_) => Self::Refused(text),
            _ => Self::MayPass(text),
        }
    }
}

impl From<ksched_local::Error> for Failure {
    fn from(error: ksched_local::Error) -> Self {
        let text = error.to_string();
        match error {
            ksched_local::Error::NoCluster { .. } | ksched_local::Error::Unknown { .. } => {
                Self::Refused(text)
            }
            _ => Self::MayPass(text),
        }
    }
}

impl From<run::Error> for Failure {
    fn from(error: run::Error) -> Self {
        match error {
            run::Error::Write { .. } => Self::MayPass(error.to_string()),
            // It was named on the command line.
            run::Error::Read { .. }
            | run::Error::Content { .. }
            | run::Error::NoFormat { .. }
            | run::Error::Format { .. } => Self::Refused(error.to_string()),
        }
    }
}

impl From<page::Error> for Failure {
    fn from(error: page::Error) -> Self {
        match error {
            page::Error::Empty => Self::Refused(error.to_string()),
            page::Error::Drawing(_) | page::Error::Write { .. } => Self::MayPass(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::MayPass(error.to_string())
        }
    }
}

/// Ends a command: tells on stderr what went wrong.
pub(crate) fn exit(result: Result<(), Failure>) -> ExitCode {
    let (text, code) = match result {
        Ok(()) | Err(Failure::OutputClosed) => return ExitCode::SUCCESS,
        Err(Failure::MayPass(text)) => (Some(text), 1),
        Err(Failure::Refused(text)) => (Some(text), 2),
        Err(Failure::Verification) => (None, 4),
    };
    if let Some(text) = text {
        note(&format!("error: {text}"));
    }
    ExitCode::from(code)
}

/// Data, on stdout.
pub(crate) fn write(data: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(data)?;
    Ok(stdout.flush()?)
}

/// One line of data.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    write(format!("{text}\n").as_bytes())
}

/// One line of JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::MayPass(error.to_string()))?;
    line(&text)
}

/// For people, on stderr; nobody may be listening.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Rows under a heading, in columns as wide as their widest cell.
pub(crate) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> Result<(), Failure> {
    lines(&columns(heading, rows))
}

/// A table for people: on a terminal no line is wider than it is, for a wrapped table cannot be read.
pub(crate) fn lines(text: &str) -> Result<(), Failure> {
    match width() {
        Some(width) if width > 1 => write(cut(text, width).as_bytes()),
        _ => write(text.as_bytes()),
    }
}

/// Columns of the terminal that reads our output, if one does.
pub(crate) fn width() -> Option<usize> {
    let (columns, _) = io::stdout().is_terminal().then(terminal::size)?.ok()?;
    Some(columns.into())
}

fn cut(text: &str, width: usize) -> String {
    let fits = |line: &str| match line.char_indices().nth(width) {
        None => format!("{line}\n"),
        Some(_) => format!("{}…\n", line.chars().take(width - 1).collect::<String>()),
    };
    text.lines().map(fits).collect()
}

/// RFC 3339, UTC, of ms since the epoch.
pub(crate) fn instant(ms: i64) -> String {
    let nanos = i32::try_from(ms.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds: ms.div_euclid(1000), nanos }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_wide_as_the_terminal_at_most() {
        assert_eq!(cut("añb\nlonger\n", 4), "añb\nlon…\n");
        assert_eq!(cut("four\n", 4), "four\n");
    }

    #[test]
    fn instants_are_rfc_3339() {
        assert_eq!(instant(1_693_586_400_250), "2023-09-01T16:40:00.250Z");
    }
}
