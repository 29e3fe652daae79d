//! A worker that lies, by the contract's own stubs.

use std::{
    thread,
    time::{Duration, Instant},
};

use ksched_proto::v1::{
    AcquireJobsRequest, CompleteJobRequest, HeartbeatRequest, HeldJob, Job, JobKind, RegisterWorkerRequest,
    ReleaseJobsRequest, WorkerLease, job_leasing_client::JobLeasingClient,
};
use prost_types::Timestamp;
use tonic::transport::{Channel, Endpoint};

use crate::{
    bed::{Bed, WORKERS, block_on, now_ms, runtime},
    mischief::{during, until_ended},
    run::Load,
    table,
};

/// Half of it through the wheel, so that there are drains to lie about.
const LOAD: Load = Load {
    door: ksched_client::bench::Door::Unary,
    rate: 200,
    seconds: 20,
    delays_ms: (0, 30_000),
    size: 200,
    clock_ms: 0,
};
const LYING: Duration = Duration::from_secs(12);

/// Says of each drain that it is finished, and has moved nothing, and sits on all else. It is alone for a while: with
/// others about, drains go to those who have waited longer.
pub(crate) fn claims_finished(bed: &Bed) {
    let scenario = "hostile::claims_finished";
    let outcome = until_ended(bed, scenario, LOAD, || {
        WORKERS.iter().for_each(|name| bed.cluster.stop(name).unwrap());
        let mut liar = Liar::register(bed);
        let mut finished = 0;
        let began_at = Instant::now();
        while began_at.elapsed() < LYING {
            for job in liar.acquire(Duration::from_secs(1)) {
                if job.kind() == JobKind::Drain {
                    finished += 1;
                    liar.complete(&job);
                } else {
                    liar.held.push(held(&job));
                }
            }
            liar.heartbeat();
        }
        liar.release(Vec::new(), true);
        WORKERS.iter().for_each(|name| bed.cluster.start_again(name).unwrap());
        table::note(scenario, format!("lied about {finished} drains"));
        assert!(finished > 0, "there was nothing to lie about");
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(LYING + Duration::from_secs(15));
}

/// Takes what it gets and does nothing at all, not even renew its lease.
pub(crate) fn never_finishes(bed: &Bed) {
    let scenario = "hostile::never_finishes";
    let outcome = during(bed, scenario, LOAD, || {
        let mut liar = Liar::register(bed);
        let began_at = Instant::now();
        while began_at.elapsed() < Duration::from_secs(6) {
            let jobs = liar.acquire(Duration::from_millis(300));
            liar.held.extend(jobs.iter().map(held));
            liar.heartbeat();
        }
        let names: Vec<_> = liar.held.iter().map(|job| job.name.as_str()).collect();
        table::note(scenario, format!("sits on {}", names.join(", ")));
        let silent_from_ms = now_ms();
        assert!(!names.is_empty(), "it got nothing to sit on");
        thread::sleep(Duration::from_secs(6));
        silent_from_ms
    });
    outcome.assert_exact_but_order();
    // Its lease and its six seconds.
    outcome.assert_worst_below(Duration::from_secs(20));
}

struct Liar {
    stub: JobLeasingClient<Channel>,
    lease: Option<WorkerLease>,
    held: Vec<HeldJob>,
}

impl Liar {
    fn register(bed: &Bed) -> Self {
        let _runtime = runtime().enter();
        let address = format!("http://{}", bed.cluster.coordinators()[0]);
        let mut stub = JobLeasingClient::new(Endpoint::from_shared(address).unwrap().connect_lazy());
        let request = RegisterWorkerRequest { name: "liar".to_owned(), ..Default::default() };
        let registered = block_on(stub.register_worker(request)).expect("a lease").into_inner();
        Self { stub, lease: registered.lease, held: Vec::new() }
    }

    fn acquire(&mut self, wait: Duration) -> Vec<Job> {
        let request = AcquireJobsRequest {
            lease: self.lease.clone(),
            held: self.held.clone(),
            free_drains: 8,
            wait: Some(wait.try_into().expect("a short time")),
        };
        block_on(self.stub.acquire_jobs(request)).map(|answer| answer.into_inner().jobs).unwrap_or_default()
    }

    fn heartbeat(&mut self) {
        let now_ms = now_ms();
        let worker_time = Timestamp {
            seconds: now_ms.div_euclid(1_000),
            nanos: (now_ms.rem_euclid(1_000) * 1_000_000) as i32,
        };
        let request = HeartbeatRequest {
            lease: self.lease.clone(),
            worker_time: Some(worker_time),
            held: self.held.clone(),
            ..HeartbeatRequest::default()
        };
        block_on(self.stub.heartbeat(request)).expect("a renewed lease");
    }

    fn complete(&mut self, job: &Job) {
        let request = CompleteJobRequest {
            lease: self.lease.clone(),
            job: Some(held(job)),
            ..CompleteJobRequest::default()
        };
        // Refused is as good: a coordinator that checks knows better.
        let _ = block_on(self.stub.complete_job(request));
    }

    fn release(&mut self, jobs: Vec<HeldJob>, leaving: bool) {
        let request = ReleaseJobsRequest { lease: self.lease.clone(), jobs, leaving };
        block_on(self.stub.release_jobs(request)).expect("released");
    }
}

fn held(job: &Job) -> HeldJob {
    HeldJob { name: job.name.clone(), fence: job.fence }
}
