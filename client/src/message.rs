//! What is handed to [`crate::Client`].

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ksched_proto::v1;
use prost_types::Timestamp;

use crate::clock;

/// A message to schedule. Due at once unless [`due`](Self::due) or
/// [`delay`](Self::delay) says otherwise.
#[derive(Clone, Debug)]
pub struct Message {
    request: v1::ScheduleRequest,
    when: When,
}

#[derive(Clone, Copy, Debug)]
enum When {
    AtMs(i64),
    After(Duration),
}

/// A message that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    pub id: String,
    /// As kept, in ms since the Unix epoch.
    pub due_ms: i64,
}

impl Message {
    /// A message without key and value for a target topic.
    pub fn new(topic: impl Into<String>) -> Self {
        let request = v1::ScheduleRequest { topic: topic.into(), ..Default::default() };
        Self { request, when: When::After(Duration::ZERO) }
    }

    /// The record's key; null without this.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.request.record_key = Some(v1::schedule_request::RecordKey::Key(key.into()));
        self
    }

    /// The record's value; null without this.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.request.record_value = Some(v1::schedule_request::RecordValue::Value(value.into()));
        self
    }

    /// One more header, after those given before.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let value = Some(v1::header::HeaderValue::Value(value.into()));
        self.request.headers.push(v1::Header { name: name.into(), header_value: value });
        self
    }

    /// One more header, with a null value.
    #[must_use]
    pub fn null_header(mut self, name: impl Into<String>) -> Self {
        self.request.headers.push(v1::Header { name: name.into(), header_value: None });
        self
    }

    /// Target partition; by the key's hash without this.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.request.partition = Some(partition);
        self
    }

    /// Due at this instant.
    #[must_use]
    pub fn due(self, at: SystemTime) -> Self {
        self.due_ms(clock::to_ms_up(at))
    }

    /// Due at this instant, in ms since the Unix epoch.
    #[must_use]
    pub fn due_ms(mut self, at_ms: i64) -> Self {
        self.when = When::AtMs(at_ms);
        self
    }

    /// Due this long after the message is handed to the client.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.when = When::After(delay);
        self
    }

    /// Repeats with the same request id within ten minutes schedule once.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request.request_id = id.into();
        self
    }

    /// The request of every attempt: the delay becomes a due time here, once, and
    /// the attempt id is chosen. The number is set before each attempt.
    pub(crate) fn into_request(mut self, now_ms: i64) -> v1::ScheduleRequest {
        let due_ms = match self.when {
            When::AtMs(at_ms) => at_ms,
            When::After(delay) => now_ms.saturating_add(clock::span_ms_up(delay)),
        };
        self.request.when = Some(v1::schedule_request::When::DueTime(timestamp(due_ms)));
        self.request.attempt = Some(v1::Attempt {
            id: Bytes::copy_from_slice(&rand::random::<[u8; 16]>()),
            number: 0,
            first_at: None,
        });
        self.request
    }
}

impl From<v1::ScheduleResponse> for Scheduled {
    fn from(response: v1::ScheduleResponse) -> Self {
        Self { id: response.id, due_ms: response.due_time.map_or(0, |at| millis(&at)) }
    }
}

/// Notes in the request that it is tried once more; the number of this attempt.
pub(crate) fn next_attempt(request: &mut v1::ScheduleRequest) -> u32 {
    let attempt = request.attempt.get_or_insert_default();
    attempt.number += 1;
    if attempt.first_at.is_none() {
        attempt.first_at = Some(timestamp(clock::now_ms()));
    }
    attempt.number
}

/// How often the request has been tried.
pub(crate) fn attempts(request: &v1::ScheduleRequest) -> u32 {
    request.attempt.as_ref().map_or(0, |attempt| attempt.number)
}

pub(crate) fn timestamp(ms: i64) -> Timestamp {
    let nanos = i32::try_from(ms.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    Timestamp { seconds: ms.div_euclid(1000), nanos }
}

pub(crate) fn millis(at: &Timestamp) -> i64 {
    at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_becomes_a_due_time_rounded_up() {
        let request = Message::new("t").delay(Duration::from_micros(1_500)).into_request(10_000);
        let expected = Some(v1::schedule_request::When::DueTime(timestamp(10_002)));
        assert_eq!(request.when, expected);
    }

    #[test]
    fn an_endless_delay_is_not_due_now() {
        let request = Message::new("t").delay(Duration::MAX).into_request(10_000);
        let expected = Some(v1::schedule_request::When::DueTime(timestamp(i64::MAX)));
        assert_eq!(request.when, expected);
    }

    #[test]
    fn attempts_count_up_and_keep_their_first_instant() {
        let mut request = Message::new("t").into_request(0);
        assert_eq!(next_attempt(&mut request), 1);
        let first = request.attempt.clone().unwrap_or_default();
        assert_eq!(first.id.len(), 16);
        assert_eq!(next_attempt(&mut request), 2);
        let second = request.attempt.unwrap_or_default();
        assert_eq!((second.id, second.first_at), (first.id, first.first_at));
    }

    #[test]
    fn timestamps_round_trip() {
        for ms in [0, 1, 999, -1, -1001, 1_795_000_000_123] {
            assert_eq!(millis(&timestamp(ms)), ms);
        }
    }
}
