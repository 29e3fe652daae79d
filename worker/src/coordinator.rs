//! The coordinator as seen by a worker: the `JobLeasing` calls, at whichever
//! coordinator answers.

use std::{
    fmt,
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
pub(crate) enum Error {
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

    pub(crate) async fn register(
        &self,
        request: v1::RegisterWorkerRequest,
    ) -> Result<v1::RegisterWorkerResponse, Error> {
        self.call(Duration::from_secs(10), request, async |mut c, r| c.register_worker(r).await).await
    }

    pub(crate) async fn acquire(
        &self,
        request: v1::AcquireJobsRequest,
    ) -> Result<v1::AcquireJobsResponse, Error> {
        let wait = request.wait.and_then(|w| Duration::try_from(w).ok()).unwrap_or_default();
        self.call(CALL_TIMEOUT + wait, request, async |mut c, r| c.acquire_jobs(r).await).await
    }

    /// `patience` is for each coordinator, so that a second one is asked before the lease ends.
    pub(crate) async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
        patience: Duration,
    ) -> Result<v1::HeartbeatResponse, Error> {
        self.call(patience, request, async |mut c, r| c.heartbeat(r).await).await
    }

    pub(crate) async fn complete(&self, request: v1::CompleteJobRequest) -> Result<(), Error> {
        self.call(CALL_TIMEOUT, request, async |mut c, r| c.complete_job(r).await).await.map(drop)
    }

    pub(crate) async fn release(&self, request: v1::ReleaseJobsRequest) -> Result<(), Error> {
        self.call(CALL_TIMEOUT, request, async |mut c, r| c.release_jobs(r).await).await.map(drop)
    }

    /// One try at the current coordinator, then one at each other.
    async fn call<Q: Clone, A>(
        &self,
        timeout: Duration,
        request: Q,
        call: impl AsyncFn(JobLeasingClient<Channel>, Q) -> Result<tonic::Response<A>, Status>,
    ) -> Result<A, Error> {
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
