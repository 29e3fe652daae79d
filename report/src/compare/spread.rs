//! A median and how far the repeats are apart.

use serde::Serialize;

use crate::run::{infinite, ratio};

/// Of some values; in JSON an infinite one is `null`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    #[serde(serialize_with = "infinite::serialize")]
    pub median: f64,
    #[serde(serialize_with = "infinite::serialize")]
    pub min: f64,
    #[serde(serialize_with = "infinite::serialize")]
    pub max: f64,
}

impl Spread {
    /// None of no values. Of an even number the median is the mean of the middle two.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: f64::midpoint(below, above), min, max })
    }

    /// Of `own` to `base`: the ratio of the medians, and the least and the greatest ratio of any
    /// of the one to any of the other. Which repeats ran beside each other is not known here; all
    /// pairs show no less than the true spread. None unless all of these are finite.
    pub fn of_ratios(own: &[f64], base: &[f64]) -> Option<Self> {
        let (own, base) = (Self::of(own)?, Self::of(base)?);
        // No figure is negative, so the extremes of the pairs are those of the ranges.
        Some(Self {
            median: ratio(own.median, base.median)?,
            min: ratio(own.min, base.max)?,
            max: ratio(own.max, base.min)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of(&[7.0]), Some(Spread { median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_spread_over_all_pairs() {
        let (own, base) = ([50.0, 55.0, 60.0], [9.0, 10.0, 12.0]);
        let ratios = Spread::of_ratios(&own, &base).expect("finite");
        let pairs: Vec<f64> = own.iter().flat_map(|own| base.map(|base| own / base)).collect();
        let all = Spread::of(&pairs).expect("some");
        assert_eq!((ratios.median, ratios.min, ratios.max), (5.5, all.min, all.max));
    }

    #[test]
    fn there_is_no_ratio_to_nothing_and_none_of_the_infinite() {
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[f64::INFINITY], &[1.0]), None);
        assert_eq!(Spread::of_ratios(&[f64::INFINITY], &[f64::INFINITY]), None);
        assert_eq!(Spread::of_ratios(&[], &[1.0]), None);
    }

    #[test]
    fn an_infinite_median_is_null() {
        let spread = Spread::of(&[1.0, f64::INFINITY, f64::INFINITY]).expect("some");
        let json = serde_json::to_value(spread).expect("serialises");
        assert_eq!(json, serde_json::json!({"median": null, "min": 1.0, "max": null}));
    }
}
