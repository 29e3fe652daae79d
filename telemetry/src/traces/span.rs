//! A span, recorded or not, and how one is begun.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use ksched_core::trace::TraceContext;
use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{
        Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceState, Tracer,
    },
};
use opentelemetry_sdk::trace::Span as SdkSpan;

use super::{RECORDER, Recorder, attributes as key};

/// Name of spans that are not to be exported.
pub(super) const FORGOTTEN: &str = "";

/// A span that ends when it is dropped; nothing if it is not recorded.
#[derive(Default)]
pub struct Span(Option<Box<SdkSpan>>);

/// What the sampler is told of a span.
pub(super) struct Beginning<'a> {
    pub(super) name: &'static str,
    pub(super) kind: SpanKind,
    pub(super) parent: Option<TraceContext>,
    pub(super) links: &'a [TraceContext],
    /// How long ago it began.
    pub(super) ago: Duration,
}

impl Beginning<'_> {
    /// Of one that begins now, without parent or links.
    pub(super) fn of(name: &'static str, kind: SpanKind) -> Self {
        Self { name, kind, parent: None, links: &[], ago: Duration::ZERO }
    }
}

impl Span {
    /// Asks the sampler before it takes more than a parent or links need. Nothing with traces off.
    pub(super) fn begin(beginning: Beginning<'_>) -> Self {
        let Some(Recorder { tracer, obeys_parents }) = RECORDER.get() else { return Self::default() };
        let Beginning { name, kind, parent, links, ago } = beginning;
        // What the sampler would say, which it takes memory to ask.
        if *obeys_parents && parent.is_some_and(|parent| !parent.is_sampled()) {
            return Self::default();
        }
        let mut builder = SpanBuilder::from_name(name).with_kind(kind.clone());
        if !links.is_empty() {
            builder =
                builder.with_links(links.iter().map(|link| Link::with_context(other(*link, true))).collect());
        }
        if !ago.is_zero() {
            #[expect(clippy::disallowed_methods, reason = "the clock by which the SDK ends the span")]
            let now = SystemTime::now();
            builder = builder.with_start_time(now.checked_sub(ago).unwrap_or(now));
        }
        // Backends take a child of a remote span for an entry into this process. Of scheduling spans those
        // are that bring their parent, and few others have one.
        let is_remote = matches!(kind, SpanKind::Server | SpanKind::Producer);
        let around = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(other(parent, is_remote))
        });
        let span = tracer.build_with_context(builder, &around);
        Self(span.is_recording().then(|| Box::new(span)))
    }

    /// Whether it is.
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Instead of being recorded: what it stands for did not happen.
    pub fn forget(mut self) {
        // The SDK exports whatever has begun, so the queue is told by this name.
        self.rename(FORGOTTEN.to_owned());
    }

    pub(super) fn rename(&mut self, name: String) {
        if let Some(span) = &mut self.0 {
            span.update_name(name);
        }
    }

    pub(super) fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// By what others refer to it; `None` if it is not recorded.
    pub fn context(&self) -> Option<TraceContext> {
        let context = self.0.as_ref()?.span_context();
        Some(TraceContext {
            trace_id: context.trace_id().to_bytes(),
            span_id: context.span_id().to_bytes(),
            flags: context.trace_flags().to_u8(),
        })
    }

    /// For log lines about what is recorded: 32 hexadecimal digits.
    pub fn trace_id(&self) -> Option<impl fmt::Display + fmt::Debug + use<>> {
        self.0.as_ref().map(|span| span.span_context().trace_id())
    }

    /// What it stands for did not go well. `kind` is one of few words.
    pub fn fail(&mut self, kind: &'static str, why: &impl fmt::Display) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key::ERROR_TYPE, kind));
            span.set_status(Status::error(why.to_string()));
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.context().map(|context| context.to_string())).finish()
    }
}

/// A span by what is told of it.
fn other(context: TraceContext, is_remote: bool) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace_id),
        SpanId::from_bytes(context.span_id),
        TraceFlags::new(context.flags),
        is_remote,
        TraceState::default(),
    )
}
