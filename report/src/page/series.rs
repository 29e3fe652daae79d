//! Series over a run, made as coarse as a plot can show.

use crate::run::{Sample, Second, Throughput};

/// More points than this on a plot are not told apart.
const MOST_BINS: f64 = 240.0;

/// How wide bins are, in whole seconds, for a run that ends then.
pub(super) fn bin_s(end_s: f64) -> u32 {
    let least = (end_s / MOST_BINS).ceil() as u32;
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]
        .into_iter()
        .find(|bin| *bin >= least)
        .unwrap_or(least)
}

/// Lateness of what was due within one bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Late {
    /// Its middle, in seconds since the run's start.
    pub(super) at_s: f64,
    /// The median of its seconds' medians.
    pub(super) p50_ms: f64,
    /// Of its worst second.
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

pub(super) fn late(series: &[Second], bin_s: u32) -> Vec<Late> {
    let bins = series.chunk_by(|a, b| a.second / bin_s == b.second / bin_s);
    let most = |bin: &[Second], of: fn(&Second) -> f64| bin.iter().map(of).fold(0.0, f64::max);
    let late = |bin: &[Second]| {
        let mut medians: Vec<f64> = bin.iter().map(|second| second.p50_ms).collect();
        medians.sort_by(f64::total_cmp);
        Late {
            at_s: middle(bin[0].second / bin_s, bin_s),
            p50_ms: medians[medians.len() / 2],
            p99_ms: most(bin, |second| second.p99_ms),
            max_ms: most(bin, |second| second.max_ms),
        }
    };
    bins.map(late).collect()
}

/// What is not further apart than a few bins: a pause breaks a line.
pub(super) fn unbroken(points: &[(f64, f64)], bin_s: u32) -> impl Iterator<Item = &[(f64, f64)]> {
    let most = f64::from(bin_s) * 3.5;
    points.chunk_by(move |a, b| b.0 - a.0 <= most)
}

/// Messages a second by bins, from the run's start to its end.
pub(super) fn pace(
    throughput: &[Throughput],
    end_s: f64,
    bin_s: u32,
    of: fn(&Throughput) -> u64,
) -> Vec<(f64, f64)> {
    let count = (end_s / f64::from(bin_s)).ceil().max(1.0) as usize;
    let mut sums = vec![0; count];
    for second in throughput {
        let bin = (second.second / bin_s) as usize;
        sums[bin.min(count - 1)] += of(second);
    }
    let per_s = |sum: u64| sum as f64 / f64::from(bin_s);
    (0_u32..).zip(sums).map(|(bin, sum)| (middle(bin, bin_s), per_s(sum))).collect()
}

/// Messages acknowledged and not delivered at the end of each bin, from the run's start to its end.
pub(super) fn waiting(throughput: &[Throughput], end_s: f64, bin_s: u32) -> Vec<(f64, f64)> {
    let count = (end_s / f64::from(bin_s)).ceil().max(1.0) as usize;
    let mut growth = vec![0.0; count];
    for second in throughput {
        let bin = (second.second / bin_s) as usize;
        growth[bin.min(count - 1)] += second.acknowledged as f64 - second.delivered as f64;
    }
    let end = |bin: u32| (f64::from(bin + 1) * f64::from(bin_s)).min(end_s);
    let sums = growth.into_iter().scan(0.0, |sum, growth| {
        *sum += growth;
        // A message may be delivered in the second before its acknowledgement.
        Some(f64::max(*sum, 0.0))
    });
    std::iter::once((0.0, 0.0)).chain((0_u32..).zip(sums).map(|(bin, sum)| (end(bin), sum))).collect()
}

fn middle(bin: u32, bin_s: u32) -> f64 {
    (f64::from(bin) + 0.5) * f64::from(bin_s)
}

/// What is looked at in a process' samples.
#[derive(Clone, Copy, Debug)]
pub(super) enum Looked {
    /// A value as it is.
    Level(fn(&Sample) -> Option<f64>),
    /// A counter, of which the growth a second is shown.
    Growth(fn(&Sample) -> Option<f64>),
}

