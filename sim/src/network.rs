//! The ways between a process and the broker: everything that ksched asks of Kafka is
//! brought by here, late, twice, or never.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ksched_core::{
    delivered,
    id::MessageId,
    jobs::JobName,
    message::Content,
    mutant::{self, Mutant},
};
use ksched_kafka::{
    RefusalReason,
    append::{self, Append, Appended, Appending, Appends, Room},
    memory::{Batch, Failure, Link, LinkError, MemoryLog, NewRecord, ProducerId, Request, Response},
};
use ksched_server::store::Store as _;
use tokio::time::{Instant, sleep};

use crate::{coroutine, faults::Kind, process::Process, users, world::START_MS};

/// How long a request without an answer is waited for.
const TIME_OUT: Duration = Duration::from_secs(1);
/// An append is tried for as long as librdkafka would (`message.timeout.ms`).
const APPEND_LIMIT: Duration = Duration::from_secs(8);
/// An idle reader looks again when there is news, or after so long.
const FETCH_STEP: Duration = Duration::from_millis(100);

/// A process's log.
pub(crate) fn log(process: &Arc<Process>) -> MemoryLog {
    let group = process.world.cluster.group();
    let log = MemoryLog::new(Arc::new(SimLink(Arc::clone(process))), &group).fetching_every(FETCH_STEP);
    if mutant::is_on(Mutant::NoRecycling) { log.ignoring_disconnects() } else { log }
}

struct SimLink(Arc<Process>);

impl Link for SimLink {
    fn call(&self, request: Request) -> Result<Response, LinkError> {
        let process = Arc::clone(&self.0);
        coroutine::wait(async move { exchange(&process, request).await })
    }

    fn pause(&self, wait: Duration) {
        let news = Arc::clone(&self.0.world.news);
        coroutine::wait(async move {
            // A reader is woken by news, as by the answer to a long poll.
            tokio::select! {
                biased;
                () = news.notified(), if wait > Duration::from_millis(20) => {}
                () = sleep(wait) => {}
            }
        });
    }

