//! The transactional move that drain and intake jobs share: read committed
//! records of one partition, produce each further on, commit the position, all in
//! one Kafka transaction (design §4).

use std::{collections::HashMap, sync::Arc, time::Duration};

use ksched_core::{
    cluster::Cluster,
    message::Content,
    mutant::{self, Mutant},
    trace::TraceContext,
};
use ksched_kafka::{
    Error, Log, Offset, Outgoing, Position, Reader, Record, Refusal, RefusalReason, TopicPartition,
    TransactionError, TransactionalProducer,
};
use ksched_telemetry::{
    logging::Repeats,
    metrics::Kind,
    traces::{self, Links, Span},
};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::{
    attempt::{Ended, positions, until_clean},
    dead_letter::Reason,
    job::{Control, Outcome},
    node::Node,
};

/// Records of one transaction: bench.md's B2 moves 10,000 at a time.
const BATCH_RECORDS: usize = 10_000;
/// Bytes of one transaction, so that a few jobs at once stay within some tens of MiB.
const BATCH_BYTES: usize = 2 << 20;
/// How long a batch is filled after its first record.
const BATCH_FILL: Duration = Duration::from_millis(10);
/// From one transaction's start to the next's under load: a transaction of a few records costs
/// Kafka and us as much as one of thousands, and jobs on one machine only compete.
const PACE: Duration = Duration::from_millis(50);
const FETCH_BYTES: usize = 2 << 20;
/// How long one look for records waits, and so how soon a stop is noticed, or the end of what is to be moved.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// The same where there is no end to wait for: intake jobs are many, and mostly idle.
const POLL_WAIT_ENDLESS: Duration = Duration::from_millis(250);
/// A captured end that is not reached in this long (an offset that vanished).
const STALLED: Duration = Duration::from_secs(60);
/// How often an idle job commits its position again: Kafka drops those that nobody
/// has committed for `offsets.retention.minutes`, 7 days by default (design §4.7).
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(12 * 3_600);

/// Where a record goes from here.
#[derive(Debug)]
pub(crate) struct Onward {
    pub(crate) topic: Arc<str>,
    /// `None`: any.
    pub(crate) partition: Option<i32>,
    pub(crate) content: Content,
    /// Where it was scheduled.
    pub(crate) trace: Option<TraceContext>,
    /// Of its scheduling, if this is that: recorded once the transaction is committed.
    pub(crate) span: Span,
    /// The code of the reason if it is a dead letter: counted then, too.
    pub(crate) dead: Option<&'static str>,
}

impl Onward {
    /// In nobody's trace.
    pub(crate) fn new(topic: Arc<str>, partition: Option<i32>, content: Content) -> Self {
        Self { topic, partition, content, trace: None, span: Span::default(), dead: None }
    }
}

/// Why a record cannot move on as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// A header's name is not UTF-8; the headers from that one on are missing.
    Unreadable,
    /// The broker refused it where it should have gone.
    Refused(RefusalReason),
}

impl Unfit {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Unreadable => {
                Reason { code: "HEADER_NAME_NOT_UTF8", text: "a header's name is not UTF-8".to_owned() }
            }
            Self::Refused(reason) => Reason { code: "REFUSED_BY_BROKER", text: reason.to_string() },
        }
    }
}

/// When a move is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// At the end of the partition as it was at the start.
    CapturedEnd,
    /// When told to stop.
    Stopped,
}

/// What to do when the partition has no committed position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positionless {
    /// All before the log's start is reclaimed, so nothing is lost or repeated.
    FromStart,
    /// Somebody must decide from where to go on (design §4.7).
    Alarm,
}

/// What is moved, how, and at which pace.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) source: TopicPartition,
    pub(crate) until: Until,
    pub(crate) positionless: Positionless,
    /// Pause after each transaction, as a share of the time it took.
    pub(crate) rest: f64,
}

/// Moves records until done, stopped or fenced. `decide` is told why the broker
/// refused a record before, if it did, and must then send it elsewhere.
pub(crate) fn run<L: Log>(
    node: &Node<L>,
    control: &Control,
    plan: &Plan,
    mut decide: impl FnMut(Record, i64, Option<&Unfit>) -> Option<Onward>,
) -> Outcome {
    let mut progress = Progress {
        moved: 0,
        unfit: HashMap::new(),
        batch_records: BATCH_RECORDS,
        links: Links::default(),
        dead: Vec::new(),
        refused: Repeats::default(),
    };
    let ended = until_clean(node, control, || attempt(node, control, plan, &mut progress, &mut decide));
    match ended {
        Ok(()) if control.stopped() => Outcome::Stopped,
        Ok(()) => Outcome::Done { moved: progress.moved },
        Err(outcome) => outcome,
    }
}

