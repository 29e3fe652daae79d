//! A coordinator that answers as it is told to, and remembers what it was asked.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use ksched_client::{Client, Settings};
use ksched_proto::v1::{
    self,
    scheduler_server::{Scheduler, SchedulerServer},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Answers one request; `n` counts all of them from 0.
pub(crate) type Answer = dyn Fn(usize, &v1::ScheduleRequest) -> Result<(), Status> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Stub {
    pub(crate) seen: Arc<Mutex<Vec<v1::ScheduleRequest>>>,
    answer: Arc<Answer>,
    /// Streams end after this many requests, answered or not.
    pub(crate) cut_after: Option<usize>,
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Vec<v1::ScheduleRequest>>>,
    server: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Running {
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

/// A client with short waits.
pub(crate) fn client(addresses: &[String]) -> Client {
    let settings = Settings {
        connect_timeout: Duration::from_secs(2),
        attempt_timeout: Duration::from_secs(5),
        deadline: Duration::from_secs(20),
    };
    Client::connect(addresses, settings).expect("addresses are fine")
}

/// As a coordinator says it did not happen.
pub(crate) fn away() -> Status {
    let details =
        ErrorDetails::with_error_info("KAFKA_UNAVAILABLE", "ksched", std::collections::HashMap::new());
    Status::with_error_details(Code::Unavailable, "kafka is away", details)
}

impl Stub {
    pub(crate) fn new(
        answer: impl Fn(usize, &v1::ScheduleRequest) -> Result<(), Status> + Send + Sync + 'static,
    ) -> Self {
        Self { seen: Arc::default(), answer: Arc::new(answer), cut_after: None }
    }

    pub(crate) async fn start(self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::clone(&self.seen);
        let serve = tonic::transport::Server::builder()
            .add_service(SchedulerServer::new(self))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serve.await.expect("serves") });
        Running { address, seen, server }
    }

    fn judge(&self, request: v1::ScheduleRequest) -> Result<v1::ScheduleResponse, Status> {
        let mut seen = self.seen.lock();
        let n = seen.len();
        let verdict = (self.answer)(n, &request);
        let Some(v1::schedule_request::When::DueTime(due_time)) = request.when else {
            return Err(Status::invalid_argument("the client did not make a due time of the delay"));
        };
        seen.push(request);
        verdict.map(|()| v1::ScheduleResponse { id: format!("id-{n}"), due_time: Some(due_time) })
    }
}

#[tonic::async_trait]
impl Scheduler for Stub {
    async fn schedule(
        &self,
        request: Request<v1::ScheduleRequest>,
    ) -> Result<Response<v1::ScheduleResponse>, Status> {
        self.judge(request.into_inner()).map(Response::new)
    }

    async fn batch_schedule(
        &self,
        request: Request<v1::BatchScheduleRequest>,
    ) -> Result<Response<v1::BatchScheduleResponse>, Status> {
        let results = request.into_inner().requests.into_iter().map(|each| result(self.judge(each)));
        Ok(Response::new(v1::BatchScheduleResponse { results: results.collect() }))
    }

    type ScheduleStreamStream =
        Pin<Box<dyn Stream<Item = Result<v1::ScheduleStreamResponse, Status>> + Send>>;

    async fn schedule_stream(
        &self,
        request: Request<Streaming<v1::ScheduleStreamRequest>>,
    ) -> Result<Response<Self::ScheduleStreamStream>, Status> {
        let stub = self.clone();
        let mut coalesced = false;
        let answers = request.into_inner().take(self.cut_after.unwrap_or(usize::MAX)).map(move |each| {
            let each = each?;
            coalesced |= each.answers() == v1::StreamAnswers::Coalesced;
            let sequence = each.sequence;
            let answer = stub.judge(each.request.unwrap_or_default());
            let all_up_to = if answer.is_ok() && coalesced { sequence } else { 0 };
            let told = !(answer.is_ok() && coalesced);
            let results = if told {
                vec![v1::StreamResult { sequence, result: Some(result(answer)) }]
            } else {
                Vec::new()
            };
            Ok(v1::ScheduleStreamResponse { results, all_up_to })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn result(answer: Result<v1::ScheduleResponse, Status>) -> v1::ScheduleResult {
    let result = match answer {
        Ok(response) => v1::schedule_result::Result::Response(response),
        Err(status) => {
            let bytes: &[u8] = status.details();
            let mut packed: tonic_types::Status = prost::Message::decode(bytes).unwrap_or_default();
            packed.code = status.code() as i32;
            packed.message = status.message().to_owned();
            v1::schedule_result::Result::Error(packed)
        }
    };
    v1::ScheduleResult { result: Some(result) }
}
