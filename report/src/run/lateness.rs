//! How late messages were.

use serde::{Deserialize, Serialize};

use super::infinite;

/// Buckets to each power of ten of [`compact`]: each some 2.3 % wide, finer than any plot shows.
const PER_DECADE: f64 = 100.0;

/// Lateness of all messages of a run, by one of the two clocks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lateness {
    pub summary: Summary,
    /// Ascending; every delivered message is in one of them, an early one as 0 late.
    pub histogram: Vec<Bucket>,
    /// How many of them were before their due time.
    pub early: u64,
    /// Ascending, by the second of the run in which messages were due; seconds without any are absent.
    pub series: Vec<Second>,
}

/// Percentiles over delivered and undelivered messages; these last are infinitely late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    #[serde(with = "infinite")]
    pub p50_ms: f64,
    #[serde(with = "infinite")]
    pub p90_ms: f64,
    #[serde(with = "infinite")]
    pub p99_ms: f64,
    #[serde(with = "infinite")]
    pub p999_ms: f64,
    #[serde(with = "infinite")]
    pub max_ms: f64,
    /// Of the delivered.
    #[serde(with = "infinite")]
    pub mean_ms: f64,
}

/// Messages above the bucket before and up to this bound; in JSON `[upper_ms, count]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(f64, u64)", into = "(f64, u64)")]
pub struct Bucket {
    pub upper_ms: f64,
    pub count: u64,
}

/// Messages that were due within one second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Whole seconds since the run's start.
    pub second: u32,
    /// Delivered ones; the other figures are of these.
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl From<(f64, u64)> for Bucket {
    fn from((upper_ms, count): (f64, u64)) -> Self {
        Self { upper_ms, count }
    }
}

impl From<Bucket> for (f64, u64) {
    fn from(bucket: Bucket) -> Self {
        (bucket.upper_ms, bucket.count)
    }
}

/// Merges the buckets of a fine histogram, such as what an `HdrHistogram` recorded, into as few
/// as plots need. `ascending`: upper bound in ms and count of each. Bounds are never rounded
/// down, so that no message becomes less late.
pub fn compact(ascending: impl IntoIterator<Item = (f64, u64)>) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let class = |ms: f64| (ms.max(1e-3).log10() * PER_DECADE).floor();
    for (upper_ms, count) in ascending.into_iter().filter(|(_, count)| *count > 0) {
        match buckets.last_mut().filter(|last| class(last.upper_ms) >= class(upper_ms)) {
            Some(last) => {
                last.upper_ms = last.upper_ms.max(upper_ms);
                last.count += count;
            }
            None => buckets.push(Bucket { upper_ms, count }),
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compacting_keeps_every_message_and_never_makes_one_less_late() {
        let fine: Vec<_> = (1..=60_000).map(|ms| (f64::from(ms), 2)).collect();
        let coarse = compact(fine);
        assert_eq!(coarse.iter().map(|b| b.count).sum::<u64>(), 120_000);
        assert!(coarse.len() < 500, "{}", coarse.len());
        assert!(coarse.windows(2).all(|w| w[0].upper_ms < w[1].upper_ms));
        assert_eq!(coarse.last().map(|b| b.upper_ms), Some(60_000.0));
        assert_eq!(compact([(0.0, 3), (0.0005, 1)]), [Bucket { upper_ms: 0.0005, count: 4 }]);
        assert!(compact([(5.0, 0)]).is_empty());
    }
}
