//! Spans and instants of the wire in milliseconds.

use prost_types::{Duration, Timestamp};

/// A span as milliseconds.
pub fn ms(span: Option<&Duration>) -> Option<i64> {
    span.map(|span| span.seconds.saturating_mul(1_000).saturating_add(i64::from(span.nanos) / 1_000_000))
}

/// A timestamp as milliseconds since the epoch.
pub fn at_ms(at: &Timestamp) -> i64 {
    at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos) / 1_000_000)
}
