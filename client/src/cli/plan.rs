//! The options that describe a plan; the same for `bench` and `verify`.

use std::{ops::RangeInclusive, time::Duration};

use clap::{Args, ValueEnum};
use ksched_client::{
    bench::{Door, Due, Shape},
    verify::Bounds,
};
use ksched_core::time;

use crate::output::Failure;

/// Plans by name; what is told besides wins over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 20,000 a second for 30 s, due 1 to 10 s after they are sent.
    Steady,
    /// 2,000,000, each as soon as it is taken, due within the first three seconds: how fast they are scheduled and
    /// delivered. Read afterwards.
    Sustained,
    /// 1,000 single calls a second for 30 s: how soon they are acknowledged.
    Unary,
    /// 100,000 due at one instant.
    Burst,
    /// 500,000 that all wait when the workers are started (--local): how fast they are drained.
    Backlog,
    /// 1,000,000 due within 30 days; only scheduled, not waited for.
    FarAhead,
    /// One message a second, for a minute.
    Idle,
    /// 1,000 a second; a worker is killed after 10 s and started again after 20 s (--local).
    Failover,
    /// 2,000 at each whole second, as another scheduler publishes its figures.
    WholeSeconds,
    /// 100,000 over six minutes, due anywhere in the rest of the run, at most an hour ahead.
    SeedExperiment,
}

/// Messages of [`Scenario::Sustained`].
const SUSTAINED: u64 = 2_000_000;

/// What a scenario, or nobody, says of a plan.
struct Defaults {
    rate: f64,
    seconds: f64,
    delays_ms: RangeInclusive<i64>,
    due: Due,
    door: Door,
    keys: u32,
}

impl Scenario {
    fn defaults(this: Option<Self>) -> Defaults {
        let (rate, seconds, delays_ms, due, door) = match this {
            None => (1_000.0, 10.0, 0..=10_000, Due::Uniform, Door::Unary),
            Some(Self::Steady) => (20_000.0, 30.0, 1_000..=10_000, Due::Uniform, Door::Stream),
            Some(Self::Sustained) => (f64::INFINITY, 0.0, 1_000..=3_000, Due::Uniform, Door::Stream),
            Some(Self::Unary) => (1_000.0, 30.0, 1_000..=10_000, Due::Uniform, Door::Unary),
            Some(Self::Burst) => (20_000.0, 5.0, 8_000..=8_000, Due::Together, Door::Stream),
            Some(Self::Backlog) => (50_000.0, 10.0, 0..=0, Due::Uniform, Door::Stream),
            Some(Self::FarAhead) => (50_000.0, 20.0, 60_000..=30 * 86_400_000, Due::Uniform, Door::Stream),
            Some(Self::Idle) => (1.0, 60.0, 2_000..=5_000, Due::Uniform, Door::Unary),
            Some(Self::Failover) => (1_000.0, 30.0, 1_000..=10_000, Due::Uniform, Door::Stream),
            Some(Self::WholeSeconds) => (2_000.0, 30.0, 1_000..=5_000, Due::WholeSeconds, Door::Stream),
            Some(Self::SeedExperiment) => {
                (100_000.0 / 360.0, 360.0, 0..=3_600_000, Due::RestOfRun, Door::Unary)
            }
        };
        // More is overdue than memory holds, where nobody promises an order.
        let keys = if this == Some(Self::Sustained) { 0 } else { 1_000 };
        Defaults { rate, seconds, delays_ms, due, door, keys }
    }

    /// As on the command line and in run files.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// A plan by its name; other options change it.
    #[arg(long, value_enum)]
    pub(crate) scenario: Option<Scenario>,
    /// Messages a second; max: each as soon as it is taken [default: 1000].
    #[arg(long, allow_negative_numbers = true, value_parser = rate)]
    rate: Option<f64>,
    /// Messages in all.
    #[arg(long, conflicts_with = "duration", allow_negative_numbers = true, value_parser = count)]
    count: Option<u64>,
    /// How long messages are sent, at the rate [default: 10s].
    #[arg(long, value_parser = span)]
    duration: Option<Duration>,
    /// From sending to due time: between the two, or always the one [default: 0s..10s].
    #[arg(long, value_name = "A..B", value_parser = delays, allow_hyphen_values = true)]
    delays: Option<RangeInclusive<i64>>,
    /// Where between the two: uniform, together, rest-of-run or whole-seconds [default: uniform].
    #[arg(long)]
    due: Option<Due>,
    /// Bytes of each value.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Different keys; 0: no keys [default: 1000].
    #[arg(long)]
    keys: Option<u32>,
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
        let defaults = Scenario::defaults(self.scenario);
        let rate = self.rate.unwrap_or(defaults.rate);
        if rate.is_nan() || rate <= 0.0 {
            return Err(Failure::Refused("--rate must be above 0".to_owned()));
        }
        let count = match self.scenario {
            Some(Scenario::Sustained) => self.count.or(Some(SUSTAINED)),
            _ => self.count,
        };
        if rate.is_infinite() && (count.is_none() || self.duration.is_some()) {
            return Err(Failure::Refused("--rate max wants a --count, and no --duration".to_owned()));
        }
        let seconds = self.duration.map_or(defaults.seconds, |duration| duration.as_secs_f64());
        Ok(Shape {
            seed,
            count: count.unwrap_or((rate * seconds).round() as u64),
            rate,
            delays_ms: self.delays.clone().unwrap_or(defaults.delays_ms),
            due: self.due.unwrap_or(defaults.due),
            size: self.size,
            keys: self.keys.unwrap_or(defaults.keys),
            headers: self.headers,
        })
    }

    /// The scenario's door, if none is asked for.
    pub(crate) fn door(&self, asked: Option<Door>) -> Door {
        asked.unwrap_or_else(|| Scenario::defaults(self.scenario).door)
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

/// Messages a second, or as many as are taken.
fn rate(text: &str) -> Result<f64, String> {
    if text == "max" {
        Ok(f64::INFINITY)
    } else {
        text.parse().map_err(|_| "is no number, nor max".to_owned())
    }
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
