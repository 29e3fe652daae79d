//! What cannot be delivered or understood goes to the dead-letter topic, as it
//! came, with the reason and its origin in headers.

use ksched_core::{
    delivered,
    envelope::Envelope,
    intake::{self, Origin},
    message::{Content, Header},
};
use ksched_kafka::{Record, TopicPartition};

use crate::{
    mover::{Onward, Unfit},
    node::Node,
};

/// Why something is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    /// For programs; never changes.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) text: String,
}

/// A record that stays as it is.
pub(crate) fn of_record<L>(node: &Node<L>, record: Record, reason: &Reason) -> Onward {
    let content = with_reason(record.content, &record.source, record.offset, reason);
    onward(node, content, reason)
}

/// A record that cannot move on as it should. One that the broker refused is cut, or
/// it might be refused on the dead-letter topic as well.
pub(crate) fn of_unfit<L>(node: &Node<L>, record: Record, unfit: &Unfit) -> Onward {
    match unfit {
        Unfit::Unreadable => of_record(node, record, &unfit.reason()),
        Unfit::Refused(_) => of_record_cut(node, record, &unfit.reason()),
    }
}

/// A record that was too large even for the dead-letter topic: key, reason and
/// origin are kept, by which the whole can still be found where it came from.
fn of_record_cut<L>(node: &Node<L>, record: Record, reason: &Reason) -> Onward {
    let key = record.content.key.filter(|key| key.len() <= 1_024);
    let mut content =
        with_reason(Content { key, ..Content::default() }, &record.source, record.offset, reason);
    content
        .headers
        .push(Header::new("ksched-error-cut", "value and headers were left out: the record is too large"));
    onward(node, content, reason)
}

/// A message in its turn, with what it was to be: its target and our delivered headers.
pub(crate) fn of_message<L>(
    node: &Node<L>,
    envelope: &Envelope,
    lane: u16,
    user: Content,
    source: &TopicPartition,
    offset: i64,
    reason: &Reason,
) -> Onward {
    let mut user = user;
    user.headers.push(Header::new("ksched-topic", envelope.target.topic.to_string()));
    if let Some(partition) = envelope.target.partition {
        user.headers.push(Header::new("ksched-partition", partition.to_string()));
    }
    let delivered = delivered::deliver(&node.cluster, envelope, lane, user, envelope.due_ms);
    onward(node, with_reason(delivered, source, offset, reason), reason)
}

fn with_reason(content: Content, source: &TopicPartition, offset: i64, reason: &Reason) -> Content {
    let origin = Origin { topic: &source.topic, partition: source.partition, offset };
    let mut content = content;
    content.headers.extend(intake::dead_letter_headers(origin, reason.code, &reason.text));
    content
}

fn onward<L>(node: &Node<L>, content: Content, reason: &Reason) -> Onward {
    let onward = Onward::new(node.cluster.dead_letter_topic.as_str().into(), None, content);
    Onward { dead: Some(reason.code), ..onward }
}
