//! The coordinator as seen by a worker: the `JobLeasing` calls. [`Coordinator`] is the
//! seam; [`Coordinators`] makes the calls by gRPC, at whichever coordinator answers.

use std::{
    fmt,
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use ksched_proto::v1::{self, job_leasing_client::JobLeasingClient};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

/// A short call's time-out; a long poll's is this and its waiting time.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a call had no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lease is gone: every job is lost, register anew.
    #[error("lease is gone: {0}")]
    LeaseGone(String),
    /// The job is not held with this fence (any more).
    #[error("not held: {0}")]
    NotHeld(String),
    /// No coordinator answers, or none can reach the store. May pass.
    #[error("coordinator: {0}")]
    Unavailable(String),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::NotFound => Self::LeaseGone(status.message().to_owned()),
            Code::FailedPrecondition => Self::NotHeld(status.message().to_owned()),
            code => Self::Unavailable(format!("{code:?}: {}", status.message())),
        }
    }
}

/// Any of a cluster's coordinators. Contract: each call ends within seconds (`acquire`:
/// and the wait that it asks for); every call may be repeated; an `Unavailable` one may
/// have been heard all the same.
pub trait Coordinator: fmt::Debug + Send + Sync + 'static {
    fn register(
        &self,
        request: v1::RegisterWorkerRequest,
    ) -> impl Future<Output = Result<v1::RegisterWorkerResponse, Error>> + Send;

    fn acquire(
        &self,
        request: v1::AcquireJobsRequest,
    ) -> impl Future<Output = Result<v1::AcquireJobsResponse, Error>> + Send;

    /// `patience` is for each coordinator, so that a second one is asked before the lease ends.
    fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
        patience: Duration,
    ) -> impl Future<Output = Result<v1::HeartbeatResponse, Error>> + Send;

    fn complete(&self, request: v1::CompleteJobRequest) -> impl Future<Output = Result<(), Error>> + Send;

    fn release(&self, request: v1::ReleaseJobsRequest) -> impl Future<Output = Result<(), Error>> + Send;
}

/// One of several coordinators, all equal: calls go to the last that answered.
pub(crate) struct Coordinators {
    channels: Vec<Channel>,
    current: AtomicUsize,
}

impl fmt::Debug for Coordinators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinators").field("channels", &self.channels.len()).finish_non_exhaustive()
    }
}

impl Coordinators {
    /// Connects when first needed. `addresses` are `HOST:PORT`.
    pub(crate) fn new(addresses: &[String]) -> Result<Self, tonic::transport::Error> {
        let connect = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(Duration::from_secs(5))
                .keep_alive_timeout(Duration::from_secs(2))
                .keep_alive_while_idle(true);
            Ok(endpoint.connect_lazy())
        };
        let channels = addresses.iter().map(connect).collect::<Result<_, tonic::transport::Error>>()?;
        Ok(Self { channels, current: AtomicUsize::new(0) })
    }

    /// One try at the current coordinator, then one at each other.
    async fn call<Q: Clone + Send, A: Send, F>(
        &self,
        timeout: Duration,
        request: Q,
        call: impl Fn(JobLeasingClient<Channel>, Q) -> F + Send,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<tonic::Response<A>, Status>> + Send,
    {
        let mut last = Error::Unavailable("no coordinator is configured".to_owned());
        for _ in 0..self.channels.len() {
            let current = self.current.load(Ordering::Relaxed);
            let client = JobLeasingClient::new(self.channels[current % self.channels.len()].clone());
            let answer = tokio::time::timeout(timeout, call(client, request.clone())).await;
            last = match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => match Error::from(status) {
                    answer @ (Error::LeaseGone(_) | Error::NotHeld(_)) => return Err(answer),
                    unavailable @ Error::Unavailable(_) => unavailable,
                },
                Err(_) => Error::Unavailable(format!("no answer within {timeout:?}")),
            };
            // Whoever fails first moves on; the others follow.
            let _ = self.current.compare_exchange(current, current + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
        Err(last)
    }
}

/// A call at whichever coordinator answers, on a client of its own.
macro_rules! ask {
    ($self:ident, $timeout:expr, $request:ident, $method:ident) => {
        $self.call($timeout, $request, |mut client, request| async move { client.$method(request).await })
    };
}

impl Coordinator for Coordinators {
    async fn register(
        &self,
        request: v1::RegisterWorkerRequest,
    ) -> Result<v1::RegisterWorkerResponse, Error> {
        ask!(self, Duration::from_secs(10), request, register_worker).await
    }

    async fn acquire(&self, request: v1::AcquireJobsRequest) -> Result<v1::AcquireJobsResponse, Error> {
        let wait = request.wait.and_then(|w| Duration::try_from(w).ok()).unwrap_or_default();
        ask!(self, CALL_TIMEOUT + wait, request, acquire_jobs).await
    }

    async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
        patience: Duration,
    ) -> Result<v1::HeartbeatResponse, Error> {
        ask!(self, patience, request, heartbeat).await
    }

    async fn complete(&self, request: v1::CompleteJobRequest) -> Result<(), Error> {
        ask!(self, CALL_TIMEOUT, request, complete_job).await.map(drop)
    }

    async fn release(&self, request: v1::ReleaseJobsRequest) -> Result<(), Error> {
        ask!(self, CALL_TIMEOUT, request, release_jobs).await.map(drop)
    }
}
