//! The worker's lease and its jobs: registers, keeps the lease, takes jobs,
//! gives them back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::{BoxFuture, OptionFuture};
use ksched_core::{clock::Standing, host::Host};
use ksched_proto::v1;
use ksched_telemetry::{
    logging::Repeats,
    traces::{self, Span},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    clock::Clock,
    coordinator::{Coordinator, Error},
    job::{Confirm, Control, Ended, Lease, Outcome, spawn},
};

/// Drain jobs a worker runs at once: each is two Kafka clients and a thread.
const DRAINS_AT_ONCE: usize = 8;
/// How long job threads have to end their transactions when the worker stops.
const STOP_BOUND: Duration = Duration::from_secs(8);
const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// What runs a job once it is leased; the session knows no Kafka.
pub(crate) trait Runner: Send + Sync + 'static {
    /// Runs on the job's own thread until done, stopped or fenced.
    fn run(&self, job: &v1::Job, control: &Control) -> Outcome;
    /// Lanes held, for the metrics.
    fn observe_lanes_held(&self, lanes: usize);
    /// The lease was confirmed by the answer to what was asked then.
    fn observe_lease_confirmed(&self, asked_at: Instant);
    /// By how much our clock is ahead of the coordinator's.
    fn observe_clock_skew(&self, ahead_us: i64);
    /// What the lanes are doing, and how many messages were dead-lettered.
    fn figures(&self) -> (Vec<v1::LaneFigures>, u64);
}

/// The end of a job, to be said until it is heard.
enum Farewell {
    Complete(v1::CompleteJobRequest),
    Release(v1::ReleaseJobsRequest),
}

impl Farewell {
    fn jobs(&self) -> Vec<v1::HeldJob> {
        match self {
            Self::Complete(request) => request.job.iter().cloned().collect(),
            Self::Release(request) => request.jobs.clone(),
        }
    }

    async fn say(&self, coordinators: &impl Coordinator) -> Result<(), Error> {
        match self {
            Self::Complete(request) => coordinators.complete(request.clone()).await,
            Self::Release(request) => coordinators.release(request.clone()).await,
        }
    }
}

struct Held {
    job: v1::Job,
    control: Control,
    begun_at: Instant,
    /// From getting the job to giving it back.
    span: Span,
}

/// One registration: from RegisterWorker until the lease is gone or the worker stops.
pub(crate) struct Session<R, C> {
    coordinators: Arc<C>,
    host: Arc<dyn Host>,
    clock: Arc<Clock>,
    runner: Arc<R>,
    lease: v1::WorkerLease,
    ttl: Duration,
    lasting: Arc<Lease>,
    /// Heartbeats without an answer.
    not_renewed: Repeats,
    held: BTreeMap<Arc<str>, Held>,
    /// Completions and releases on their way, and the jobs they are about: until
    /// they are heard those count as held, or they would be handed to us again.
    farewells: JoinSet<Vec<v1::HeldJob>>,
    parting: Vec<v1::HeldJob>,
    ends: (mpsc::Sender<Ended>, mpsc::Receiver<Ended>),
    confirms: (mpsc::Sender<Confirm>, mpsc::Receiver<Confirm>),
    /// Asked since the last heartbeat was sent, and asked before it.
    asked: Vec<Confirm>,
    asked_before: Vec<Confirm>,
}

type Heartbeat = BoxFuture<'static, (Instant, Result<v1::HeartbeatResponse, Error>)>;
type Acquire = BoxFuture<'static, Result<v1::AcquireJobsResponse, Error>>;

impl<R: Runner, C: Coordinator> Session<R, C> {
    /// A lease asked for at `registered_at`.
    pub(crate) fn new(
        coordinators: Arc<C>,
        host: Arc<dyn Host>,
        clock: Arc<Clock>,
        runner: Arc<R>,
        lease: v1::WorkerLease,
        registered_at: Instant,
        ttl: Duration,
    ) -> Self {
        let lasting = Arc::new(Lease::new(registered_at, ttl));
        runner.observe_lease_confirmed(registered_at);
        Self {
            coordinators,
            host,
            clock,
            runner,
            lease,
            ttl,
            lasting,
            not_renewed: Repeats::default(),
            held: BTreeMap::new(),
            farewells: JoinSet::new(),
            parting: Vec::new(),
            ends: mpsc::channel(1024),
            confirms: mpsc::channel(1024),
            asked: Vec::new(),
            asked_before: Vec::new(),
        }
    }