/// By bins, from the run's start to its end: 0 while the process was not there. None if no
/// sample has the value.
pub(super) fn usage(samples: &[Sample], looked: Looked, end_s: f64, bin_s: f64) -> Option<Vec<f64>> {
    let of = match looked {
        Looked::Level(of) | Looked::Growth(of) => of,
    };
    let known: Vec<(f64, f64)> = samples
        .iter()
        .filter_map(|s| Some((s.at_s, of(s)?)))
        .filter(|(at, v)| at.is_finite() && v.is_finite())
        .collect();
    let (first, last) = (known.first()?.0, known.last()?.0);
    let bins = (end_s / bin_s).ceil().max(1.0) as u32;
    let there = |at: f64| (first - bin_s..=last + bin_s).contains(&at);
    let value = |bin: u32| {
        let (from, to) = (f64::from(bin) * bin_s, f64::from(bin + 1) * bin_s);
        let at = f64::midpoint(from, to);
        match looked {
            _ if !there(at) => 0.0,
            Looked::Level(_) => between(&known, at),
            // At the ends of its life only a part of the bin is known.
            Looked::Growth(_) => {
                let (from, to) = (from.max(first), to.min(last));
                let width = to - from;
                if width <= 0.0 {
                    0.0
                } else {
                    ((between(&known, to) - between(&known, from)) / width).max(0.0)
                }
            }
        }
    };
    Some((0..bins).map(value).collect())
}

/// The value at an instant, in a straight line between the two samples about it.
fn between(known: &[(f64, f64)], at: f64) -> f64 {
    let after = known.partition_point(|(sample, _)| *sample < at);
    match (after.checked_sub(1).and_then(|before| known.get(before)), known.get(after)) {
        (Some(before), Some(after)) if after.0 > before.0 => {
            before.1 + (after.1 - before.1) * (at - before.0) / (after.0 - before.0)
        }
        (Some(only), _) | (None, Some(only)) => only.1,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_keep_the_worst() {
        let second =
            |second, p99_ms| Second { second, count: 1, p50_ms: p99_ms / 2.0, p99_ms, max_ms: p99_ms * 2.0 };
        let series = [second(0, 1.0), second(1, 9.0), second(2, 4.0), second(7, 3.0)];
        let bins = late(&series, 3);
        assert_eq!(bins.len(), 2);
        assert_eq!(bins[0], Late { at_s: 1.5, p50_ms: 2.0, p99_ms: 9.0, max_ms: 18.0 });
        assert_eq!(bins[1].at_s, 7.5);
        assert!(late(&[], 3).is_empty());
    }

    #[test]
    fn a_counter_is_shown_by_its_growth_and_only_while_there() {
        let sample = |at_s, cpu_s| Sample { at_s, cpu_s, ..Sample::default() };
        let samples = [sample(10.0, 5.0), sample(20.0, 15.0), sample(30.0, 20.0)];
        let growth = usage(&samples, Looked::Growth(|s| Some(s.cpu_s)), 60.0, 10.0).expect("known");
        assert_eq!(growth, [0.0, 1.0, 0.5, 0.0, 0.0, 0.0]);
        let level = usage(&samples, Looked::Level(|s| Some(s.cpu_s)), 40.0, 10.0).expect("known");
        assert_eq!(level, [5.0, 10.0, 17.5, 20.0]);
        assert_eq!(usage(&samples, Looked::Level(|s| Some(s.fds?.into())), 40.0, 10.0), None);
        assert_eq!(usage(&[], Looked::Level(|s| Some(s.cpu_s)), 40.0, 10.0), None);
    }

    #[test]
    fn a_pause_breaks_a_line() {
        let points = [(0.5, 1.0), (1.5, 1.0), (9.5, 1.0)];
        assert_eq!(unbroken(&points, 1).map(<[_]>::len).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn messages_are_counted_by_the_second() {
        let second = |second, sent| Throughput { second, sent, ..Throughput::default() };
        let series = [second(0, 10), second(1, 20), second(3, 30)];
        assert_eq!(pace(&series, 4.0, 2, |s| s.sent), [(1.0, 15.0), (3.0, 15.0)]);
    }

    #[test]
    fn what_is_not_delivered_waits() {
        let second =
            |second, acknowledged, delivered| Throughput { second, acknowledged, delivered, sent: 0 };
        let series = [second(0, 10, 0), second(1, 5, 3), second(3, 0, 14)];
        assert_eq!(waiting(&series, 3.5, 2), [(0.0, 0.0), (2.0, 12.0), (3.5, 0.0)]);
        assert_eq!(waiting(&[], 2.0, 2), [(0.0, 0.0), (2.0, 0.0)]);
    }
}
