//! From values to places on an axis, and the ticks beside it.

/// One axis; places go from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    /// What is written beside the axis, and where.
    pub(super) ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
}

/// Steps that people count seconds in.
const TIME_STEPS_S: [f64; 17] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0,
    21_600.0, 86_400.0,
];

impl Axis {
    /// From 0 to a round number at or above `max`, in about `steps` steps.
    pub(super) fn linear(max: f64, steps: f64, label: impl Fn(f64) -> String) -> Self {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let step = round_step(max / steps);
        // A peak just above a tick needs no further step.
        let count = (max / step - 0.02).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|n| f64::from(n) * step).map(|v| (v, label(v))).collect();
        Self { scale: Scale::Linear, from: 0.0, to: (count * step).max(max), ticks }
    }

    /// Over all powers of ten that hold both, with a tick at each; at 2 and 5 as well if they are few.
    pub(super) fn log(min: f64, max: f64, label: impl Fn(f64) -> String) -> Self {
        let decade = |value: f64| if value.is_finite() && value > 0.0 { value.log10() } else { 0.0 };
        let from = (decade(min) + 1e-9).floor();
        let to = (decade(max) - 1e-9).ceil().max(from + 1.0);
        let decades = (from as i32..=to as i32).map(|n| 10_f64.powi(n));
        let steps: &[f64] = if to - from > 2.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let ticks = decades.flat_map(|decade| steps.iter().map(move |step| decade * step));
        let ticks = ticks.filter(|v| *v <= 10_f64.powf(to) * 1.001).map(|v| (v, label(v))).collect();
        Self { scale: Scale::Log, from: 10_f64.powf(from), to: 10_f64.powf(to), ticks }
    }

    /// Seconds from 0 to the end of a run, in about `steps` steps.
    pub(super) fn time(end_s: f64, steps: f64) -> Self {
        let end_s = if end_s.is_finite() && end_s > 0.0 { end_s } else { 1.0 };
        let step = TIME_STEPS_S.into_iter().find(|step| end_s / step <= steps).unwrap_or(end_s / steps);
        let count = (end_s / step + 0.02).floor() as u32;
        let ticks = (0..=count).map(|n| f64::from(n) * step).map(|s| (s, clock(s, step))).collect();
        Self { scale: Scale::Linear, from: 0.0, to: end_s, ticks }
    }

    /// Where a value is; what is beyond an end is at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => {
                let (from, to) = (self.from.log10(), self.to.log10());
                (value.max(self.from).log10() - from) / (to - from)
            }
        };
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }

    /// How many powers of ten a logarithmic axis has.
    pub(super) fn decades(&self) -> f64 {
        (self.to / self.from).log10().round()
    }

    pub(super) fn from(&self) -> f64 {
        self.from
    }
}

/// The next of 1, 2, 5, 10, 20, …
fn round_step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * decade).find(|step| *step >= least * 0.999).unwrap_or(least)
}

fn clock(seconds: f64, step: f64) -> String {
    match step {
        _ if seconds == 0.0 => "0".to_owned(),
        step if step < 60.0 => format!("{seconds} s"),
        step if step < 3600.0 => format!("{} min", seconds / 60.0),
        _ => format!("{} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        let plain = |v: f64| v.to_string();
        assert_eq!(labels(&Axis::linear(87.0, 4.0, plain)), ["0", "50", "100"]);
        assert_eq!(labels(&Axis::linear(0.9, 4.0, plain)), ["0", "0.5", "1"]);
        assert_eq!(labels(&Axis::log(3.0, 60_000.0, plain)), ["1", "10", "100", "1000", "10000", "100000"]);
        assert_eq!(labels(&Axis::log(1.0, 1.0, plain)), ["1", "2", "5", "10"]);
        assert_eq!(labels(&Axis::time(372.0, 6.0)), ["0", "2 min", "4 min", "6 min"]);
        assert_eq!(labels(&Axis::time(30.0, 6.0)), ["0", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s"]);
    }

    #[test]
    fn no_value_is_off_the_axis() {
        let odd = [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300];
        for axis in [
            Axis::linear(f64::NAN, 4.0, |_| String::new()),
            Axis::linear(0.0, 4.0, |_| String::new()),
            Axis::log(0.0, f64::INFINITY, |_| String::new()),
            Axis::time(f64::INFINITY, 6.0),
        ] {
            for value in odd {
                assert!((0.0..=1.0).contains(&axis.place(value)), "{value} on {axis:?}");
            }
        }
        let log = Axis::log(1.0, 1000.0, |_| String::new());
        assert!((log.place(10.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(log.place(f64::INFINITY), 1.0);
    }
}
