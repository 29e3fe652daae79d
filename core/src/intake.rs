//! The intake topic: records that schedule themselves by their headers.
//!
//! Two dialects are understood. A record with any header `ksched-…` speaks
//! ksched's own, every other one the earlier system's:
//!
//! | | ksched's own | the earlier system's |
//! | --- | --- | --- |
//! | target | `ksched-topic`, perhaps `ksched-partition` | `topic` |
//! | due time | `ksched-deliver-at`, which names its zone | `time`, in the compat zone unless it names one; without it: at once |
//! | or delay | `ksched-delay`, counted from the record's timestamp | |
//!
//! The headers of the dialect are taken off; all others are the user's own and
//! kept as they are, so where both `ksched-topic` and `topic` stand, `topic` and
//! `time` are delivered. What is not understood goes to the dead-letter topic:
//! the record as it came, with [`dead_letter_headers`] behind its own.

use std::str;

use jiff::tz::TimeZone;

use crate::{
    cluster::Cluster,
    message::{Content, Header},
    time::{self, TimeError},
    validate::{Accepted, Door, Limits, Reason, Request, Stamp, Violation, When, check_header_name},
};

const DELIVER_AT: &str = "ksched-deliver-at";
const DELAY: &str = "ksched-delay";
const TOPIC: &str = "ksched-topic";
const PARTITION: &str = "ksched-partition";
/// Known to the dialect, not built yet.
const LATER: [&str; 3] = ["ksched-id", "ksched-max-lateness", "ksched-late-policy"];
/// What marks the dialects of other schedulers, not built yet. Without this such a
/// record would be the earlier system's without a time, and go at once.
const LATER_DIALECTS: [&str; 2] = ["scheduler-epoch", "schedule_target_epoch"];
const COMPAT_TIME: &str = "time";
const COMPAT_TOPIC: &str = "topic";

/// Why an intake record is not scheduled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Holds the name of the header that should have named the topic.
    #[error("header {0} is missing: no target topic")]
    NoTopic(&'static str),
    #[error("neither ksched-deliver-at nor ksched-delay is there: no due time")]
    NoDueTime,
    #[error("ksched-deliver-at and ksched-delay contradict each other")]
    DueAndDelay,
    #[error("header {0} is there more than once")]
    Repeated(&'static str),
    #[error("header {0} is null")]
    Null(&'static str),
    #[error("header {0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("header {header} {error}")]
    Time { header: &'static str, error: TimeError },
    #[error("header ksched-partition is not a partition number")]
    NotAPartition,
    #[error("header {0} is not built yet")]
    NotBuilt(&'static str),
    #[error("header {0} {reason}", reason = Reason::HeaderNameReserved)]
    Reserved(Box<str>),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Violation>),
}

impl Rejected {
    /// The reason for machines; never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoTopic(_) => "TOPIC_MISSING",
            Self::NoDueTime => "DUE_TIME_MISSING",
            Self::DueAndDelay => "DUE_TIME_AND_DELAY",
            Self::Repeated(_) => "HEADER_REPEATED",
            Self::Null(_) => "HEADER_NULL",
            Self::NotUtf8(_) => "HEADER_NOT_UTF8",
            Self::Time { header, .. } if *header == DELAY => "DELAY_UNREADABLE",
            Self::Time { .. } => "DUE_TIME_UNREADABLE",
            Self::NotAPartition => "PARTITION_UNREADABLE",
            Self::NotBuilt(_) => "NOT_BUILT",
            Self::Reserved(_) => Reason::HeaderNameReserved.code(),
            Self::Invalid(violations) => violations.first().map_or("INVALID", |first| first.reason.code()),
        }
    }
}

/// How one cluster reads its intake topic.
#[derive(Clone, Copy, Debug)]
pub struct Intake<'a> {
    pub cluster: &'a Cluster,
    pub limits: &'a Limits,
    /// `compat.zone`: the zone of a `time` that names none. ksched's own headers
    /// never use it.
    pub compat_zone: Option<&'a TimeZone>,
}

impl Intake<'_> {
    /// Reads a record. `timestamp_ms` is the record's; a record that has none
    /// (Kafka's −1) counts its delay from now.
    ///
    /// # Errors
    /// Why the record belongs on the dead-letter topic.
    pub fn decode(
        &self,
        record: &Content,
        timestamp_ms: i64,
        now_ms: i64,
        stamp: Stamp,
    ) -> Result<Accepted, Rejected> {
        let own = record.headers.iter().any(|header| header.name.starts_with("ksched-"));
        let request = if own {
            let sent_ms = if timestamp_ms < 0 { now_ms } else { timestamp_ms };
            read_own(record, sent_ms)?
        } else {
            read_compat(record, now_ms, self.compat_zone)?
        };
        let door = Door { cluster: self.cluster, limits: self.limits };
        let mut accepted = door.accept(request, now_ms, stamp).map_err(|faults| {
            reserved(record, &faults).map_or(Rejected::Invalid(faults), Rejected::Reserved)
        })?;
        accepted.envelope.stamps = !own;
        Ok(accepted)
    }
}