    /// How long it lasts, for as long as the session does.
    pub(crate) fn lasting(&self) -> Arc<Lease> {
        Arc::clone(&self.lasting)
    }

    /// Runs until the lease is gone or `shutdown`; every job thread has ended, or
    /// had its time, when this returns.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut beat = interval(self.ttl / 4);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(Duration::from_secs(1));
        let mut heartbeat: Option<Heartbeat> = None;
        let mut acquire: Option<Acquire> = None;
        loop {
            // A lease without a confirmed clock is of no use: wait for the first heartbeat.
            if acquire.is_none() && self.clock.now_ms().is_some() {
                acquire = Some(self.acquire());
            }
            // In this order, so that a run can be repeated; none can starve the others for long.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.leave().await,
                _ = beat.tick() => {
                    if heartbeat.is_none() {
                        heartbeat = Some(self.heartbeat());
                    }
                }
                _ = look.tick() => {
                    if self.clock.look() == Standing::Doubtful && heartbeat.is_none() {
                        warn!("own clock jumped: not firing until a coordinator confirms the time");
                        heartbeat = Some(self.heartbeat());
                    }
                }
                Some((sent, answer)) = OptionFuture::from(heartbeat.as_mut()) => {
                    heartbeat = None;
                    let answered = answer.is_ok();
                    if let Err(reason) = self.heard(sent, answer) {
                        warn!(%reason, "lease is gone: dropping every job, registering anew");
                        return self.drop_all().await;
                    }
                    // With nobody to answer, what was asked waits for the next beat.
                    if answered && !self.asked.is_empty() {
                        heartbeat = Some(self.heartbeat());
                    }
                }
                Some(answer) = OptionFuture::from(acquire.as_mut()) => {
                    acquire = None;
                    match answer {
                        Ok(answer) => answer.jobs.into_iter().for_each(|job| self.begin(job)),
                        Err(Error::LeaseGone(reason)) => {
                            warn!(%reason, "lease is gone: dropping every job, registering anew");
                            return self.drop_all().await;
                        }
                        Err(Error::Unavailable(_) | Error::NotHeld(_)) => acquire = Some(self.acquire_later()),
                    }
                }
                Some(ended) = self.ends.1.recv() => {
                    // A long poll begun when all drains were busy asks for none.
                    if self.free_drains() == 0 {
                        acquire = None;
                    }
                    self.ended(ended);
                }
                Some(confirm) = self.confirms.1.recv() => {
                    self.asked.push(confirm);
                    if heartbeat.is_none() {
                        heartbeat = Some(self.heartbeat());
                    }
                }
                Some(Ok(parted)) = self.farewells.join_next() => self.parting.retain(|job| !parted.contains(job)),
            }
        }
    }

    fn held_jobs(&self) -> Vec<v1::HeldJob> {
        let jobs = self.held.values();
        let jobs = jobs.map(|h| v1::HeldJob { name: h.job.name.clone(), fence: h.control.fence });
        jobs.chain(self.parting.iter().cloned()).collect()
    }

    fn heartbeat(&mut self) -> Heartbeat {
        self.asked_before.append(&mut self.asked);
        let (lanes, dead_lettered) = self.runner.figures();
        let request = v1::HeartbeatRequest {
            lease: Some(self.lease.clone()),
            worker_time: Some(timestamp(self.clock.wall_ms())),
            held: self.held_jobs(),
            lanes,
            dead_lettered,
        };
        let coordinators = self.coordinators.clone();
        let patience = self.ttl / 4;
        Box::pin(async move {
            let sent = Instant::now();
            (sent, coordinators.heartbeat(request, patience).await)
        })
    }

    /// `Err`: the lease is gone.
    fn heard(&mut self, sent: Instant, answer: Result<v1::HeartbeatResponse, Error>) -> Result<(), String> {
        let asked = std::mem::take(&mut self.asked_before);
        let answer = match answer {
            Ok(answer) => answer,
            Err(Error::LeaseGone(reason)) => {
                for confirm in asked {
                    // A job that stopped meanwhile does not listen.
                    let _ = confirm.answer.try_send(false);
                }
                return Err(reason);
            }
            // Exactly-once lanes go on without a control plane: whoever takes over
            // fences them, and nobody can (design §6).
            Err(Error::Unavailable(reason) | Error::NotHeld(reason)) => {
                if let Some(left_out) = self.not_renewed.tell() {
                    warn!(%reason, left_out, "no coordinator renews the lease; lanes go on");
                }
                // Asked again with the next beat.
                self.asked.extend(asked);
                return Ok(());
            }
        };
        let ttl = answer.lease_ttl.and_then(|t| Duration::try_from(t).ok()).unwrap_or(self.ttl);
        self.lasting.renewed(sent, ttl);
        self.not_renewed = Repeats::default();
        self.runner.observe_lease_confirmed(sent);
        if let Some(time) = answer.coordinator_time {
            self.compare_clocks(sent, &time);
        }
        for name in &answer.lost {
            if let Some(held) = self.held.get(name.as_str()) {
                warn!(job = %name, "job is not ours any more");
                held.control.stop();
            }
        }
        for name in &answer.give_up {
            if let Some(held) = self.held.get(name.as_str()).filter(|h| !h.control.stopped()) {
                info!(job = %name, "giving the job up for another worker");
                held.control.stop();
            }
        }
        for confirm in asked {
            let held = !answer.lost.iter().any(|name| **name == *confirm.name);
            let _ = confirm.answer.try_send(held);
        }
        Ok(())
    }

    fn compare_clocks(&self, sent: Instant, time: &prost_types::Timestamp) {
        let peer_us = time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000;
        // The peer looked about half-way between the question and its answer.
        let half_way_us = sent.elapsed().as_micros() as i64 / 2;
        self.runner.observe_clock_skew(self.host.wall_us() - half_way_us - peer_us);
        if self.clock.hear(sent, peer_us) == Standing::Doubtful {
            error!(
                own_ms = self.clock.wall_ms(),
                coordinator_ms = peer_us / 1_000,
                "clock differs too much from the coordinator's: giving the jobs up"
            );
            self.held.values().for_each(|h| h.control.stop());
        }
    }

    fn free_drains(&self) -> usize {
        let draining = self.held.values().filter(|h| h.job.kind() == v1::JobKind::Drain).count();
        DRAINS_AT_ONCE.saturating_sub(draining)
    }

    /// A long poll. It waits no longer than a lease lasts: if its answer is lost on the way, the
    /// jobs in it are ours and nobody runs them until a later poll is told of them. Nor
    /// shorter: a poll is told of them only after a second (`OWED_AFTER` in `leasing`).
    fn acquire(&self) -> Acquire {
        let request = v1::AcquireJobsRequest {
            lease: Some(self.lease.clone()),
            held: self.held_jobs(),
            free_drains: self.free_drains() as u32,
            wait: prost_types::Duration::try_from(self.ttl).ok(),
        };
        let coordinators = self.coordinators.clone();
        Box::pin(async move { coordinators.acquire(request).await })
    }

    fn acquire_later(&self) -> Acquire {
        let acquire = self.acquire();
        Box::pin(async move {
            sleep(RETRY_PAUSE).await;
            acquire.await
        })
    }

    fn begin(&mut self, job: v1::Job) {
        let name: Arc<str> = job.name.as_str().into();
        // A job offered again while its old thread is ending waits for the next poll.
        if self.held.contains_key(&name) {
            return;
        }
        if self.clock.now_ms().is_none() {
            return self.release(v1::HeldJob { name: job.name, fence: job.fence });
        }
        let span = traces::lease(&name, job.fence);
        info!(job = %name, fence = job.fence, trace_id = span.trace_id().map(tracing::field::display), "job begins");
        let (lasting, confirms) = (self.lasting.clone(), self.confirms.0.clone());
        let (held, host) = (span.context(), self.host.clone());
        let control = Control::new(name.clone(), job.fence, held, lasting, confirms, host);
        let (runner, task) = (self.runner.clone(), job.clone());
        if let Err(reason) = spawn(control.clone(), self.ends.0.clone(), move |c| runner.run(&task, c)) {
            error!(job = %name, %reason, "no thread for the job: giving it back");
            self.release(v1::HeldJob { name: job.name, fence: job.fence });
            return;
        }
        self.held.insert(name, Held { job, control, begun_at: Instant::now(), span });
        self.observe();
    }

    fn ended(&mut self, ended: Ended) {
        let (begun_at, mut span) = match self.held.remove(&ended.name) {
            Some(held) => (Some(held.begun_at), held.span),
            None => (None, Span::default()),
        };
        self.observe();
        let job = v1::HeldJob { name: ended.name.to_string(), fence: ended.fence };
        match ended.outcome {
            Outcome::Done { moved } => {
                span.ended("done");
                info!(job = %ended.name, moved, "job is done");
                self.complete(job, moved, begun_at.map(|begun_at| begun_at.elapsed()));
            }
            Outcome::Stopped => {
                span.ended("stopped");
                info!(job = %ended.name, "job stopped");
                self.release(job);
            }
            Outcome::Fenced => {
                span.ended("fenced");
                warn!(job = %ended.name, "fenced: a newer holder has the job");
                self.release(job);
            }
            Outcome::Failed(reason) => {
                span.ended("failed");
                span.fail("failed", &reason);
                error!(job = %ended.name, %reason, "job gave up; it is handed out again");
                self.release(job);
            }
        }
    }

    fn observe(&self) {
        let lanes = self.held.values().filter(|h| h.job.kind() == v1::JobKind::Lane).count();
        self.runner.observe_lanes_held(lanes);
    }

    fn complete(&mut self, job: v1::HeldJob, moved: u64, took: Option<Duration>) {
        let (lease, job) = (Some(self.lease.clone()), Some(job));
        let took = took.and_then(|took| prost_types::Duration::try_from(took).ok());
        self.part(Farewell::Complete(v1::CompleteJobRequest { lease, job, moved, took }));
    }

    fn release(&mut self, job: v1::HeldJob) {
        let lease = Some(self.lease.clone());
        self.part(Farewell::Release(v1::ReleaseJobsRequest { lease, jobs: vec![job], leaving: false }));
    }

    /// Says the end of a job until it is heard, or the lease is gone with all its
    /// claims: unheard, it would keep others from the job for as long as we renew.
    fn part(&mut self, farewell: Farewell) {
        let jobs = farewell.jobs();
        self.parting.extend(jobs.iter().cloned());
        let coordinators = self.coordinators.clone();
        self.farewells.spawn(async move {
            let mut said = false;
            loop {
                match farewell.say(&*coordinators).await {
                    Ok(()) | Err(Error::LeaseGone(_)) => return jobs,
                    // It may have been heard the first time.
                    Err(Error::NotHeld(reason)) => {
                        debug!(reason, "job was not held any more");
                        return jobs;
                    }
                    Err(Error::Unavailable(reason)) => {
                        if !std::mem::replace(&mut said, true) {
                            warn!(?jobs, reason, "the end of a job was not heard; saying it again");
                        }
                        sleep(RETRY_PAUSE).await;
                    }
                }
            }
        });
    }

    /// Stops every job and waits for all of them.
    async fn drop_all(&mut self) {
        self.stop_all();
        self.ended_by(Instant::now() + STOP_BOUND, |_| true).await;
    }

    /// Tells every job to stop; their threads end after their current transaction.
    fn stop_all(&mut self) {
        self.held.values().for_each(|h| h.control.stop());
        // Nobody is left to confirm anything.
        self.confirms.1.close();
        while self.confirms.1.try_recv().is_ok() {}
        self.asked.clear();
        self.asked_before.clear();
    }

    /// Waits for the end of these jobs. Those that have not ended in time are given up.
    async fn ended_by(&mut self, by: Instant, which: impl Fn(&Held) -> bool) {
        let all_ended = async {
            while self.held.values().any(&which) {
                let Some(ended) = self.ends.1.recv().await else { return };
                // Free for others at once, not when the slowest has ended too. If the lease
                // is gone this is heard as such.
                self.ended(ended);
            }
        };
        if timeout_at(by, all_ended).await.is_err() {
            let still: Vec<_> =
                self.held.extract_if(.., |_, held| which(held)).map(|(name, _)| name).collect();
            warn!(?still, "jobs did not stop in time; whoever takes over fences them");
        }
        self.observe();
    }

    /// A clean stop: the lanes are free for others as soon as their last transaction is committed.
    /// Others take them only once our lease is gone, since until then a share of lanes is ours
    /// (`jobs::plan`); so it ends before idle jobs of other kinds do, whom nobody waits for.
    async fn leave(mut self) {
        let jobs = self.held_jobs();
        info!(jobs = jobs.len(), "stopping: handing the jobs over");
        self.stop_all();
        let by = Instant::now() + STOP_BOUND;
        self.ended_by(by, |held| held.job.kind() == v1::JobKind::Lane).await;
        let request = v1::ReleaseJobsRequest { lease: Some(self.lease.clone()), jobs, leaving: true };
        let coordinators = self.coordinators.clone();
        let (said, ()) = tokio::join!(coordinators.release(request), self.ended_by(by, |_| true));
        if let Err(reason) = said {
            warn!(%reason, "could not say goodbye; the jobs are free when the lease ends");
        }
        // The lease takes along whatever was not heard.
        self.farewells.shutdown().await;
    }
}

pub(crate) fn timestamp(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32 }
}

#[cfg(test)]
mod tests;
