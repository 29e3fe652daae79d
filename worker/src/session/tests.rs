//! A session over a coordinator that never answers.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::clock::Machine;

const TTL: Duration = Duration::from_secs(5);

/// Refuses every call within a millisecond, as when nobody listens.
#[derive(Debug, Default)]
struct Nobody {
    heartbeats: AtomicUsize,
    waits: Mutex<Vec<Duration>>,
}

fn nobody<T>() -> Result<T, Error> {
    Err(Error::Unavailable("connection refused".to_owned()))
}

impl Coordinator for Nobody {
    async fn register(&self, _: v1::RegisterWorkerRequest) -> Result<v1::RegisterWorkerResponse, Error> {
        nobody()
    }

    async fn acquire(&self, request: v1::AcquireJobsRequest) -> Result<v1::AcquireJobsResponse, Error> {
        let wait = request.wait.and_then(|wait| Duration::try_from(wait).ok());
        self.waits.lock().extend(wait);
        nobody()
    }

    async fn heartbeat(&self, _: v1::HeartbeatRequest, _: Duration) -> Result<v1::HeartbeatResponse, Error> {
        self.heartbeats.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
        nobody()
    }

    async fn complete(&self, _: v1::CompleteJobRequest) -> Result<(), Error> {
        nobody()
    }

    async fn release(&self, _: v1::ReleaseJobsRequest) -> Result<(), Error> {
        nobody()
    }
}

#[derive(Debug)]
struct Idle;

impl Runner for Idle {
    fn run(&self, _: &v1::Job, _: &Control) -> Outcome {
        Outcome::Stopped
    }

    fn observe_lanes_held(&self, _: usize) {}

    fn observe_lease_confirmed(&self, _: Instant) {}

    fn observe_clock_skew(&self, _: i64) {}

    fn figures(&self) -> (Vec<v1::LaneFigures>, u64) {
        Default::default()
    }
}

fn session(nobody: &Arc<Nobody>) -> Session<Idle, Nobody> {
    let host: Arc<dyn Host> = Arc::new(Machine);
    let clock = Arc::new(Clock::unconfirmed(Arc::clone(&host)));
    let lease = v1::WorkerLease::default();
    Session::new(Arc::clone(nobody), host, clock, Arc::new(Idle), lease, Instant::now(), TTL)
}

/// Found by the chaos suite: each heartbeat that failed was followed by the next at once, as
/// long as a job waited to be confirmed. Two workers wrote 100 MB of log in a minute.
#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_answers_waits_for_the_next_beat() {
    let nobody = Arc::new(Nobody::default());
    let session = session(&nobody);
    let (answer, _kept) = std::sync::mpsc::sync_channel(1);
    session.confirms.0.try_send(Confirm { name: "lane/0".into(), answer }).unwrap();
    let run = tokio::spawn(session.run(CancellationToken::new()));
    sleep(Duration::from_secs(60)).await;
    run.abort();
    let beats = nobody.heartbeats.load(Ordering::Relaxed);
    // Four in a lease, and those by which the clock asks to be confirmed.
    assert!((40..200).contains(&beats), "{beats} heartbeats in a minute");
}

/// Found by the simulator: with a longer wait, lanes whose hand-out was lost on the way were
/// nobody's for as long.
#[tokio::test(start_paused = true)]
async fn a_poll_for_jobs_waits_no_longer_than_the_lease() {
    let nobody = Arc::new(Nobody::default());
    let session = session(&nobody);
    assert!(session.acquire().await.is_err());
    assert_eq!(*nobody.waits.lock(), [TTL]);
}
