//! What is compared.

use super::Spread;
use crate::{
    run::{Run, Summary, ratio},
    text,
};

/// A figure of a run.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in JSON.
    pub key: &'static str,
    /// What it is, for people.
    pub label: &'static str,
    pub unit: Unit,
    /// None where a run does not have it.
    pub of: fn(&Run) -> Option<f64>,
}

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A span; its values are in ms.
    Span,
    PerSecond,
    CpuSeconds,
    Bytes,
    Plain,
}

impl Unit {
    /// `9.8 ms (9.6–10 ms)`; the median alone if that is what the others are shown as.
    pub fn spread(self, spread: Spread) -> String {
        super::table::spread(spread, self)
    }

    /// With the unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Span => text::span_ms(value),
            Self::PerSecond => format!("{}/s", text::number(value)),
            Self::CpuSeconds => format!("{} s", text::number(value)),
            Self::Bytes => text::bytes(value),
            Self::Plain => text::number(value),
        }
    }
}

const fn metric(key: &'static str, label: &'static str, unit: Unit, of: fn(&Run) -> Option<f64>) -> Metric {
    Metric { key, label, unit, of }
}

/// In the order in which they are shown.
pub const METRICS: &[Metric] = &[
    metric("visible_p50_ms", "visible late, p50", Unit::Span, |run| Some(visible(run)?.p50_ms)),
    metric("visible_p90_ms", "visible late, p90", Unit::Span, |run| Some(visible(run)?.p90_ms)),
    metric("visible_p99_ms", "visible late, p99", Unit::Span, |run| Some(visible(run)?.p99_ms)),
    metric("visible_p999_ms", "visible late, p99.9", Unit::Span, |run| Some(visible(run)?.p999_ms)),
    metric("visible_max_ms", "visible late, max", Unit::Span, |run| Some(visible(run)?.max_ms)),
    metric("visible_mean_ms", "visible late, mean", Unit::Span, |run| Some(visible(run)?.mean_ms)),
    metric("append_p50_ms", "appended late, p50", Unit::Span, |run| Some(append(run)?.p50_ms)),
    metric("append_p99_ms", "appended late, p99", Unit::Span, |run| Some(append(run)?.p99_ms)),
    metric("acknowledged_per_s", "acknowledged", Unit::PerSecond, |run| run.rates.acknowledged_per_s),
    metric("delivered_per_s", "delivered", Unit::PerSecond, |run| run.rates.delivered_per_s),
    metric("cpu_seconds_per_million", "CPU a million messages, Kafka's included", Unit::CpuSeconds, |run| {
        run.derived().cpu_seconds_per_million
    }),
    metric(
        "own_cpu_seconds_per_million",
        "CPU a million messages, without Kafka's",
        Unit::CpuSeconds,
        |run| run.derived().own_cpu_seconds_per_million,
    ),
    metric("own_peak_rss_bytes", "memory at its peak, without Kafka's", Unit::Bytes, |run| {
        run.derived().own_peak_rss_bytes.map(|bytes| bytes as f64)
    }),
    metric("requests_per_message", "Kafka requests a message", Unit::Plain, |run| {
        run.derived().requests_per_message
    }),
    metric("kafka_in_bytes_per_message", "bytes sent to Kafka a message", Unit::Bytes, |run| {
        ratio(run.broker.as_ref()?.in_bytes? as f64, run.counts.delivered as f64)
    }),
    metric("kafka_out_bytes_per_message", "bytes fetched from Kafka a message", Unit::Bytes, |run| {
        ratio(run.broker.as_ref()?.out_bytes? as f64, run.counts.delivered as f64)
    }),
    metric("bytes_ratio", "bytes Kafka wrote ÷ bytes delivered", Unit::Plain, |run| {
        run.derived().bytes_ratio
    }),
];

pub(crate) fn visible(run: &Run) -> Option<Summary> {
    run.visible.as_ref().map(|lateness| lateness.summary)
}

fn append(run: &Run) -> Option<Summary> {
    run.append.as_ref().map(|lateness| lateness.summary)
}