/// What outlives an attempt.
struct Progress {
    moved: u64,
    /// Records that cannot go where they should, by offset.
    unfit: HashMap<i64, Unfit>,
    /// The most that one transaction moves: less and less while records are refused and
    /// it is not told which, more again afterwards.
    batch_records: usize,
    /// Where the messages of the last transaction were scheduled.
    links: Links,
    /// Why some of them became dead letters.
    dead: Vec<&'static str>,
    refused: Repeats,
}

/// One life of a producer: take-over, then transactions until something is unclean.
fn attempt<L: Log>(
    node: &Node<L>,
    control: &Control,
    plan: &Plan,
    progress: &mut Progress,
    decide: &mut impl FnMut(Record, i64, Option<&Unfit>) -> Option<Onward>,
) -> Result<(), Ended> {
    let (source, began_at) = (&plan.source, Instant::now());
    // The order that makes it safe (design §4.1): init, committed position, seek, read.
    let id = node.cluster.transactional_id(&source.topic, source.partition, 'a');
    let mut producer = node.log.transactional(&id)?;
    let too_early = mutant::is_on(Mutant::PositionsBeforeInit);
    let early = if too_early { Some(start_position(node, control, plan)?) } else { None };
    producer.init()?;
    let start = match early {
        Some(start) => start,
        None => start_position(node, control, plan)?,
    };
    let end = match plan.until {
        Until::CapturedEnd => single(node.log.offsets(std::slice::from_ref(source), Offset::StableEnd)?)?,
        Until::Stopped => i64::MAX,
    };
    let (mut reader, poll_wait) = match plan.until {
        Until::CapturedEnd => (node.log.reader(FETCH_BYTES)?, POLL_WAIT),
        Until::Stopped => (node.log.staying_reader(FETCH_BYTES)?, POLL_WAIT_ENDLESS),
    };
    reader.assign(&[(source.clone(), start)])?;
    drop(traces::take_over(control.held, &control.name, began_at.elapsed()));
    let (mut committed, mut progressed_at, mut paced_until) = (start, Instant::now(), Instant::now());
    while !control.stopped() && committed < end {
        let batch = read_batch(&mut reader, progress, paced_until, poll_wait)?;
        let position = reader.position(source)?.max(committed);
        let kept_alive = plan.until == Until::CapturedEnd || progressed_at.elapsed() < KEEP_ALIVE;
        if position == committed && kept_alive {
            if plan.until == Until::CapturedEnd && progressed_at.elapsed() > STALLED {
                return Err(Ended::Unclean(format!("no record of {source:?} between {committed} and {end}")));
            }
            continue;
        }
        let Some(now) = node.await_clock(control) else { return Ok(()) };
        let began_at = Instant::now();
        paced_until = began_at + PACE;
        let messages = batch.len();
        let moved = transact(&mut producer, plan, batch, position, now, progress, decide);
        let took = began_at.elapsed();
        record(&node.cluster, control, plan, messages, took, &progress.links, &moved);
        let moved = moved.map_err(|broken| unclean(control, broken, progress))?;
        node.metrics.committed(plan.kind, took, moved as usize);
        if plan.kind == Kind::Intake {
            node.metrics.intake_moved.inc_by(moved);
            progress.dead.iter().for_each(|reason| node.metrics.refused(reason));
        }
        progress.dead.drain(..).for_each(|reason| node.metrics.dead_lettered.add(reason));
        progress.moved += moved;
        progress.unfit.retain(|offset, _| *offset >= position);
        progress.batch_records = (progress.batch_records * 2).min(BATCH_RECORDS);
        (committed, progressed_at) = (position, Instant::now());
        if plan.rest > 0.0 {
            control.nap(began_at.elapsed().mul_f64(plan.rest));
        }
    }
    Ok(())
}

fn start_position<L: Log>(node: &Node<L>, control: &Control, plan: &Plan) -> Result<i64, Ended> {
    let source = std::slice::from_ref(&plan.source);
    let committed = positions(node, source)?.pop().flatten();
    match (committed, plan.positionless) {
        (Some(position), _) => Ok(position.offset),
        (None, Positionless::FromStart) => Ok(single(node.log.offsets(source, Offset::Start)?)?),
        (None, Positionless::Alarm) => {
            error!(job = %control.name, source = ?plan.source, "no committed position: it was lost or never made; see docs/OPERATIONS.md");
            Err(Ended::Failed(format!("{:?} has no committed position", plan.source)))
        }
    }
}

fn single(offsets: Vec<i64>) -> Result<i64, Ended> {
    offsets.into_iter().next().ok_or_else(|| Ended::Unclean("no offset answered".to_owned()))
}

