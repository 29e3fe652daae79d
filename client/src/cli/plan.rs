//! The options that describe a plan; the same for `bench` and `verify`.

use std::{ops::RangeInclusive, time::Duration};

use clap::Args;
use ksched_client::{bench::Shape, verify::Bounds};
use ksched_core::time;

use crate::output::Failure;

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// Messages a second.
    #[arg(long, default_value_t = 1000.0, allow_negative_numbers = true)]
    rate: f64,
    /// Messages in all.
    #[arg(long, conflicts_with = "duration", allow_negative_numbers = true, value_parser = count)]
    count: Option<u64>,
    /// How long messages are sent, at the rate.
    #[arg(long, default_value = "10s", value_parser = span)]
    duration: Duration,
    /// From sending to due time: uniform between the two, or always the one.
    #[arg(long, value_name = "A..B", default_value = "0s..10s", value_parser = delays, allow_hyphen_values = true)]
    delays: RangeInclusive<i64>,
    /// Bytes of each value.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Different keys; 0: no keys.
    #[arg(long, default_value_t = 1000)]
    keys: u32,
    /// User headers on each message.
    #[arg(long, default_value_t = 0)]
    headers: u32,
    /// Target topic.
    #[arg(long, default_value = "ksched-bench")]
    pub(crate) topic: String,
    /// How far clocks may differ before a message counts as early.
    #[arg(long, default_value = "0ms", value_parser = span)]
    clock_bound: Duration,
    /// Lateness that is a failure.
    #[arg(long, value_parser = span)]
    late_bound: Option<Duration>,
}

impl PlanArguments {
    pub(crate) fn shape(&self, seed: u64) -> Result<Shape, Failure> {
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return Err(Failure::Refused("--rate must be above 0".to_owned()));
        }
        let of_duration = || (self.rate * self.duration.as_secs_f64()).round() as u64;
        Ok(Shape {
            seed,
            count: self.count.unwrap_or_else(of_duration),
            rate: self.rate,
            delays_ms: self.delays.clone(),
            size: self.size,
            keys: self.keys,
            headers: self.headers,
        })
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Bounds { clock_ms: ms(self.clock_bound), late_ms: self.late_bound.map(ms) }
    }
}

/// A span as users write delays: `90s`, `1h30m`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let ms = time::parse_delay(text).map_err(|error| error.to_string())?;
    Ok(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

/// A number of messages; one below 0 is read, to be refused by what is wrong with it.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    if text.starts_with('-') {
        return Err("is negative".to_owned());
    }
    text.parse().map_err(|_| "a whole number is expected".to_owned())
}

fn delays(text: &str) -> Result<RangeInclusive<i64>, String> {
    let parse = |text: &str| time::parse_delay(text).map_err(|error| format!("{text:?} {error}"));
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let range = parse(from)?..=parse(to)?;
    if range.is_empty() { Err("the second must not be shorter than the first".to_owned()) } else { Ok(range) }
}

/// An instant in any form that `core::time` reads. Without a zone it is refused, here
/// as at the coordinator.
pub(crate) fn at(text: &str) -> Result<i64, String> {
    ksched_core::time::parse_at(text, ksched_client::clock::now_ms(), None).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_a_range_or_one() {
        assert_eq!(delays("0s..30s"), Ok(0..=30_000));
        assert_eq!(delays("500ms"), Ok(500..=500));
        for bad in ["", "..", "30s..1s", "1..2", "a..b"] {
            assert!(delays(bad).is_err(), "{bad}");
        }
    }
}
