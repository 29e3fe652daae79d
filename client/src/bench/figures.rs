//! What a run's file tells of its messages: lateness by both clocks, and how many in each second.

use std::collections::BTreeMap;

use ksched_report::run::{Hops, Lateness, Second, Summary, Throughput, compact};

use super::live::Seen;
use crate::verify::{Acceptance, Lateness as Histogram, Planned};

/// Figures of one run, ready for its file.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// By the broker's clock.
    pub append: Option<Lateness>,
    /// By the reader's; none if it read afterwards.
    pub visible: Option<Lateness>,
    /// From sending to acknowledgement.
    pub acknowledged: Option<Summary>,
    pub throughput: Vec<Throughput>,
    /// Promotions, as the delivered records tell.
    pub hops: Option<Vec<Hops>>,
    /// Key, value and headers of all records that were read.
    pub record_bytes: u64,
    /// Messages delivered a second, from the run's start to the last one's append.
    pub sustained_per_s: f64,
}

impl Figures {
    /// Of a run that started at `start_ms`; records in the order of their arrival, of which the
    /// first of each message counts.
    pub(super) fn of(planned: &[Planned], read: &Seen, start_ms: i64) -> Self {
        let second =
            |at_ms: i64| u32::try_from(at_ms.saturating_sub(start_ms).max(0) / 1000).unwrap_or(u32::MAX);
        let mut seen = vec![false; planned.len()];
        let (mut append, mut visible, mut answered) = (Late::default(), Late::default(), Late::default());
        let (mut delivered, mut last_ms) = (0_u64, start_ms);
        let mut throughput: BTreeMap<u32, Throughput> = BTreeMap::new();
        let mut at = |at_us: i64, add: fn(&mut Throughput)| {
            let second = second(at_us / 1000);
            add(throughput.entry(second).or_insert(Throughput { second, ..Throughput::default() }));
        };
        for record in &read.records {
            let place = record.number.and_then(|number| usize::try_from(number).ok());
            let Some((message, seen)) = place.and_then(|n| planned.get(n).zip(seen.get_mut(n))) else {
                continue;
            };
            if std::mem::replace(seen, true) {
                continue;
            }
            (delivered, last_ms) = (delivered + 1, last_ms.max(record.append_ms));
            let due = second(message.due_ms);
            append.add(due, record.append_ms.saturating_sub(message.due_ms).saturating_mul(1000));
            let received_at_us = record.received_at_us.unwrap_or(record.append_ms.saturating_mul(1000));
            at(received_at_us, |second| second.delivered += 1);
            if let Some(at_us) = record.received_at_us {
                visible.add(due, at_us.saturating_sub(message.due_ms.saturating_mul(1000)));
            }
        }
        let mut undelivered = 0;
        for (message, seen) in planned.iter().zip(seen) {
            if message.sent_at_us > 0 {
                at(message.sent_at_us, |second| second.sent += 1);
            }
            if let Acceptance::Acknowledged { at_us } = message.acceptance {
                at(at_us, |second| second.acknowledged += 1);
                answered.add(second(at_us / 1000), at_us.saturating_sub(message.sent_at_us));
                undelivered += u64::from(!seen);
            }
        }
        Self {
            append: append.told(undelivered),
            visible: visible.told(undelivered),
            acknowledged: answered.told(0).map(|answered| answered.summary),
            throughput: throughput.into_values().collect(),
            hops: (!read.hops.is_empty())
                .then(|| read.hops.iter().map(|(&hops, &count)| Hops { hops, count }).collect()),
            record_bytes: read.bytes,
            sustained_per_s: delivered as f64 * 1e3 / (last_ms - start_ms).max(1_000) as f64,
        }
    }
}

/// Lateness by one clock, in µs, by the second in which messages were due.
#[derive(Debug, Default)]
struct Late(BTreeMap<u32, Vec<i64>>);

impl Late {
    fn add(&mut self, second: u32, late_us: i64) {
        self.0.entry(second).or_default().push(late_us);
    }

    fn told(self, undelivered: u64) -> Option<Lateness> {
        let mut histogram = Histogram::new();
        let (mut early, mut count, mut sum_ms, mut series) = (0, 0_u64, 0.0, Vec::new());
        for (second, mut late_us) in self.0 {
            late_us.sort_unstable();
            for &us in &late_us {
                histogram.record_us(us);
                early += u64::from(us < 0);
                sum_ms += us.max(0) as f64 / 1000.0;
            }
            count += late_us.len() as u64;
            // The smallest that the share of them does not exceed, as in an HdrHistogram.
            let rank = |share: f64| {
                let place = (share * late_us.len() as f64).ceil() as usize;
                late_us.get(place.saturating_sub(1)).map_or(0.0, |&us| us.max(0) as f64 / 1000.0)
            };
            let (p50_ms, p99_ms, max_ms) = (rank(0.5), rank(0.99), rank(1.0));
            series.push(Second { second, count: late_us.len() as u64, p50_ms, p99_ms, max_ms });
        }
        if count == 0 {
            return None;
        }
        let p = histogram.percentiles(undelivered);
        let summary = Summary {
            p50_ms: p.p50,
            p90_ms: p.p90,
            p99_ms: p.p99,
            p999_ms: p.p999,
            max_ms: p.max,
            mean_ms: sum_ms / count as f64,
        };
        Some(Lateness { summary, histogram: compact(histogram.buckets_ms()), early, series })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Observed;

    #[test]
    fn each_message_counts_once_in_the_second_of_its_due_time() {
        let planned: Vec<_> = (0..4)
            .map(|n| Planned {
                due_ms: 10_500 + 1_000 * n,
                key: None,
                checksum: 0,
                sent_at_us: 10_100_000,
                acceptance: Acceptance::Acknowledged { at_us: 10_101_000 },
            })
            .collect();
        let record = |number, late_us: i64| Observed {
            number: Some(number),
            checksum: 0,
            partition: 0,
            offset: 0,
            append_ms: 10_500 + 1_000 * number as i64,
            received_at_us: Some(1_000 * (10_500 + 1_000 * number as i64) + late_us),
        };
        // The third is never delivered, the second twice.
        let records = [record(0, 2_000), record(1, 4_000), record(1, 9_000_000), record(3, -1_000)];
        let seen =
            Seen { records: records.into(), hops: BTreeMap::from([(2, 3)]), bytes: 7, ..Seen::default() };
        let figures = Figures::of(&planned, &seen, 10_000);
        let visible = figures.visible.expect("something was read");
        let seconds: Vec<_> = visible.series.iter().map(|s| (s.second, s.count, s.max_ms)).collect();
        assert_eq!(seconds, [(0, 1, 2.0), (1, 1, 4.0), (3, 1, 0.0)]);
        assert_eq!((visible.early, visible.histogram.iter().map(|b| b.count).sum::<u64>()), (1, 3));
        assert!(visible.summary.max_ms.is_infinite() && (visible.summary.mean_ms - 2.0).abs() < 1e-9);
        assert_eq!(figures.append.expect("by the broker too").summary.p50_ms, 0.001);
        let first = figures.throughput.first().expect("a first second");
        assert_eq!((first.sent, first.acknowledged, first.delivered), (4, 4, 1));
        assert_eq!(figures.hops, Some(vec![Hops { hops: 2, count: 3 }]));
        assert!(figures.acknowledged.is_some_and(|a| a.p50_ms > 0.9 && a.max_ms < 1.1), "a millisecond each");
        // The last came 3.5 s after the start.
        assert_eq!((figures.record_bytes, figures.sustained_per_s), (7, 3.0 / 3.5));
    }
}
