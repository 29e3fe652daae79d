//! A report as people read it.

use super::Report;
use crate::{table::columns, verify::Percentiles};

impl Report {
    /// Counts, then lateness.
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
        let mut rows: Vec<_> = counts.map(|(what, count)| [what.to_owned(), count.to_string()]).into();
        rows.push(["delivered a second".to_owned(), format!("{:.0}", self.rate_per_s)]);
        if self.accepted_per_s > 0.0 {
            rows.push(["accepted a second".to_owned(), format!("{:.0}", self.accepted_per_s)]);
        }
        rows.push(["run".to_owned(), self.run.clone()]);
        rows.push(["valid".to_owned(), if self.valid { "yes" } else { "no" }.to_owned()]);
        let counts = columns(["MESSAGES", ""], &rows);
        let lateness = [("visible", v.visible_ms), ("append", v.append_ms)];
        let rows: Vec<_> = lateness.into_iter().filter_map(|(what, p)| Some(row(what, &p?))).collect();
        counts + "\n" + &columns(["LATENESS, MS", "P50", "P90", "P99", "P99.9", "MAX"], &rows)
    }
}

fn row(what: &str, p: &Percentiles) -> [String; 6] {
    let ms = |value: f64| if value.is_finite() { format!("{value:.1}") } else { "∞".to_owned() };
    [what.to_owned(), ms(p.p50), ms(p.p90), ms(p.p99), ms(p.p999), ms(p.max)]
}
