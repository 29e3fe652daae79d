//! A report as people read it.

use ksched_report::run::Broker;

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
        let kafka = self.broker.as_ref().and_then(|broker| asked(broker, v.delivered));
        let sections = [counts, lateness, pace].into_iter().chain(kafka);
        sections.chain([self.conclusion() + "\n"]).collect::<Vec<_>>().join("\n")
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

/// What Kafka was asked and how much went in and out of it; none if nobody counted.
fn asked(broker: &Broker, delivered: u64) -> Option<String> {
    let each = |count: u64| {
        if delivered > 0 { format!("{:.3}", count as f64 / delivered as f64) } else { "-".to_owned() }
    };
    let row = |what: &str, count: u64| [what.to_owned(), count.to_string(), each(count)];
    let mut requests: Vec<_> = broker.requests.iter().map(|(api, count)| (api.as_str(), *count)).collect();
    requests.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let all: u64 = requests.iter().map(|(_, count)| count).sum();
    let bytes = [("bytes in", broker.in_bytes), ("bytes out", broker.out_bytes)];
    let bytes = bytes.into_iter().filter_map(|(what, bytes)| Some((what, bytes?)));
    let rows: Vec<_> = requests
        .iter()
        .copied()
        .chain([("all requests", all)])
        .chain(bytes)
        .map(|(what, n)| row(what, n))
        .collect();
    (all > 0).then(|| columns(["KAFKA", "", "A MESSAGE"], &rows))
}

fn row(what: &str, p: &Percentiles) -> [String; 6] {
    let ms = |value: f64| if value.is_finite() { format!("{value:.1}") } else { "∞".to_owned() };
    [what.to_owned(), ms(p.p50), ms(p.p90), ms(p.p99), ms(p.p999), ms(p.max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kafka_was_asked_is_told_by_the_message() {
        let requests = [("Fetch".to_owned(), 300), ("Produce".to_owned(), 1_500)].into();
        let broker = Broker { requests, in_bytes: Some(46_000), ..Broker::default() };
        let told = asked(&broker, 1_000).expect("it was counted");
        let lines: Vec<_> =
            told.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "KAFKA A MESSAGE",
                "Produce 1500 1.500",
                "Fetch 300 0.300",
                "all requests 1800 1.800",
                "bytes in 46000 46.000"
            ]
        );
        assert_eq!(asked(&Broker::default(), 1_000), None);
    }
}
