//! What a run ends in.

use ksched_report::run::Broker;
use serde::Serialize;

use super::{Door, Figures, Options, Reading, live::Seen, payload::RunId};
use crate::verify::{Acceptance, Planned, Verification};

/// A generator this much behind its plan makes a run worthless (bench.md).
const BEHIND: f64 = 0.01;
/// Runs of a few seconds are allowed this much of the machine's jitter, in ms.
const JITTER_MS: f64 = 100.0;

/// How well the generator kept its plan.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Generated {
    /// From the first message to the last, as planned and as it was.
    pub planned_s: f64,
    pub took_s: f64,
    /// The most that any message was sent after its planned time.
    pub worst_lag_ms: f64,
}

impl Generated {
    /// By how much of its planned duration it took longer.
    pub fn behind(&self) -> f64 {
        if self.planned_s > 0.0 { (self.took_s / self.planned_s - 1.0).max(0.0) } else { 0.0 }
    }

    /// Whether it kept the plan well enough for the run to count.
    pub fn is_on_plan(&self) -> bool {
        self.behind() <= BEHIND || (self.took_s - self.planned_s) * 1000.0 <= JITTER_MS
    }
}

/// The result of a run or of a later check of one; its JSON is part of the interface.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Nothing is wrong, in the messages and in how the run was made.
    pub valid: bool,
    /// Why not, for people.
    pub problems: Vec<String>,
    #[serde(flatten)]
    verification: Parts,
    /// Messages delivered a second, from the first to the last.
    pub rate_per_s: f64,
    /// Messages acknowledged a second, from the first sent to the last acknowledged.
    pub accepted_per_s: f64,
    pub seed: u64,
    pub run: String,
    pub topic: String,
    /// What was measured: `ksched`, `postgresql`, `mariadb`; nothing if only the topic was looked at.
    pub system: Option<&'static str>,
    pub door: Option<Door>,
    /// Messages that were not scheduled: refused, or never sent.
    pub refused: u64,
    /// Of the first message that was not acknowledged: refused, or unknown.
    pub first_error: Option<String>,
    /// Records of other runs that were passed over.
    pub foreign: u64,
    pub generator: Option<Generated>,
    /// What Kafka did meanwhile, if that was looked at.
    pub broker: Option<Broker>,
    /// For the run's file: much more than a page's worth.
    #[serde(skip)]
    pub figures: Figures,
}

/// The verification without its own `valid`, which the report's replaces.
#[derive(Clone, Debug)]
struct Parts(Verification);

impl Serialize for Parts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serde_json::to_value(&self.0).map_err(serde::ser::Error::custom)?;
        if let Some(parts) = parts.as_object_mut() {
            parts.remove("valid");
        }
        parts.serialize(serializer)
    }
}

