//! OpenTelemetry traces, told by the usual `OTEL_*` variables; off unless they name an
//! exporter or its endpoint.
//!
//! | span | kind | parent | links |
//! | --- | --- | --- | --- |
//! | `ksched.v1.Scheduler/Schedule`, … | server | the caller's, from gRPC metadata | |
//! | `schedule TOPIC` | producer | the message's `traceparent` header, else the call | |
//! | `append` | client | the call | |
//! | `drain TOPIC`, `fire lane/0` | consumer, producer | none | the `schedule` spans of what they moved |
//! | `take over lane/0`, `lease lane/0` | internal | none | |
//!
//! The `schedule` span is the message's creation context: it travels in the envelope, and is
//! delivered as `traceparent`, so that a consumer joins the trace of who scheduled. Spans of
//! batches are recorded whenever a message of theirs is.
//! <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>

mod attributes;
mod queue;
#[cfg(feature = "receiver")]
pub mod receiver;

use std::{
    env, fmt,
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use ksched_core::trace::TraceContext;
use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{
        Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceState, Tracer,
        TracerProvider,
    },
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{
        Config, Sampler, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample, Span as SdkSpan,
    },
};

use attributes as key;

pub use queue::{Counts, counts};

/// How long the last spans may take to leave when the process ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// Links of one span: of larger batches the first ones stand for all.
const LINKS_MAX: usize = 128;

/// The process's tracer; empty while traces are off.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Traces were not set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name}: {value:?}: {allowed} is expected")]
    Variable { name: &'static str, value: String, allowed: &'static str },
    #[error("traces: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("traces are set up already")]
    Twice,
}

/// Sends spans until it is stopped.
#[derive(Debug)]
pub struct Exporting(SdkTracerProvider);

/// Sets traces up for the whole process, if the environment wants them. Inside a runtime,
/// which the exporter's connection uses.
///
/// # Errors
/// A variable is wrong, or traces were set up before.
pub fn init(service: &'static str, instance: &str, version: &'static str) -> Result<Option<Exporting>, Error> {
    if !is_wanted()? {
        return Ok(None);
    }
    let exporter = match variable(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]) {
        None => SpanExporter::builder().with_http().build()?,
        Some((_, value)) if value == "http/protobuf" => SpanExporter::builder().with_http().build()?,
        Some((_, value)) if value == "grpc" => SpanExporter::builder().with_tonic().build()?,
        Some((name, value)) => return Err(Error::Variable { name, value, allowed: "grpc or http/protobuf" }),
    };
    // `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come after ours, and so win.
    let ours = [
        KeyValue::new(key::SERVICE_NAME, service),
        KeyValue::new(key::SERVICE_INSTANCE, instance.to_owned()),
        KeyValue::new(key::SERVICE_VERSION, version),
    ];
    let resource = Resource::builder_empty().with_attributes(ours).build();
    let resource = resource.merge(&told_resource());
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(WithLinks(Config::default().sampler))
        .with_span_processor(queue::bounded(exporter))
        .build();
    TRACER.set(provider.tracer("ksched")).map_err(|_| Error::Twice)?;
    Ok(Some(Exporting(provider)))
}

impl Exporting {
    /// Sends what is left, for at most two seconds; blocks, and needs the runtime.
    pub fn stop(self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH_LIMIT) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

/// Whether this process records any.
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// A span that ends when it is dropped; nothing if it is not recorded.
#[derive(Default)]
pub struct Span(Option<Box<SdkSpan>>);

impl Span {
    /// By what others refer to it.
    pub fn context(&self) -> Option<TraceContext> {
        let context = self.0.as_ref()?.span_context();
        Some(TraceContext {
            trace_id: context.trace_id().to_bytes(),
            span_id: context.span_id().to_bytes(),
            flags: context.trace_flags().to_u8(),
        })
    }

    /// What it stands for did not go well.
    pub fn fail(&mut self, why: &impl fmt::Display) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(why.to_string()));
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.context().map(|context| context.to_string())).finish()
    }
}

/// A call of a user's, `METHOD` being `package.Service/Method`.
pub fn call(method: &'static str, caller: Option<TraceContext>) -> Span {
    start(caller, || {
        let (service, name) = method.split_once('/').unwrap_or((method, ""));
        builder(method, SpanKind::Server).with_attributes([
            KeyValue::new(key::RPC_SYSTEM, "grpc"),
            KeyValue::new(key::RPC_SERVICE, service),
            KeyValue::new(key::RPC_METHOD, name),
        ])
    })
}

/// The scheduling of one message for a target topic.
pub fn schedule(parent: Option<TraceContext>, topic: &str, due_ms: i64) -> Span {
    start(parent, || {
        builder(format!("schedule {topic}"), SpanKind::Producer).with_attributes([
            KeyValue::new(key::MESSAGING_SYSTEM, "kafka"),
            KeyValue::new(key::MESSAGING_OPERATION, "schedule"),
            KeyValue::new(key::MESSAGING_OPERATION_TYPE, "create"),
            KeyValue::new(key::MESSAGING_DESTINATION, topic.to_owned()),
            KeyValue::new(key::DUE_MS, due_ms),
        ])
    })
}

