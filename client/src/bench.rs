//! The bench: an open loop from a plan made beforehand, a reader on the target,
//! the verifier at the end.
//!
//! The generator sends each message at its planned time and never waits for an
//! answer to do so; a run in which it falls behind says nothing about the
//! scheduler and is not valid. Coordinators and brokers may go away meanwhile:
//! the client repeats what is safe to repeat, what stays unknown is noted as
//! unknown, and the reader goes on where it was.

#[cfg(feature = "experiment")]
mod book;
mod doors;
mod figures;
pub mod floors;
mod ledger;
mod live;
#[cfg_attr(not(feature = "experiment"), expect(dead_code, reason = "nobody keeps a ledger"))]
mod notes;
pub mod payload;
pub mod plan;
pub mod processes;
pub mod recheck;
mod report;
mod sockets;
mod table;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use ksched_kafka::Log;
use tokio::time::Instant;

#[cfg(feature = "experiment")]
pub use self::book::{Book, read_ledger};
pub use self::{
    doors::Door,
    figures::Figures,
    live::Progress,
    notes::Past,
    payload::RunId,
    plan::{Due, Plan, Shape},
    recheck::recheck,
    report::Report,
};
use self::{
    ledger::Ledger,
    live::Live,
    notes::{Note, Notes, Start, Starts},
};
use crate::{
    Client, clock,
    reader::{self, Since, TopicReader, Until},
    verify::{Bounds, verify},
};

/// From making the plan's run to its first message.
const LEAD: Duration = Duration::from_millis(200);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(200);
/// Without a delivery for so long all has come.
const QUIET: Duration = Duration::from_secs(1);
/// After the last delivery, so that a second copy of it would be seen.
const AFTER_LAST: Duration = Duration::from_millis(500);

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    pub shape: Shape,
    pub door: Door,
    /// Target topic.
    pub topic: String,
    /// Where plain records are scheduled; used by [`Door::Intake`].
    pub intake_topic: String,
    pub reading: Reading,
    /// How long after the last due time undelivered messages are waited for.
    pub grace: Duration,
    pub bounds: Bounds,
    /// Used by [`Door::Database`]; pollers are not started here.
    #[cfg(feature = "experiment")]
    pub database: Option<ksched_baseline::Database>,
}

/// Whether the run reads what it had delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All along; the run ends when everything is delivered.
    Live,
    /// When everything is scheduled and the topic has stopped to grow, so that it costs the measured system next to
    /// nothing; there is no visible lateness then.
    After,
    /// Not at all: the run ends when everything is scheduled. [`recheck()`] judges later.
    None,
}

/// A run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Kafka(#[from] ksched_kafka::Error),
    #[error("{0}")]
    Client(#[from] crate::Error),
    /// The settings contradict each other or the limits.
    #[error("{0}")]
    Settings(String),
    /// The ledger's file.
    #[cfg(feature = "experiment")]
    #[error("ledger: {0}")]
    Book(#[from] rusqlite::Error),
    /// What could not be written; the run cannot prove anything any more.
    #[error("the ledger cannot be written any more")]
    NotKept,
}

impl Options {
    /// 200-byte messages of 1,000 keys by the unary door into `ksched-bench`.
    pub fn new(rate: f64, count: u64, delays_ms: RangeInclusive<i64>, seed: u64) -> Self {
        Self {
            shape: Shape {
                seed,
                count,
                rate,
                delays_ms,
                due: Due::Uniform,
                size: 200,
                keys: 1_000,
                headers: 0,
            },
            door: Door::Unary,
            topic: "ksched-bench".to_owned(),
            intake_topic: "SCHEDULED_MESSAGES".to_owned(),
            reading: Reading::Live,
            grace: Duration::from_secs(30),
            bounds: Bounds { clock_ms: 0, late_ms: None },
            #[cfg(feature = "experiment")]
            database: None,
        }
    }

    /// What is measured.
    fn system(&self) -> &'static str {
        #[cfg(feature = "experiment")]
        if let Some(database) = &self.database {
            return database.dialect().name();
        }
        "ksched"
    }

    fn check(&self) -> Result<(), Error> {
        let shape = &self.shape;
        let refuse = |why: &str| Err(Error::Settings(why.to_owned()));
        if shape.rate.is_nan() || shape.rate <= 0.0 {
            return refuse("rate must be above 0");
        }
        if shape.count == 0 || u32::try_from(shape.count).is_err() {
            return refuse("count must be from 1 to 4294967295");
        }
        if shape.size < payload::SMALLEST {
            return Err(Error::Settings(format!("size must be at least {}", payload::SMALLEST)));
        }
        if shape.delays_ms.is_empty() || *shape.delays_ms.start() < 0 {
            return refuse("delays must be a range from 0 up");
        }
        Ok(())
    }
}

