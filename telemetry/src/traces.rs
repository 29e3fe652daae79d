//! OpenTelemetry traces, told by the usual `OTEL_*` variables; off unless these name an
//! exporter or its endpoint, and then nothing here does more than look whether it is. What is
//! on but not sampled takes no memory and reads no clock, unless it has links.
//!
//! | span | kind | parent | links |
//! | --- | --- | --- | --- |
//! | `ksched.v1.Scheduler/Schedule`, …: a call | server | the caller's, from gRPC metadata | |
//! | `ksched.v1.Scheduler/ScheduleStream`: what came together of a stream | server | | |
//! | `schedule TOPIC`: a message that brings a `traceparent` | producer | the one it brings | the call |
//! | `schedule TOPIC`: one that does not, if its call has no others, or it is an intake record | producer | the call | |
//! | `append` | client | the call | |
//! | `intake TOPIC`, `drain TOPIC`: a transaction of such a job | consumer | | where its messages were scheduled |
//! | `fire`: a batch of a lane | client | | where its messages were scheduled |
//! | `lease`: a job, from getting it to giving it back | internal | | |
//! | `take over`: until a job's first read | internal | the lease | |
//!
//! A message is *scheduled* in its own `schedule` span, else in its call's, and if that is not
//! recorded in its caller's: that is its creation context, as the conventions for messaging call
//! it. It travels in the envelope, is what batches link to, and is delivered as `traceparent`, so
//! that a consumer joins the trace of who scheduled. An intake record's span is recorded once its
//! transaction is committed: the links of an `intake` that failed may lead nowhere.
//! <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>

mod attributes;
mod environment;
mod queue;
#[cfg(any(test, feature = "receiver"))]
pub mod receiver;
mod sampler;
mod span;
mod spans;

use std::{sync::OnceLock, time::Duration};

use opentelemetry::{InstrumentationScope, KeyValue, trace::TracerProvider};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{attributes as key, environment::Settings, sampler::WithLinks};

use crate::{
    metrics::{Fate, count_spans},
    settings::masked,
};

pub use span::Span;
pub use spans::{Links, Source, append, batch, call, lease, schedule, take_over};

/// How long the last spans may take to leave when the process ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// The process's; empty while traces are off.
static RECORDER: OnceLock<Recorder> = OnceLock::new();

/// What makes spans.
#[derive(Debug)]
struct Recorder {
    tracer: SdkTracer,
    /// Whether nothing is recorded whose parent is not.
    obeys_parents: bool,
}

/// Traces were not set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{name}: {value:?}: {expected} is expected")]
    Variable { name: &'static str, value: String, expected: &'static str },
    #[error("traces: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("traces are set up already")]
    Twice,
}

/// What sends spans until it is stopped; with traces off there is nothing.
#[derive(Debug)]
#[must_use = "spans are sent as long as this is there"]
pub struct Exporting(Option<Running>);

#[derive(Debug)]
struct Running {
    provider: SdkTracerProvider,
    stop: CancellationToken,
    /// The one that sends.
    task: JoinSet<()>,
}

/// Sets traces up for the whole process, if the environment wants them. To be called on the
/// runtime by which spans are to be sent.
///
/// # Errors
/// A variable is wrong, or traces were set up before.
pub fn init(service: &'static str, instance: &str, version: &'static str) -> Result<Exporting, Error> {
    let Some(settings) = Settings::read(|name| std::env::var(name).ok())? else { return Ok(Exporting(None)) };
    tracing::info!(endpoint = masked("", &settings.endpoint), "traces are on");
    // What the environment says comes after ours, and so wins.
    let ours = [
        KeyValue::new(key::SERVICE_NAME, service),
        KeyValue::new(key::SERVICE_INSTANCE, instance.to_owned()),
        KeyValue::new(key::SERVICE_VERSION, version),
    ];
    let told = settings.service_name.clone().map(|name| KeyValue::new(key::SERVICE_NAME, name));
    let resource = Resource::builder_empty()
        .with_attributes(ours)
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
        .with_attributes(told)
        .build();
    let obeys_parents = matches!(settings.sampler, Sampler::ParentBased(_));
    let running = Running::start(settings, resource)?;
    let scope = InstrumentationScope::builder("ksched").with_version(version).with_schema_url(key::SCHEMA);
    let tracer = running.provider.tracer_with_scope(scope.build());
    RECORDER.set(Recorder { tracer, obeys_parents }).map_err(|_| Error::Twice)?;
    Ok(Exporting(Some(running)))
}

/// Whether this process records any.
pub fn is_on() -> bool {
    RECORDER.get().is_some()
}

impl Running {
    fn start(settings: Settings, resource: Resource) -> Result<Self, Error> {
        let exporter = settings.exporter(&resource)?;
        for fate in [Fate::Exported, Fate::Failed, Fate::Dropped] {
            count_spans(fate, 0);
        }
        let stop = CancellationToken::new();
        let (queue, sending) = queue::queue(exporter, settings.queue, stop.clone());
        let mut task = JoinSet::new();
        task.spawn(sending);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(WithLinks(settings.sampler))
            .with_span_processor(queue)
            .build();
        Ok(Self { provider, stop, task })
    }

    async fn stop(mut self) {
        // From here on nothing is recorded. The queue itself waits for nothing.
        let _ = self.provider.shutdown_with_timeout(Duration::ZERO);
        self.stop.cancel();
        if timeout(FLUSH_LIMIT, self.task.join_next()).await.is_err() {
            tracing::warn!("the last spans were not sent: the collector takes too long");
        }
    }
}

impl Exporting {
    /// Sends what has ended by now, for at most two seconds.
    pub async fn stop(self) {
        if let Some(running) = self.0 {
            running.stop().await;
        }
    }
}

#[cfg(test)]
mod tests;