/// An append of messages to topics of ours, part of a call that is recorded.
pub fn append(call: Option<TraceContext>, messages: usize) -> Span {
    if call.is_none() {
        return Span::default();
    }
    start(call, || {
        builder("append", SpanKind::Client).with_attributes([
            KeyValue::new(key::MESSAGING_SYSTEM, "kafka"),
            KeyValue::new(key::MESSAGING_OPERATION, "append"),
            KeyValue::new(key::MESSAGING_OPERATION_TYPE, "send"),
            KeyValue::new(key::MESSAGING_BATCH, messages as i64),
        ])
    })
}

/// What a batch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    Drain,
    Fire,
}

/// A batch that began at `began_at` and is done now, with the recorded ones of its messages; no
/// span without any.
pub fn batch(what: Batch, job: &str, began_at: Instant, messages: usize, recorded: &[TraceContext]) -> Span {
    if recorded.is_empty() {
        return Span::default();
    }
    let (name, kind, r#type) = match what {
        Batch::Drain => ("drain", SpanKind::Consumer, "process"),
        Batch::Fire => ("fire", SpanKind::Producer, "send"),
    };
    start(None, || {
        let link = |context: &TraceContext| Link::with_context(span_context(*context));
        builder(format!("{name} {job}"), kind)
            .with_start_time(SystemTime::now() - began_at.elapsed())
            .with_links(recorded.iter().take(LINKS_MAX).map(link).collect())
            .with_attributes([
                KeyValue::new(key::MESSAGING_SYSTEM, "kafka"),
                KeyValue::new(key::MESSAGING_OPERATION, name),
                KeyValue::new(key::MESSAGING_OPERATION_TYPE, r#type),
                KeyValue::new(key::MESSAGING_BATCH, messages as i64),
                KeyValue::new(key::JOB, job.to_owned()),
            ])
    })
}

/// Something that was done for a job, from `began_at` till now: `take over`, `lease`.
pub fn job(what: &'static str, job: &str, began_at: Instant) -> Span {
    start(None, || {
        builder(format!("{what} {job}"), SpanKind::Internal)
            .with_start_time(SystemTime::now() - began_at.elapsed())
            .with_attributes([KeyValue::new(key::JOB, job.to_owned())])
    })
}

fn builder(name: impl Into<std::borrow::Cow<'static, str>>, kind: SpanKind) -> SpanBuilder {
    SpanBuilder::from_name(name).with_kind(kind)
}

fn start(parent: Option<TraceContext>, build: impl FnOnce() -> SpanBuilder) -> Span {
    let Some(tracer) = TRACER.get() else { return Span::default() };
    let context = parent.map_or_else(Context::new, |parent| {
        Context::new().with_remote_span_context(span_context(parent))
    });
    let span = tracer.build_with_context(build(), &context);
    Span(span.is_recording().then(|| Box::new(span)))
}

fn span_context(context: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace_id),
        SpanId::from_bytes(context.span_id),
        TraceFlags::new(context.flags),
        true,
        TraceState::default(),
    )
}

/// As told by the environment, and whatever has a recorded link.
#[derive(Clone, Debug)]
struct WithLinks(Box<dyn ShouldSample>);

impl ShouldSample for WithLinks {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if links.iter().any(|link| link.span_context.is_sampled()) {
            return SamplingResult {
                decision: SamplingDecision::RecordAndSample,
                attributes: Vec::new(),
                trace_state: TraceState::default(),
            };
        }
        self.0.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

/// `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER`, else whether an endpoint is named.
fn is_wanted() -> Result<bool, Error> {
    if variable(["OTEL_SDK_DISABLED"]).is_some_and(|(_, value)| value.eq_ignore_ascii_case("true")) {
        return Ok(false);
    }
    let is_endpoint = variable(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]).is_some();
    match variable(["OTEL_TRACES_EXPORTER"]) {
        None => Ok(is_endpoint),
        Some((_, value)) if value == "otlp" => Ok(true),
        Some((_, value)) if value == "none" => Ok(false),
        Some((name, value)) => Err(Error::Variable { name, value, allowed: "otlp or none" }),
    }
}

/// The first of these that is set to something.
fn variable<const N: usize>(names: [&'static str; N]) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| Some((name, env::var(name).ok().filter(|value| !value.is_empty())?)))
}

/// What `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say.
fn told_resource() -> Resource {
    use opentelemetry_sdk::resource::{EnvResourceDetector, ResourceDetector};
    let told = EnvResourceDetector::new().detect();
    let name = variable(["OTEL_SERVICE_NAME"]).map(|(_, name)| KeyValue::new(key::SERVICE_NAME, name));
    told.merge(&Resource::builder_empty().with_attributes(name).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_recorded_if_one_of_its_messages_is() {
        let sampler = WithLinks(Box::new(Sampler::AlwaysOff));
        let link = |flags| {
            let context = TraceContext { trace_id: [1; 16], span_id: [2; 8], flags };
            Link::with_context(span_context(context))
        };
        let decide = |links: &[Link]| {
            let trace_id = TraceId::from_bytes([3; 16]);
            sampler.should_sample(None, trace_id, "fire", &SpanKind::Internal, &[], links).decision
        };
        assert_eq!(decide(&[link(0)]), SamplingDecision::Drop);
        assert_eq!(decide(&[link(0), link(1)]), SamplingDecision::RecordAndSample);
    }
}
