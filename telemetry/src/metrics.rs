//! Every metric: name, unit, help text, and the number behind it.
//!
//! Names carry the prefix `ksched_`, base units, and `_total` on counters; no
//! label ever holds an id. The structs are cheap to clone and count from any
//! thread.

mod scraped;
mod text;

use std::{
    fmt,
    sync::{
        Arc, LazyLock, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

pub use ksched_core::lateness::BUCKETS_S as LATENESS_BUCKETS_S;
use ksched_core::trace::TraceContext;
use prometheus_client::{
    collector::Collector,
    encoding::{EncodeLabelSet, text::encode_eof, text::encode_registry},
    metrics::{
        MetricType, counter::Counter, exemplar::HistogramWithExemplars, family::Family, gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Metric, Registry, Unit},
};
use tokio::time::Instant;

use self::scraped::{Process, Scraped};
use crate::readiness::Readiness;

/// The registry behind `/metrics`.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<RwLock<Registry>>,
    /// Of the process, without our prefix.
    process: Arc<Registry>,
    /// These two are both kinds of process', and `ksched dev` is both.
    refused: Family<Reason, Counter>,
    kafka_round_trip: Seconds,
}

/// What a coordinator counts.
#[derive(Clone, Debug)]
pub struct CoordinatorMetrics {
    pub scheduled: Counter,
    pub outcome_unknown: Counter,
    pub making_jobs: Gauge,
    pub open_drains: Gauge,
    pub hanging_transactions: Gauge,
    pub missing_positions: Gauge,
    pub appends_in_flight: Gauge,
    pub kafka_round_trip: Seconds,
    pub calls: Calls,
    refused: Family<Reason, Counter>,
    pending: Family<Place, Gauge>,
    intake_backlog: Arc<Mutex<Option<i64>>>,
    jobs_without_holder: Family<OfKind, Gauge>,
}

/// What a worker counts.
#[derive(Clone, Debug)]
pub struct WorkerMetrics {
    pub delivered: Counter,
    pub dead_lettered: DeadLettered,
    pub duplicates_dropped: Counter,
    pub drains_done: Counter,
    pub intake_moved: Counter,
    pub producers_recycled: Counter,
    pub fences_met: Counter,
    pub lanes_held: Gauge,
    pub lateness: Lateness,
    pub take_over: Spans,
    pub drain: Spans,
    pub kafka_round_trip: Seconds,
    pub clock_skew: Seconds,
    pub lease: LeaseAge,
    pub lanes: Lanes,
    /// By kind of job.
    transactions: [Transactions; 3],
    refused: Family<Reason, Counter>,
}

/// What Kafka's client tells of all producers of a process.
#[derive(Clone, Copy, Debug)]
pub struct KafkaProducers {
    /// Records handed over and not acknowledged.
    pub queued: u64,
    /// Requests sent once more, and such as were not answered in time, since the start.
    pub retries: u64,
    pub timeouts: u64,
    /// Of the slowest.
    pub round_trip: Duration,
}

/// Kinds of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Lane,
    Drain,
    Intake,
}

/// Dead letters. The sum is a counter of its own, there from the start: a reason's is not before its
/// first, and what comes into being with 1 has not grown.
#[derive(Clone, Debug)]
pub struct DeadLettered {
    all: Counter,
    by_reason: Family<Reason, Counter>,
}

/// A gauge of seconds.
#[derive(Clone, Debug, Default)]
pub struct Seconds(Gauge<f64, AtomicU64>);

/// Histogram of how long something took.
#[derive(Clone, Debug)]
pub struct Spans(Histogram);

/// gRPC calls, by method and code.
#[derive(Clone, Debug)]
pub struct Calls {
    ended: Family<Call, Counter>,
    took: Family<OfMethod, Histogram, fn() -> Histogram>,
}

/// When a worker's lease was last confirmed.
#[derive(Clone, Debug)]
pub struct LeaseAge {
    origin: Instant,
    /// Milliseconds since `origin`.
    confirmed_ms: Arc<AtomicU64>,
}

