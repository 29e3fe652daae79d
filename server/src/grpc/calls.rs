//! Counts the calls of all services by method and code, and how long they took.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body_util::BodyExt;
use ksched_telemetry::metrics::Calls;
use pin_project_lite::pin_project;
use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tokio::time::Instant;
use tonic::{
    Code,
    body::Body,
    codegen::http::{HeaderMap, Request, Response},
};
use tower::{Layer, Service, layer::layer_fn};

/// What is called and does not exist: names that callers make up must not become labels.
const OTHER: &str = "other";

/// The service within, each call of which is counted.
#[derive(Clone)]
pub(super) struct Counted<S> {
    within: S,
    counting: Arc<Counting>,
}

struct Counting {
    calls: Calls,
    methods: HashMap<String, Arc<String>>,
    other: Arc<String>,
}

pin_project! {
    /// The future of a call's answer.
    pub(super) struct Answering<F> {
        #[pin]
        answer: F,
        call: Option<Call>,
    }
}

/// A call, counted when it is over: with its code, or as cancelled if none was told, for then
/// its caller has gone or its time was up.
struct Call {
    counting: Arc<Counting>,
    method: Arc<String>,
    code: Code,
    began_at: Instant,
}

/// Counts each call of the services within.
pub(super) fn counted<S>(calls: Calls) -> impl Layer<S, Service = Counted<S>> + Clone {
    let counting = Arc::new(Counting { calls, methods: methods(), other: Arc::new(OTHER.to_owned()) });
    layer_fn(move |within| Counted { within, counting: Arc::clone(&counting) })
}

impl<S: Service<Request<Body>, Response = Response<Body>>> Service<Request<Body>> for Counted<S> {
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.within.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call::begin(&self.counting, request.uri().path());
        Answering { answer: self.within.call(request), call: Some(call) }
    }
}

impl<F: Future<Output = Result<Response<Body>, E>>, E> Future for Answering<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context));
        Poll::Ready(match (answer, this.call.take()) {
            (Ok(response), Some(call)) => Ok(call.follow(response)),
            (answer, _) => answer,
        })
    }
}

impl Call {
    fn begin(counting: &Arc<Counting>, path: &str) -> Self {
        let method = Arc::clone(counting.methods.get(path).unwrap_or(&counting.other));
        Self { counting: Arc::clone(counting), method, code: Code::Cancelled, began_at: Instant::now() }
    }

    /// Goes with the answer until its end, behind which its code is told, unless it is an error
    /// that came before any answer: that is told in the headers.
    fn follow(mut self, response: Response<Body>) -> Response<Body> {
        if self.hear(response.headers()) {
            return response;
        }
        response.map(|body| {
            Body::new(body.inspect_frame(move |frame| {
                if let Some(trailers) = frame.trailers_ref() {
                    self.hear(trailers);
                }
            }))
        })
    }

    fn hear(&mut self, headers: &HeaderMap) -> bool {
        let code = headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
        self.code = code.unwrap_or(self.code);
        code.is_some()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.counting.calls.ended(&self.method, name(self.code), self.began_at.elapsed());
    }
}

/// Every method that is served by its path, which is `/package.Service/Method`; the label has no `/` in front.
fn methods() -> HashMap<String, Arc<String>> {
    let sets = [
        ksched_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    // They are compiled in, and a test reads them.
    let files =
        sets.into_iter().filter_map(|set| FileDescriptorSet::decode(set).ok()).flat_map(|set| set.file);
    let mut methods = HashMap::new();
    for file in files {
        for service in &file.service {
            let name = |method: &MethodDescriptorProto| {
                format!("{}.{}/{}", file.package(), service.name(), method.name())
            };
            methods.extend(service.method.iter().map(name).map(|name| (format!("/{name}"), Arc::new(name))));
        }
    }
    methods
}

/// As gRPC writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_are_those_of_all_services() {
        let methods = methods();
        for method in [
            "/ksched.v1.Scheduler/Schedule",
            "/ksched.v1.JobLeasing/Heartbeat",
            "/ksched.v1.Admin/GetCluster",
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(methods.contains_key(method), "{method}");
        }
    }
}