/// Makes a run. The target must exist; to have append lateness measured by the
/// broker's clock, with `message.timestamp.type=LogAppendTime`. `progress` is
/// called about five times a second.
///
/// # Errors
/// Only what keeps the run from starting, and a reader that cannot go on: what
/// goes wrong with messages is in the report.
pub async fn run<L: Log>(
    options: Options,
    client: Client,
    log: Arc<L>,
    progress: impl FnMut(&Progress) + Send,
) -> Result<Report, Error> {
    Box::pin(run_noted(options, client, log, None, None, progress)).await
}

/// As [`run()`], with a ledger on disk: begins its run, or goes on with it where it was interrupted. The plan and
/// the target in `options` must be those of the ledger.
///
/// # Errors
/// And those of the ledger.
#[cfg(feature = "experiment")]
pub async fn run_kept<L: Log>(
    options: Options,
    client: Client,
    log: Arc<L>,
    mut book: Book,
    progress: impl FnMut(&Progress) + Send,
) -> Result<Report, Error> {
    let (notes, past) = (Some(book.notes.clone()), book.past.take());
    let report = Box::pin(run_noted(options, client, log, notes, past, progress)).await;
    // What the ledger has to say explains the rest.
    blocking(move || book.close()).await.and(report)
}

async fn run_noted<L: Log>(
    options: Options,
    client: Client,
    log: Arc<L>,
    notes: Option<Notes>,
    past: Option<Past>,
    mut progress: impl FnMut(&Progress) + Send,
) -> Result<Report, Error> {
    options.check()?;
    if options.reading == Reading::After && notes.is_some() {
        return Err(Error::Settings("a run with a ledger is read while it lasts".to_owned()));
    }
    let shape = options.shape.clone();
    let planned = blocking(move || {
        let plan = Plan::new(shape);
        let last_due_ms = plan.last_due_ms(|_| 0);
        Ok((Arc::new(plan), Duration::from_millis(u64::try_from(last_due_ms).unwrap_or(0))))
    });
    let (plan, last_due_in) = planned.await?;
    let ledger = Arc::new(Ledger::new(plan.len(), notes.clone()));
    // The reader is in place before the start is chosen.
    let live = Arc::new(Live::new(Arc::clone(&plan), last_due_in, notes.clone()));
    let since = past.as_ref().map_or(Since::End, |past| Since::Offsets(past.offsets.clone().into()));
    if let Some(past) = &past {
        ledger.remembers(past.may_have_sent, &past.settled);
    }
    let mut reader = match options.reading {
        Reading::Live => {
            Some(start_reader(Arc::clone(&log), &options.topic, since, Arc::clone(&live)).await?)
        }
        Reading::After | Reading::None => None,
    };
    let ends = match options.reading {
        Reading::After => ends(Arc::clone(&log), &options.topic).await?,
        Reading::Live | Reading::None => Vec::new(),
    };
    let Begun { run, starts, part, start, at_ms } = Begun::now(&plan, options.shape.seed, past.as_ref())?;
    // What is read later was visible before.
    let reading_since_ms = if options.reading == Reading::After { i64::MAX } else { at_ms };
    live.begin(run, starts.clone(), reading_since_ms, past.map(|past| past.delivered).unwrap_or_default());
    if let Some(notes) = &notes {
        let offsets = reader.as_ref().map(|reader| reader.starts().to_vec()).unwrap_or_default();
        notes.put(Note::Begins { run, start: part, offsets });
    }
    let work = doors::Work {
        plan: Arc::clone(&plan),
        ledger: Arc::clone(&ledger),
        run,
        first: part.first,
        start,
        start_ms: part.start_ms,
        notes: notes.clone(),
        topic: options.topic.clone(),
        intake_topic: options.intake_topic.clone(),
        #[cfg(feature = "experiment")]
        database: options.database.clone(),
    };
    let mut sending = Box::pin(doors::send(options.door, work, client, Arc::clone(&log)));
    let mut tick = tokio::time::interval(PROGRESS);
    let generated = loop {
        tokio::select! {
            generated = &mut sending => break generated?,
            _ = tick.tick() => progress(&live.progress(&ledger, start)),
        }
    };
    let (planned, due_from) = (plan.clone(), starts.clone());
    let last_due_ms = blocking(move || Ok(planned.last_due_ms(|number| due_from.of(number)))).await?;
    if options.reading == Reading::After {
        let rest = Rest { topic: &options.topic, grace: options.grace, last_due_ms, ends: &ends };
        let mut look = || {
            let progressed = live.progress(&ledger, start);
            progress(&progressed);
            progressed.acknowledged
        };
        rest.wait(&log, &mut look).await?;
        let since = Since::Offsets(ends.into());
        reader = Some(start_reader(log, &options.topic, since, Arc::clone(&live)).await?);
    }
    let give_up_ms = last_due_ms.max(clock::now_ms()) + options.grace.as_millis() as i64;
    if let Some(reader) = &reader {
        while clock::now_ms() < give_up_ms && !reader.is_finished() && !live.has_all(&ledger) {
            tick.tick().await;
            progress(&live.progress(&ledger, start));
        }
        tokio::time::sleep(AFTER_LAST).await;
    }
    progress(&live.progress(&ledger, start));
    if notes.is_some_and(|notes| notes.is_broken()) {
        return Err(Error::NotKept);
    }
    blocking(move || {
        if let Some(reader) = reader {
            reader.stop()?;
        }
        let observed = live.take();
        let planned = ledger.planned(&plan, &starts);
        let verification = verify(&planned, &observed.records, options.bounds);
        Ok(Report::new(&options, run, verification, &planned, &observed, generated))
    })
    .await
}

