//! The spans there are: what begins each and what is noted in it.

use std::{fmt, time::Duration};

use ksched_core::trace::TraceContext;
use opentelemetry::trace::SpanKind;

use super::{
    attributes as key, is_on,
    span::{Beginning, Span},
};
use crate::metrics::Kind;

/// Links of one span, as the SDK limits them too: of larger batches the first ones stand for all.
const LINKS_MAX: usize = 128;

/// A call of a user's, `method` being `package.Service/Method`, within the caller's span.
pub fn call(method: &'static str, caller: Option<TraceContext>) -> Span {
    let mut span = Span::begin(Beginning { parent: caller, ..Beginning::of(method, SpanKind::Server) });
    if span.is_recorded() {
        let (service, name) = method.split_once('/').unwrap_or((method, ""));
        span.note(key::RPC_SYSTEM, "grpc");
        span.note(key::RPC_SERVICE, service);
        span.note(key::RPC_METHOD, name);
    }
    span
}

/// The scheduling of one message for a topic, within a span if it has one to be part of, and
/// linked to another: the call that it came by.
pub fn schedule(topic: &str, parent: Option<TraceContext>, link: Option<TraceContext>) -> Span {
    let beginning = Beginning::of("schedule", SpanKind::Producer);
    let mut span = Span::begin(Beginning { parent, links: link.as_slice(), ..beginning });
    if span.is_recorded() {
        span.rename(format!("schedule {topic}"));
        span.note(key::MESSAGING_SYSTEM, "kafka");
        span.note(key::MESSAGING_OPERATION, "schedule");
        span.note(key::MESSAGING_OPERATION_TYPE, "create");
        span.note(key::MESSAGING_DESTINATION, topic.to_owned());
    }
    span
}

/// An append of so many messages to topics of ours, part of a call that is recorded.
pub fn append(call: Option<TraceContext>, messages: usize) -> Span {
    if call.is_none() {
        return Span::default();
    }
    let mut span = Span::begin(Beginning { parent: call, ..Beginning::of("append", SpanKind::Client) });
    span.operation("append", "send", messages);
    span
}

/// The one partition that a job reads, and for which consumer group.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub partition: i32,
}

/// A batch of such a job that took so long and is over; none if nothing in it is recorded.
pub fn batch(
    kind: Kind,
    job: &str,
    source: Option<Source<'_>>,
    messages: usize,
    took: Duration,
    links: &Links,
) -> Span {
    if links.0.is_empty() {
        return Span::default();
    }
    let (name, kind, r#type) = match kind {
        Kind::Intake => ("intake", SpanKind::Consumer, "process"),
        Kind::Drain => ("drain", SpanKind::Consumer, "process"),
        // Not a producer's: consumers join where the message was scheduled, not this.
        Kind::Lane => ("fire", SpanKind::Client, "send"),
    };
    let mut span = Span::begin(Beginning { links: &links.0, ago: took, ..Beginning::of(name, kind) });
    span.operation(name, r#type, messages);
    span.note(key::JOB, job.to_owned());
    if let Some(Source { group, topic, partition }) = source.filter(|_| span.is_recorded()) {
        span.rename(format!("{name} {topic}"));
        span.note(key::MESSAGING_GROUP, group.to_owned());
        span.note(key::MESSAGING_DESTINATION, topic.to_owned());
        span.note(key::MESSAGING_PARTITION, partition.to_string());
    }
    span
}

/// A job that this worker leases: until the span is dropped.
pub fn lease(job: &str, fence: i64) -> Span {
    let mut span = Span::begin(Beginning::of("lease", SpanKind::Internal));
    if span.is_recorded() {
        span.note(key::JOB, job.to_owned());
        span.note(key::FENCE, fence);
    }
    span
}

/// A take-over that took so long and is over, part of a lease that is recorded.
pub fn take_over(lease: Option<TraceContext>, job: &str, took: Duration) -> Span {
    if lease.is_none() {
        return Span::default();
    }
    let beginning = Beginning::of("take over", SpanKind::Internal);
    let mut span = Span::begin(Beginning { parent: lease, ago: took, ..beginning });
    span.note(key::JOB, job.to_owned());
    span
}

impl Span {
    /// It is about this message.
    pub fn about(&mut self, id: &impl fmt::Display, due_ms: i64) {
        if self.is_recorded() {
            self.note(key::MESSAGING_MESSAGE_ID, id.to_string());
            self.note(key::DUE_MS, due_ms);
        }
    }

    /// It is about so many messages.
    pub fn about_many(&mut self, messages: usize) {
        self.note(key::MESSAGING_SYSTEM, "kafka");
        // Not where there is one, as the conventions want it.
        if messages != 1 {
            self.note(key::MESSAGING_BATCH, messages as i64);
        }
    }

    /// The call was answered with this gRPC status code. Only those that are the server's
    /// fault make its span one that failed, as the conventions say.
    pub fn answered(&mut self, code: i32, message: &str) {
        /// UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        const SERVERS_FAULT: [(i32, &str); 6] =
            [(2, "2"), (4, "4"), (12, "12"), (13, "13"), (14, "14"), (15, "15")];
        self.note(key::RPC_STATUS, i64::from(code));
        if let Some((_, kind)) = SERVERS_FAULT.into_iter().find(|(fault, _)| *fault == code) {
            self.fail(kind, &message);
        }
    }

    /// How a job ended, in one of few words.
    pub fn ended(&mut self, how: &'static str) {
        self.note(key::OUTCOME, how);
    }

    fn operation(&mut self, name: &'static str, r#type: &'static str, messages: usize) {
        self.about_many(messages);
        self.note(key::MESSAGING_OPERATION, name);
        self.note(key::MESSAGING_OPERATION_TYPE, r#type);
    }
}

/// Where a batch's messages were scheduled, as far as that is recorded: the first 128 of these
/// spans, each once.
#[derive(Clone, Debug, Default)]
pub struct Links(Vec<TraceContext>);

impl Links {
    /// For the next batch.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// One of its messages was scheduled there.
    pub fn add(&mut self, scheduled: Option<TraceContext>) {
        if let Some(scheduled) = scheduled
            && scheduled.is_sampled()
            && is_on()
            && self.0.len() < LINKS_MAX
            && !self.0.contains(&scheduled)
        {
            self.0.push(scheduled);
        }
    }
}
