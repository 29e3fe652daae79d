//! Takes spans as a collector does, over gRPC and over HTTP, and shows what came. For tests.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use ksched_core::trace::TraceContext;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{self, ResourceSpans, span::SpanKind},
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::transport::{Server, server::TcpIncoming};

/// A span that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// `service.name` of its process.
    pub service: String,
    pub name: String,
    /// `server`, `producer`, …
    pub kind: String,
    pub context: TraceContext,
    /// Span id of its parent, in the same trace.
    pub parent: Option<[u8; 8]>,
    pub links: Vec<TraceContext>,
    /// Of the span, and of its process.
    pub attributes: BTreeMap<String, String>,
    /// What is told of an error.
    pub failed: Option<String>,
    /// Epoch ns.
    pub began_ns: u64,
    pub ended_ns: u64,
}

impl Received {
    /// The value of an attribute, empty if there is none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    grpc: SocketAddr,
    http: SocketAddr,
    spans: Spans,
    _serving: JoinSet<()>,
}

#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<Received>>>);

impl Receiver {
    /// Listens on free ports of loopback.
    ///
    /// # Errors
    /// There is no port to be had.
    pub async fn start() -> io::Result<Self> {
        let spans = Spans::default();
        let (grpc, http) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let addresses = (grpc.local_addr()?, http.local_addr()?);
        let mut serving = JoinSet::new();
        let service = TraceServiceServer::new(spans.clone());
        serving.spawn(async move {
            let served =
                Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(grpc)).await;
            served.unwrap_or_else(|why| tracing::error!("receiver: {why}"));
        });
        let taken = spans.clone();
        let route =
            post(move |body: Bytes| async move { taken.take_body(body) }).layer(DefaultBodyLimit::disable());
        serving.spawn(async move {
            let served = axum::serve(http, Router::new().route("/v1/traces", route)).await;
            served.unwrap_or_else(|why| tracing::error!("receiver: {why}"));
        });
        Ok(Self { grpc: addresses.0, http: addresses.1, spans, _serving: serving })
    }

    /// What `OTEL_*` variables make a process send its spans here by gRPC.
    pub fn by_grpc(&self) -> Vec<(String, String)> {
        environment(&self.grpc.to_string(), "grpc")
    }

    /// The same for HTTP.
    pub fn by_http(&self) -> Vec<(String, String)> {
        environment(&format!("http://{}", self.http), "http/protobuf")
    }

    /// All that came by now, in order of their coming.
    pub fn spans(&self) -> Vec<Received> {
        self.spans.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn environment(endpoint: &str, protocol: &str) -> Vec<(String, String)> {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        match self.take(request.into_inner()) {
            Some(()) => Ok(tonic::Response::new(ExportTraceServiceResponse::default())),
            None => Err(tonic::Status::invalid_argument("an id of the wrong length")),
        }
    }
}

impl Spans {
    fn take_body(&self, body: Bytes) -> Response {
        match ExportTraceServiceRequest::decode(body).ok().and_then(|request| self.take(request)) {
            Some(()) => {
                let answer = ExportTraceServiceResponse::default().encode_to_vec();
                (StatusCode::OK, [("content-type", "application/x-protobuf")], answer).into_response()
            }
            None => StatusCode::BAD_REQUEST.into_response(),
        }
    }

    fn take(&self, request: ExportTraceServiceRequest) -> Option<()> {
        let spans: Option<Vec<_>> = request.resource_spans.into_iter().map(of_resource).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(spans?.into_iter().flatten());
        Some(())
    }
}

fn of_resource(told: ResourceSpans) -> Option<Vec<Received>> {
    let process = attributes(told.resource.map(|resource| resource.attributes).unwrap_or_default());
    let spans = told.scope_spans.into_iter().flat_map(|scope| scope.spans);
    spans.map(|span| received(&process, span)).collect()
}

fn received(process: &BTreeMap<String, String>, span: v1::Span) -> Option<Received> {
    let (kind, failed) =
        (span.kind(), span.status.filter(|status| status.code == v1::status::StatusCode::Error as i32));
    let link = |link: v1::span::Link| context(&link.trace_id, &link.span_id, link.flags);
    let mut all = process.clone();
    all.extend(attributes(span.attributes));
    Some(Received {
        service: process.get("service.name").cloned().unwrap_or_default(),
        name: span.name,
        kind: kind_name(kind).to_owned(),
        context: context(&span.trace_id, &span.span_id, span.flags)?,
        parent: <[u8; 8]>::try_from(span.parent_span_id).ok(),
        links: span.links.into_iter().map(link).collect::<Option<_>>()?,
        attributes: all,
        failed: failed.map(|status| status.message),
        began_ns: span.start_time_unix_nano,
        ended_ns: span.end_time_unix_nano,
    })
}

fn context(trace_id: &[u8], span_id: &[u8], flags: u32) -> Option<TraceContext> {
    // Above the flags of the header, OTLP tells whether a span is of another process.
    Some(TraceContext {
        trace_id: trace_id.try_into().ok()?,
        span_id: span_id.try_into().ok()?,
        flags: flags as u8,
    })
}

fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

fn attributes(told: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |told: KeyValue| Some((told.key, text(told.value?.value?)));
    told.into_iter().filter_map(pair).collect()
}

/// Who began what, one span a line.
impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took_ms = (self.ended_ns - self.began_ns.min(self.ended_ns)) as f64 / 1e6;
        write!(f, "{} [{}] {} {took_ms:.3} ms, {}", self.service, self.kind, self.name, self.context)?;
        self.links.iter().try_for_each(|link| write!(f, ", linked to {link}"))
    }
}