/// A run, or the next part of one, and its clocks.
struct Begun {
    run: RunId,
    starts: Starts,
    part: Start,
    /// When message 0 of the plan is to be sent, or would have been.
    start: Instant,
    at_ms: i64,
}

impl Begun {
    /// What was sent before is behind; what is left begins a moment from now.
    fn now(plan: &Plan, seed: u64, past: Option<&Past>) -> Result<Self, Error> {
        let first = past.map_or(0, |past| past.may_have_sent);
        let sent_in = plan.send_in(first);
        let at_ms = clock::now_ms();
        let begins = Instant::now() + LEAD;
        let start = begins.checked_sub(sent_in).ok_or_else(|| {
            Error::Settings("this machine has not run for as long as the run is old".to_owned())
        })?;
        let part = Start { first, start_ms: at_ms + LEAD.as_millis() as i64 - sent_in.as_millis() as i64 };
        let mut starts = past.map_or_else(Starts::default, |past| past.starts.clone());
        starts.0.push(part);
        let run = past.map_or(RunId { seed, start_ms: part.start_ms }, |past| past.run);
        Ok(Self { run, starts, part, start, at_ms })
    }
}

async fn start_reader<L: Log>(
    log: Arc<L>,
    topic: &str,
    since: Since,
    live: Arc<Live>,
) -> Result<TopicReader, Error> {
    let topic = topic.to_owned();
    blocking(move || {
        Ok(TopicReader::start(log, &topic, since, Until::Stopped, move |received| live.take_in(received))?)
    })
    .await
}

/// What is still to come to a topic that is read afterwards.
struct Rest<'a> {
    topic: &'a str,
    grace: Duration,
    last_due_ms: i64,
    /// Of its partitions, before the run.
    ends: &'a [i64],
}

impl Rest<'_> {
    /// Until all is due, as many records have come as `look` says were acknowledged, and none for a second; at
    /// most the grace beyond. Markers of transactions count as records, so it may be a little fewer.
    async fn wait<L: Log>(self, log: &Arc<L>, look: &mut (impl FnMut() -> u64 + Send)) -> Result<(), Error> {
        let give_up_ms = self.last_due_ms.max(clock::now_ms()) + self.grace.as_millis() as i64;
        let mut before = Vec::new();
        loop {
            tokio::time::sleep(QUIET).await;
            let now = ends(Arc::clone(log), self.topic).await?;
            let came: i64 = now.iter().zip(self.ends).map(|(now, before)| now - before).sum();
            let has_all = u64::try_from(came).is_ok_and(|came| came >= look());
            if has_all && now == before && clock::now_ms() > self.last_due_ms || clock::now_ms() > give_up_ms
            {
                return Ok(());
            }
            before = now;
        }
    }
}

async fn ends<L: Log>(log: Arc<L>, topic: &str) -> Result<Vec<i64>, Error> {
    let topic = topic.to_owned();
    blocking(move || Ok(reader::ends(log.as_ref(), &topic)?)).await
}

/// Runs what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Settings("the program is ending".to_owned())),
    }
}
