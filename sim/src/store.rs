//! The store as a coordinator reaches it: some milliseconds away, and sometimes not at all.

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use ksched_core::{cluster::Cluster, jobs::JobName};
use ksched_server::store::{
    ClaimError, CoordinatorInfo, Error, Fence, HoldError, LeaderError, Leadership, LeaseError, LeaseId,
    OpenDrain, Registration, SettingsError, Snapshot, Store, WorkerInfo, memory::MemoryStore,
};
use tokio::{sync::watch, time::sleep};

use crate::process::Process;

/// etcd's client gives up after so long.
const TIME_OUT: Duration = Duration::from_secs(1);

/// The store of one coordinator.
#[derive(Debug)]
pub(crate) struct SimStore(pub(crate) Arc<Process>);

impl SimStore {
    /// Goes there and back; what was asked for may be done although no answer comes.
    async fn ask<T, E: From<Error>>(&self, ask: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let world = &self.0.world;
        let away = || world.store_away.load(Ordering::Relaxed) || self.0.cut_off.lock().store;
        sleep(world.draw_ms(0, 3)).await;
        let weather = &world.weather;
        let lost = !weather.is_healed() && world.once_in(weather.store_lost_in);
        if away() || (lost && world.once_in(2)) {
            sleep(TIME_OUT).await;
            return Err(Error::Unavailable("no answer".to_owned()).into());
        }
        let answer = ask.await;
        world.nudge();
        sleep(world.draw_ms(0, 3)).await;
        if away() || lost {
            return Err(Error::Unavailable("the answer was lost".to_owned()).into());
        }
        answer
    }

    fn store(&self) -> &MemoryStore {
        &self.0.world.store
    }
}

#[tonic::async_trait]
impl Store for SimStore {
    async fn settle(&self, cluster: &Cluster) -> Result<(), SettingsError> {
        self.store().settle(cluster).await
    }

    async fn register_worker(&self, info: &WorkerInfo, ttl: Duration) -> Result<Registration, Error> {
        self.ask(self.store().register_worker(info, ttl)).await
    }

    async fn register_coordinator(
        &self,
        info: &CoordinatorInfo,
        ttl: Duration,
    ) -> Result<Registration, Error> {
        self.ask(self.store().register_coordinator(info, ttl)).await
    }

    async fn renew_worker(&self, worker: &Registration) -> Result<(), LeaseError> {
        self.ask(self.store().renew_worker(worker)).await
    }

    async fn renew_coordinator(&self, coordinator: &Registration) -> Result<(), LeaseError> {
        self.ask(self.store().renew_coordinator(coordinator)).await
    }

    async fn end(&self, lease: LeaseId) -> Result<(), Error> {
        self.ask(self.store().end(lease)).await
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.ask(self.store().snapshot()).await
    }

    async fn claim(&self, job: &JobName, worker: &Registration) -> Result<Fence, ClaimError> {
        self.ask(self.store().claim(job, worker)).await
    }

    async fn release(&self, job: &JobName, fence: Fence) -> Result<(), HoldError> {
        self.ask(self.store().release(job, fence)).await
    }

    async fn complete(&self, job: &JobName, fence: Fence) -> Result<(), HoldError> {
        self.ask(self.store().complete(job, fence)).await
    }

    async fn set_asking(&self, worker: &Registration, at_ms: Option<i64>) -> Result<(), LeaseError> {
        self.ask(self.store().set_asking(worker, at_ms)).await
    }

    async fn campaign(&self, coordinator: &Registration) -> Result<Option<Leadership>, LeaseError> {
        self.ask(self.store().campaign(coordinator)).await
    }

    async fn open_drains(
        &self,
        leadership: Leadership,
        drains: &[(JobName, OpenDrain)],
    ) -> Result<(), LeaderError> {
        self.ask(self.store().open_drains(leadership, drains)).await
    }

    async fn ask_for_drains(&self, drains: &[(JobName, OpenDrain)]) -> Result<(), Error> {
        self.ask(self.store().ask_for_drains(drains)).await
    }

    fn changed(&self) -> watch::Receiver<u64> {
        // A hint only, so it may come in vain: after each call of anybody's.
        self.0.world.nudged()
    }
}
