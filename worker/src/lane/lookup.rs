//! Looks copies up among settled records, off the lane's thread (design §4.5).

use std::{
    collections::HashSet,
    fmt, mem,
    sync::{Arc, mpsc},
    time::Duration,
};

use ksched_core::{
    cluster::INLETS,
    delivered,
    host::Host,
    lane::{Answer, Lookup},
    message::Identity,
};
use ksched_kafka::{Error, Log, Offset, Reader, TopicPartition};
use ksched_telemetry::logging::Repeats;
use tokio::time::Instant;
use tracing::warn;

const FETCH_BYTES: usize = 2 << 20;
/// So long before a copy's `first_at` its first attempt can have been appended at
/// the earliest: by this much a client's clock may be ahead (`validate` bounds it).
const BACK_MS: i64 = 15_000;
const POLL_WAIT: Duration = Duration::from_millis(100);
/// After a search that failed: each is a Kafka client and a thread.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);
const STALLED: Duration = Duration::from_secs(20);

type Found = Vec<([u8; 16], Answer)>;
/// Disconnected without an answer if the thread panicked.
type Search = mpsc::Receiver<Result<Found, Error>>;

/// Questions of one lane, answered by one thread at a time; those that arise
/// meanwhile wait for the next.
pub(super) struct Lookups<L> {
    host: Arc<dyn Host>,
    log: L,
    inlets: [TopicPartition; INLETS],
    waiting: Vec<Lookup>,
    running: Option<(Vec<Lookup>, Search)>,
    /// Of a search that failed: the next one waits.
    failed_at: Option<Instant>,
    failures: Repeats,
}

impl<L> fmt::Debug for Lookups<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl<L: Log + Clone> Lookups<L> {
    pub(super) fn new(host: Arc<dyn Host>, log: L, inlets: [TopicPartition; INLETS]) -> Self {
        Self {
            host,
            log,
            inlets,
            waiting: Vec::new(),
            running: None,
            failed_at: None,
            failures: Repeats::default(),
        }
    }

    /// Whether no question is open.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_none()
    }

    pub(super) fn ask(&mut self, lookup: Lookup) {
        self.waiting.push(lookup);
    }

    /// Answers that have come since the last call; never waits.
    pub(super) fn hear(&mut self) -> Found {
        let mut found = Vec::new();
        if let Some((asked, search)) = self.running.take() {
            match search.try_recv() {
                Ok(Ok(answers)) => found = answers,
                Ok(Err(reason)) => {
                    if let Some(left_out) = self.failures.tell() {
                        warn!(inlets = ?self.inlets, %reason, left_out, "look-up of copies failed; asking again");
                    }
                    self.failed_at = Some(Instant::now());
                    self.waiting.extend(asked);
                }
                Err(mpsc::TryRecvError::Disconnected) => self.waiting.extend(asked),
                Err(mpsc::TryRecvError::Empty) => self.running = Some((asked, search)),
            }
        }
        let rests = self.failed_at.is_some_and(|at| at.elapsed() < FAILURE_PAUSE);
        if self.running.is_none() && !self.waiting.is_empty() && !rests {
            self.start();
        }
        found
    }

    fn start(&mut self) {
        let asked = mem::take(&mut self.waiting);
        let (log, inlets, questions) = (self.log.clone(), self.inlets.clone(), asked.clone());
        let (answer, search) = mpsc::sync_channel(1);
        let work = move || {
            // The lane may have ended meanwhile.
            let _ = answer.try_send(look_up(&log, &inlets, &questions));
        };
        match self.host.spawn("lookup", Box::new(work)) {
            Ok(()) => self.running = Some((asked, search)),
            Err(reason) => {
                warn!(%reason, "no thread to look copies up; trying again");
                self.failed_at = Some(Instant::now());
                self.waiting = asked;
            }
        }
    }
}

/// Reads the inlets from the oldest question's first attempt to their stable ends.
fn look_up<L: Log>(log: &L, inlets: &[TopicPartition; INLETS], questions: &[Lookup]) -> Result<Found, Error> {
    let since = questions.iter().map(|q| q.first_at_ms).min().unwrap_or(0).saturating_sub(BACK_MS);
    let ends = log.offsets(inlets, Offset::StableEnd)?;
    let starts = log.offsets(inlets, Offset::At(since))?;
    let mut seen = HashSet::new();
    let mut reader = log.reader(FETCH_BYTES)?;
    for ((inlet, start), end) in inlets.iter().zip(starts).zip(ends) {
        if start < end {
            read_firsts(&mut reader, inlet, start, end, &mut seen)?;
        }
    }
    let answer = |q: &Lookup| (q.id, if seen.contains(&q.id) { Answer::Found } else { Answer::Absent });
    Ok(questions.iter().map(answer).collect())
}

fn read_firsts(
    reader: &mut impl Reader,
    inlet: &TopicPartition,
    start: i64,
    end: i64,
    seen: &mut HashSet<[u8; 16]>,
) -> Result<(), Error> {
    reader.assign(&[(inlet.clone(), start)])?;
    let mut progressed_at = Instant::now();
    while reader.position(inlet)? < end {
        if progressed_at.elapsed() > STALLED {
            return Err(Error::Unavailable(format!("{inlet:?} could not be read to {end}")));
        }
        let record = match reader.poll(POLL_WAIT) {
            Ok(Some(record)) => record,
            Ok(None) | Err(Error::Unreadable(_)) => continue,
            Err(error) => return Err(error),
        };
        progressed_at = Instant::now();
        if let Ok(envelope) = delivered::read_envelope(&record.content)
            && let Some(Identity::Attempt { id, number: 0 | 1, .. }) = envelope.identity
        {
            seen.insert(id);
        }
    }
    Ok(())
}
