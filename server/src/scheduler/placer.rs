//! Puts messages where they belong: checked, routed, appended, acknowledged.

use std::sync::Arc;

use ksched_core::{
    cluster::Cluster,
    delivered,
    host::Host,
    id::MessageId,
    jobs::JobName,
    trace::{self, TraceContext},
    validate::{Accepted, Door, Limits},
    wheel::{Bucket, Inlet, Place},
};
use ksched_kafka::{
    RefusalReason,
    append::{self, Append, Appends, Room},
};
use ksched_proto::v1;
use ksched_telemetry::{
    metrics::CoordinatorMetrics,
    traces::{self, Span},
};
use tokio::sync::{Semaphore, mpsc};

use super::{
    Error, request,
    stamps::{Stamps, ms_rounded_up},
};
use crate::store::OpenDrain;

/// What may wait for Kafka's acknowledgement at once, in bytes. Below what
/// librdkafka's queue takes, so that this is the bound that is met.
const IN_FLIGHT_BYTES: usize = 48 << 20;

/// Checks, routes and appends messages for every method of the service.
#[derive(Debug)]
pub struct Placer {
    cluster: Cluster,
    limits: Limits,
    due_topic: Arc<str>,
    /// Of level 1 first.
    wheel_topics: Vec<Arc<str>>,
    stamps: Stamps,
    appender: Arc<dyn Appends>,
    host: Arc<dyn Host>,
    room: Arc<Semaphore>,
    metrics: CoordinatorMetrics,
    /// Buckets that were found open behind an append: they need a drain at once.
    passed: mpsc::Sender<(JobName, OpenDrain)>,
}

/// What the user is told of a message once it is appended.
struct Receipt {
    id: MessageId,
    bucket: Option<Bucket>,
    /// Of its scheduling, if it has one of its own.
    span: Span,
}

/// What messages came by; by default nobody's call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    /// Its span, if that is recorded.
    context: Option<TraceContext>,
    /// The span that its caller told, recorded or not.
    caller: Option<TraceContext>,
    messages: usize,
}

impl Call {
    pub(super) fn new(span: &mut Span, caller: Option<TraceContext>, messages: usize) -> Self {
        span.about_many(messages);
        Self { context: span.context(), caller, messages }
    }
}

impl Placer {
    /// One for each process, of which `origin` is a random number. Buckets in need of a
    /// drain are told to `passed`.
    pub fn new(
        cluster: Cluster,
        appender: Arc<dyn Appends>,
        host: Arc<dyn Host>,
        origin: u32,
        metrics: CoordinatorMetrics,
        passed: mpsc::Sender<(JobName, OpenDrain)>,
    ) -> Self {
        let due_topic = cluster.due_topic().into();
        let wheel_topics = (1..=cluster.geometry.levels).map(|k| cluster.wheel_topic(k).into()).collect();
        Self {
            cluster,
            limits: Limits::default(),
            due_topic,
            wheel_topics,
            stamps: Stamps::new(origin),
            appender,
            host,
            room: Arc::new(Semaphore::new(IN_FLIGHT_BYTES)),
            metrics,
            passed,
        }
    }

