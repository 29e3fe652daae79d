//! A record as a lane holds it until it is due, and what the gate asks of it.

use std::{cell::OnceCell, sync::Arc};

use ksched_core::{
    delivered,
    envelope::Envelope,
    lane::{Arrival, Gate},
    message::{Content, Header, Identity},
    packed::Packed,
    wheel::Inlet,
};
use ksched_kafka::TransactionError;

use crate::targets::Verdict;

/// A message in the lane.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) body: Body,
    /// What the gate said of its target.
    pub(super) verdict: OnceCell<Verdict>,
}

#[derive(Debug)]
pub(super) enum Body {
    Message(Message),
    /// On one of our topics, yet not written by ksched, and why not.
    Foreign(Box<(Content, String)>),
}

/// As it was stored, and what is looked at before it is unpacked again.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) topic: Arc<str>,
    pub(super) partition: Option<i32>,
    pub(super) due_ms: i64,
    /// Of the user's content and of its headers, for the target's limit.
    pub(super) record_bytes: usize,
    stored: Packed,
}

impl Message {
    /// Envelope and the user's content.
    pub(super) fn unpack(&self) -> Result<(Envelope, Content), TransactionError> {
        delivered::split(self.stored.unpack())
            .map_err(|why| TransactionError::Unclean(format!("a message that was read once: {why}")))
    }
}

/// What arrives with a message; `topic` is its target's name, shared.
pub(super) fn message(
    inlet: Inlet,
    offset: i64,
    timestamp_ms: i64,
    content: Content,
    envelope: Envelope,
    topic: Arc<str>,
) -> Arrival<Held> {
    let stored = Packed::pack(&content);
    let mut user = content;
    user.headers.remove(0);
    Arrival {
        inlet,
        offset,
        timestamp_ms,
        due_ms: envelope.effective_due_ms(),
        scheduled_at_us: envelope.scheduled_at_us,
        origin: envelope.origin,
        body_hash: body_hash(&envelope, &user),
        size: stored.size() + ALLOCATION,
        payload: held(Body::Message(Message {
            topic,
            partition: envelope.target.partition,
            due_ms: envelope.due_ms,
            record_bytes: user.size() + 16 * user.headers.len(),
            stored,
        })),
        identity: envelope.identity,
    }
}

/// What arrives with a record that is none of ours: at once, for the dead-letter topic.
pub(super) fn foreign(
    inlet: Inlet,
    offset: i64,
    timestamp_ms: i64,
    content: Content,
    reason: String,
) -> Arrival<Held> {
    Arrival {
        inlet,
        offset,
        timestamp_ms,
        due_ms: timestamp_ms,
        scheduled_at_us: 0,
        origin: 0,
        identity: None,
        body_hash: 0,
        size: foreign_bytes(&content) + reason.len(),
        payload: held(Body::Foreign(Box::new((content, reason)))),
    }
}

fn held(body: Body) -> Held {
    Held { body, verdict: OnceCell::new() }
}

/// What the gate says of a message that is due.
pub(super) fn gate(held: &Held, judge: impl FnOnce(&str, Option<i32>, usize) -> Verdict) -> Gate {
    let verdict = held.verdict.get_or_init(|| match &held.body {
        Body::Message(message) => judge(&message.topic, message.partition, message.record_bytes),
        Body::Foreign(_) => Verdict::Send,
    });
    if matches!(verdict, Verdict::PutOff(_)) { Gate::PutOff } else { Gate::Fire }
}

/// What an allocation costs besides its bytes.
const ALLOCATION: usize = 32;

/// What a record that is none of ours holds: one buffer for all its bytes, the handle that
/// they share, and the headers' vector.
fn foreign_bytes(content: &Content) -> usize {
    content.size() + content.headers.len() * size_of::<Header>() + 4 * ALLOCATION
}

/// What a request id stands for. FNV-1a, because the hash outlives this process and
/// the standard library's may change with its version.
fn body_hash(envelope: &Envelope, user: &Content) -> u64 {
    let Some(Identity::Request(_)) = envelope.identity else { return 0 };
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |part: Option<&[u8]>| {
        // A length in front, so that parts cannot run into each other; null is none.
        let length = part.map_or(-1, |p| p.len() as i64).to_le_bytes();
        for byte in length.iter().chain(part.unwrap_or_default()) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(Some(envelope.target.topic.as_bytes()));
    add(envelope.target.partition.map(i32::to_le_bytes).as_ref().map(|b| b.as_slice()));
    add(Some(&envelope.due_ms.to_le_bytes()));
    add(user.key.as_deref());
    add(user.value.as_deref());
    for header in &user.headers {
        add(Some(header.name.as_bytes()));
        add(header.value.as_deref());
    }
    hash
}
