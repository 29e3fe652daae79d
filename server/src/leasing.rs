//! `JobLeasing`: what workers call to lease jobs, keep the lease and give jobs back
//! (design §6). Stateless over the store, so any coordinator serves any call.
//!
//! | code | `ErrorInfo.reason` | what the worker does |
//! | --- | --- | --- |
//! | `NOT_FOUND` | `LEASE_GONE` | drop every job, register anew |
//! | `FAILED_PRECONDITION` | `NOT_HELD` | drop the job (or it was completed by an earlier try) |
//! | `UNAVAILABLE` | `STORE_UNAVAILABLE` | repeat: every call may be repeated |
//! | `INVALID_ARGUMENT` | `BAD_FIELD` | mend the worker |
//! | `INTERNAL` | `STORE_BROKEN` | tell the operator |

mod board;
mod seen;
pub(crate) mod wire;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::join_all;
use ksched_core::{
    cluster::Cluster,
    host::Host,
    jobs::{Finished, JobKind, JobName, plan::Board},
};
use ksched_proto::v1::{self, job_leasing_server::JobLeasing};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

pub use seen::{Gone, Refresher, Seen, Stale, Views, views};

use crate::{
    activity::Activity,
    status,
    store::{self, ClaimError, Fence, HoldError, LeaseError, Registration, Store, WorkerInfo},
};

/// The longest a poll waits, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Claims written at once.
const CLAIMS_AT_ONCE: usize = 16;
/// A job that the store says is the caller's and the caller does not know: the
/// answer that told it was lost. Told again after this long, since its release may
/// be on the way.
const OWED_AFTER: Duration = Duration::from_secs(1);
/// What a worker may say of itself, in bytes each.
const LONGEST_TEXT: usize = 255;

/// The service. Clones share everything.
#[derive(Clone, Debug)]
pub struct Leasing {
    store: Arc<dyn Store>,
    views: Views,
    cluster: Arc<Cluster>,
    kafka: Arc<str>,
    host: Arc<dyn Host>,
    activity: Activity,
    shutdown: CancellationToken,
}

/// Why a worker's call was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the worker's lease is gone")]
    LeaseGone,
    #[error("job {0} is not held with this fence")]
    NotHeld(JobName),
    #[error("{field} {description}")]
    BadField { field: &'static str, description: String },
    #[error(transparent)]
    Stale(#[from] Stale),
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::LeaseGone => status::with_reason(Code::NotFound, "LEASE_GONE", message),
            Error::NotHeld(_) => status::with_reason(Code::FailedPrecondition, "NOT_HELD", message),
            Error::BadField { field, description } => status::bad_field(field, "BAD_FIELD", description),
            Error::Stale(Stale) | Error::Store(store::Error::Unavailable(_)) => {
                status::with_reason(Code::Unavailable, "STORE_UNAVAILABLE", message)
            }
            Error::Store(store::Error::Broken(_)) => {
                status::with_reason(Code::Internal, "STORE_BROKEN", message)
            }
        }
    }
}

impl From<LeaseError> for Error {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::Gone => Self::LeaseGone,
            LeaseError::Store(error) => Self::Store(error),
        }
    }
}

impl Leasing {
    /// A service over `store`, of which `views` are kept fresh by their
    /// [`Refresher`]. `kafka` is told to workers. At shutdown, waiting polls are
    /// answered empty at once.
    pub fn new(
        store: Arc<dyn Store>,
        views: Views,
        cluster: Arc<Cluster>,
        kafka: &str,
        host: Arc<dyn Host>,
        activity: Activity,
        shutdown: CancellationToken,
    ) -> Self {
        Self { store, views, cluster, kafka: kafka.into(), host, activity, shutdown }
    }

    fn ttl_ms(&self) -> i64 {
        self.cluster.geometry.lease_ttl_ms
    }

    async fn register(&self, request: v1::RegisterWorkerRequest) -> Result<Registration, Error> {
        let texts =
            [("name", &request.name), ("version", &request.version), ("http_address", &request.http_address)];
        for (field, text) in texts {
            if text.len() > LONGEST_TEXT {
                let description = format!("is longer than {LONGEST_TEXT} bytes");
                return Err(Error::BadField { field, description });
            }
        }
        let info = WorkerInfo {
            name: request.name,
            version: request.version,
            http_address: request.http_address,
            registered_at_ms: self.host.wall_ms(),
        };
        let ttl = Duration::from_millis(self.ttl_ms().unsigned_abs());
        Ok(self.store.register_worker(&info, ttl).await?)
    }

