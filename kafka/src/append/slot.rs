//! Producers that are given up and replaced, so that whatever becomes of one, calls are answered.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard, RwLock};
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseRecord, Producer as _, PurgeConfig},
};

use super::{Context, Flight, Parcel};
use crate::{
    disposal,
    librdkafka::{self, Statistics},
    log,
    polled::Polled,
};

/// A producer that died is not replaced more often.
const REPLACE_PAUSE: Duration = Duration::from_secs(1);
/// What is not acknowledged by then is given up, and its producer with all it has in flight: one that went on would
/// append some of it twice (`Settings::patient_producer`).
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A producer that is replaced when it dies. A fatal error (the idempotent producer
/// lost count) is for good; another client starts with a new producer id.
pub(super) struct Slot {
    config: ClientConfig,
    statistics: Option<Statistics>,
    flight: Arc<Flight>,
    current: RwLock<Arc<Client>>,
    replaced_at: Mutex<Option<Instant>>,
    /// What went to the current client, the oldest first; settled shares among them.
    open: Mutex<Open>,
}

type Open = VecDeque<(Instant, Arc<Share>)>;

/// How many of one call's records went to one slot and are not settled.
#[derive(Debug)]
pub(super) struct Share(AtomicUsize);

impl Share {
    pub(super) fn land(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    fn is_settled(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Slot {
    pub(super) fn new(
        config: ClientConfig,
        statistics: Option<Statistics>,
        flight: Arc<Flight>,
    ) -> Result<Self, log::Error> {
        let part = statistics.as_ref().map(Statistics::part);
        let context = Context { flight: Arc::clone(&flight), statistics: part };
        let current = RwLock::new(Arc::new(Client::new(&config, context)?));
        Ok(Self {
            config,
            statistics,
            flight,
            current,
            replaced_at: Mutex::new(None),
            open: Mutex::default(),
        })
    }

    fn current(&self) -> Arc<Client> {
        Arc::clone(&self.current.read())
    }

    /// The client that so many records of a call go to, each of which is to land.
    pub(super) fn begins(&self, records: usize) -> (Arc<Client>, Arc<Share>) {
        // One step: a client that is given up in between would have records nobody looks after.
        let (mut open, share) = (self.unsettled(), Arc::new(Share(AtomicUsize::new(records))));
        open.push_back((Instant::now(), Arc::clone(&share)));
        (self.current(), share)
    }

    /// What is open, from the oldest share that is not settled.
    fn unsettled(&self) -> MutexGuard<'_, Open> {
        let mut open = self.open.lock();
        while open.front().is_some_and(|(_, share)| share.is_settled()) {
            open.pop_front();
        }
        open
    }

    /// Gives the client up if one waits for too long: all it has in flight is settled as unknown.
    fn look(&self) {
        let mut open = self.unsettled();
        if open.front().is_none_or(|(began_at, _)| began_at.elapsed() < SETTLED_WITHIN) {
            return;
        }
        open.clear();
        drop(open);
        tracing::warn!(
            "appends were not acknowledged within {SETTLED_WITHIN:?}: unknown whether they are there"
        );
        let client = self.current();
        // Without a new one the old one goes on with nothing in flight, which is as good.
        self.replace(&client);
        client.give_up();
    }

    /// Makes a new client in the place of `dead`, unless that happened just now.
    pub(super) fn replace(&self, dead: &Arc<Client>) {
        let mut replaced_at = self.replaced_at.lock();
        if !Arc::ptr_eq(dead, &self.current()) || replaced_at.is_some_and(|at| at.elapsed() < REPLACE_PAUSE) {
            return;
        }
        *replaced_at = Some(Instant::now());
        let part = self.statistics.as_ref().map(Statistics::part);
        let context = Context { flight: Arc::clone(&self.flight), statistics: part };
        match Client::new(&self.config, context) {
            Ok(client) => *self.current.write() = Arc::new(client),
            Err(error) => tracing::error!(%error, "no new producer in the place of one that died"),
        }
    }
}

/// A client that ends on a thread of its own with its last handle.
pub(super) struct Client(Option<Polled<Context>>);

type Parceled<'a> = BaseRecord<'a, [u8], [u8], Box<Parcel>>;

impl Client {
    fn new(config: &ClientConfig, context: Context) -> Result<Self, log::Error> {
        let client = Polled::new(config, context);
        client.map(|client| Self(Some(client))).map_err(|error| librdkafka::client_error(&error))
    }

    // The record comes back with its parcel, as rust-rdkafka has it.
    #[expect(clippy::result_large_err, reason = "rust-rdkafka's own shape")]
    pub(super) fn send<'a>(&self, record: Parceled<'a>) -> Result<(), (KafkaError, Parceled<'a>)> {
        match &self.0 {
            Some(client) => client.send(record),
            // Only while dropping.
            None => Err((KafkaError::Canceled, record)),
        }
    }

    /// Settles all that is in flight, and sends none of it again.
    fn give_up(&self) {
        if let Some(client) = &self.0 {
            // Waits for nobody: a broker's thread may be busy for as long as a name server takes.
            client.purge(PurgeConfig::default().queue().inflight().non_blocking());
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            disposal::dispose("appending producer", move || drop(client));
        }
    }
}

/// The thread that looks after a producer's slots.
pub(super) struct Watch {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(slots: [Arc<Slot>; 4]) -> Result<Self, log::Error> {
        let (stop, stopped) = mpsc::channel();
        let watch = move || {
            while stopped.recv_timeout(LOOK_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                slots.iter().for_each(|slot| slot.look());
            }
        };
        let thread = thread::Builder::new().name("append-watch".to_owned()).spawn(watch);
        let thread = thread.map_err(|error| log::Error::Unavailable(format!("no thread: {error}")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It waits for nothing but this; if it panicked there is nothing left to look at.
            let _ = thread.join();
        }
    }
}
