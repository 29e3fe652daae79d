//! Geometry of the charts, in units of their view boxes.

use super::status::{Level, Sample};

/// Both kinds are drawn in boxes of this size and stretched.
pub(super) const WIDTH: f64 = 480.0;
pub(super) const HEIGHT: f64 = 100.0;
/// So little is still seen.
const BAR_MIN: f64 = 1.5;

pub(super) struct Bar {
    pub(super) x: String,
    pub(super) y: String,
    pub(super) width: String,
    pub(super) height: String,
    pub(super) records: i64,
    pub(super) starts_at_ms: i64,
}

/// A bar for each slot that is not empty.
pub(super) fn bars(level: &Level) -> Vec<Bar> {
    let peak = level.slots.iter().map(|slot| slot.records).max().unwrap_or(0).max(1) as f64;
    let step = WIDTH / level.slots.len().max(1) as f64;
    let bar = |(place, slot): (usize, &super::status::Slot)| {
        let height = (slot.records as f64 / peak * HEIGHT).max(BAR_MIN);
        (slot.records > 0).then(|| Bar {
            x: number(place as f64 * step + step * 0.1),
            y: number(HEIGHT - height),
            width: number(step * 0.8),
            height: number(height),
            records: slot.records,
            starts_at_ms: slot.starts_at_ms,
        })
    };
    level.slots.iter().enumerate().filter_map(bar).collect()
}

/// Points of a line over the samples, `x,y x,y …`; the time axis ends at the last one and
/// reaches back `span_ms`.
pub(super) fn line(
    samples: &[Sample],
    span_ms: i64,
    peak: f64,
    value: impl Fn(&Sample) -> Option<f64>,
) -> String {
    let end = samples.last().map_or(0, |sample| sample.at_ms);
    let points = samples.iter().filter_map(|sample| {
        let x = WIDTH * (1.0 - (end - sample.at_ms) as f64 / span_ms as f64);
        let y = HEIGHT * (1.0 - value(sample)? / peak.max(f64::MIN_POSITIVE));
        Some(format!("{},{}", number(x), number(y.clamp(0.0, HEIGHT))))
    });
    points.collect::<Vec<_>>().join(" ")
}

/// The next of 1, 2, 5, 10, … from `peak` on: an axis that does not dance.
pub(super) fn axis_top(peak: f64) -> f64 {
    let power = 10_f64.powf(peak.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|top| *top >= peak).unwrap_or(peak)
}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::status::Slot;

    #[test]
    fn bars_are_as_high_as_their_share_of_the_highest() {
        let slots = [0, 10, 5].map(|records| Slot { starts_at_ms: 0, records }).to_vec();
        let bars = bars(&Level { level: 1, slot_width_ms: 1, slots, overdue: 0 });
        assert_eq!(
            bars.iter().map(|bar| (&*bar.y, &*bar.height)).collect::<Vec<_>>(),
            [("0.0", "100.0"), ("50.0", "50.0")]
        );
        assert_eq!(bars[0].x, "176.0");
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        assert_eq!([0.0, 1.0, 3.0, 10.0, 4_999.0].map(axis_top), [1.0, 1.0, 5.0, 10.0, 5_000.0]);
    }
}
