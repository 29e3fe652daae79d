//! What all jobs of this worker share.

use std::sync::Arc;

use ksched_core::{cluster::Cluster, host::Host};
use ksched_kafka::Log;
use ksched_proto::v1;
use ksched_telemetry::metrics::WorkerMetrics;
use tokio::time::Instant;

use crate::{
    clock::Clock,
    drain,
    figures::Figures,
    intake,
    job::{Control, Outcome},
    lane,
    memory::Budget,
    session::Runner,
    settings::IntakeSettings,
    targets::Targets,
};

/// One worker's view of its cluster.
#[derive(Debug)]
pub(crate) struct Node<L> {
    pub(crate) log: L,
    pub(crate) cluster: Cluster,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) figures: Arc<Figures>,
    pub(crate) memory: Arc<Budget>,
    pub(crate) targets: Arc<Targets<L>>,
    pub(crate) intake: IntakeSettings,
    /// Random number of this process, part of the ids it makes.
    pub(crate) origin: u32,
}

impl<L: Log + Clone> Runner for Node<L> {
    fn run(&self, job: &v1::Job, control: &Control) -> Outcome {
        match job.kind() {
            v1::JobKind::Lane => lane::run(self, job.lane as u16, control),
            v1::JobKind::Drain => drain::run(self, job, control),
            v1::JobKind::Intake => intake::run(self, job, control),
            v1::JobKind::Unspecified => {
                Outcome::Failed("a job of unknown kind: this worker is too old".to_owned())
            }
        }
    }

    fn observe_lanes_held(&self, lanes: usize) {
        self.metrics.lanes_held.set(lanes as i64);
    }

    fn observe_lease_confirmed(&self, asked_at: Instant) {
        self.metrics.lease.confirmed(asked_at);
    }

    fn observe_clock_skew(&self, ahead_us: i64) {
        self.metrics.clock_skew.set(ahead_us as f64 / 1e6);
    }

    fn figures(&self) -> (Vec<v1::LaneFigures>, u64) {
        (self.figures.all(), self.metrics.dead_lettered.get())
    }
}