fn read_own(record: &Content, sent_ms: i64) -> Result<Request, Rejected> {
    refuse_what_is_not_built(record, &LATER)?;
    let topic = text(record, TOPIC)?.ok_or(Rejected::NoTopic(TOPIC))?;
    let partition = text(record, PARTITION)?.map(parse_partition).transpose()?;
    let due_ms = match (text(record, DELIVER_AT)?, text(record, DELAY)?) {
        (None, None) => return Err(Rejected::NoDueTime),
        (Some(_), Some(_)) => return Err(Rejected::DueAndDelay),
        (Some(at), None) => {
            time::parse_due(at, None).map_err(|error| Rejected::Time { header: DELIVER_AT, error })?
        }
        (None, Some(delay)) => {
            let delay = time::parse_delay(delay).map_err(|error| Rejected::Time { header: DELAY, error })?;
            // Saturating leads out of the accepted range, never into it.
            sent_ms.saturating_add(delay)
        }
    };
    Ok(Request {
        topic: topic.into(),
        partition,
        content: without(record, &[TOPIC, PARTITION, DELIVER_AT, DELAY]),
        when: Some(When::Due(due_ms)),
        request_id: None,
        attempt: None,
    })
}

fn read_compat(record: &Content, now_ms: i64, zone: Option<&TimeZone>) -> Result<Request, Rejected> {
    refuse_what_is_not_built(record, &LATER_DIALECTS)?;
    let topic = text(record, COMPAT_TOPIC)?.ok_or(Rejected::NoTopic(COMPAT_TOPIC))?;
    let due_ms = match text(record, COMPAT_TIME)? {
        None => now_ms,
        Some(at) => {
            time::parse_due(at, zone).map_err(|error| Rejected::Time { header: COMPAT_TIME, error })?
        }
    };
    Ok(Request {
        topic: topic.into(),
        partition: None,
        content: without(record, &[COMPAT_TOPIC, COMPAT_TIME]),
        when: Some(When::Due(due_ms)),
        request_id: None,
        attempt: None,
    })
}

fn refuse_what_is_not_built(record: &Content, names: &[&'static str]) -> Result<(), Rejected> {
    let later = names.iter().find(|name| record.headers.iter().any(|header| *header.name == ***name));
    later.map_or(Ok(()), |name| Err(Rejected::NotBuilt(name)))
}

/// The name of the reserved header that is all that is wrong: its place among the
/// headers, as users of gRPC are told, says little once the dialect's are taken off.
fn reserved(record: &Content, faults: &[Violation]) -> Option<Box<str>> {
    if faults.iter().any(|fault| fault.reason != Reason::HeaderNameReserved) {
        return None;
    }
    let names = record.headers.iter().map(|header| &header.name);
    let mut others = names.filter(|name| ![TOPIC, PARTITION, DELIVER_AT, DELAY].contains(&&***name));
    others.find(|name| check_header_name(name) == Err(Reason::HeaderNameReserved)).map(|name| (**name).into())
}

/// The value of a header of the dialect, which may stand there once.
fn text<'a>(record: &'a Content, name: &'static str) -> Result<Option<&'a str>, Rejected> {
    let mut found = record.headers.iter().filter(|header| *header.name == *name);
    let Some(header) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(Rejected::Repeated(name));
    }
    let value = header.value.as_ref().ok_or(Rejected::Null(name))?;
    str::from_utf8(value).map(Some).map_err(|_| Rejected::NotUtf8(name))
}

fn parse_partition(text: &str) -> Result<i32, Rejected> {
    let text = text.trim_ascii();
    // `parse` alone would take `+3`.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(Rejected::NotAPartition)
}

/// The content without the dialect's headers.
fn without(record: &Content, names: &[&str]) -> Content {
    let users = record.headers.iter().filter(|header| !names.contains(&&*header.name));
    Content { key: record.key.clone(), value: record.value.clone(), headers: users.cloned().collect() }
}

/// Where a dead letter was read.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
}

/// Longest text of a reason in a dead letter, in bytes. With a topic's name and
/// numbers it stays within [`HEAD_ROOM`](crate::validate::HEAD_ROOM).
const MAX_REASON: usize = 1_000;

/// The readable headers that go behind a dead letter's own: why, and whence.
/// `code` is for machines, `reason` for people.
pub fn dead_letter_headers(origin: Origin<'_>, code: &'static str, reason: &str) -> Vec<Header> {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    vec![
        Header::new("ksched-error-code", code),
        Header::new("ksched-error", reason[..end].to_owned()),
        Header::new("ksched-origin-topic", origin.topic.to_owned()),
        Header::new("ksched-origin-partition", origin.partition.to_string()),
        Header::new("ksched-origin-offset", origin.offset.to_string()),
    ]
}

#[cfg(test)]
mod tests;
