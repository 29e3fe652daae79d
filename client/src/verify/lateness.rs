//! How late: a histogram of 3 significant digits, from 1 µs to a day.

use hdrhistogram::Histogram;
use serde::Serialize;

/// What is later than a day is put down as a day.
const LONGEST_US: u64 = 86_400_000_000;

/// Lateness of many messages.
#[derive(Clone, Debug)]
pub struct Lateness {
    /// `None` only if the constant bounds above were not acceptable.
    histogram: Option<Histogram<u64>>,
}

/// In ms. Infinite (`null` in JSON) where that many messages were not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Lateness {
    pub fn new() -> Self {
        Self { histogram: Histogram::new_with_bounds(1, LONGEST_US, 3).ok() }
    }

    /// Adds one, in µs. What is early counts as not late: it is reported elsewhere.
    pub fn record_us(&mut self, late_us: i64) {
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(u64::try_from(late_us).unwrap_or(0).max(1));
        }
    }

    /// Upper bound in ms and count of each bucket that is not empty, ascending.
    pub(crate) fn buckets_ms(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let recorded = self.histogram.iter().flat_map(Histogram::iter_recorded);
        recorded.map(|bucket| (to_ms(bucket.value_iterated_to()), bucket.count_at_value()))
    }

    /// Percentiles of what was recorded and of `undelivered` infinitely late ones.
    pub fn percentiles(&self, undelivered: u64) -> Percentiles {
        let Some(histogram) = &self.histogram else {
            return Percentiles {
                p50: f64::NAN,
                p90: f64::NAN,
                p99: f64::NAN,
                p999: f64::NAN,
                max: f64::NAN,
            };
        };
        let recorded = histogram.len() as f64;
        let all = recorded + undelivered as f64;
        let at = |quantile: f64| {
            // Rank among all, as a quantile of those recorded.
            let own = quantile * all / recorded.max(1.0);
            if own > 1.0 + 1e-9 || recorded == 0.0 {
                return f64::INFINITY;
            }
            to_ms(histogram.value_at_quantile(own.min(1.0)))
        };
        let max = if undelivered > 0 { f64::INFINITY } else { to_ms(histogram.max()) };
        Percentiles { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

impl Default for Lateness {
    fn default() -> Self {
        Self::new()
    }
}

/// Whole µs as ms; more digits than three significant ones would be invented.
fn to_ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut lateness = Lateness::new();
        for ms in 1..=1000 {
            lateness.record_us(ms * 1000);
        }
        let p = lateness.percentiles(0);
        for (got, wanted) in
            [(p.p50, 500.0), (p.p90, 900.0), (p.p99, 990.0), (p.p999, 999.0), (p.max, 1000.0)]
        {
            assert!((got - wanted).abs() <= wanted / 1000.0, "{got} for {wanted}");
        }
    }

    #[test]
    fn the_undelivered_are_infinitely_late() {
        let mut lateness = Lateness::new();
        for _ in 0..98 {
            lateness.record_us(5_000);
        }
        let p = lateness.percentiles(2);
        assert!(p.p90.is_finite() && p.p99.is_infinite() && p.max.is_infinite());
        let json = serde_json::to_value(p).expect("serialises");
        assert!(json["p99"].is_null() && json["p50"].is_number());
    }
}
