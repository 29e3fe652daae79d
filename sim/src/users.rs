//! Those who schedule: a plan drawn from the seed, and callers that repeat what failed as
//! the client library does (design §4.5).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use ksched_core::message::{Content, Header};
use ksched_kafka::{Log, Outgoing, Producer};
use ksched_proto::v1::{self, schedule_request, scheduler_server::Scheduler as _};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request};

use crate::{
    coroutine, network,
    nodes::Directory,
    process::Process,
    world::{START_MS, World},
};

/// The users' process.
pub(crate) const NAME: &str = "user";
/// Where all messages go.
pub(crate) const TARGET: &str = "target";
pub(crate) const TARGET_PARTITIONS: i32 = 2;
/// A call without an answer is repeated after this.
const PATIENCE: Duration = Duration::from_secs(3);
/// Messages that are scheduled once all has healed, each at one coordinator: there are two at most.
const LATE: usize = 2;
/// How long a message is tried.
const TRIED_FOR: Duration = Duration::from_secs(20);

/// How a message comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// With an identity that the client library sets.
    Attempts,
    /// With a request id of the user's.
    RequestId,
    Intake,
}

/// What users bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    Thin,
    /// So many that lanes hardly rest between two transactions.
    Dense,
    /// Bursts of what is due already, in no order, and so large that a transaction takes a
    /// handful: one settles later keys than the next, which needs a step of its own
    /// (design §4.3).
    Heavy,
}

/// What makes messages heavy: a lane's transaction takes four of this size.
static PADDING: [u8; 1_000_000] = [0; 1_000_000];

/// A message that somebody will schedule.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) number: usize,
    pub(crate) key: u8,
    send_at_ms: i64,
    pub(crate) due_ms: i64,
    pub(crate) door: Door,
    /// Bytes that say nothing.
    padding: usize,
    /// At this coordinator only, and once all has healed.
    pub(crate) late: Option<usize>,
}

/// What became of scheduling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not tried, or not to its end: it may be there or not.
    Unknown,
    /// Accepted at this instant.
    Accepted { at_ms: i64 },
}

/// All messages and what became of them.
#[derive(Debug)]
pub(crate) struct Users {
    pub(crate) plan: Vec<Planned>,
    pub(crate) fates: Mutex<Vec<Fate>>,
    /// Those whose callers have come to an end.
    done: Mutex<usize>,
}

impl Users {
    /// A plan for so many milliseconds.
    pub(crate) fn draw(world: &World, load: Load, span_ms: i64, ahead_ms: i64, stretch: usize) -> Arc<Self> {
        let plan: Vec<_> = world.draw(|rng| {
            let (count, span_ms) = match load {
                Load::Thin => (rng.random_range(15..50), span_ms),
                Load::Dense => (rng.random_range(100..250), span_ms / 2),
                Load::Heavy => (rng.random_range(50..120), span_ms / 2),
            };
            let together = rng.random_bool(0.3).then(|| START_MS + rng.random_range(0..span_ms));
            let mut burst_at_ms = START_MS;
            let plan = (0..count * stretch).map(|number| {
                let heavy = load == Load::Heavy && rng.random_bool(0.9);
                if rng.random_bool(0.04) {
                    burst_at_ms = START_MS + rng.random_range(0..span_ms);
                }
                let door = match rng.random_range(0..10) {
                    0..=5 => Door::Attempts,
                    // What has a request id is hashed, which for heavy ones takes long.
                    6..=7 if heavy => Door::Attempts,
                    6..=7 => Door::RequestId,
                    _ => Door::Intake,
                };
                let send_at_ms = if heavy {
                    burst_at_ms + rng.random_range(0..800)
                } else {
                    START_MS + rng.random_range(0..span_ms)
                };
                // Most are due soon, so that lanes are busy while things break.
                let ahead = if rng.random_bool(0.7) { ahead_ms.min(8_000) } else { ahead_ms };
                let due_ms = match together {
                    _ if heavy => send_at_ms + rng.random_range(-2_000..200),
                    Some(at) if rng.random_bool(0.5) => at.max(send_at_ms),
                    _ => send_at_ms + rng.random_range(-500..ahead),
                };
                let padding = if heavy { rng.random_range(PADDING.len() / 2..PADDING.len()) } else { 0 };
                Planned { number, key: rng.random_range(0..4), send_at_ms, due_ms, door, padding, late: None }
            });
            let mut plan: Vec<_> = plan.collect();
            let (number, send_at_ms) = (plan.len(), START_MS + span_ms);
            plan.extend((0..LATE).map(|late| Planned {
                number: number + late,
                key: 0,
                send_at_ms,
                due_ms: send_at_ms,
                door: Door::Attempts,
                padding: 0,
                late: Some(late),
            }));
            plan
        });
        let fates = Mutex::new(vec![Fate::Unknown; plan.len()]);
        Arc::new(Self { plan, fates, done: Mutex::new(0) })
    }

    /// Whether nobody tries to schedule any more.
    pub(crate) fn are_done(&self) -> bool {
        *self.done.lock() == self.plan.len()
    }

