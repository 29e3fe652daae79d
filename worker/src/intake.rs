//! Intake jobs: take over records of one partition of the intake topic.

use ksched_core::{
    delivered,
    intake::Intake,
    trace,
    validate::{Accepted, Stamp},
    wheel::Inlet,
};
use ksched_kafka::{Log, Record, TopicPartition};
use ksched_proto::v1;
use ksched_telemetry::{
    metrics::Kind,
    traces::{self, Span},
};
use tracing::debug;

use crate::{
    dead_letter::{self, Reason},
    drain::Places,
    job::{Control, Outcome},
    mover::{self, Onward, Plan, Positionless, Unfit, Until},
    node::Node,
};

/// Runs until stopped or fenced.
pub(crate) fn run<L: Log>(node: &Node<L>, job: &v1::Job, control: &Control) -> Outcome {
    let plan = Plan {
        kind: Kind::Intake,
        source: TopicPartition { topic: job.topic.as_str().into(), partition: job.partition },
        until: Until::Stopped,
        positionless: Positionless::Alarm,
        rest: 0.0,
    };
    let places = Places::new(node);
    let mut scheduled_at_us = 0;
    mover::run(node, control, &plan, |record, now_ms, unfit| {
        // Strictly increasing, so that ties fire in the order of the intake topic.
        scheduled_at_us = (now_ms * 1_000).max(scheduled_at_us + 1);
        let stamp = Stamp { scheduled_at_us, origin: node.origin };
        Some(take_over(node, &places, record, now_ms, stamp, unfit))
    })
}

fn take_over<L: Log>(
    node: &Node<L>,
    places: &Places,
    record: Record,
    now_ms: i64,
    stamp: Stamp,
    unfit: Option<&Unfit>,
) -> Onward {
    if let Some(unfit) = unfit {
        return dead_letter::of_unfit(node, record, unfit);
    }
    let intake =
        Intake { cluster: &node.cluster, limits: &node.intake.limits, compat_zone: Some(&node.intake.zone) };
    match intake.decode(&record.content, record.timestamp_ms, now_ms, stamp) {
        Ok(mut accepted) => {
            let span = schedule(&accepted);
            accepted.envelope.trace = span.context();
            let place = node.cluster.geometry.route(accepted.envelope.due_ms, now_ms, accepted.lane);
            let content = delivered::store(&accepted.envelope, accepted.content);
            let onward = places.onward(node, place, accepted.lane, Inlet::Intake, content);
            Onward { trace: accepted.envelope.trace, span, ..onward }
        }
        Err(rejected) => {
            debug!(source = ?record.source, offset = record.offset, reason = %rejected, "intake record refused");
            let reason = Reason { code: rejected.code(), text: rejected.to_string() };
            dead_letter::of_record(node, record, &reason)
        }
    }
}

/// The span of a message's scheduling: its producer's decides whether it is recorded, if the
/// record tells one.
fn schedule(accepted: &Accepted) -> Span {
    if !traces::is_on() {
        return Span::default();
    }
    let envelope = &accepted.envelope;
    let mut span = traces::schedule(&envelope.target.topic, trace::of(&accepted.content.headers), None);
    span.about(&envelope.id(accepted.lane), envelope.due_ms);
    span
}
