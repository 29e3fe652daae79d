//! What is accepted from users, whichever door it comes in by.
//!
//! A door turns what it was given into a [`Request`]; [`Door::accept`] turns that
//! into a message ready to be stored, or says everything that is wrong with it.
//! Field names are those of `ksched.v1.ScheduleRequest`.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    cluster::Cluster,
    envelope::{self, Envelope},
    message::{Content, Identity, Target},
    time, wheel,
};

mod reason;

pub use self::reason::{Reason, Violation};

/// Room kept in a record for what ksched adds to the user's bytes: inside, the
/// envelope (at most some 475 bytes: the longest topic name and request id);
/// delivered, its headers and the earlier system's stamps (some 320); as a dead
/// letter the envelope, the reason and the origin (under 1,500); and Kafka's own
/// batch and record framing (under 100).
pub const HEAD_ROOM: usize = 4_096;

/// Kafka's default `max.message.bytes`.
const KAFKA_MAX_MESSAGE_BYTES: usize = 1_048_588;

/// Bytes Kafka may need for the two lengths of a header besides name and value.
const HEADER_FRAMING: usize = 8;

/// Longest topic name Kafka accepts.
const MAX_TOPIC: usize = 249;

/// Longest request id accepted. A UUID has 36 characters.
pub const MAX_REQUEST_ID: usize = 128;

/// A try later than this after the first one is refused, in ms (design §4.5).
pub const ATTEMPT_WINDOW_MS: i64 = 60_000;

/// How far a client's clock may be ahead of ours, in ms. With
/// [`ATTEMPT_WINDOW_MS`] it stays well under the two minutes for which settled
/// records are kept to look copies up in.
pub const ATTEMPT_CLOCK_BOUND_MS: i64 = 10_000;

/// Most violations reported at once. They travel in gRPC trailers, which most
/// peers limit to 8 KiB.
const MAX_VIOLATIONS: usize = 16;

/// How much a user may put into one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most bytes of key, value and headers, eight counted for each header
    /// besides its name and value. Kafka's `max.message.bytes` of our own topics
    /// must be larger by [`HEAD_ROOM`].
    pub max_record_bytes: usize,
    /// Most headers. Each costs a separate allocation in librdkafka.
    pub max_headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_record_bytes: KAFKA_MAX_MESSAGE_BYTES - HEAD_ROOM, max_headers: 1_000 }
    }
}

impl Limits {
    /// The bytes of a message as [`max_record_bytes`](Self::max_record_bytes) counts them.
    pub fn record_bytes(content: &Content) -> usize {
        content.size() + HEADER_FRAMING * content.headers.len()
    }
}

/// When a message is to reach its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Epoch ms.
    Due(i64),
    /// Ms from now.
    Delay(i64),
}

/// One of several tries, as a client states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Must be 16 bytes.
    pub id: Bytes,
    /// 1 for the first try.
    pub number: u32,
    /// When the first try was sent, in epoch ms.
    pub first_at_ms: i64,
}

/// A message as a user asks for it; nothing is checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Target topic.
    pub topic: Box<str>,
    /// Target partition; `None` by the key's hash.
    pub partition: Option<i32>,
    pub content: Content,
    pub when: Option<When>,
    pub request_id: Option<Box<str>>,
    pub attempt: Option<Attempt>,
}

/// What makes a message one of its kind: set by the process that schedules it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Wall clock in µs, strictly increasing at each process.
    pub scheduled_at_us: i64,
    /// Random number of the process.
    pub origin: u32,
}

/// A message that may be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The user's key, value and headers, untouched.
    pub content: Content,
    pub envelope: Envelope,
    pub lane: u16,
}

/// The rules of one cluster.
#[derive(Clone, Copy, Debug)]
pub struct Door<'a> {
    pub cluster: &'a Cluster,
    pub limits: &'a Limits,
}