/// What a run looked like besides its verification.
pub(super) struct Outline<'a> {
    pub(super) run: RunId,
    pub(super) topic: &'a str,
    pub(super) span_s: f64,
    pub(super) foreign: u64,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        run: RunId,
        verification: Verification,
        planned: &[Planned],
        seen: &Seen,
        (generated, first_error): (Generated, Option<String>),
    ) -> Self {
        let outline = Outline { run, topic: &options.topic, span_s: seen.span_s, foreign: seen.foreign };
        let mut report = Self::of(outline, verification);
        report.system = Some(options.system());
        report.door = Some(options.door);
        report.generator = Some(generated);
        report.accepted_per_s = accepted_per_s(planned);
        report.refused = planned.iter().filter(|p| p.acceptance == Acceptance::Not).count() as u64;
        if options.reading == Reading::None {
            // Nothing was to be read: the run is about scheduling alone.
            report.problems.clear();
            if report.verification().unknown > 0 {
                report.problems.push(format!("{} outcomes unknown", report.verification().unknown));
            }
        }
        if report.refused > 0 {
            let why = first_error.as_deref().unwrap_or("never sent");
            report.problems.push(format!("{} not scheduled: {why}", report.refused));
        }
        if !generated.is_on_plan() {
            let percent = generated.behind() * 100.0;
            report.problems.push(format!("generator {percent:.1} % behind its plan"));
        }
        report.figures = Figures::of(planned, seen, run.start_ms);
        report.valid = report.problems.is_empty();
        report.first_error = first_error;
        report
    }

    /// A report of what was read alone.
    pub(super) fn of(outline: Outline<'_>, verification: Verification) -> Self {
        let v = &verification;
        let mut problems: Vec<String> = [
            (v.lost, "lost"),
            (v.doubled, "doubled"),
            (v.early, "early"),
            (v.late_beyond_bound, "late beyond the bound"),
            (v.reordered, "reordered"),
            (v.corrupted, "corrupted"),
            (v.invented, "invented"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        if v.delivered == 0 {
            problems.push("nothing of it was read: is it this seed, plan and topic?".to_owned());
        }
        Self {
            valid: problems.is_empty(),
            problems,
            // A burst is not spread over less than a second's worth.
            rate_per_s: verification.delivered as f64 / outline.span_s.max(1.0),
            verification: Parts(verification),
            accepted_per_s: 0.0,
            seed: outline.run.seed,
            run: outline.run.to_string(),
            topic: outline.topic.to_owned(),
            system: None,
            door: None,
            refused: 0,
            first_error: None,
            foreign: outline.foreign,
            generator: None,
            broker: None,
            figures: Figures::default(),
        }
    }

    /// When the run began, RFC 3339 in UTC.
    pub fn started_at(&self) -> String {
        crate::message::timestamp(self.start_ms()).to_string()
    }

    /// The same in ms since the epoch.
    pub fn start_ms(&self) -> i64 {
        self.run.parse::<RunId>().map_or(0, |run| run.start_ms)
    }

    /// What the verifier found.
    pub fn verification(&self) -> &Verification {
        &self.verification.0
    }
}

fn accepted_per_s(planned: &[Planned]) -> f64 {
    let acknowledged_at = planned.iter().filter_map(|p| match p.acceptance {
        Acceptance::Acknowledged { at_us } => Some(at_us),
        Acceptance::Unknown | Acceptance::Not => None,
    });
    let count = acknowledged_at.clone().count() as f64;
    let last_us = acknowledged_at.max().unwrap_or(0);
    let first_us = planned.iter().map(|p| p.sent_at_us).filter(|at_us| *at_us > 0).min().unwrap_or(last_us);
    count / ((last_us - first_us) as f64 / 1e6).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_behind_its_plan_is_found_out() {
        let took = |took_s| Generated { planned_s: 60.0, took_s, worst_lag_ms: 0.0 };
        assert!(took(60.5).is_on_plan());
        assert!(!took(60.7).is_on_plan());
        let short = Generated { planned_s: 1.0, took_s: 1.05, worst_lag_ms: 0.0 };
        assert!(short.is_on_plan());
    }

    #[test]
    fn the_json_has_the_promised_keys() {
        let verification =
            crate::verify::verify(&[], &[], crate::verify::Bounds { clock_ms: 0, late_ms: None });
        let run = RunId { seed: 9, start_ms: 1 };
        let report = Report::of(Outline { run, topic: "t", span_s: 0.0, foreign: 0 }, verification);
        let table = report.table();
        assert!(
            table.ends_with(
                "0 of 0 delivered; NOT VALID: nothing of it was read: is it this seed, plan and topic?\n"
            ),
            "{table}"
        );
        let json = serde_json::to_value(&report).expect("serialises");
        for key in [
            "valid",
            "planned",
            "acknowledged",
            "delivered",
            "lost",
            "doubled",
            "early",
            "late_beyond_bound",
            "reordered",
            "corrupted",
            "invented",
            "rate_per_s",
            "visible_ms",
            "append_ms",
            "seed",
        ] {
            assert!(json.get(key).is_some(), "{key} in {json}");
        }
        assert_eq!(json["valid"], false);
    }
}