    /// Looks, plans, claims; waits for the next view of the store if there was
    /// nothing to have.
    async fn acquire(&self, request: v1::AcquireJobsRequest) -> Result<Vec<v1::Job>, Error> {
        let began = Instant::now();
        let worker = wire::registration(request.lease)?;
        let held = wire::held(request.held)?;
        let until = began + wire::span(request.wait).min(LONGEST_WAIT);
        let mut seen = self.views.with(held.values().max().copied()).await?;
        if !seen.snapshot.workers.contains_key(&worker.id) {
            // It may have registered a moment ago, with another coordinator.
            seen = self.views.since(began).await?;
        }
        loop {
            if !seen.snapshot.workers.contains_key(&worker.id) {
                return Err(Error::LeaseGone);
            }
            let board = board::board(&self.cluster, &seen, Instant::now(), self.host.wall_ms());
            let mut jobs = self.claim(&seen, &worker, &board, request.free_drains as usize).await?;
            if seen.at >= began + OWED_AFTER {
                jobs.extend(self.owed(&seen, &worker, &held));
            }
            self.note_asking(&seen, &worker, &board, &jobs).await?;
            if !jobs.is_empty() {
                return Ok(jobs);
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(jobs),
                next = self.views.after(&seen) => seen = next?,
                () = time::sleep_until(until) => return Ok(jobs),
            }
        }
    }

    /// Claims what the planner says. Another coordinator may have been faster: what
    /// it got is not ours.
    async fn claim(
        &self,
        seen: &Seen,
        worker: &Registration,
        board: &Board,
        free_drains: usize,
    ) -> Result<Vec<v1::Job>, Error> {
        let (mut jobs, mut failed) = (Vec::new(), None);
        for names in board.take(&worker.id, free_drains).chunks(CLAIMS_AT_ONCE) {
            let outcomes = join_all(names.iter().map(|name| self.store.claim(name, worker))).await;
            for (name, outcome) in names.iter().zip(outcomes) {
                match outcome {
                    Ok(fence) => jobs.push(self.job(seen, name, fence)),
                    Err(ClaimError::Held | ClaimError::NoSuchJob) => {}
                    Err(ClaimError::LeaseGone) => return Err(Error::LeaseGone),
                    Err(ClaimError::Store(error)) => failed = Some(error),
                }
            }
        }
        // What was claimed must reach the worker; the rest is tried again.
        match failed {
            Some(error) if jobs.is_empty() => Err(error.into()),
            Some(_) | None => Ok(jobs),
        }
    }

    /// Jobs that are the worker's, though it does not know.
    fn owed(&self, seen: &Seen, worker: &Registration, held: &BTreeMap<JobName, Fence>) -> Vec<v1::Job> {
        let claims = seen.snapshot.claims.iter();
        claims
            .filter(|(name, claim)| claim.worker_id == worker.id && !held.contains_key(*name))
            .map(|(name, claim)| self.job(seen, name, claim.fence))
            .collect()
    }

    fn job(&self, seen: &Seen, name: &JobName, fence: Fence) -> v1::Job {
        wire::job(&self.cluster, name, seen.snapshot.drains.get(name).copied(), Some(fence))
    }

    /// Tells all coordinators when a worker has less than its share and nothing is
    /// free: then others give up.
    async fn note_asking(
        &self,
        seen: &Seen,
        worker: &Registration,
        board: &Board,
        got: &[v1::Job],
    ) -> Result<(), Error> {
        let asked_at_ms = seen.snapshot.asking.get(&worker.id);
        let asks = got.is_empty() && board.is_short(&worker.id);
        let now_ms = self.host.wall_ms();
        let fresh = asked_at_ms.is_some_and(|at_ms| (now_ms - at_ms).abs() < board::ASK_EVERY_MS);
        match (asks, asked_at_ms) {
            (true, _) if !fresh => Ok(self.store.set_asking(worker, Some(now_ms)).await?),
            (false, Some(_)) if !board.is_short(&worker.id) => {
                Ok(self.store.set_asking(worker, None).await?)
            }
            _ => Ok(()),
        }
    }

    async fn renew(&self, request: v1::HeartbeatRequest) -> Result<(Vec<String>, Vec<String>), Error> {
        let worker = wire::registration(request.lease)?;
        let held = wire::held(request.held)?;
        if self.views.last().is_some_and(|seen| seen.snapshot.workers.contains_key(&worker.id)) {
            // Also while the store is away, for then lanes go on.
            self.activity.heard(&worker.id, request.lanes, request.dead_lettered);
        }
        self.store.renew_worker(&worker).await?;
        // The lease lives on; what others did is told with the next heartbeat if it
        // cannot be seen now.
        let Ok(seen) = self.views.with(held.values().max().copied()).await else {
            return Ok(Default::default());
        };
        let is_ours = |name: &JobName, fence: Fence| {
            let claim = seen.snapshot.claims.get(name);
            claim.is_some_and(|claim| claim.fence == fence && claim.worker_id == worker.id)
        };
        let (ours, lost): (BTreeMap<_, _>, BTreeMap<_, _>) =
            held.iter().partition(|(name, fence)| is_ours(name, **fence));
        let board = board::board(&self.cluster, &seen, Instant::now(), self.host.wall_ms());
        let mut give_up = board.give_up(&worker.id);
        give_up.retain(|name| ours.contains_key(name));
        Ok((
            lost.into_keys().map(ToString::to_string).collect(),
            give_up.iter().map(ToString::to_string).collect(),
        ))
    }

