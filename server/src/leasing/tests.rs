//! The service over the store in memory, its time paused: leases and long polls pass
//! at once.

use std::collections::BTreeSet;

use ksched_core::cluster::Cluster;

use super::*;
use crate::activity::Activity;
use crate::{
    host::Still,
    store::{OpenDrain, memory::MemoryStore},
};

struct Bench {
    store: Arc<MemoryStore>,
    leasing: Leasing,
    shutdown: CancellationToken,
}

/// One worker as the service sees it.
struct Caller {
    lease: Option<v1::WorkerLease>,
    held: Vec<v1::HeldJob>,
}

fn bench() -> Bench {
    let store = Arc::new(MemoryStore::new());
    let cluster = Arc::new(Cluster { intake_partitions: 2, ..Cluster::default() });
    let shutdown = CancellationToken::new();
    let (views, refresher) = views(store.clone(), &cluster);
    tokio::spawn(refresher.run(shutdown.clone()));
    let host = Arc::new(Still { at_ms: 1_795_000_000_000 });
    let activity = Activity::new(tokio::sync::mpsc::channel(16).0);
    let leasing = Leasing::new(store.clone(), views, cluster, "k:9092", host, activity, shutdown.clone());
    Bench { store, leasing, shutdown }
}

#[test]
fn a_worker_that_listens_everywhere_is_reached_where_it_calls_from() {
    let caller = Some("10.0.0.7:41234".parse().unwrap());
    let reached = |told: &str| reached_at(told.to_owned(), caller);
    assert_eq!(reached("0.0.0.0:9101"), "10.0.0.7:9101");
    assert_eq!(reached("[::]:9101"), "10.0.0.7:9101");
    assert_eq!(reached("10.0.0.1:9101"), "10.0.0.1:9101");
    assert_eq!(reached_at("0.0.0.0:9101".to_owned(), None), "0.0.0.0:9101");
}

fn drain(partition: i32) -> JobName {
    JobName::Drain { topic: "ksched.wheel.1".into(), partition }
}

impl Bench {
    async fn register(&self, name: &str) -> Caller {
        let request = v1::RegisterWorkerRequest { name: name.to_owned(), ..Default::default() };
        let response = self.leasing.register_worker(Request::new(request)).await.unwrap().into_inner();
        assert_eq!(response.cluster.unwrap().kafka, "k:9092");
        Caller { lease: response.lease, held: vec![] }
    }

    async fn acquire(&self, w: &mut Caller, wait_s: i64) -> Vec<v1::Job> {
        let request = v1::AcquireJobsRequest {
            lease: w.lease.clone(),
            held: w.held.clone(),
            free_drains: 4,
            wait: Some(wire::duration(wait_s * 1_000)),
        };
        let jobs = self.leasing.acquire_jobs(Request::new(request)).await.unwrap().into_inner().jobs;
        w.held.extend(jobs.iter().map(|j| v1::HeldJob { name: j.name.clone(), fence: j.fence }));
        jobs
    }

    async fn heartbeat(&self, w: &Caller) -> Result<v1::HeartbeatResponse, Status> {
        let request = v1::HeartbeatRequest {
            lease: w.lease.clone(),
            worker_time: None,
            held: w.held.clone(),
            ..Default::default()
        };
        self.leasing.heartbeat(Request::new(request)).await.map(Response::into_inner)
    }

    async fn release(&self, w: &mut Caller, names: &[String]) {
        let (jobs, held) = w.held.drain(..).partition(|job| names.contains(&job.name));
        w.held = held;
        let request = v1::ReleaseJobsRequest { lease: w.lease.clone(), jobs, leaving: false };
        self.leasing.release_jobs(Request::new(request)).await.unwrap();
    }
}

fn names(jobs: &[v1::Job]) -> Vec<&str> {
    jobs.iter().map(|job| job.name.as_str()).collect()
}

fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    status.get_details_error_info().unwrap().reason
}