/// What is there, filled until `paced_until` at least once there is anything.
fn read_batch(
    reader: &mut impl Reader,
    progress: &mut Progress,
    paced_until: Instant,
    poll_wait: Duration,
) -> Result<Vec<Record>, Error> {
    let mut batch = Vec::new();
    let (mut bytes, mut wait, mut fill_until) = (0, poll_wait, None);
    while batch.len() < progress.batch_records && bytes < BATCH_BYTES {
        let record = match reader.poll(wait) {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(Error::Unreadable(record)) => {
                progress.unfit.insert(record.offset, Unfit::Unreadable);
                *record
            }
            Err(error) => return Err(error),
        };
        bytes += record.content.size();
        batch.push(record);
        let until = *fill_until.get_or_insert_with(|| paced_until.max(Instant::now() + BATCH_FILL));
        wait = until.saturating_duration_since(Instant::now());
    }
    Ok(batch)
}

/// One transaction; a refusal is told with the offset it is about.
struct Broken {
    error: TransactionError,
    offsets: Vec<i64>,
}

fn transact(
    producer: &mut impl TransactionalProducer,
    plan: &Plan,
    batch: Vec<Record>,
    position: i64,
    now: i64,
    progress: &mut Progress,
    decide: &mut impl FnMut(Record, i64, Option<&Unfit>) -> Option<Onward>,
) -> Result<u64, Broken> {
    let Progress { unfit, links, dead, .. } = progress;
    links.clear();
    dead.clear();
    let mut begun = Vec::new();
    let offsets: Vec<i64> = batch.iter().map(|r| r.offset).collect();
    let run = || {
        let mut moved = 0;
        producer.begin()?;
        for (tag, record) in batch.into_iter().enumerate() {
            let offset = record.offset;
            let Some(onward) = decide(record, now, unfit.get(&offset)) else { continue };
            let partition = onward.partition;
            links.add(onward.trace);
            dead.extend(onward.dead);
            let record =
                Outgoing { topic: &onward.topic, partition, timestamp_ms: None, content: &onward.content };
            let sent = producer.send(tag, record);
            if onward.span.is_recorded() {
                begun.push(onward.span);
            }
            sent?;
            moved += 1;
        }
        let position = Position { offset: position, metadata: String::new() };
        producer.commit(&[(plan.source.clone(), position)])?;
        Ok(moved)
    };
    run().map_err(|error| {
        begun.into_iter().for_each(Span::forget);
        Broken { error, offsets }
    })
}

/// The span of a transaction that took so long, if one of its messages is recorded.
fn record(
    cluster: &Cluster,
    control: &Control,
    plan: &Plan,
    messages: usize,
    took: Duration,
    links: &Links,
    moved: &Result<u64, Broken>,
) {
    let TopicPartition { topic, partition } = &plan.source;
    let source = traces::Source { group: &cluster.group(), topic, partition: *partition };
    let mut span = traces::batch(plan.kind, &control.name, Some(source), messages, took, links);
    if let Err(broken) = moved {
        span.fail("unclean", &broken.error);
    }
}

/// Notes which records were refused, so that the next attempt sends them elsewhere.
fn unclean(control: &Control, broken: Broken, progress: &mut Progress) -> Ended {
    if let TransactionError::Refused(refusals) = &broken.error {
        // Collateral says nothing about the record itself; and moves go to topics of ours only,
        // so that they may not be written to, or that a broker does not know them, is no record's
        // fault: it waits.
        let is_its = |refusal: &&Refusal| {
            !refusal.reason.is_collateral()
                && !matches!(refusal.reason, RefusalReason::NotAuthorised | RefusalReason::UnknownTarget)
        };
        for refusal in refusals.iter().filter(is_its) {
            let Some(offset) = broken.offsets.get(refusal.tag) else { continue };
            if let Some(left_out) = progress.refused.tell() {
                warn!(job = %control.name, offset, reason = %refusal.reason, left_out, "record refused");
            }
            progress.unfit.insert(*offset, Unfit::Refused(refusal.reason.clone()));
        }
        progress.batch_records = (broken.offsets.len().min(progress.batch_records) / 8).max(1);
    }
    broken.error.into()
}

/// How long a job waits before it looks again whether the clock may be believed.
pub(crate) const DOUBT_PAUSE: Duration = Duration::from_millis(20);

impl<L: Log> Node<L> {
    /// The confirmed time, waiting for it; `None` when told to stop meanwhile.
    pub(crate) fn await_clock(&self, control: &Control) -> Option<i64> {
        loop {
            if let Some(now) = self.clock.now_ms() {
                return Some(now);
            }
            if control.stopped() {
                return None;
            }
            self.host.sleep(DOUBT_PAUSE);
        }
    }
}
