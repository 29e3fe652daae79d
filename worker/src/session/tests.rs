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
    goodbyes: AtomicUsize,
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

    async fn release(&self, request: v1::ReleaseJobsRequest) -> Result<(), Error> {
        self.goodbyes.fetch_add(usize::from(request.leaving), Ordering::Relaxed);
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

/// Others may not take a lane beyond their share as long as our lease lives.
#[tokio::test(start_paused = true)]
async fn a_lease_ends_with_its_lanes_and_waits_for_no_idle_job() {
    let nobody = Arc::new(Nobody::default());
    let mut session = session(&nobody);
    for (name, kind) in [("lane/0", v1::JobKind::Lane), ("intake/S/0", v1::JobKind::Intake)] {
        let job = v1::Job { name: name.to_owned(), kind: kind as i32, ..v1::Job::default() };
        let (lasting, confirms) = (session.lasting.clone(), session.confirms.0.clone());
        let control = Control::new(name.into(), 1, None, lasting, confirms, session.host.clone());
        let held = Held { job, control, begun_at: Instant::now(), span: Span::default() };
        session.held.insert(name.into(), held);
    }
    let ends = session.ends.0.clone();
    let end = |name: &str| Ended { name: name.into(), fence: 1, outcome: Outcome::Stopped };
    let leaving = tokio::spawn(session.leave());
    sleep(Duration::from_millis(100)).await;
    assert_eq!(nobody.goodbyes.load(Ordering::Relaxed), 0, "a lane is still at work");
    ends.send(end("lane/0")).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(nobody.goodbyes.load(Ordering::Relaxed), 1, "others wait for the lane");
    assert!(!leaving.is_finished(), "the other job is still at work");
    ends.send(end("intake/S/0")).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert!(leaving.is_finished());
}
