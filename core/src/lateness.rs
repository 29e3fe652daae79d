//! Lateness as counts by bucket, and quantiles estimated from them.

use serde::Serialize;

/// 1 ms to 1 h: a healthy lane sits in the first few, an outage in the last. Workers tell
/// coordinators how many messages fell into each (`LaneFigures`), so these never change.
pub const BUCKETS_S: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0,
];

/// As quantiles have it, what fell beyond the last bucket: it was late by this or more, and nobody knows by how much.
pub const BEYOND_MS: f64 = 3_600_000.0;

/// In ms, estimated from counts by bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
}

/// By linear interpolation within a bucket, as Prometheus does; `None` if nothing was counted.
pub fn quantiles(counts: &[u64]) -> Option<Quantiles> {
    let total = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let at = |quantile: f64| {
        let (rank, mut below) = (quantile * total as f64, 0.0);
        let mut lower = 0.0;
        for (count, bound_s) in counts.iter().zip(BUCKETS_S) {
            let (count, upper) = (*count as f64, bound_s * 1_000.0);
            if count > 0.0 && below + count >= rank {
                return lower + (upper - lower) * (rank - below) / count;
            }
            (below, lower) = (below + count, upper);
        }
        lower
    };
    (total > 0).then(|| Quantiles { p50: at(0.5), p99: at(0.99) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_their_buckets() {
        assert_eq!(quantiles(&[0; 18]), None);
        let mut counts = [0; 18];
        (counts[3], counts[4]) = (98, 2);
        let told = quantiles(&counts).unwrap();
        assert!((5.0..=10.0).contains(&told.p50) && (10.0..=25.0).contains(&told.p99), "{told:?}");
        let hours_late = {
            let mut counts = [0; 18];
            counts[17] = 1;
            counts
        };
        assert_eq!(quantiles(&hours_late).map(|q| q.p99), Some(BEYOND_MS));
    }
}
