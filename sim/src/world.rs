//! What all of a simulated cluster shares: time, chance, the broker, the store, and what
//! goes wrong on the way between them.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ksched_core::cluster::Cluster;
use ksched_kafka::memory::{MemoryBroker, Verification};
use ksched_server::store::{Store as _, memory::MemoryStore};
use ksched_telemetry::metrics::WorkerMetrics;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::faults::{Clocks, Weather};

/// Where simulated time begins, in Unix milliseconds: any will do.
pub(crate) const START_MS: i64 = 1_795_000_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    began_at: Instant,
    rng: Mutex<StdRng>,
    steps: AtomicU64,
    /// Of all steps, for telling two runs apart.
    fingerprint: AtomicU64,
    traces: bool,
    pub(crate) cluster: Cluster,
    pub(crate) broker: MemoryBroker,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) weather: Weather,
    /// Something was appended or committed: readers look again.
    pub(crate) news: Arc<Notify>,
    pub(crate) broker_away: AtomicBool,
    pub(crate) store_away: AtomicBool,
    /// A coordinator's clock was beyond all bounds for some time: what it placed may have
    /// gone astray, and what it refused was no fault of the user's.
    pub(crate) coordinator_was_wrong: AtomicBool,
    /// Who is told that the store may have changed: each on a channel of its own, or the
    /// order in which they hear of it would be tokio's.
    nudges: Mutex<Vec<watch::Sender<u64>>>,
    written: Mutex<watch::Receiver<u64>>,
    /// Names of jobs that have not ended, by number.
    pub(crate) jobs: Mutex<BTreeMap<u64, String>>,
    /// What each worker that ever was has counted.
    pub(crate) counted: Mutex<Vec<WorkerMetrics>>,
    violations: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, cluster: Cluster, weather: Weather, traces: bool) -> Arc<Self> {
        let began_at = Instant::now();
        let clock = move || START_MS + began_at.elapsed().as_millis() as i64;
        let broker = MemoryBroker::new(Arc::new(clock));
        // As Kafka does since 3.8 (KIP-890, part 1). Without it a late TxnOffsetCommit leaves
        // a position pending for ever, and its lane waits as long: docs/GUARANTEES.md.
        broker.set_verification(Verification::On);
        // Markers are written some time after a transaction is decided.
        let chance = Mutex::new(StdRng::seed_from_u64(seed ^ 0xde1a));
        let marker_ms = weather.travel_ms as i64;
        broker.set_marker_delay(move || chance.lock().random_range(0..=marker_ms));
        let store = Arc::new(MemoryStore::new());
        Arc::new(Self {
            began_at,
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            steps: AtomicU64::new(0),
            fingerprint: AtomicU64::new(0xcbf2_9ce4_8422_2325),
            traces,
            cluster,
            broker,
            written: Mutex::new(store.changed()),
            store,
            weather,
            news: Arc::new(Notify::new()),
            broker_away: AtomicBool::new(false),
            store_away: AtomicBool::new(false),
            coordinator_was_wrong: AtomicBool::new(false),
            nudges: Mutex::default(),
            jobs: Mutex::default(),
            counted: Mutex::default(),
            violations: Mutex::default(),
        })
    }

    /// Tells it if the store has changed.
    pub(crate) fn nudge(&self) {
        let mut written = self.written.lock();
        if written.has_changed().unwrap_or(false) {
            let revision = *written.borrow_and_update();
            self.nudges.lock().iter().for_each(|one| one.send_modify(|last| *last = revision));
        }
    }

    /// To be told that the store may have changed.
    pub(crate) fn nudged(&self) -> watch::Receiver<u64> {
        let (sender, receiver) = watch::channel(0);
        self.nudges.lock().push(sender);
        receiver
    }

    /// True time in microseconds.
    pub(crate) fn now_us(&self) -> i64 {
        START_MS * 1_000 + self.began_at.elapsed().as_micros() as i64
    }

    /// True time in milliseconds: the broker's clock.
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_us() / 1_000
    }

    /// Chance, by the seed.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.rng.lock())
    }

    /// True once in so many times.
    pub(crate) fn once_in(&self, times: u32) -> bool {
        times > 0 && self.draw(|rng| rng.random_range(0..times)) == 0
    }

    /// A duration of whole milliseconds, bounds included.
    pub(crate) fn draw_ms(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.draw(|rng| rng.random_range(from..=to)))
    }

    /// By how much a process's clock is ahead of true time, as far as is allowed.
    pub(crate) fn draw_skew_us(&self, whose: impl Fn(&Clocks) -> &RangeInclusive<i64>) -> i64 {
        self.draw(|rng| rng.random_range(whose(&self.weather.clocks).clone()))
    }

    /// Counts a step and tells of it.
    pub(crate) fn step(&self, who: &str, what: impl Fn() -> String) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        let at = self.began_at.elapsed().as_micros() as u64;
        let mut print = self.fingerprint.load(Ordering::Relaxed);
        for byte in who.bytes().chain(at.to_le_bytes()) {
            print = (print ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.fingerprint.store(print, Ordering::Relaxed);
        if self.traces {
            println!("{:>9.3} s  {who:<14} {}", at as f64 / 1e6, what());
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint.load(Ordering::Relaxed)
    }

    /// Notes that an invariant does not hold.
    pub(crate) fn violated(&self, what: String) {
        if self.traces {
            println!("VIOLATED: {what}");
        }
        self.violations.lock().push(what);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().clone()
    }
}