    async fn complete(&self, request: v1::CompleteJobRequest) -> Result<(), Error> {
        let worker = wire::registration(request.lease)?;
        let (name, fence) = wire::one_held(request.job.unwrap_or_default())?;
        if name.kind() != JobKind::Drain {
            let description = "names a job that never ends".to_owned();
            return Err(Error::BadField { field: "job.name", description });
        }
        match self.store.complete(&name, fence).await {
            Ok(()) => {
                tracing::debug!(job = %name, moved = request.moved, "drain complete");
                self.note_finished(&name, worker.id, request.moved, request.took);
                Ok(())
            }
            Err(HoldError::NotHeld) => Err(Error::NotHeld(name)),
            Err(HoldError::Store(error)) => Err(error.into()),
        }
    }

    fn note_finished(
        &self,
        job: &JobName,
        worker_id: String,
        moved: u64,
        took: Option<prost_types::Duration>,
    ) {
        let finished_at_ms = self.host.wall_ms();
        let took_ms = wire::ms(took.as_ref()).unwrap_or(0).max(0);
        let worker = self.views.last().and_then(|s| Some(s.snapshot.workers.get(&worker_id)?.name.clone()));
        self.activity.finished(Finished {
            job: job.to_string(),
            worker: worker.unwrap_or_default(),
            worker_id,
            begun_at_ms: finished_at_ms.saturating_sub(took_ms),
            finished_at_ms,
            moved,
        });
    }

    async fn release(&self, request: v1::ReleaseJobsRequest) -> Result<(), Error> {
        let worker = wire::registration(request.lease)?;
        let held = wire::held(request.jobs)?;
        if request.leaving {
            // Takes all its claims along.
            return Ok(self.store.end(worker.lease).await?);
        }
        for (name, fence) in held {
            match self.store.release(&name, fence).await {
                Ok(()) | Err(HoldError::NotHeld) => {}
                Err(HoldError::Store(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A worker that listens on all of its addresses is reached at the one that it calls from.
fn reached_at(http_address: String, caller: Option<SocketAddr>) -> String {
    match (http_address.parse::<SocketAddr>(), caller) {
        (Ok(told), Some(caller)) if told.ip().is_unspecified() => {
            SocketAddr::new(caller.ip().to_canonical(), told.port()).to_string()
        }
        _ => http_address,
    }
}

#[tonic::async_trait]
impl JobLeasing for Leasing {
    async fn register_worker(
        &self,
        request: Request<v1::RegisterWorkerRequest>,
    ) -> Result<Response<v1::RegisterWorkerResponse>, Status> {
        let caller = request.remote_addr();
        let mut request = request.into_inner();
        request.http_address = reached_at(request.http_address, caller);
        let worker = self.register(request).await?;
        tracing::info!(worker = %worker.id, "worker registered");
        Ok(Response::new(v1::RegisterWorkerResponse {
            lease: Some(v1::WorkerLease { worker_id: worker.id, lease_id: worker.lease.0 }),
            lease_ttl: Some(wire::duration(self.ttl_ms())),
            cluster: Some(wire::cluster(&self.cluster, &self.kafka)),
        }))
    }

    async fn acquire_jobs(
        &self,
        request: Request<v1::AcquireJobsRequest>,
    ) -> Result<Response<v1::AcquireJobsResponse>, Status> {
        let jobs = match self.acquire(request.into_inner()).await {
            // Views end with the coordinator; another one serves the next poll.
            Err(Error::Stale(Stale)) if self.shutdown.is_cancelled() => Vec::new(),
            outcome => outcome?,
        };
        Ok(Response::new(v1::AcquireJobsResponse { jobs }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let (lost, give_up) = self.renew(request.into_inner()).await?;
        Ok(Response::new(v1::HeartbeatResponse {
            lease_ttl: Some(wire::duration(self.ttl_ms())),
            coordinator_time: Some(wire::timestamp_us(self.host.wall_us())),
            lost,
            give_up,
        }))
    }

    async fn complete_job(
        &self,
        request: Request<v1::CompleteJobRequest>,
    ) -> Result<Response<v1::CompleteJobResponse>, Status> {
        self.complete(request.into_inner()).await?;
        Ok(Response::new(v1::CompleteJobResponse {}))
    }

    async fn release_jobs(
        &self,
        request: Request<v1::ReleaseJobsRequest>,
    ) -> Result<Response<v1::ReleaseJobsResponse>, Status> {
        self.release(request.into_inner()).await?;
        Ok(Response::new(v1::ReleaseJobsResponse {}))
    }
}

#[cfg(test)]
mod tests;
