//! The verifier: a plan against what a read_committed reader got. Pure.
//!
//! | found | means | invariant |
//! | --- | --- | --- |
//! | lost | acknowledged, and not delivered | I1 |
//! | doubled | copies beyond the first | I2 |
//! | early | appended, or seen, before its due time less the clock bound | I3 |
//! | late beyond bound | seen later after its due time, and after its acknowledgement, than the bound | I7 |
//! | reordered | behind a message of its key and partition that it should precede | I4 |
//! | corrupted | key, value or headers are not those planned | I5 |
//! | invented | not in the plan, or known not to have been scheduled | I6 |
//!
//! A message whose acknowledgement is unknown may be delivered or not: once, or
//! not at all, is right. A run in which nothing was read, or nothing was planned,
//! has proven nothing and is not valid.

mod lateness;
mod order;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::lateness::{Lateness, Percentiles};

/// One message of a plan, and what is known of its acceptance. Its number is its
/// place in the plan.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub due_ms: i64,
    /// Messages with the same number here have the same key; `None`: no key.
    pub key: Option<u32>,
    /// Of key, value and headers.
    pub checksum: u64,
    /// When it was handed over for scheduling, in µs of epoch time.
    pub sent_at_us: i64,
    pub acceptance: Acceptance,
}

/// What the scheduling side knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// Acknowledged at this instant, in µs of epoch time.
    Acknowledged { at_us: i64 },
    /// It may have been scheduled.
    Unknown,
    /// It was not scheduled: refused, or never sent.
    Not,
}

/// One record as read from the target.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// The message it says it is; `None` if it cannot be told.
    pub number: Option<u64>,
    /// Of key, value and the user's headers, as received.
    pub checksum: u64,
    pub partition: i32,
    pub offset: i64,
    /// The record's timestamp: append time where the target says `LogAppendTime`.
    pub append_ms: i64,
    /// When the reader had it, in µs of epoch time; `None` if it read afterwards.
    pub received_at_us: Option<i64>,
}

/// What is still right.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How far the clocks of those who append, read and schedule may differ.
    pub clock_ms: i64,
    /// Visible lateness beyond which a message counts as late; `None`: any.
    pub late_ms: Option<i64>,
}

/// Something that is not right, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    pub kind: AnomalyKind,
    pub number: Option<u64>,
    /// Where it was read; none for what was lost.
    pub partition: Option<i32>,
    pub offset: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    Lost,
    Doubled,
    Early,
    Late,
    Reordered,
    Corrupted,
    Invented,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Something was read and nothing is wrong.
    pub valid: bool,
    pub planned: u64,
    pub acknowledged: u64,
    /// Messages whose acknowledgement is unknown, and how many of them came.
    pub unknown: u64,
    pub unknown_delivered: u64,
    /// Different messages of the plan that were delivered.
    pub delivered: u64,
    pub lost: u64,
    pub doubled: u64,
    pub early: u64,
    pub late_beyond_bound: u64,
    pub reordered: u64,
    pub corrupted: u64,
    pub invented: u64,
    /// Receive time less due time; nothing if the reader read afterwards.
    pub visible_ms: Option<Percentiles>,
    /// Append time less due time.
    pub append_ms: Option<Percentiles>,
    pub clock_bound_ms: i64,
    pub late_bound_ms: Option<i64>,
    /// The first few things that are wrong.
    pub examples: Vec<Anomaly>,
}

/// How many anomalies are told one by one.
const EXAMPLES: usize = 1_000;

/// Judges what was read against what was planned.
pub fn verify(planned: &[Planned], observed: &[Observed], bounds: Bounds) -> Verification {
    let mut run = Run::new(planned, bounds);
    let mut first_copies = Vec::with_capacity(observed.len().min(planned.len()));
    for (index, record) in observed.iter().enumerate() {
        if run.look(record) {
            first_copies.push(index);
        }
    }
    for index in order::reordered(planned, observed, first_copies) {
        run.found(AnomalyKind::Reordered, observed[index].number, Some(&observed[index]));
    }
    run.finish(observed)
}

/// What is known so far.
struct Run<'a> {
    planned: &'a [Planned],
    bounds: Bounds,
    seen: Vec<bool>,
    visible: Lateness,
    append: Lateness,
    result: Verification,
}

