//! Every metric: name, unit, help text, and the number behind it.
//!
//! Names carry the prefix `ksched_`, base units, and `_total` on counters; no
//! label ever holds an id. The structs are cheap to clone and count from any
//! thread.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock, PoisonError, RwLock, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};

/// The registry behind `/metrics`.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<RwLock<Registry>>,
    /// Counted by both kinds of process, and `ksched dev` is both.
    refused: Family<Reason, Counter>,
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
    refused: Family<Reason, Counter>,
    pending: Family<Level, Gauge>,
}

/// What a worker counts.
#[derive(Clone, Debug)]
pub struct WorkerMetrics {
    pub delivered: Counter,
    pub dead_lettered: Counter,
    pub duplicates_dropped: Counter,
    pub drains_done: Counter,
    pub intake_moved: Counter,
    pub producers_recycled: Counter,
    pub fences_met: Counter,
    pub lanes_held: Gauge,
    /// Messages in memory, waiting for their due time.
    pub held: Gauge,
    pub lateness: Lateness,
    refused: Family<Reason, Counter>,
}

/// Histogram of append − due, in seconds.
#[derive(Clone, Debug)]
pub struct Lateness(Histogram);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Level {
    level: u32,
}

/// What becomes of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    Exported,
    Failed,
    Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Spans {
    fate: Fate,
}

/// Of the whole process, which has one exporter (`traces`) however many registries.
static SPANS: LazyLock<Family<Spans, Counter>> = LazyLock::new(Family::default);

/// Counts spans. None, too: a counter that is there can be watched.
pub(crate) fn count_spans(fate: Fate, spans: u64) {
    SPANS.get_or_create(&Spans { fate }).inc_by(spans);
}

/// 1 ms to 1 h: a healthy lane sits in the first few, an outage in the last. Workers tell
/// coordinators how many messages fell into each (`LaneFigures`), so these never change.
pub const LATENESS_BUCKETS_S: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0,
];

impl Metrics {
    /// An empty registry; `ksched_build_info` tells the process's name and version.
    pub fn new(name: &str, version: &'static str) -> Self {
        let mut registry = Registry::with_prefix("ksched");
        let labels = vec![("name", name.to_owned()), ("version", version.to_owned())];
        let info = prometheus_client::metrics::info::Info::new(labels);
        registry.register("build", "Which process this is", info);
        let refused = Family::default();
        registry.register("refused", "Messages refused, by reason", Family::clone(&refused));
        registry.register(
            "spans",
            "Spans of traces: exported, failed (the collector was away or refused them) or dropped (no room left)",
            (*SPANS).clone(),
        );
        Self { registry: Arc::new(RwLock::new(registry)), refused }
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// A metric could not be formatted.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry).map(|()| text)
    }

    fn add<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.with(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    fn add_in_seconds<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.with(|registry| registry.register_with_unit(name, help, Unit::Seconds, metric.clone()));
        metric
    }

    fn with(&self, change: impl FnOnce(&mut Registry)) {
        change(&mut self.registry.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl CoordinatorMetrics {
    /// Registers the coordinator's metrics. Once a process.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            scheduled: metrics.add("scheduled", "Messages acknowledged to users over gRPC", Counter::default()),
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
            pending: metrics.add(
                "pending_messages",
                "Offsets between position and end by level, level 0 being the due lanes: a little more than messages",
                Family::default(),
            ),
        }
    }

    /// Counts messages refused at the door.
    pub fn refused(&self, reason: &'static str, messages: u64) {
        self.refused.get_or_create(&Reason { reason }).inc_by(messages);
    }

    /// What waits in each level, 0 standing for the due lanes; nothing where this
    /// coordinator does not know.
    pub fn set_pending(&self, by_level: &BTreeMap<u32, i64>) {
        if by_level.is_empty() {
            self.pending.clear();
        }
        for (level, messages) in by_level {
            self.pending.get_or_create(&Level { level: *level }).set(*messages);
        }
    }
}

impl WorkerMetrics {
    /// Registers the worker's metrics. Once a process.
    pub fn register(metrics: &Metrics) -> Self {
        let count = |name, help| metrics.add(name, help, Counter::<u64, AtomicU64>::default());
        Self {
            delivered: count("delivered", "Messages appended to their target topics"),
            dead_lettered: count("dead_lettered", "Messages and intake records put on the dead-letter topic"),
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
                "Append time on the target minus due time",
                Histogram::new(LATENESS_BUCKETS_S),
            )),
            held: metrics.add(
                "held_messages",
                "Messages in memory, waiting for their due time",
                Gauge::default(),
            ),
            refused: metrics.refused.clone(),
        }
    }

    /// Counts intake records that could not be understood.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }
}

impl Lateness {
    /// Notes one delivered message. Negative means early, which is a bug and
    /// shows in the histogram's sum.
    pub fn observe_ms(&self, late_by_ms: f64) {
        self.0.observe(late_by_ms / 1_000.0);
    }
}

impl EncodeLabelValue for Fate {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let word = match self {
            Self::Exported => "exported",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        };
        word.encode(encoder)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_are_as_prometheus_wants_them() {
        let metrics = Metrics::new("worker-1", "0.1.0");
        CoordinatorMetrics::register(&metrics).set_pending(&[(2, 40)].into());
        let worker = WorkerMetrics::register(&metrics);
        worker.lateness.observe_ms(12.0);
        worker.refused("unparsable-time");
        worker.producers_recycled.inc();
        worker.lanes_held.set(3);
        let text = metrics.encode().unwrap();
        for line in [
            "ksched_build_info{name=\"worker-1\",version=\"0.1.0\"} 1",
            "# UNIT ksched_lateness_seconds seconds",
            "ksched_lateness_seconds_bucket{le=\"0.01\"} 0",
            "ksched_lateness_seconds_bucket{le=\"0.025\"} 1",
            "ksched_refused_total{reason=\"unparsable-time\"} 1",
            "ksched_producers_recycled_total 1",
            "ksched_lanes_held 3",
            "ksched_pending_messages{level=\"2\"} 40",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
