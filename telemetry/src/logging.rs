//! Log lines go to stderr, so that stdout stays for data.

use std::{
    env,
    io::{self, IsTerminal},
    str::FromStr,
    time::Duration,
};

use tokio::time::Instant;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Between two of a line's repeats, at least.
pub const REPEAT_EVERY: Duration = Duration::from_secs(10);

/// For a line that there may be one of for each message or attempt, so that many do not flood the log.
#[derive(Debug, Default)]
pub struct Repeats {
    told_at: Option<Instant>,
    left_out: u64,
}

impl Repeats {
    /// Whether to write the line now; then, how many were left out since the last that was written.
    pub fn tell(&mut self) -> Option<u64> {
        if self.told_at.is_some_and(|at| at.elapsed() < REPEAT_EVERY) {
            self.left_out += 1;
            return None;
        }
        self.told_at = Some(Instant::now());
        Some(std::mem::take(&mut self.left_out))
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logging was not set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("logging is set up already")]
    Twice,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("text or json is expected"),
        }
    }
}

/// Sets logging up for the whole process. `filter` is in the syntax of
/// `tracing_subscriber::EnvFilter`: `info`, `ksched_server=debug,info`.
///
/// # Errors
/// The filter cannot be parsed, or logging was set up before.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    let registry = tracing_subscriber::registry().with(check(filter)?);
    let set = match format {
        Format::Text => {
            // <https://no-color.org>
            let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            registry.with(fmt::layer().with_writer(io::stderr).with_ansi(colour)).try_init()
        }
        Format::Json => registry.with(fmt::layer().json().with_writer(io::stderr)).try_init(),
    };
    set.map_err(|_| Error::Twice)
}

/// Parses a filter, to find a mistake in it before anything is started.
///
/// # Errors
/// The filter cannot be parsed.
pub fn check(filter: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    filter.parse()
}