    /// Sets a caller to work for each message.
    pub(crate) fn start(self: &Arc<Self>, world: &Arc<World>, directory: &Directory) {
        let process = Process::new(world, NAME, 0);
        for planned in self.plan.clone() {
            let (users, directory, process) = (Arc::clone(self), Arc::clone(directory), Arc::clone(&process));
            tokio::spawn(async move {
                let world = &process.world;
                let wait_ms = planned.send_at_ms - world.now_ms();
                sleep(Duration::from_millis(wait_ms.max(0).unsigned_abs())).await;
                while planned.late.is_some() && !world.weather.is_healed() {
                    sleep(Duration::from_secs(1)).await;
                }
                let accepted = match planned.door {
                    Door::Attempts | Door::RequestId => call(&process, &directory, &planned).await,
                    Door::Intake => produce(&process, &planned).await,
                };
                if accepted {
                    users.fates.lock()[planned.number] = Fate::Accepted { at_ms: world.now_ms() };
                }
                world.step("user", || {
                    format!("{} accepted: {accepted}, due {}", planned.number, planned.due_ms - START_MS)
                });
                *users.done.lock() += 1;
            });
        }
    }
}

impl Planned {
    fn key_bytes(&self) -> Bytes {
        Bytes::from(vec![b'k', self.key])
    }

    /// Told by the number, so that what arrives can be checked.
    pub(crate) fn content(&self) -> Content {
        let headers = vec![
            Header::new("n", self.number.to_string()),
            Header { name: "null".into(), value: None },
            Header::new("n", Bytes::from_static(&PADDING[..self.padding])),
        ];
        let value = Bytes::from(format!("value of {}", self.number));
        Content { key: Some(self.key_bytes()), value: Some(value), headers }
    }

    fn request(&self, number: u32, first_at_ms: i64) -> v1::ScheduleRequest {
        let content = self.content();
        let header = |header: &Header| v1::Header {
            name: header.name.to_string(),
            header_value: header.value.clone().map(v1::header::HeaderValue::Value),
        };
        let mut id = [7; 16];
        id[..8].copy_from_slice(&(self.number as u64).to_be_bytes());
        let attempt = v1::Attempt { id: id.to_vec().into(), number, first_at: Some(timestamp(first_at_ms)) };
        v1::ScheduleRequest {
            topic: TARGET.to_owned(),
            record_key: content.key.map(schedule_request::RecordKey::Key),
            record_value: content.value.map(schedule_request::RecordValue::Value),
            headers: content.headers.iter().map(header).collect(),
            when: Some(schedule_request::When::DueTime(timestamp(self.due_ms))),
            request_id: if self.door == Door::RequestId {
                format!("r{}", self.number)
            } else {
                String::new()
            },
            attempt: (self.door == Door::Attempts).then_some(attempt),
            ..v1::ScheduleRequest::default()
        }
    }
}

/// Schedules by calls, whether or not those before were heard; `true` once one is answered.
async fn call(process: &Arc<Process>, directory: &Directory, planned: &Planned) -> bool {
    let world = &process.world;
    let (began_at, first_at_ms) = (Instant::now(), world.now_ms());
    let mut number = 1;
    while began_at.elapsed() < TRIED_FOR {
        let node = {
            let directory = directory.lock();
            let drawn = || world.draw(|rng| rng.random_range(0..directory.len().max(1)));
            let at = planned.late.map_or_else(drawn, |late| late % directory.len().max(1));
            directory.get(at).cloned()
        };
        if let Some(node) = node {
            let request = Request::new(planned.request(number, first_at_ms));
            let answer = async {
                sleep(world.draw_ms(0, 5)).await;
                let answer = node.process.within(node.scheduler.schedule(request)).await;
                sleep(world.draw_ms(0, 5)).await;
                answer
            };
            // Now and then an answer is lost although nothing else is wrong.
            let lost = !world.weather.is_healed() && world.once_in(6);
            match timeout(PATIENCE, answer).await {
                Ok(Some(Ok(_))) if !lost => return true,
                Ok(Some(Err(status))) if status.code() == Code::InvalidArgument => {
                    if world.coordinator_was_wrong.load(Ordering::Relaxed) {
                        return false;
                    }
                    world.violated(format!("message {} is refused: {status}", planned.number));
                    return false;
                }
                Ok(_) | Err(_) => {}
            }
        }
        number += 1;
        sleep(world.draw_ms(20, 800)).await;
    }
    false
}

/// Schedules by a record on the intake topic.
async fn produce(process: &Arc<Process>, planned: &Planned) -> bool {
    let world = Arc::clone(&process.world);
    let log = network::log(process);
    let mut content = planned.content();
    content.headers.push(Header::new("ksched-topic", TARGET));
    content.headers.push(Header::new("ksched-deliver-at", planned.due_ms.to_string()));
    let acknowledged = Arc::new(Mutex::new(false));
    let theirs = Arc::clone(&acknowledged);
    let work = move || {
        let Ok(mut producer) = log.producer() else { return };
        let topic = &world.cluster.intake_topic;
        let record = Outgoing { topic, partition: Some(0), timestamp_ms: None, content: &content };
        if producer.send(0, record).is_ok() {
            *theirs.lock() = producer.flush().is_ok_and(|refused| refused.is_empty());
        }
    };
    coroutine::run(Box::new(work)).await;
    *acknowledged.lock()
}

fn timestamp(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32 }
}
