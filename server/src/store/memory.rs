//! A store in this process's memory: for one coordinator (evaluation, tests).
//! Leases expire by tokio's clock, so tests may pause it.

use std::{collections::BTreeMap, time::Duration};

use ksched_core::{
    cluster::Cluster,
    jobs::{JobKind, JobName},
};
use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::watch, time::Instant};

use super::{
    Claim, ClaimError, CoordinatorInfo, Error, Fence, HoldError, LeaderError, Leadership, LeaseError,
    LeaseId, OpenDrain, Registration, SettingsError, Snapshot, Store, WorkerInfo, differences,
};

/// See the module.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    cluster: Option<Cluster>,
    leases: BTreeMap<LeaseId, Lease>,
    /// All but the settings; its revision is the store's.
    now: Snapshot,
    /// Revision at which the leader began to lead.
    leader_since: i64,
}

#[derive(Debug)]
struct Lease {
    /// Of the worker or coordinator that opened it.
    owner: String,
    ttl: Duration,
    expires_at: Instant,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// The state with everything expired removed.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let expired: Vec<_> =
            state.leases.iter().filter(|(_, l)| l.expires_at <= now).map(|(id, _)| *id).collect();
        for lease in expired {
            self.end_in(&mut state, lease);
        }
        state
    }

    /// Counts a write and tells of it.
    fn write(&self, state: &mut State) -> i64 {
        state.now.revision += 1;
        self.changed.send_replace(state.now.revision as u64);
        state.now.revision
    }

    fn end_in(&self, state: &mut State, lease: LeaseId) {
        let Some(lease) = state.leases.remove(&lease) else { return };
        let now = &mut state.now;
        now.workers.remove(&lease.owner);
        now.asking.remove(&lease.owner);
        now.coordinators.remove(&lease.owner);
        now.claims.retain(|_, claim| claim.worker_id != lease.owner);
        now.leader.take_if(|leader| *leader == lease.owner);
        self.write(state);
    }

    fn register(&self, state: &mut State, ttl: Duration) -> Registration {
        let lease = LeaseId(self.write(state));
        let id = format!("{:x}", lease.0);
        let expires_at = Instant::now() + ttl;
        state.leases.insert(lease, Lease { owner: id.clone(), ttl, expires_at });
        Registration { id, lease }
    }

    fn renew(&self, who: &Registration) -> Result<(), LeaseError> {
        let mut state = self.now();
        let lease = state.leases.get_mut(&who.lease).filter(|l| l.owner == who.id).ok_or(LeaseError::Gone)?;
        lease.expires_at = Instant::now() + lease.ttl;
        Ok(())
    }

    fn open(&self, state: &mut State, drains: &[(JobName, OpenDrain)]) {
        for (job, drain) in drains {
            state.now.drains.entry(job.clone()).or_insert(*drain);
        }
        self.write(state);
    }

    fn holds(state: &State, job: &JobName, fence: Fence) -> Result<(), HoldError> {
        let held = state.now.claims.get(job).is_some_and(|claim| claim.fence == fence);
        held.then_some(()).ok_or(HoldError::NotHeld)
    }
}

impl State {
    fn check(&self, who: &Registration) -> Result<(), LeaseError> {
        let good = self.leases.get(&who.lease).is_some_and(|lease| lease.owner == who.id);
        good.then_some(()).ok_or(LeaseError::Gone)
    }
}

#[tonic::async_trait]
impl Store for MemoryStore {
    async fn settle(&self, cluster: &Cluster) -> Result<(), SettingsError> {
        let mut state = self.now();
        let stored = state.cluster.get_or_insert_with(|| cluster.clone());
        let differences = differences(cluster, stored);
        if differences.is_empty() { Ok(()) } else { Err(SettingsError::Differ(differences)) }
    }

    async fn register_worker(&self, info: &WorkerInfo, ttl: Duration) -> Result<Registration, Error> {
        let mut state = self.now();
        let registration = self.register(&mut state, ttl);
        state.now.workers.insert(registration.id.clone(), info.clone());
        Ok(registration)
    }

    async fn register_coordinator(
        &self,
        info: &CoordinatorInfo,
        ttl: Duration,
    ) -> Result<Registration, Error> {
        let mut state = self.now();
        let registration = self.register(&mut state, ttl);
        state.now.coordinators.insert(registration.id.clone(), info.clone());
        Ok(registration)
    }

    async fn renew_worker(&self, worker: &Registration) -> Result<(), LeaseError> {
        self.renew(worker)
    }

    async fn renew_coordinator(&self, coordinator: &Registration) -> Result<(), LeaseError> {
        self.renew(coordinator)
    }

    async fn end(&self, lease: LeaseId) -> Result<(), Error> {
        self.end_in(&mut self.now(), lease);
        Ok(())
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(self.now().now.clone())
    }

    async fn claim(&self, job: &JobName, worker: &Registration) -> Result<Fence, ClaimError> {
        let mut state = self.now();
        state.check(worker).map_err(|_| ClaimError::LeaseGone)?;
        if job.kind() == JobKind::Drain && !state.now.drains.contains_key(job) {
            return Err(ClaimError::NoSuchJob);
        }
        if state.now.claims.contains_key(job) {
            return Err(ClaimError::Held);
        }
        let fence = Fence(self.write(&mut state));
        state.now.claims.insert(job.clone(), Claim { worker_id: worker.id.clone(), fence });
        Ok(fence)
    }

    async fn release(&self, job: &JobName, fence: Fence) -> Result<(), HoldError> {
        let mut state = self.now();
        Self::holds(&state, job, fence)?;
        state.now.claims.remove(job);
        self.write(&mut state);
        Ok(())
    }

    async fn complete(&self, job: &JobName, fence: Fence) -> Result<(), HoldError> {
        let mut state = self.now();
        Self::holds(&state, job, fence)?;
        state.now.claims.remove(job);
        state.now.drains.remove(job);
        self.write(&mut state);
        Ok(())
    }

    async fn set_asking(&self, worker: &Registration, at_ms: Option<i64>) -> Result<(), LeaseError> {
        let mut state = self.now();
        state.check(worker)?;
        match at_ms {
            Some(at_ms) => state.now.asking.insert(worker.id.clone(), at_ms),
            None => state.now.asking.remove(&worker.id),
        };
        self.write(&mut state);
        Ok(())
    }

    async fn campaign(&self, coordinator: &Registration) -> Result<Option<Leadership>, LeaseError> {
        let mut state = self.now();
        state.check(coordinator)?;
        if state.now.leader.is_none() {
            state.leader_since = self.write(&mut state);
            state.now.leader = Some(coordinator.id.clone());
        }
        let leads = state.now.leader.as_ref() == Some(&coordinator.id);
        Ok(leads.then_some(Leadership { revision: state.leader_since }))
    }

    async fn open_drains(
        &self,
        leadership: Leadership,
        drains: &[(JobName, OpenDrain)],
    ) -> Result<(), LeaderError> {
        let mut state = self.now();
        if state.now.leader.is_none() || state.leader_since != leadership.revision {
            return Err(LeaderError::Deposed);
        }
        self.open(&mut state, drains);
        Ok(())
    }

    async fn ask_for_drains(&self, drains: &[(JobName, OpenDrain)]) -> Result<(), Error> {
        self.open(&mut self.now(), drains);
        Ok(())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