impl Door<'_> {
    /// Checks a request and gives the message its envelope and its lane.
    ///
    /// A due time in the past is accepted: the message fires at once.
    ///
    /// # Errors
    /// What is wrong with the request, everything at once, but at most 16 faults.
    pub fn accept(&self, request: Request, now_ms: i64, stamp: Stamp) -> Result<Accepted, Vec<Violation>> {
        let mut faults = Faults::default();
        faults.note("topic", self.check_target(&request.topic));
        if request.partition.is_some_and(|partition| partition < 0) {
            faults.add("partition", Reason::NegativePartition);
        }
        self.check_content(&request.content, &mut faults);
        let due_ms = faults.note_when(request.when, now_ms);
        if let Some(id) = &request.request_id {
            faults.note("request_id", check_request_id(id));
        }
        let attempt = request.attempt.and_then(|attempt| faults.note_attempt(&attempt, now_ms));
        let (Some(due_ms), true) = (due_ms, faults.0.is_empty()) else {
            return Err(faults.0);
        };
        // Both may be set: our client numbers every try. The user's id is judged
        // always, so it is the one kept.
        let identity = request.request_id.map(Identity::Request).or(attempt);
        let lane = wheel::lane_for(
            &lane_identity(&request.content, identity.as_ref(), stamp),
            self.cluster.geometry.lanes,
        );
        let envelope = Envelope {
            due_ms,
            scheduled_at_us: stamp.scheduled_at_us,
            origin: stamp.origin,
            hops: 0,
            target: Target { topic: request.topic, partition: request.partition },
            not_before_ms: None,
            identity,
            stamps: false,
            trace: None,
        };
        Ok(Accepted { content: request.content, envelope, lane })
    }

    /// Checks the name of a target topic: Kafka's rules, and none of our own topics.
    ///
    /// # Errors
    /// Which rule is broken.
    pub fn check_target(&self, topic: &str) -> Result<(), Reason> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if topic.is_empty() {
            Err(Reason::TopicMissing)
        } else if topic.len() > MAX_TOPIC {
            Err(Reason::TopicTooLong { bytes: topic.len() })
        } else if !topic.bytes().all(legal) || matches!(topic, "." | "..") {
            Err(Reason::TopicIllegal)
        } else if self.cluster.is_internal_topic(topic) {
            Err(Reason::TopicInternal)
        } else {
            Ok(())
        }
    }

    fn check_content(&self, content: &Content, faults: &mut Faults) {
        let bytes = Limits::record_bytes(content);
        if bytes > self.limits.max_record_bytes {
            faults.add("", Reason::TooLarge { bytes, max: self.limits.max_record_bytes });
        }
        let count = content.headers.len();
        if count > self.limits.max_headers {
            faults.add("headers", Reason::TooManyHeaders { count, max: self.limits.max_headers });
            return;
        }
        for (index, header) in content.headers.iter().enumerate() {
            if let Err(reason) = check_header_name(&header.name) {
                faults.add(format!("headers[{index}].name"), reason);
            }
        }
    }
}

/// Checks the name of a user's header.
///
/// # Errors
/// Empty names, names that ksched adds itself, and names with a zero byte, which
/// librdkafka would cut there.
pub fn check_header_name(name: &str) -> Result<(), Reason> {
    if name.is_empty() {
        Err(Reason::HeaderNameMissing)
    } else if name.contains('\0') {
        Err(Reason::HeaderNameIllegal)
    } else if name == envelope::NAME || name.starts_with("ksched-") || name.starts_with("__sm_") {
        Err(Reason::HeaderNameReserved)
    } else {
        Ok(())
    }
}

/// Checks a request id: 1 to 128 visible ASCII characters.
///
/// # Errors
/// Which rule is broken.
pub fn check_request_id(id: &str) -> Result<(), Reason> {
    if id.is_empty() || id.len() > MAX_REQUEST_ID {
        Err(Reason::RequestIdLength { bytes: id.len() })
    } else if !id.bytes().all(|b| b.is_ascii_graphic()) {
        Err(Reason::RequestIdIllegal)
    } else {
        Ok(())
    }
}

/// Epoch ms of a `google.protobuf.Timestamp`, rounded up.
///
/// # Errors
/// Nanoseconds out of their range, and instants that are not from 2000 to 9999.
pub fn timestamp_ms(seconds: i64, nanos: i32) -> Result<i64, Reason> {
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(Reason::MalformedTime);
    }
    // Saturating leads out of the accepted range, never into it.
    let ms = seconds.saturating_mul(1_000).saturating_add(nanos_to_ms(nanos));
    time::in_range(ms).map_err(|_| Reason::DueOutOfRange)
}

