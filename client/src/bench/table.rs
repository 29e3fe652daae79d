//! A report as people read it.

use super::Report;
use crate::{table::columns, verify::Percentiles};

impl Report {
    /// Counts, lateness, how fast it went, and in one sentence what that comes to.
    pub fn table(&self) -> String {
        let v = self.verification();
        let counts = [
            ("planned", v.planned),
            ("acknowledged", v.acknowledged),
            ("unknown", v.unknown),
            ("refused", self.refused),
            ("delivered", v.delivered),
            ("lost", v.lost),
            ("doubled", v.doubled),
            ("early", v.early),
            ("late beyond bound", v.late_beyond_bound),
            ("reordered", v.reordered),
            ("corrupted", v.corrupted),
            ("invented", v.invented),
        ];
        let counts = counts.map(|(what, count)| [what.to_owned(), count.to_string()]);
        let counts = columns(["MESSAGES", ""], &counts);
        let lateness = [("visible", v.visible_ms), ("append", v.append_ms)];
        let rows: Vec<_> = lateness.into_iter().filter_map(|(what, p)| Some(row(what, &p?))).collect();
        let lateness = columns(["LATENESS, MS", "P50", "P90", "P99", "P99.9", "MAX"], &rows);
        let mut rows = vec![["delivered per second".to_owned(), format!("{:.0}", self.rate_per_s)]];
        if self.accepted_per_s > 0.0 {
            rows.push(["accepted per second".to_owned(), format!("{:.0}", self.accepted_per_s)]);
        }
        let pace = columns(["RUN", &self.run], &rows);
        [counts, lateness, pace, self.conclusion() + "\n"].join("\n")
    }

    /// What the run comes to.
    fn conclusion(&self) -> String {
        let v = self.verification();
        let problems = self.problems.join(", ");
        if !self.valid {
            format!("{} of {} delivered; NOT VALID: {problems}", v.delivered, v.planned)
        } else if v.delivered == 0 {
            format!("{} of {} scheduled, delivery not looked at: OK", v.acknowledged, v.planned)
        } else {
            format!("{} of {} delivered exactly once, none early: OK", v.delivered, v.planned)
        }
    }
}

fn row(what: &str, p: &Percentiles) -> [String; 6] {
    let ms = |value: f64| if value.is_finite() { format!("{value:.1}") } else { "∞".to_owned() };
    [what.to_owned(), ms(p.p50), ms(p.p90), ms(p.p99), ms(p.p999), ms(p.max)]
}