    fn time_out(&self) -> Duration {
        TIME_OUT
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It never arrives.
    Lost,
    /// It arrives, its answer does not.
    AnswerLost,
    /// The connection breaks, and it arrives all the same after so long: perhaps after
    /// what the client does next.
    Late(Duration),
}

/// Brings a request to the broker, and its answer back.
pub(crate) async fn exchange(process: &Arc<Process>, request: Request) -> Result<Response, LinkError> {
    let world = &process.world;
    if process.dead.is_cancelled() {
        // What is left of its jobs ends with the next thing it asks for.
        return Ok(Response::Failed(Failure::Fenced));
    }
    let kind = Kind::of(&request);
    watch_for_zombies(process, &request).await;
    world.weather.stall(process, kind);
    let fate = fate(process, kind);
    if fate != Fate::Answered {
        process.trouble();
    }
    world.step(&process.name, || format!("{} {fate:?}", describe(&request)));
    let travel = world.draw_ms(0, world.weather.travel_ms);
    match fate {
        Fate::Answered => {
            if !survives(process, travel).await {
                // What was on its way when the process died may arrive.
                if world.once_in(2) {
                    arrive(process, &request);
                }
                return Err(LinkError::Disconnected);
            }
            let response = arrive(process, &request);
            world.weather.stall_after(process, kind);
            sleep(world.draw_ms(0, world.weather.travel_ms)).await;
            Ok(response)
        }
        Fate::Lost => Err(break_off(process).await),
        Fate::AnswerLost => {
            sleep(travel).await;
            arrive(process, &request);
            Err(break_off(process).await)
        }
        Fate::Late(after) => {
            let late = Arc::clone(process);
            tokio::spawn(async move {
                sleep(after).await;
                late.world.step(&late.name, || format!("late: {}", describe(&request)));
                arrive(&late, &request);
            });
            sleep(travel).await;
            Err(LinkError::Disconnected)
        }
    }
}

fn fate(process: &Process, kind: Kind) -> Fate {
    let (world, weather) = (&process.world, &process.world.weather);
    if process.cut_off.lock().broker || world.broker_away.load(Ordering::Relaxed) {
        return Fate::Lost;
    }
    if !weather.is_healed() && world.once_in(weather.lost_in(kind)) {
        return match world.draw(|rng| rand::RngExt::random_range(rng, 0..4)) {
            0 => Fate::Lost,
            1 => Fate::AnswerLost,
            // Until the client's next transaction, or much longer.
            2 => Fate::Late(world.draw_ms(1, 200)),
            _ => Fate::Late(world.draw_ms(50, 4_000)),
        };
    }
    Fate::Answered
}

/// `false` if the process died meanwhile.
async fn survives(process: &Process, span: Duration) -> bool {
    tokio::select! {
        biased;
        () = process.dead.cancelled() => false,
        () = sleep(span) => true,
    }
}

async fn break_off(process: &Process) -> LinkError {
    let world = &process.world;
    if world.once_in(2) {
        sleep(world.draw_ms(1, 30)).await;
        LinkError::Disconnected
    } else {
        sleep(TIME_OUT).await;
        LinkError::TimedOut
    }
}

fn arrive(process: &Process, request: &Request) -> Response {
    let world = &process.world;
    let response = world.broker.handle(request);
    if matches!(request, Request::Produce(_) | Request::EndTxn { .. }) {
        world.news.notify_waiters();
    }
    response
}

/// An at-least-once lane, which Kafka does not fence, must not fire while another worker
/// has the lane (design §6). What it had begun before, and could not end because it stood
/// still or Kafka did not answer, is another matter: that may be repeated.
async fn watch_for_zombies(process: &Process, request: &Request) {
    let Request::Produce(batch) = request else { return };
    let excused =
        batch.transactional_id.is_some() || process.was_troubled(APPEND_LIMIT + Duration::from_secs(2));
    if excused || &*batch.at.topic != users::TARGET {
        return;
    }
    let Some(lane) = batch.records.first().and_then(|record| lane_of(&record.content)) else { return };
    let Ok(seen) = process.world.store.snapshot().await else { return };
    let holder = seen.claims.get(&JobName::Lane(lane)).map(|claim| claim.worker_id.clone());
    let own = process.registered.lock().clone();
    if holder.is_some() && holder != own {
        process.world.violated(format!("{} fires for lane {lane}, which {holder:?} holds", process.name));
    }
}

fn lane_of(content: &Content) -> Option<u16> {
    let id = content.headers.iter().find(|header| &*header.name == "ksched-id")?.value.as_ref()?;
    Some(std::str::from_utf8(id).ok()?.parse::<MessageId>().ok()?.lane)
}

fn describe(request: &Request) -> String {
    match request {
        Request::Produce(batch) => {
            let dues = batch.records.iter().map(|record| {
                delivered::read_envelope(&record.content).map_or(0, |e| e.effective_due_ms() - START_MS)
            });
            format!("Produce to {} due {:?}", batch.at, dues.collect::<Vec<_>>())
        }
        Request::InitProducerId { transactional_id, .. } => format!("Init {transactional_id:?}"),
        Request::EndTxn { session, outcome } => format!("EndTxn {outcome:?} {session:?}"),
        Request::TxnOffsetCommit { session, positions, .. } => {
            format!("TxnOffsetCommit {session:?} {positions:?}")
        }
        Request::OffsetCommit { positions, .. } => format!("OffsetCommit {positions:?}"),
        Request::Fetch { from, .. } => format!("Fetch {} partitions", from.len()),
        Request::ListOffsets { partitions, which } => format!("ListOffsets {} {which:?}", partitions.len()),
        Request::OffsetFetch { partitions, .. } => format!("OffsetFetch {}", partitions.len()),
        other => format!("{other:?}"),
    }
}

/// A coordinator's appends: idempotent, and repeated until they are acknowledged.
#[derive(Debug)]
pub(crate) struct SimAppender(pub(crate) Arc<Process>);

impl Appends for SimAppender {
    fn append_all(&self, records: Vec<Append>, room: Option<Room>) -> Appending {
        let process = Arc::clone(&self.0);
        let room = Arc::new(room);
        let all: Vec<_> = records
            .into_iter()
            .map(|record| tokio::spawn(append(Arc::clone(&process), record, Arc::clone(&room))))
            .collect();
        Box::pin(async move {
            let mut results = Vec::with_capacity(all.len());
            for one in all {
                let lost = |_| Err(append::Error::Unknown("the append's task ended".to_owned()));
                results.push(one.await.unwrap_or_else(lost));
            }
            results
        })
    }
}

async fn append(
    process: Arc<Process>,
    record: Append,
    _room: Arc<Option<Room>>,
) -> Result<Appended, append::Error> {
    // A producer of its own for each record: what matters is that repeats are told.
    let producer = ProducerId { id: process.world.draw(rand::RngExt::random), epoch: 0 };
    let batch = Batch {
        at: ksched_kafka::TopicPartition { topic: record.topic, partition: record.partition },
        producer,
        transactional_id: None,
        base_sequence: 0,
        records: vec![NewRecord { timestamp_ms: record.timestamp_ms, content: record.content }],
    };
    let began_at = Instant::now();
    loop {
        match exchange(&process, Request::Produce(batch.clone())).await {
            Ok(Response::Appended { base_offset }) => {
                return Ok(Appended { offset: base_offset, append_time_ms: None });
            }
            Ok(Response::Failed(Failure::TooLarge)) => {
                return Err(append::Error::NotAppended(RefusalReason::TooLarge));
            }
            Ok(other) => return Err(append::Error::Unknown(format!("{other:?}"))),
            Err(error) if began_at.elapsed() > APPEND_LIMIT => {
                return Err(append::Error::Unknown(error.to_string()));
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}
