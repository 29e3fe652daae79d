//! The generator: sends each message at its planned time by one of the doors.

mod batch;
#[cfg(feature = "experiment")]
mod database;
mod intake;
mod stream;
mod unary;

use std::{str::FromStr, sync::Arc, time::Duration};

use ksched_kafka::Log;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::{
    Error,
    ledger::Ledger,
    notes::{Note, Notes},
    payload::{self, RunId},
    plan::Plan,
    report::Generated,
};
use crate::{Client, Message};

/// The timer of the runtime has whole milliseconds: what falls due meanwhile is
/// sent together.
const TICK: Duration = Duration::from_millis(1);
/// So much of the plan is told to the ledger before it is sent; a run that is killed leaves at most that much open.
const AHEAD: Duration = Duration::from_secs(2);

/// The way messages are scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// One call a message.
    Unary,
    /// One call for what is to be sent at about the same time.
    Batch,
    /// One stream for all.
    Stream,
    /// Plain records on the intake topic.
    Intake,
    /// Rows of a table: what ksched is compared with.
    #[cfg(feature = "experiment")]
    Database,
}

impl Door {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::Batch => "batch",
            Self::Stream => "stream",
            Self::Intake => "intake",
            #[cfg(feature = "experiment")]
            Self::Database => "sql",
        }
    }
}

impl FromStr for Door {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "unary" => Ok(Self::Unary),
            "batch" => Ok(Self::Batch),
            "stream" => Ok(Self::Stream),
            "intake" => Ok(Self::Intake),
            _ => Err("is none of unary, batch, stream, intake"),
        }
    }
}

/// What is to be sent, and where it is noted.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) plan: Arc<Plan>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) run: RunId,
    /// The first message to be sent; those before it were sent by an earlier part of the run.
    pub(super) first: u64,
    /// When message 0 would have been sent, by either clock.
    pub(super) start: Instant,
    pub(super) start_ms: i64,
    /// Asked before anything is sent.
    pub(super) notes: Option<Notes>,
    pub(super) topic: String,
    pub(super) intake_topic: String,
    #[cfg(feature = "experiment")]
    pub(super) database: Option<ksched_baseline::Database>,
}

/// Sends everything and waits until all of it is settled. How well the plan was
/// kept, and the first error of a message, if there was one.
pub(super) async fn send<L: Log>(
    door: Door,
    work: Work,
    client: Client,
    log: Arc<L>,
) -> Result<(Generated, Option<String>), Error> {
    let ledger = Arc::clone(&work.ledger);
    let pace = Pace::new(&work);
    let generated = match door {
        Door::Unary => unary::send(work, pace, client).await,
        Door::Batch => batch::send(work, pace, client).await,
        Door::Stream => stream::send(work, pace, client).await,
        Door::Intake => intake::send(work, pace, log).await?,
        #[cfg(feature = "experiment")]
        Door::Database => database::send(work, pace).await?,
    };
    Ok((generated, ledger.first_error()))
}

impl Work {
    /// The message of this number, noted as sent.
    fn message(&self, number: u64) -> Message {
        let content = payload::content(&self.plan, self.run, number);
        self.ledger.sends(number);
        let mut message = Message::new(self.topic.as_str()).due_ms(self.plan.due_ms(number, self.start_ms));
        if let Some(key) = content.key {
            message = message.key(key);
        }
        if let Some(value) = content.value {
            message = message.value(value);
        }
        for header in content.headers {
            message = match header.value {
                Some(value) => message.header(header.name, value),
                None => message.null_header(header.name),
            };
        }
        message
    }
}

/// Says which messages are to be sent when, and notes how late they are.
struct Pace {
    plan: Arc<Plan>,
    start: Instant,
    first: u64,
    next: u64,
    notes: Option<Notes>,
    /// Of the ledger.
    asked: u64,
    worst_lag: Duration,
    last_at: Option<Instant>,
}

impl Pace {
    fn new(work: &Work) -> Self {
        Self {
            plan: Arc::clone(&work.plan),
            start: work.start,
            first: work.first,
            next: work.first,
            notes: work.notes.clone(),
            asked: work.first,
            worst_lag: Duration::ZERO,
            last_at: None,
        }
    }

    /// Waits until there is something to send: the numbers, at most `limit` of them.
    async fn due(&mut self, limit: u64) -> Option<std::ops::Range<u64>> {
        if self.next == self.plan.len() {
            return None;
        }
        loop {
            let elapsed = Instant::now().checked_duration_since(self.start);
            let upto = elapsed.map_or(0, |elapsed| self.plan.sent_within(elapsed));
            let upto = upto.min(self.may_send(elapsed.unwrap_or_default())?);
            if upto > self.next {
                return Some(self.next..upto.min(self.next.saturating_add(limit)));
            }
            let at = self.start + self.plan.send_in(self.next);
            sleep_until(at.max(Instant::now() + TICK)).await;
        }
    }

    /// Up to which message the ledger lets us go; nowhere if it is broken. It is asked in time, so that nobody waits
    /// for the disk.
    fn may_send(&mut self, elapsed: Duration) -> Option<u64> {
        let Some(notes) = &self.notes else { return Some(u64::MAX) };
        if self.asked < self.plan.sent_within(elapsed + AHEAD / 2) {
            self.asked = self.plan.sent_within(elapsed + AHEAD);
            notes.put(Note::MaySend { upto: self.asked });
        }
        (!notes.is_broken()).then(|| notes.may_send())
    }

    /// Notes that these were handed over just now.
    fn sent(&mut self, numbers: &std::ops::Range<u64>) {
        self.next = numbers.end;
        let now = Instant::now();
        let planned_at = self.start + self.plan.send_in(numbers.start);
        self.worst_lag = self.worst_lag.max(now.saturating_duration_since(planned_at));
        self.last_at = Some(now);
    }

    fn generated(&self) -> Generated {
        // Counted from the planned start, so that a late start counts as well.
        let begins_in = self.plan.send_in(self.first);
        let start = self.start + begins_in;
        let took = self.last_at.map_or(Duration::ZERO, |last| last.saturating_duration_since(start));
        Generated {
            planned_s: self.plan.duration().saturating_sub(begins_in).as_secs_f64(),
            took_s: took.as_secs_f64(),
            worst_lag_ms: self.worst_lag.as_secs_f64() * 1000.0,
        }
    }
}