/// What a lane that is held does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneNow {
    pub lane: u16,
    /// Messages in memory, waiting for their due time.
    pub held: u64,
    /// How long until the first of them is due; negative when it is overdue.
    pub next_due_in_ms: Option<i64>,
}

/// Where a worker's lanes are asked when they are scraped.
#[derive(Clone, Default)]
pub struct Lanes(Arc<Mutex<Option<AskLanes>>>);

type AskLanes = Box<dyn Fn() -> Vec<LaneNow> + Send>;

#[derive(Clone, Debug)]
struct Transactions {
    took: Spans,
    messages: Histogram,
}

/// Histogram of append − due, in seconds. Its buckets carry exemplars in OpenMetrics.
#[derive(Clone, Debug)]
pub struct Lateness(HistogramWithExemplars<Exemplar>);

/// Where to look further.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Exemplar {
    trace_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Place {
    level: u32,
    lane: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMethod {
    method: Arc<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: Arc<String>,
    code: &'static str,
}

/// What becomes of a span of traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Exported,
    Failed,
    Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFate {
    fate: &'static str,
}

/// Of the whole process, which has one exporter (`traces`) however many registries.
static SPANS: LazyLock<Family<OfFate, Counter>> = LazyLock::new(Family::default);

/// Counts spans. None, too: a counter that is there can be watched.
pub(crate) fn count_spans(fate: Fate, spans: u64) {
    let fate = match fate {
        Fate::Exported => "exported",
        Fate::Failed => "failed",
        Fate::Dropped => "dropped",
    };
    SPANS.get_or_create(&OfFate { fate }).inc_by(spans);
}

/// From a transaction of a few records to the drain of a bucket with millions.
const SPAN_BUCKETS_S: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// No transaction has more than 10,000.
const SIZE_BUCKETS: [f64; 9] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0];

impl Metrics {
    /// An empty registry; `ksched_build_info` tells the process's name and version.
    pub fn new(name: &str, version: &'static str) -> Self {
        let mut registry = Registry::with_prefix("ksched");
        let labels = vec![("name", name.to_owned()), ("version", version.to_owned())];
        let info = prometheus_client::metrics::info::Info::new(labels);
        registry.register("build", "Which process this is", info);
        let refused = Family::default();
        registry.register("refused", "Messages refused, by reason", Family::clone(&refused));
        let kafka_round_trip = Seconds::default();
        registry.register_with_unit(
            "kafka_round_trip",
            "How long Kafka took to tell an offset, which it is asked now and then",
            Unit::Seconds,
            kafka_round_trip.0.clone(),
        );
        registry.register(
            "spans",
            "Spans of traces: exported, failed (the collector was away or refused them) or dropped (no room left)",
            (*SPANS).clone(),
        );
        let mut process = Registry::default();
        process.register_collector(Box::new(Process));
        Self {
            registry: Arc::new(RwLock::new(registry)),
            process: Arc::new(process),
            refused,
            kafka_round_trip,
        }
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// A metric could not be formatted.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry.read().unwrap_or_else(PoisonError::into_inner))?;
        encode_registry(&mut text, &self.process)?;
        encode_eof(&mut text).map(|()| text)
    }

