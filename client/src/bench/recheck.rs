//! Judges a run afterwards, by what is on the topic and its plan made again.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use ksched_kafka::Log;
use parking_lot::Mutex;

use super::{Error, Past, Plan, Report, RunId, Shape, ledger::Ledger, payload, report::Outline};
use crate::{
    reader::{Since, TopicReader, Until},
    verify::{Acceptance, Bounds, Observed, Planned, verify},
};

/// What is checked.
#[derive(Clone, Debug)]
pub struct Check {
    pub shape: Shape,
    pub topic: String,
    /// The run; the last one of the plan's seed if not told.
    pub run: Option<RunId>,
    /// Where reading starts.
    pub from: Since,
    pub bounds: Bounds,
    /// What the run's ledger knows, if it had one.
    pub past: Option<Past>,
}

/// A record, and when it was due by its own header, if it has one.
type Told = (Observed, Option<i64>);

/// Blocks until the topic is read to its end.
///
/// Without a ledger it is not known which of the plan's messages were acknowledged, nor when a run that was
/// interrupted went on: all are taken to have been acknowledged a second after they were to be sent in one go.
///
/// # Errors
/// Those of Kafka, a run that does not belong to the plan, and without its ledger one that was interrupted.
pub fn recheck<L: Log>(check: &Check, log: Arc<L>) -> Result<Report, Error> {
    let runs: Arc<Mutex<BTreeMap<RunId, Vec<Told>>>> = Arc::default();
    let strangers: Arc<Mutex<Vec<Observed>>> = Arc::default();
    let (into_runs, into_strangers) = (Arc::clone(&runs), Arc::clone(&strangers));
    let mut reader =
        TopicReader::start(log, &check.topic, check.from.clone(), Until::End, move |received| {
            let record = &received.record;
            let mark = payload::read(&record.content);
            let observed = Observed {
                number: mark.map(|mark| mark.number),
                checksum: mark.map_or(0, |mark| mark.checksum),
                partition: record.source.partition,
                offset: record.offset,
                append_ms: record.timestamp_ms,
                received_at_us: None,
            };
            match mark {
                Some(mark) => into_runs
                    .lock()
                    .entry(mark.run)
                    .or_default()
                    .push((observed, payload::told(&record.content, "ksched-due"))),
                None => into_strangers.lock().push(observed),
            }
            ControlFlow::Continue(())
        })?;
    reader.wait()?;
    let mut runs = std::mem::take(&mut *runs.lock());
    let seed = check.shape.seed;
    let run = match check.past.as_ref().map(|past| past.run).or(check.run) {
        Some(run) if run.seed != seed => {
            return Err(Error::Settings(format!("run {run} is not of seed {seed}")));
        }
        Some(run) => run,
        // Runs are in the order of their starts.
        None => {
            runs.keys().rev().find(|run| run.seed == seed).copied().unwrap_or(RunId { seed, start_ms: 0 })
        }
    };
    let own = runs.remove(&run).unwrap_or_default();
    let foreign = runs.values().map(|records| records.len() as u64).sum();
    let plan = Plan::new(check.shape.clone());
    let planned = match &check.past {
        Some(past) => as_noted(&plan, past),
        None if own.iter().any(|(record, told_ms)| is_moved(&plan, run, record, *told_ms)) => {
            return Err(Error::Settings(format!(
                "run {run} was interrupted: only its --ledger tells what was due when"
            )));
        }
        None => as_if_acknowledged(&plan, run),
    };
    let mut observed: Vec<_> = own.into_iter().map(|(record, _)| record).collect();
    observed.append(&mut strangers.lock());
    let verification = verify(&planned, &observed, check.bounds);
    let outline = Outline { run, topic: &check.topic, span_s: span_s(&observed), foreign };
    Ok(Report::of(outline, verification))
}

/// What was due when, and what became of it, as the run's end would have had it.
fn as_noted(plan: &Plan, past: &Past) -> Vec<Planned> {
    let ledger = Ledger::new(plan.len(), None);
    ledger.remembers(past.may_have_sent, &past.settled);
    ledger.planned(plan, &past.starts)
}

/// Whether a record was due at another time than a run in one go would have had it: what was sent after an
/// interruption is due so much later.
fn is_moved(plan: &Plan, run: RunId, record: &Observed, told_ms: Option<i64>) -> bool {
    let planned_ms =
        record.number.filter(|number| *number < plan.len()).map(|n| plan.due_ms(n, run.start_ms));
    planned_ms.zip(told_ms).is_some_and(|(planned_ms, told_ms)| planned_ms != told_ms)
}

fn as_if_acknowledged(plan: &Plan, run: RunId) -> Vec<Planned> {
    let each = (0..plan.len()).map(|number| {
        let send_us = i64::try_from(plan.send_in(number).as_micros()).unwrap_or(i64::MAX);
        let sent_at_us = run.start_ms.saturating_mul(1000).saturating_add(send_us);
        Planned {
            due_ms: plan.due_ms(number, run.start_ms),
            key: plan.key(number),
            checksum: plan.checksum(number),
            sent_at_us,
            acceptance: Acceptance::Acknowledged { at_us: sent_at_us.saturating_add(1_000_000) },
        }
    });
    each.collect()
}

fn span_s(observed: &[Observed]) -> f64 {
    let times = || observed.iter().map(|record| record.append_ms);
    (times().max().unwrap_or(0) - times().min().unwrap_or(0)) as f64 / 1e3
}