/// Ms of a `google.protobuf.Duration`, rounded up.
///
/// # Errors
/// Nanoseconds out of their range or of another sign than the seconds, negative
/// spans, and what is longer than `i64` ms.
pub fn duration_ms(seconds: i64, nanos: i32) -> Result<i64, Reason> {
    if !(-999_999_999..1_000_000_000).contains(&nanos) || seconds > 0 && nanos < 0 || seconds < 0 && nanos > 0
    {
        return Err(Reason::MalformedTime);
    }
    if seconds < 0 || nanos < 0 {
        return Err(Reason::NegativeDelay);
    }
    let ms = seconds.checked_mul(1_000).and_then(|ms| ms.checked_add(nanos_to_ms(nanos)));
    ms.ok_or(Reason::DueOutOfRange)
}

fn nanos_to_ms(nanos: i32) -> i64 {
    i64::from(nanos.unsigned_abs().div_ceil(1_000_000))
}

/// The bytes whose hash is the lane: the same for every try (design §4.5).
fn lane_identity<'a>(content: &'a Content, identity: Option<&'a Identity>, stamp: Stamp) -> Cow<'a, [u8]> {
    match (&content.key, identity) {
        (Some(key), _) => Cow::Borrowed(key),
        (None, Some(Identity::Request(id))) => Cow::Borrowed(id.as_bytes()),
        (None, Some(Identity::Attempt { id, .. })) => Cow::Borrowed(id),
        // No two messages have the same stamp, so it is as good as a random id.
        (None, None) => {
            Cow::Owned([&stamp.scheduled_at_us.to_be_bytes()[..], &stamp.origin.to_be_bytes()[..]].concat())
        }
    }
}

/// What is wrong so far.
#[derive(Default)]
struct Faults(Vec<Violation>);

impl Faults {
    fn add(&mut self, field: impl Into<Cow<'static, str>>, reason: Reason) {
        if self.0.len() < MAX_VIOLATIONS {
            self.0.push(Violation { field: field.into(), reason });
        }
    }

    fn note<T>(&mut self, field: &'static str, result: Result<T, Reason>) -> Option<T> {
        result.map_err(|reason| self.add(field, reason)).ok()
    }

    fn note_when(&mut self, when: Option<When>, now_ms: i64) -> Option<i64> {
        let in_range = |due_ms| time::in_range(due_ms).map_err(|_| Reason::DueOutOfRange);
        match when {
            None => self.note("due_time", Err(Reason::DueMissing)),
            Some(When::Due(due_ms)) => self.note("due_time", in_range(due_ms)),
            Some(When::Delay(ms)) if ms < 0 => self.note("delay", Err(Reason::NegativeDelay)),
            // Saturating leads out of the accepted range, never into it.
            Some(When::Delay(ms)) => self.note("delay", in_range(now_ms.saturating_add(ms))),
        }
    }

    fn note_attempt(&mut self, attempt: &Attempt, now_ms: i64) -> Option<Identity> {
        let id = <[u8; 16]>::try_from(&attempt.id[..]);
        let id = self.note("attempt.id", id.map_err(|_| Reason::AttemptIdLength { bytes: attempt.id.len() }));
        if attempt.number == 0 {
            self.add("attempt.number", Reason::AttemptNumberMissing);
        }
        let age_ms = now_ms.saturating_sub(attempt.first_at_ms);
        if age_ms > ATTEMPT_WINDOW_MS {
            self.add("attempt.first_at", Reason::AttemptTooLate { age_ms });
        } else if age_ms < -ATTEMPT_CLOCK_BOUND_MS {
            self.add("attempt.first_at", Reason::AttemptInFuture { ahead_ms: age_ms.saturating_neg() });
        }
        id.map(|id| Identity::Attempt { id, number: attempt.number, first_at_ms: attempt.first_at_ms })
    }
}

#[cfg(test)]
mod tests;