impl<'a> Run<'a> {
    fn new(planned: &'a [Planned], bounds: Bounds) -> Self {
        let count = |is: fn(&Planned) -> bool| planned.iter().filter(|p| is(p)).count() as u64;
        let result = Verification {
            valid: false,
            planned: planned.len() as u64,
            acknowledged: count(|p| matches!(p.acceptance, Acceptance::Acknowledged { .. })),
            unknown: count(|p| p.acceptance == Acceptance::Unknown),
            unknown_delivered: 0,
            delivered: 0,
            lost: 0,
            doubled: 0,
            early: 0,
            late_beyond_bound: 0,
            reordered: 0,
            corrupted: 0,
            invented: 0,
            visible_ms: None,
            append_ms: None,
            clock_bound_ms: bounds.clock_ms,
            late_bound_ms: bounds.late_ms,
            examples: Vec::new(),
        };
        let seen = vec![false; planned.len()];
        Self { planned, bounds, seen, visible: Lateness::new(), append: Lateness::new(), result }
    }

    /// Takes one record; whether it is the first copy of a message of the plan.
    fn look(&mut self, record: &Observed) -> bool {
        let place = record.number.and_then(|number| usize::try_from(number).ok());
        let Some((place, plan)) = place.and_then(|p| Some((p, self.planned.get(p)?))) else {
            self.found(AnomalyKind::Invented, record.number, Some(record));
            return false;
        };
        if plan.acceptance == Acceptance::Not {
            self.found(AnomalyKind::Invented, record.number, Some(record));
            return false;
        }
        if record.checksum != plan.checksum {
            self.found(AnomalyKind::Corrupted, record.number, Some(record));
        }
        // A second copy may be early as well.
        self.look_at_times(plan, record);
        if std::mem::replace(&mut self.seen[place], true) {
            self.found(AnomalyKind::Doubled, record.number, Some(record));
            return false;
        }
        self.result.delivered += 1;
        if plan.acceptance == Acceptance::Unknown {
            self.result.unknown_delivered += 1;
        }
        true
    }

    fn look_at_times(&mut self, plan: &Planned, record: &Observed) {
        let due_us = plan.due_ms.saturating_mul(1000);
        let appended_us = record.append_ms.saturating_mul(1000);
        let seen_us = record.received_at_us.unwrap_or(appended_us);
        self.append.record_us(appended_us.saturating_sub(due_us));
        if record.received_at_us.is_some() {
            self.visible.record_us(seen_us.saturating_sub(due_us));
        }
        let earliest_us = due_us.saturating_sub(self.bounds.clock_ms.saturating_mul(1000));
        if appended_us.min(seen_us) < earliest_us {
            self.found(AnomalyKind::Early, record.number, Some(record));
        }
        // What was accepted after its due time could not be delivered at it.
        if let (Some(late_ms), Acceptance::Acknowledged { at_us }) = (self.bounds.late_ms, plan.acceptance)
            && seen_us.saturating_sub(due_us.max(at_us)) > late_ms.saturating_mul(1000)
        {
            self.found(AnomalyKind::Late, record.number, Some(record));
        }
    }

    fn found(&mut self, kind: AnomalyKind, number: Option<u64>, record: Option<&Observed>) {
        let result = &mut self.result;
        let count = match kind {
            AnomalyKind::Lost => &mut result.lost,
            AnomalyKind::Doubled => &mut result.doubled,
            AnomalyKind::Early => &mut result.early,
            AnomalyKind::Late => &mut result.late_beyond_bound,
            AnomalyKind::Reordered => &mut result.reordered,
            AnomalyKind::Corrupted => &mut result.corrupted,
            AnomalyKind::Invented => &mut result.invented,
        };
        *count += 1;
        if result.examples.len() < EXAMPLES {
            let (partition, offset) = (record.map(|r| r.partition), record.map(|r| r.offset));
            result.examples.push(Anomaly { kind, number, partition, offset });
        }
    }

    fn finish(mut self, observed: &[Observed]) -> Verification {
        for (number, plan) in self.planned.iter().enumerate() {
            if !self.seen[number] && matches!(plan.acceptance, Acceptance::Acknowledged { .. }) {
                self.found(AnomalyKind::Lost, Some(number as u64), None);
            }
        }
        // The undelivered are infinitely late.
        let read_live = observed.iter().any(|r| r.received_at_us.is_some());
        self.result.visible_ms = read_live.then(|| self.visible.percentiles(self.result.lost));
        self.result.append_ms = (!observed.is_empty()).then(|| self.append.percentiles(self.result.lost));
        let r = &self.result;
        let wrong =
            r.lost + r.doubled + r.early + r.late_beyond_bound + r.reordered + r.corrupted + r.invented;
        self.result.valid = wrong == 0 && r.delivered > 0;
        self.result
    }
}
