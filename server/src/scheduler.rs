//! The service that users call: schedule one message, many, or a stream of them.
//!
//! A message is checked by the rules of [`ksched_core::validate`], routed by
//! [`ksched_core::wheel`], appended straight to its bucket or lane, and answered
//! once Kafka has acknowledged it with acks=all. The store is not on this path.

mod placer;
mod request;
pub(crate) mod stamps;
mod stream;

use std::{pin::Pin, sync::Arc};

use futures::Stream;
use ksched_core::{
    trace::{self, TraceContext},
    validate::Violation,
};
use ksched_proto::v1::{self, schedule_result, scheduler_server};
use ksched_telemetry::traces::{self, Span};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

pub(crate) use placer::Call;
pub use placer::Placer;

use crate::status;

/// Most items of one batch.
pub(crate) const MAX_BATCH: usize = 10_000;

/// Bytes of errors that a batch's answer tells in full: with 10,000 brief results the
/// answer stays below the 4 MiB that gRPC clients read unless told otherwise.
const FULL_ERRORS: usize = 2 << 20;

/// Why a message was not scheduled, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}", sentence(.0))]
    Invalid(Vec<Violation>),
    #[error("{field} is not built yet")]
    NotBuilt { field: &'static str },
    #[error("has {items} items, at most {MAX_BATCH} are allowed")]
    TooManyItems { items: usize },
    #[error("{sequence} does not follow {last}: it must strictly increase from 1")]
    Sequence { sequence: u64, last: u64 },
    #[error("too much is in flight, come back in a moment")]
    Overloaded,
    /// Surely not appended; may be repeated.
    #[error("not scheduled: {0}")]
    NotScheduled(String),
    /// Perhaps appended.
    #[error("the message may have been scheduled: {0}")]
    OutcomeUnknown(String),
    /// Surely not appended, and repeating will not help.
    #[error("kafka refuses the message: {0}")]
    Refused(String),
    #[error("this coordinator is stopping")]
    Stopping,
}

impl Error {
    /// The reason by which refusals are counted: one of few words.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Invalid(violations) => violations.first().map_or("INVALID", |v| v.reason.code()),
            Self::NotBuilt { .. } => "NOT_BUILT",
            Self::TooManyItems { .. } => "TOO_MANY_ITEMS",
            Self::Sequence { .. } => "SEQUENCE_NOT_INCREASING",
            Self::Overloaded => "OVERLOADED",
            Self::NotScheduled(_) => "NOT_SCHEDULED",
            Self::OutcomeUnknown(_) => "OUTCOME_UNKNOWN",
            Self::Refused(_) => "REFUSED_BY_KAFKA",
            Self::Stopping => "STOPPING",
        }
    }
}

/// `ksched.v1.Scheduler`.
#[derive(Clone, Debug)]
pub struct Scheduler {
    placer: Arc<Placer>,
    shutdown: CancellationToken,
}

impl Scheduler {
    /// Streams end when `shutdown` is cancelled; calls in flight are answered.
    pub fn new(placer: Arc<Placer>, shutdown: CancellationToken) -> Self {
        Self { placer, shutdown }
    }
}

#[tonic::async_trait]
impl scheduler_server::Scheduler for Scheduler {
    async fn schedule(
        &self,
        request: Request<v1::ScheduleRequest>,
    ) -> Result<Response<v1::ScheduleResponse>, Status> {
        let caller = caller(&request);
        let mut span = traces::call("ksched.v1.Scheduler/Schedule", caller);
        let call = Call::new(&mut span, caller, 1);
        let result = self.placer.schedule_one(request.into_inner(), call).await;
        answer(span, result)
    }

    async fn batch_schedule(
        &self,
        request: Request<v1::BatchScheduleRequest>,
    ) -> Result<Response<v1::BatchScheduleResponse>, Status> {
        let caller = caller(&request);
        let mut span = traces::call("ksched.v1.Scheduler/BatchSchedule", caller);
        let call = Call::new(&mut span, caller, request.get_ref().requests.len());
        let result = self.schedule_batch(request.into_inner().requests, call).await;
        answer(span, result)
    }

    type ScheduleStreamStream =
        Pin<Box<dyn Stream<Item = Result<v1::ScheduleStreamResponse, Status>> + Send>>;

    async fn schedule_stream(
        &self,
        request: Request<Streaming<v1::ScheduleStreamRequest>>,
    ) -> Result<Response<Self::ScheduleStreamStream>, Status> {
        let (placer, shutdown) = (Arc::clone(&self.placer), self.shutdown.clone());
        let answers = stream::answers(placer, request.into_inner(), shutdown);
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Scheduler {
    async fn schedule_batch(
        &self,
        requests: Vec<v1::ScheduleRequest>,
        call: Call,
    ) -> Result<v1::BatchScheduleResponse, Error> {
        if requests.len() > MAX_BATCH {
            let items = requests.len();
            return Err(self.placer.refuse(items, Error::TooManyItems { items }));
        }
        let room = self.placer.try_reserve(requests.len(), requests.iter().map(request::weight).sum())?;
        let outcomes = self.placer.schedule(requests, Some(room), call).await;
        Ok(v1::BatchScheduleResponse { results: all_told(outcomes) })
    }
}

/// The caller's span, by W3C's header in the call's metadata.
fn caller<T>(request: &Request<T>) -> Option<TraceContext> {
    TraceContext::parse(request.metadata().get(trace::HEADER)?.as_bytes())
}

/// Ends a call's span with what it is answered.
fn answer<T>(mut span: Span, result: Result<T, Error>) -> Result<Response<T>, Status> {
    let result = result.map(Response::new).map_err(Status::from);
    match &result {
        Ok(_) => span.answered(Code::Ok as i32, ""),
        Err(status) => {
            span.answered(status.code() as i32, status.message());
            if let Some(trace_id) = span.trace_id() {
                tracing::debug!(%trace_id, code = ?status.code(), "call refused: {}", status.message());
            }
        }
    }
    result
}

/// The outcomes of a batch. Once errors have taken their room, the rest are brief: an
/// answer that cannot be read would leave it open what was scheduled.
fn all_told(outcomes: Vec<Result<v1::ScheduleResponse, Error>>) -> Vec<v1::ScheduleResult> {
    let mut room = FULL_ERRORS;
    let outcomes = outcomes.into_iter().map(|outcome| {
        let brief = outcome.as_ref().err().map(status::brief);
        let told = result(outcome);
        let size = brief.as_ref().map_or(0, |_| told.encoded_len());
        match brief {
            Some(brief) if size > room => {
                v1::ScheduleResult { result: Some(schedule_result::Result::Error(brief)) }
            }
            _ => {
                room -= size;
                told
            }
        }
    });
    outcomes.collect()
}

/// One message's outcome as an item of a batch or stream.
fn result(outcome: Result<v1::ScheduleResponse, Error>) -> v1::ScheduleResult {
    let result = match outcome {
        Ok(response) => schedule_result::Result::Response(response),
        Err(error) => schedule_result::Result::Error(status::item(error)),
    };
    v1::ScheduleResult { result: Some(result) }
}

fn sentence(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