#[tokio::test(start_paused = true)]
async fn a_lone_worker_gets_everything_then_waits() {
    let bench = bench();
    let mut w = bench.register("w").await;
    let jobs = bench.acquire(&mut w, 30).await;
    assert_eq!(jobs.len(), 6);
    assert_eq!((jobs[1].topic.as_str(), jobs[1].partition, jobs[1].lane), ("ksched.due", 3, 1));
    assert_eq!(jobs.iter().map(|job| job.fence).collect::<BTreeSet<_>>().len(), 6);

    // Heartbeats meanwhile, or the lease would end.
    let since = Instant::now();
    let poll = bench.acquire(&mut w, 4);
    assert!(poll.await.is_empty());
    assert!(since.elapsed() >= Duration::from_secs(4));
    bench.heartbeat(&w).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_the_wait() {
    let bench = bench();
    let mut w = bench.register("w").await;
    bench.acquire(&mut w, 0).await;
    let open = OpenDrain { open_at_ms: 77 };
    let later = async {
        time::sleep(Duration::from_secs(2)).await;
        bench.store.ask_for_drains(&[(drain(60), open)]).await.unwrap();
    };
    let since = Instant::now();
    let (jobs, ()) = tokio::join!(bench.acquire(&mut w, 30), later);
    assert!(since.elapsed() < Duration::from_secs(3));
    assert_eq!(names(&jobs), ["drain/ksched.wheel.1/60"]);
    assert_eq!((jobs[0].lane, jobs[0].open_time), (1, Some(wire::timestamp(77))));

    let complete = |fence| v1::CompleteJobRequest {
        lease: w.lease.clone(),
        job: Some(v1::HeldJob { name: jobs[0].name.clone(), fence }),
        moved: 3,
        took: None,
    };
    let stale = bench.leasing.complete_job(Request::new(complete(jobs[0].fence - 1))).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::FailedPrecondition, "NOT_HELD"));
    bench.leasing.complete_job(Request::new(complete(jobs[0].fence))).await.unwrap();
    assert!(bench.store.snapshot().await.unwrap().drains.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_given_its_share() {
    let bench = bench();
    let mut old = bench.register("old").await;
    bench.acquire(&mut old, 0).await;
    assert!(bench.heartbeat(&old).await.unwrap().give_up.is_empty());

    let mut new = bench.register("new").await;
    let serve = async {
        // Two heartbeats' time for the newcomer to be noticed.
        for _ in 0..2 {
            time::sleep(Duration::from_secs(1)).await;
            let answer = bench.heartbeat(&old).await.unwrap();
            assert!(answer.lost.is_empty());
            bench.release(&mut old, &answer.give_up).await;
        }
    };
    let both = async {
        let mut got = 0;
        while got < 3 {
            got += bench.acquire(&mut new, 4).await.len();
        }
        got
    };
    let (got, ()) = tokio::join!(both, serve);
    assert_eq!((got, old.held.len()), (3, 3));
    // Balanced: nobody is to give anything up any more.
    for w in [&old, &new] {
        let answer = bench.heartbeat(w).await.unwrap();
        assert_eq!((answer.lost.len(), answer.give_up.len()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_workers_jobs_are_taken_over() {
    let bench = bench();
    let (mut a, mut b) = (bench.register("a").await, bench.register("b").await);
    bench.acquire(&mut a, 0).await;
    bench.acquire(&mut b, 0).await;
    assert_eq!((a.held.len(), b.held.len()), (3, 3));
    // b is not heard of again.
    while a.held.len() < 6 {
        bench.heartbeat(&a).await.unwrap();
        bench.acquire(&mut a, 1).await;
    }
    let gone = bench.heartbeat(&b).await.unwrap_err();
    assert_eq!((gone.code(), reason(&gone).as_str()), (Code::NotFound, "LEASE_GONE"));
    let request = v1::AcquireJobsRequest { lease: b.lease.clone(), ..Default::default() };
    let gone = bench.leasing.acquire_jobs(Request::new(request)).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn lost_jobs_and_lost_answers_are_told() {
    let bench = bench();
    let mut w = bench.register("w").await;
    bench.acquire(&mut w, 0).await;
    // An operator, say, ended a claim behind its back.
    let fence = Fence(w.held[0].fence);
    bench.store.release(&w.held[0].name.parse().unwrap(), fence).await.unwrap();
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.heartbeat(&w).await.unwrap().lost, [w.held[0].name.clone()]);

    // The answer that told it of a job never arrived.
    let forgotten = w.held.pop().unwrap();
    w.held.remove(0);
    let mut again = bench.acquire(&mut w, 3).await;
    while !names(&again).contains(&forgotten.name.as_str()) {
        bench.heartbeat(&w).await.unwrap();
        again = bench.acquire(&mut w, 3).await;
    }
    let told = again.iter().find(|job| job.name == forgotten.name).unwrap();
    assert_eq!(told.fence, forgotten.fence);
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_at_once() {
    let bench = bench();
    let mut w = bench.register("w").await;
    bench.acquire(&mut w, 0).await;
    let since = Instant::now();
    let stop = async {
        time::sleep(Duration::from_millis(100)).await;
        bench.shutdown.cancel();
    };
    let (jobs, ()) = tokio::join!(bench.acquire(&mut w, 30), stop);
    assert!(jobs.is_empty());
    assert!(since.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn leaving_frees_everything() {
    let bench = bench();
    let mut w = bench.register("w").await;
    bench.acquire(&mut w, 0).await;
    let request = v1::ReleaseJobsRequest { lease: w.lease.clone(), jobs: vec![], leaving: true };
    bench.leasing.release_jobs(Request::new(request)).await.unwrap();
    let now = bench.store.snapshot().await.unwrap();
    assert!(now.claims.is_empty() && now.workers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused() {
    let bench = bench();
    let w = bench.register("w").await;
    let missing = bench.leasing.heartbeat(Request::new(v1::HeartbeatRequest::default())).await.unwrap_err();
    assert_eq!(missing.code(), Code::InvalidArgument);
    let job = Some(v1::HeldJob { name: "lane/0".to_owned(), fence: 1 });
    let request = v1::CompleteJobRequest { lease: w.lease.clone(), job, moved: 0, took: None };
    let endless = bench.leasing.complete_job(Request::new(request)).await.unwrap_err();
    assert_eq!(endless.code(), Code::InvalidArgument);
    let request = v1::RegisterWorkerRequest { name: "x".repeat(300), ..Default::default() };
    let long = bench.leasing.register_worker(Request::new(request)).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
}
