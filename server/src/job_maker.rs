//! Makes drain jobs from what the log holds (design §3, "Jobs come from state, not
//! events"), on the coordinator that leads.
//!
//! Each second a [`survey`](survey::Survey) asks for all stable ends and all
//! committed positions, and `ksched_core::jobs` decides. No event can be missed, a
//! drain too many does no harm, and a coordinator that takes the lead needs nothing
//! from the one before it. [`membership`] elects the leader; [`passed`] serves routers
//! that found a bucket open behind their append.

pub mod membership;
pub mod observed;
pub mod passed;
mod reclaim;
mod survey;

use std::{sync::Arc, time::Duration};

use ksched_core::{
    cluster::Cluster,
    host::Host,
    jobs::{Drain, JobName},
};
use ksched_kafka::{Log, TopicPartition};
use ksched_telemetry::logging::Repeats;
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use self::{
    observed::Observed,
    survey::{Findings, Partitions, Survey},
};
use crate::{
    host::{Lost, aside},
    leasing::{Seen, Stale, Views},
    store::{LeaderError, Leadership, OpenDrain, Store},
};

/// A slot's lead has seconds to spare.
const TICK: Duration = Duration::from_secs(1);

/// Frees partitions up to these offsets. Blocks, for some seconds at most.
pub type DeleteRecords =
    Arc<dyn Fn(&[(TopicPartition, i64)]) -> Result<(), ksched_kafka::Error> + Send + Sync>;

/// The task that makes jobs while this coordinator leads.
pub struct JobMaker<L: Log> {
    pub log: Arc<L>,
    pub delete_records: DeleteRecords,
    pub store: Arc<dyn Store>,
    pub views: Views,
    pub cluster: Arc<Cluster>,
    /// `Some` while this coordinator leads.
    pub leadership: watch::Receiver<Option<Leadership>>,
    pub observed: Arc<Observed>,
    pub host: Arc<dyn Host>,
}

/// Why a tick made no jobs. The next one tries again.
#[derive(Debug, thiserror::Error)]
enum TickError {
    #[error(transparent)]
    Log(#[from] ksched_kafka::Error),
    #[error(transparent)]
    Store(#[from] LeaderError),
    #[error(transparent)]
    Stale(#[from] Stale),
    #[error("survey: {0}")]
    Survey(#[from] Lost),
}

impl<L: Log> std::fmt::Debug for JobMaker<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobMaker").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<L: Log> JobMaker<L> {
    /// Makes jobs until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let partitions = Arc::new(Partitions::of(&self.cluster));
        let (mut survey, mut none_made) = (None::<Survey<L>>, Repeats::default());
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let leads = *self.leadership.borrow();
            let Some(leadership) = leads else {
                self.observed.follow();
                self.discard(survey.take()).await;
                continue;
            };
            let now = survey.take().unwrap_or_else(|| self.survey(&partitions));
            let (kept, outcome) = self.tick(now, leadership).await;
            survey = kept;
            if let Err(error) = outcome
                && let Some(left_out) = none_made.tell()
            {
                tracing::warn!(%error, left_out, "no jobs made");
            }
        }
        self.discard(survey).await;
    }

    fn survey(&self, partitions: &Arc<Partitions>) -> Survey<L> {
        Survey::new(Arc::clone(&self.log), Arc::clone(&self.cluster), Arc::clone(partitions))
    }

    /// Looks, decides, opens what is not open yet, and frees what is done. The survey
    /// comes back unless it panicked.
    async fn tick(
        &self,
        mut survey: Survey<L>,
        leadership: Leadership,
    ) -> (Option<Survey<L>>, Result<(), TickError>) {
        // Seen before the log is: a drain that completes in between leaves its job in
        // this view, so it is not opened again for nothing.
        let seen = match self.views.with(None).await {
            Ok(seen) => seen,
            Err(stale) => return (Some(survey), Err(stale.into())),
        };
        let (host, delete) = (Arc::clone(&self.host), Arc::clone(&self.delete_records));
        let look = move || {
            let findings = survey.look(&*host);
            survey.reclaim(&*delete);
            (survey, findings)
        };
        match aside(&*self.host, "survey", look).await {
            Ok((survey, Ok(findings))) => (Some(survey), self.open(findings, &seen, leadership).await),
            Ok((survey, Err(error))) => (Some(survey), Err(error.into())),
            Err(error) => (None, Err(error.into())),
        }
    }

    async fn open(&self, findings: Findings, seen: &Seen, leadership: Leadership) -> Result<(), TickError> {
        let open = &seen.snapshot.drains;
        let drains: Vec<_> = findings
            .drains
            .iter()
            .map(|drain| self.name(drain))
            .filter(|(job, _)| !open.contains_key(job))
            .collect();
        if !drains.is_empty() {
            self.store.open_drains(leadership, &drains).await?;
            tracing::debug!(drains = drains.len(), "drains opened");
        }
        self.observed.lead(open.len() + drains.len(), findings.observation);
        Ok(())
    }

    /// Drops a survey off the runtime: closing its reader may block.
    async fn discard(&self, survey: Option<Survey<L>>) {
        if let Some(survey) = survey {
            // It can only fail by panicking, and then it is gone all the same.
            let _ = aside(&*self.host, "survey", move || drop(survey)).await;
        }
    }

    fn name(&self, drain: &Drain) -> (JobName, OpenDrain) {
        let topic = self.cluster.wheel_topic(drain.level).into();
        let job = JobName::Drain { topic, partition: drain.partition };
        (job, OpenDrain { open_at_ms: drain.open_at_ms })
    }
}

#[cfg(test)]
mod tests;