    /// Room for so many messages in flight, of this many bytes.
    ///
    /// # Errors
    /// There is none left.
    pub(super) fn try_reserve(&self, messages: usize, bytes: usize) -> Result<Room, Error> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(permits(bytes));
        room.map_err(|_| self.refuse(messages, Error::Overloaded))
    }

    /// Counts messages that are refused together, for the same reason.
    pub(super) fn refuse(&self, messages: usize, why: Error) -> Error {
        self.metrics.refused(why.label(), messages as u64);
        why
    }

    /// Waits for room. `None` stands for a semaphore that is closed, which ours never is.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<Room> {
        Arc::clone(&self.room).acquire_many_owned(permits(bytes)).await.ok()
    }

    /// Schedules one message, if there is room for it.
    pub(crate) async fn schedule_one(
        &self,
        request: v1::ScheduleRequest,
        call: Call,
    ) -> Result<v1::ScheduleResponse, Error> {
        let room = self.try_reserve(1, request::weight(&request))?;
        let mut results = self.schedule(vec![request], Some(room), call).await;
        results.pop().unwrap_or_else(|| Err(Error::OutcomeUnknown("no answer".to_owned())))
    }

    /// Schedules messages that came by a call; an outcome for each, in order, none of which spoils
    /// another. They take their room until Kafka has settled them, however soon the caller goes away.
    pub(super) async fn schedule(
        &self,
        requests: Vec<v1::ScheduleRequest>,
        room: Option<Room>,
        call: Call,
    ) -> Vec<Result<v1::ScheduleResponse, Error>> {
        let mut records = Vec::with_capacity(requests.len());
        let receipts: Vec<Result<Receipt, Error>> = requests
            .into_iter()
            .map(|request| {
                let (receipt, record) = self.prepare(request, call)?;
                records.push(record);
                Ok(receipt)
            })
            .collect();
        let append = traces::append(call.context, records.len());
        let outcomes = self.appender.append_all(records, room).await;
        end_append(append, &outcomes);
        let mut outcomes = outcomes.into_iter();
        let results: Vec<_> = receipts
            .into_iter()
            .map(|receipt| {
                let mut receipt = receipt?;
                let error = match outcomes.next() {
                    Some(Ok(_)) => return Ok(receipt),
                    Some(Err(error)) => Error::from(error),
                    None => Error::OutcomeUnknown("no answer".to_owned()),
                };
                receipt.span.fail(error.label(), &error);
                Err(error)
            })
            .collect();
        self.look_back(&results);
        results.into_iter().map(|result| result.map(response)).collect()
    }

    fn prepare(&self, request: v1::ScheduleRequest, call: Call) -> Result<(Receipt, Append), Error> {
        let now_us = self.host.wall_us();
        let now_ms = ms_rounded_up(now_us);
        let (request, mut faults) = request::convert(request, now_ms)?;
        let door = Door { cluster: &self.cluster, limits: &self.limits };
        let accepted = match door.accept(request, now_ms, self.stamps.next(now_us)) {
            Ok(accepted) if faults.is_empty() => accepted,
            Ok(_) => return Err(Error::Invalid(faults)),
            Err(more) => {
                faults.extend(more);
                return Err(Error::Invalid(faults));
            }
        };
        let Accepted { content, mut envelope, lane } = accepted;
        let (id, brought) = (envelope.id(lane), trace::of(&content.headers));
        let span = begin_schedule(&envelope.target.topic, id, brought, call);
        // What a message brings is delivered as it is; else its caller's goes along, traces or not.
        envelope.trace = span.context().or(call.context.or(call.caller).filter(|_| brought.is_none()));
        let content = delivered::store(&envelope, content);
        let geometry = &self.cluster.geometry;
        let (topic, partition, bucket) = match geometry.route(envelope.due_ms, now_ms, lane) {
            Place::DueLane => (&self.due_topic, geometry.due_partition(lane, Inlet::Direct), None),
            Place::Bucket(bucket) => {
                (self.wheel_topic(bucket), geometry.bucket_partition(bucket), Some(bucket))
            }
        };
        let record = Append { topic: Arc::clone(topic), partition, content, timestamp_ms: None };
        Ok((Receipt { id, bucket, span }, record))
    }

    fn wheel_topic(&self, bucket: Bucket) -> &Arc<str> {
        &self.wheel_topics[bucket.level as usize - 1]
    }

    /// Counts outcomes, and asks for a drain of each bucket that opened while its
    /// message was on the way (design §3): it would wait for the job maker's next look.
    fn look_back(&self, results: &[Result<Receipt, Error>]) {
        let now_ms = ms_rounded_up(self.host.wall_us());
        let mut scheduled = 0;
        for result in results {
            match result {
                Ok(receipt) => {
                    scheduled += 1;
                    if let Some(bucket) = receipt.bucket {
                        self.nudge_if_open(bucket, now_ms);
                    }
                }
                Err(Error::OutcomeUnknown(_)) => {
                    self.metrics.outcome_unknown.inc();
                }
                Err(error) => self.metrics.refused(error.label(), 1),
            }
        }
        self.metrics.scheduled.inc_by(scheduled);
    }

    fn nudge_if_open(&self, bucket: Bucket, now_ms: i64) {
        let open_at_ms = self.cluster.geometry.opens_at_ms(bucket);
        if open_at_ms <= now_ms {
            let topic = Arc::clone(self.wheel_topic(bucket));
            let partition = self.cluster.geometry.bucket_partition(bucket);
            // Full: the job maker finds it within its second all the same.
            let _ = self.passed.try_send((JobName::Drain { topic, partition }, OpenDrain { open_at_ms }));
        }
    }
}

impl From<append::Error> for Error {
    fn from(error: append::Error) -> Self {
        match error {
            append::Error::Overloaded => Self::Overloaded,
            append::Error::Unknown(why) => Self::OutcomeUnknown(why),
            append::Error::NotAppended(reason @ (RefusalReason::TooLarge | RefusalReason::NotAuthorised)) => {
                Self::Refused(reason.to_string())
            }
            append::Error::NotAppended(reason) => Self::NotScheduled(reason.to_string()),
        }
    }
}

/// The span of one message's scheduling: within the one it brings, or within its call's if it
/// came alone. Of others that came together their call's stands for all.
fn begin_schedule(topic: &str, id: MessageId, brought: Option<TraceContext>, call: Call) -> Span {
    let mut span = match (brought, call.context) {
        (Some(_), context) => traces::schedule(topic, brought, context),
        (None, Some(_)) if call.messages == 1 => traces::schedule(topic, call.context, None),
        (None, _) => return Span::default(),
    };
    span.about(&id, id.due_ms);
    span
}

/// Ends with the first error, if there is one.
fn end_append(mut append: Span, outcomes: &[Result<append::Appended, append::Error>]) {
    if append.is_recorded()
        && let Some(error) = outcomes.iter().find_map(|outcome| outcome.as_ref().err())
    {
        let error = Error::from(error.clone());
        append.fail(error.label(), &error);
    }
}

fn response(receipt: Receipt) -> v1::ScheduleResponse {
    v1::ScheduleResponse { due_time: Some(request::timestamp(receipt.id.due_ms)), id: receipt.id.to_string() }
}

/// More than everything counts as everything, so that it passes alone.
fn permits(bytes: usize) -> u32 {
    bytes.min(IN_FLIGHT_BYTES) as u32
}
