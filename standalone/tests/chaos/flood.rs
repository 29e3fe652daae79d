//! Callers of every door of one coordinator that push as fast as they are let.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ksched_client::{Client, Error, Message, Scheduled, Settings, client::stream::Answers};
use tokio::{task::JoinSet, time};
use tonic::Code;

use crate::bed::{Bed, block_on, runtime};

/// A quarter of what `RetryInfo` asks for.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
const BATCHERS: usize = 32;
/// Who give each batch up after [`PATIENCE`] and send the next: what they left behind a coordinator may not keep
/// without a bound.
const IMPATIENT: usize = 64;
const PATIENCE: Duration = Duration::from_millis(500);
const UNARIES: usize = 64;
const STREAMS: usize = 4;
/// A batch is 1 MiB.
const BATCH_OF: usize = 64;
const SMALL: usize = 16 << 10;
const LARGE: usize = 256 << 10;
/// Small ones, so that each stream has 62 MiB to send before it waits by itself.
const WINDOW: usize = 4_000;

/// Those who push, until they are told to end.
#[derive(Debug)]
pub(crate) struct Flood {
    is_over: Arc<AtomicBool>,
    callers: JoinSet<Told>,
}

/// What became of each message, by its number, which is its key.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) taken: Vec<usize>,
    /// As `OVERLOADED`: certainly not scheduled.
    pub(crate) refused: Vec<usize>,
    /// By those who did not wait for the answer: it may have been scheduled.
    pub(crate) given_up: usize,
    /// Any other answer.
    pub(crate) others: BTreeSet<String>,
    /// How many of the refused came by a stream.
    pub(crate) refused_on_streams: usize,
    pub(crate) offered_bytes: usize,
}

impl Flood {
    pub(crate) fn start(bed: &Bed, topic: &str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let _runtime = runtime().enter();
        let mut callers = JoinSet::new();
        let numbers = Arc::new(AtomicUsize::new(0));
        let caller = |settings: Settings| Caller {
            client: Client::connect(&bed.cluster.coordinators()[..1], settings.clone()).unwrap(),
            patience: settings.deadline,
            topic: topic.to_owned(),
            numbers: Arc::clone(&numbers),
            is_over: Arc::clone(&is_over),
        };
        for _ in 0..BATCHERS {
            callers.spawn(caller(Settings::default()).call(BATCH_OF, SMALL));
        }
        for _ in 0..IMPATIENT {
            let settings = Settings { attempt_timeout: PATIENCE, deadline: PATIENCE, ..Settings::default() };
            callers.spawn(caller(settings).call(BATCH_OF, SMALL));
        }
        for _ in 0..UNARIES {
            callers.spawn(caller(Settings::default()).call(1, LARGE));
        }
        for _ in 0..STREAMS {
            callers.spawn(caller(Settings::default()).stream());
        }
        Self { is_over, callers }
    }

    /// Waits for the answers to all that was sent.
    pub(crate) fn end(self) -> Told {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for told in block_on(self.callers.join_all()) {
            all.taken.extend(told.taken);
            all.refused.extend(told.refused);
            all.given_up += told.given_up;
            all.others.extend(told.others);
            all.refused_on_streams += told.refused_on_streams;
            all.offered_bytes += told.offered_bytes;
        }
        all
    }
}

struct Caller {
    client: Client,
    patience: Duration,
    topic: String,
    numbers: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Caller {
    /// One message, or a batch, after the other.
    async fn call(self, count: usize, size: usize) -> Told {
        let mut told = Told::default();
        while !self.is_over.load(Ordering::Relaxed) {
            let (numbers, messages): (Vec<_>, Vec<_>) = (0..count).map(|_| self.message(size)).unzip();
            told.offered_bytes += count * size;
            let results = self.schedule(messages).await;
            let is_refused = results.iter().any(Result::is_err);
            for (number, result) in numbers.into_iter().zip(results) {
                told.hear(number, result.err(), self.patience);
            }
            if is_refused {
                time::sleep(REFUSED_PAUSE).await;
            }
        }
        told
    }

    async fn schedule(&self, mut messages: Vec<Message>) -> Vec<Result<Scheduled, Error>> {
        match (messages.pop(), messages.is_empty()) {
            (Some(only), true) => vec![self.client.schedule(only).await],
            (last, _) => {
                messages.extend(last);
                self.client.batch(messages).await
            }
        }
    }

    async fn stream(self) -> Told {
        let (mut sender, mut outcomes) = self.client.stream(Answers::Each, WINDOW);
        let send = async {
            let mut numbers = Vec::new();
            while !self.is_over.load(Ordering::Relaxed) {
                let (number, message) = self.message(SMALL);
                numbers.push(number);
                sender.send(message).await.expect("a stream whose outcomes are read");
            }
            drop(sender);
            numbers
        };
        let hear = async {
            let mut heard = Vec::new();
            while let Some(outcome) = outcomes.next().await {
                heard.push(outcome);
            }
            heard
        };
        let (numbers, heard) = tokio::join!(send, hear);
        let mut told = Told { offered_bytes: numbers.len() * SMALL, ..Told::default() };
        for outcome in heard {
            told.hear(numbers[outcome.sequence as usize], outcome.result.err(), self.patience);
        }
        told.refused_on_streams = told.refused.len();
        told
    }

    fn message(&self, size: usize) -> (usize, Message) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        (number, Message::new(&self.topic).key(number.to_string()).value(vec![b'x'; size]))
    }
}

impl Told {
    fn hear(&mut self, number: usize, error: Option<Error>, patience: Duration) {
        match error {
            None => self.taken.push(number),
            Some(Error::Call(call)) if call.code == Code::ResourceExhausted => self.refused.push(number),
            Some(error) if patience == PATIENCE && error.may_have_happened() => self.given_up += 1,
            Some(other) => drop(self.others.insert(other.to_string())),
        }
    }
}
