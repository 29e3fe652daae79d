//! Counts the calls of all services by method and code, and how long they took.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::HeaderMap,
    middleware::{self, Next},
    response::Response,
};
use http_body_util::BodyExt;
use ksched_telemetry::metrics::Calls;
use prost::Message;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tokio::time::Instant;
use tonic::{Code, service::Routes};

/// What is called and does not exist: names that callers make up must not become labels.
const OTHER: &str = "other";

#[derive(Clone)]
struct Counting {
    calls: Calls,
    methods: Arc<HashMap<String, Arc<String>>>,
    other: Arc<String>,
}

/// A call, counted when it is over: with its code, or as cancelled if none was told, for then
/// its caller has gone or its time was up.
struct Call {
    calls: Calls,
    method: Arc<String>,
    code: Code,
    began_at: Instant,
}

/// The same services, each call of which is counted.
pub(super) fn counted(routes: Routes, calls: Calls) -> Routes {
    let counting = Counting { calls, methods: Arc::new(methods()), other: Arc::new(OTHER.to_owned()) };
    Routes::from(routes.into_axum_router().layer(middleware::from_fn_with_state(counting, count)))
}

async fn count(State(counting): State<Counting>, request: Request, next: Next) -> Response {
    let mut call = counting.begin(request.uri().path());
    let response = next.run(request).await;
    // An error that comes before any answer is told in the headers, all else behind the answers.
    call.hear(response.headers());
    response.map(|body| {
        Body::new(body.inspect_frame(move |frame| {
            if let Some(trailers) = frame.trailers_ref() {
                call.hear(trailers);
            }
        }))
    })
}

impl Counting {
    fn begin(&self, path: &str) -> Call {
        let method = Arc::clone(self.methods.get(path).unwrap_or(&self.other));
        Call { calls: self.calls.clone(), method, code: Code::Cancelled, began_at: Instant::now() }
    }
}

impl Call {
    fn hear(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.code = Code::from_bytes(code.as_bytes());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.ended(&self.method, name(self.code), self.began_at.elapsed());
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
