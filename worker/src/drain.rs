//! Drain jobs: promote one bucket's messages one or more levels down.

use std::{collections::HashMap, sync::Arc};

use ksched_core::{
    delivered, envelope,
    message::{Content, Header},
    wheel::{Inlet, Place},
};
use ksched_kafka::{Log, Record, TopicPartition};
use ksched_proto::v1;
use ksched_telemetry::{logging::Repeats, metrics::Kind};
use tokio::time::Instant;
use tracing::error;

use crate::{
    dead_letter::{self, Reason},
    job::{Control, Outcome},
    mover::{self, Onward, Plan, Positionless, Unfit, Until},
    node::Node,
};

/// Share of time an upper level's drain rests, so that it does not compete flat
/// out with the lanes: a level-2 slot has a minute and more of lead.
const UPPER_LEVEL_REST: f64 = 1.0;

/// Drains the bucket until the end it had at the start.
pub(crate) fn run<L: Log>(node: &Node<L>, job: &v1::Job, control: &Control) -> Outcome {
    let source = TopicPartition { topic: job.topic.as_str().into(), partition: job.partition };
    let open_ms =
        job.open_time.as_ref().map_or(i64::MIN, |t| t.seconds * 1_000 + i64::from(t.nanos) / 1_000_000);
    let lane = job.lane as u16;
    let from_level_1 = *job.topic == node.cluster.wheel_topic(1);
    let plan = Plan {
        kind: Kind::Drain,
        source,
        until: Until::CapturedEnd,
        positionless: Positionless::FromStart,
        rest: if from_level_1 { 0.0 } else { UPPER_LEVEL_REST },
    };
    let (places, began_at, mut not_ours) = (Places::new(node), Instant::now(), Repeats::default());
    let outcome = mover::run(node, control, &plan, |record, now, unfit| {
        // Never back into what it drains: this bucket counts as open.
        Some(promote(node, &places, record, now.max(open_ms), lane, unfit, &mut not_ours))
    });
    if let Outcome::Done { .. } = outcome {
        node.metrics.drains_done.inc();
        node.metrics.drain.observe(began_at.elapsed());
    }
    outcome
}

fn promote<L: Log>(
    node: &Node<L>,
    places: &Places,
    record: Record,
    now: i64,
    lane: u16,
    unfit: Option<&Unfit>,
    not_ours: &mut Repeats,
) -> Onward {
    let envelope = delivered::read_envelope(&record.content);
    let mut envelope = match (unfit, envelope) {
        (None, Ok(envelope)) => envelope,
        (Some(unfit), _) => return dead_letter::of_unfit(node, record, unfit),
        (None, Err(reason)) => {
            if let Some(left_out) = not_ours.tell() {
                let (source, offset) = (&record.source, record.offset);
                error!(%source, offset, %reason, left_out, "not a message of ksched: dead-lettered");
            }
            let reason = Reason { code: "NOT_A_MESSAGE", text: reason.to_string() };
            return dead_letter::of_record(node, record, &reason);
        }
    };
    envelope.hops += 1;
    let mut content = record.content;
    if let Some(first) = content.headers.first_mut() {
        *first = Header::new(envelope::NAME, envelope.encode());
    }
    let place = node.cluster.geometry.route(envelope.due_ms, now, lane);
    let onward = places.onward(node, place, lane, Inlet::Promoted, content);
    Onward { trace: envelope.trace, ..onward }
}

/// The names of the topics that messages move to inside ksched, made once a job.
#[derive(Debug)]
pub(crate) struct Places {
    due: Arc<str>,
    wheel: HashMap<u32, Arc<str>>,
}

impl Places {
    pub(crate) fn new<L>(node: &Node<L>) -> Self {
        let levels = 1..=node.cluster.geometry.levels;
        Self {
            due: node.cluster.due_topic().into(),
            wheel: levels.map(|level| (level, node.cluster.wheel_topic(level).into())).collect(),
        }
    }

    /// A stored record on its way to a place; the due lane takes it at `inlet`.
    pub(crate) fn onward<L>(
        &self,
        node: &Node<L>,
        place: Place,
        lane: u16,
        inlet: Inlet,
        content: Content,
    ) -> Onward {
        let bucket = match place {
            Place::DueLane => None,
            Place::Bucket(bucket) => self.wheel.get(&bucket.level).map(|topic| (bucket, topic)),
        };
        match bucket {
            Some((bucket, topic)) => {
                let partition = Some(node.cluster.geometry.bucket_partition(bucket));
                Onward::new(topic.clone(), partition, content)
            }
            // `route` names no level without a topic; the due lane would send it back to the wheel.
            None => self.to_lane(node, lane, inlet, content),
        }
    }

    /// A stored record on its way into a due lane.
    pub(crate) fn to_lane<L>(&self, node: &Node<L>, lane: u16, inlet: Inlet, content: Content) -> Onward {
        let partition = Some(node.cluster.geometry.due_partition(lane, inlet));
        Onward::new(self.due.clone(), partition, content)
    }
}