    /// All metrics in the text format that Prometheus had before, 0.0.4.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_plain(&self) -> Result<String, fmt::Error> {
        self.encode().map(|text| text::from_open_metrics(&text))
    }

    /// Shows what `/readyz` says as well.
    pub fn show(&self, readiness: &Readiness) {
        let readiness = readiness.clone();
        self.add_scraped(Scraped {
            name: "ready",
            kind: MetricType::Gauge,
            unit: None,
            help: "Whether each part that this process depends on is as it must be (1) or not (0)",
            label: Some("part"),
            read: Box::new(move || {
                readiness.parts(|part, is_fine| (part.to_owned(), f64::from(u8::from(is_fine))))
            }),
        });
    }

    /// Shows what producers tell, which they do each 15 s.
    pub fn show_kafka_producers(&self, tell: impl Fn() -> KafkaProducers + Clone + Send + Sync + 'static) {
        let show = |name, kind, unit, help, number: fn(KafkaProducers) -> f64| {
            let tell = tell.clone();
            let read = Box::new(move || vec![(String::new(), number(tell()))]);
            self.add_scraped(Scraped { name, kind, unit, help, label: None, read });
        };
        show(
            "kafka_producer_queue",
            MetricType::Gauge,
            None,
            "Records handed to producers and not acknowledged",
            |told| told.queued as f64,
        );
        show(
            "kafka_producer_retries",
            MetricType::Counter,
            None,
            "Requests that producers sent once more",
            |told| told.retries as f64,
        );
        let help = "Requests of producers that were not answered in time";
        show("kafka_producer_timeouts", MetricType::Counter, None, help, |told| told.timeouts as f64);
        let help = "Within what 99 of 100 requests were answered, at the slowest pair of producer and broker";
        show("kafka_producer_round_trip", MetricType::Gauge, Some(Unit::Seconds), help, |told| {
            told.round_trip.as_secs_f64()
        });
    }

    fn add<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.with(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    fn add_in_seconds<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.with(|registry| registry.register_with_unit(name, help, Unit::Seconds, metric.clone()));
        metric
    }

    fn add_scraped(&self, scraped: impl Collector) {
        self.with(|registry| registry.register_collector(Box::new(scraped)));
    }

    fn with(&self, change: impl FnOnce(&mut Registry)) {
        change(&mut self.registry.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl CoordinatorMetrics {
    /// Registers the coordinator's metrics. Once a process.
    pub fn register(metrics: &Metrics) -> Self {
        let intake_backlog = Arc::<Mutex<Option<i64>>>::default();
        let shown = Arc::clone(&intake_backlog);
        metrics.add_scraped(Scraped {
            name: "intake_backlog_messages",
            kind: MetricType::Gauge,
            unit: None,
            help: "Offsets between position and end of the intake topic, asked for each 10 s: a little more than records",
            label: None,
            read: Box::new(move || {
                let records = *shown.lock().unwrap_or_else(PoisonError::into_inner);
                records.map(|records| (String::new(), records as f64)).into_iter().collect()
            }),
        });
        Self {
            scheduled: metrics.add(
                "scheduled",
                "Messages acknowledged to users over gRPC",
                Counter::default(),
            ),
            outcome_unknown: metrics.add(
                "outcome_unknown",
                "Messages of which users were told that they may have been scheduled",
                Counter::default(),
            ),
            making_jobs: metrics.add(
                "making_jobs",
                "Whether this coordinator is the one that makes jobs (1) or not (0)",
                Gauge::default(),
            ),
            open_drains: metrics.add("open_drains", "Drain jobs that are not complete", Gauge::default()),
            hanging_transactions: metrics.add(
                "hanging_transactions",
                "Partitions held up by an open transaction for 30 s: alarm",
                Gauge::default(),
            ),
            missing_positions: metrics.add(
                "missing_positions",
                "Partitions whose committed position has vanished: alarm",
                Gauge::default(),
            ),
            refused: metrics.refused.clone(),
            appends_in_flight: metrics.add(
                "appends_in_flight",
                "Records handed to Kafka's client and not acknowledged yet",
                Gauge::default(),
            ),
            kafka_round_trip: metrics.kafka_round_trip.clone(),
            calls: Calls {
                ended: metrics.add(
                    "grpc_calls",
                    "gRPC calls that ended, by method and code",
                    Family::default(),
                ),
                took: metrics.add_in_seconds(
                    "grpc_call",
                    "How long gRPC calls took by method, streams and long polls included",
                    Family::new_with_constructor(spans),
                ),
            },
            pending: metrics.add(
                "pending_messages",
                "Offsets between position and end by level and lane, level 0 being the due lanes: as many as \
                 messages or more, in a due lane up to twice as many while it delivers",
                Family::default(),
            ),
            intake_backlog,
            jobs_without_holder: metrics.add(
                "jobs_without_holder",
                "Jobs that no worker holds, by kind, as the store shows them; absent while it does not",
                Family::default(),
            ),
        }
    }

    /// Counts messages refused at the door.
    pub fn refused(&self, reason: &'static str, messages: u64) {
        self.refused.get_or_create(&Reason { reason }).inc_by(messages);
    }

    /// What waits in each level, 0 standing for the due lanes, and lane; nothing where this
    /// coordinator does not know.
    pub fn set_pending(&self, pending: impl ExactSizeIterator<Item = (u32, u16, i64)>) {
        if pending.len() == 0 {
            self.pending.clear();
        }
        for (level, lane, messages) in pending {
            self.pending.get_or_create(&Place { level, lane: lane.into() }).set(messages);
        }
    }

    /// What waits on the intake topic; nothing where this coordinator does not know.
    pub fn set_intake_backlog(&self, records: Option<i64>) {
        *self.intake_backlog.lock().unwrap_or_else(PoisonError::into_inner) = records;
    }

    /// How many jobs of a kind nobody holds.
    pub fn set_without_holder(&self, kind: Kind, jobs: usize) {
        self.jobs_without_holder.get_or_create(&kind.label()).set(jobs as i64);
    }

    /// Shows nothing of jobs without a holder: it is not known.
    pub fn forget_without_holder(&self) {
        self.jobs_without_holder.clear();
    }
}

impl WorkerMetrics {
    /// Registers the worker's metrics. Once a process.
    pub fn register(metrics: &Metrics) -> Self {
        let count = |name, help| metrics.add(name, help, Counter::<u64, AtomicU64>::default());
        Self {
            delivered: count("delivered", "Messages appended to their target topics"),
            dead_lettered: DeadLettered {
                all: count("dead_lettered", "Messages and intake records put on the dead-letter topic"),
                by_reason: metrics.add(
                    "dead_lettered_by_reason",
                    "The same by ksched-error-code, each from its first letter on",
                    Family::default(),
                ),
            },
            duplicates_dropped: count(
                "duplicates_dropped",
                "Copies of messages that were not delivered again",
            ),
            drains_done: count("drains_done", "Drain jobs finished"),
            intake_moved: count("intake_moved", "Records taken over from the intake topic"),
            producers_recycled: count(
                "producers_recycled",
                "Times all producers of a job were built anew after an outcome that could not be trusted",
            ),
            fences_met: count("fences_met", "Times a newer holder of a job was found by its fence"),
            lanes_held: metrics.add("lanes_held", "Due lanes this worker runs", Gauge::default()),
            lateness: Lateness(metrics.add_in_seconds(
                "lateness",
                "From a message's due time until its transaction was committed, by the worker's clock",
                HistogramWithExemplars::new(LATENESS_BUCKETS_S.into_iter()),
            )),
            take_over: Spans(metrics.add_in_seconds(
                "take_over",
                "From the beginning of a lane job until it may fire",
                spans(),
            )),
            drain: Spans(metrics.add_in_seconds(
                "drain",
                "How long drain jobs took that were finished",
                spans(),
            )),
            kafka_round_trip: metrics.kafka_round_trip.clone(),
            clock_skew: Seconds(metrics.add_in_seconds(
                "clock_skew",
                "By how much this worker's clock is ahead of the coordinator's that answered last",
                Gauge::default(),
            )),
            lease: LeaseAge::shown_by(metrics),
            lanes: Lanes::shown_by(metrics),
            transactions: Transactions::shown_by(metrics),
            refused: metrics.refused.clone(),
        }
    }

    /// A transaction was committed.
    pub fn committed(&self, kind: Kind, took: Duration, messages: usize) {
        let transactions = &self.transactions[kind as usize];
        transactions.took.observe(took);
        transactions.messages.observe(messages as f64);
    }

    /// Counts intake records that could not be understood.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }
}

impl DeadLettered {
    pub fn add(&self, reason: &'static str) {
        self.all.inc();
        self.by_reason.get_or_create(&Reason { reason }).inc();
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.all.get()
    }
}

impl Lateness {
    /// Notes one delivered message, a little after it was appended. `fired_in`: its transaction, if its span is
    /// recorded.
    pub fn observe_ms(&self, late_by_ms: f64, fired_in: Option<TraceContext>) {
        let exemplar = fired_in.map(|span| Exemplar { trace_id: span.trace_id_hex() });
        #[expect(clippy::disallowed_methods, reason = "what is scraped is dated by the wall clock")]
        let at = exemplar.is_some().then(SystemTime::now);
        self.0.observe(late_by_ms / 1_000.0, exemplar, at);
    }
}

impl Kind {
    /// In this order they are numbered.
    const ALL: [Self; 3] = [Self::Lane, Self::Drain, Self::Intake];

    fn label(self) -> OfKind {
        let kind = match self {
            Self::Lane => "lane",
            Self::Drain => "drain",
            Self::Intake => "intake",
        };
        OfKind { kind }
    }
}

impl Transactions {
    /// Made once, so that to observe one looks nothing up.
    fn shown_by(metrics: &Metrics) -> [Self; 3] {
        let took = metrics.add_in_seconds(
            "transaction",
            "How long committed transactions took, by kind of job",
            Family::<OfKind, Histogram>::new_with_constructor(spans),
        );
        let messages = metrics.add(
            "transaction_messages",
            "Messages of a committed transaction, by kind of job",
            Family::<OfKind, Histogram>::new_with_constructor(|| Histogram::new(SIZE_BUCKETS)),
        );
        Kind::ALL.map(|kind| Self {
            took: Spans(took.get_or_create_owned(&kind.label())),
            messages: messages.get_or_create_owned(&kind.label()),
        })
    }
}

impl Seconds {
    pub fn set(&self, seconds: f64) {
        self.0.set(seconds);
    }
}

impl Spans {
    pub fn observe(&self, took: Duration) {
        self.0.observe(took.as_secs_f64());
    }
}

impl Calls {
    /// `method` is one that exists, for each has its own numbers.
    pub fn ended(&self, method: &Arc<String>, code: &'static str, took: Duration) {
        self.ended.get_or_create(&Call { method: Arc::clone(method), code }).inc();
        self.took.get_or_create(&OfMethod { method: Arc::clone(method) }).observe(took.as_secs_f64());
    }
}

impl LeaseAge {
    fn shown_by(metrics: &Metrics) -> Self {
        let age = Self { origin: Instant::now(), confirmed_ms: Arc::default() };
        let shown = age.clone();
        metrics.add_scraped(Scraped {
            name: "lease_age",
            kind: MetricType::Gauge,
            unit: Some(Unit::Seconds),
            help: "Since a coordinator last confirmed this worker's lease, or since the start",
            label: None,
            read: Box::new(move || vec![(String::new(), shown.age().as_secs_f64())]),
        });
        age
    }

    /// It was granted, or renewed, by an answer to what was asked at `asked_at`.
    pub fn confirmed(&self, asked_at: Instant) {
        let at = asked_at.saturating_duration_since(self.origin).as_millis();
        self.confirmed_ms.fetch_max(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.origin.elapsed().saturating_sub(Duration::from_millis(self.confirmed_ms.load(Ordering::Relaxed)))
    }
}

impl Lanes {
    fn shown_by(metrics: &Metrics) -> Self {
        let lanes = Self::default();
        let (holding, due) = (lanes.clone(), lanes.clone());
        let labelled = |now: LaneNow, number| (now.lane.to_string(), number);
        metrics.add_scraped(Scraped {
            name: "held_messages",
            kind: MetricType::Gauge,
            unit: None,
            help: "Messages in memory, waiting for their due time, by lane",
            label: Some("lane"),
            read: Box::new(move || {
                holding.now().into_iter().map(|now| labelled(now, now.held as f64)).collect()
            }),
        });
        metrics.add_scraped(Scraped {
            name: "next_due",
            kind: MetricType::Gauge,
            unit: Some(Unit::Seconds),
            help: "Until a lane's first message is due; negative: overdue by so much",
            label: Some("lane"),
            read: Box::new(move || {
                let next = |now: LaneNow| Some(labelled(now, now.next_due_in_ms? as f64 / 1_000.0));
                due.now().into_iter().filter_map(next).collect()
            }),
        });
        lanes
    }

    /// From now on these are the lanes.
    pub fn ask(&self, lanes: impl Fn() -> Vec<LaneNow> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(lanes));
    }

    fn now(&self) -> Vec<LaneNow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|ask| ask()).unwrap_or_default()
    }
}

fn spans() -> Histogram {
    Histogram::new(SPAN_BUCKETS_S)
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
