//! One view of the store for all who wait: thirty long polls cost one listing, not
//! thirty.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ksched_core::jobs::{self, JobName};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::store::{Fence, Snapshot, Store, WorkerInfo};

/// Looked at this often without a nudge. Expired leases are found so.
const INTERVAL: Duration = Duration::from_millis(500);
/// Between a nudge and the look, so that a burst of changes costs one.
const GATHER: Duration = Duration::from_millis(5);
/// An older view says nothing any more.
const STALE_AFTER: Duration = Duration::from_secs(3);
/// How long it is remembered who has gone.
const GONE_FOR: Duration = Duration::from_secs(60);
/// A fresh look takes no longer, or the store is away.
const FRESH_WITHIN: Duration = Duration::from_secs(3);

/// The store as it was at one instant.
#[derive(Debug)]
pub struct Seen {
    pub snapshot: Snapshot,
    /// Just before the store was asked.
    pub at: Instant,
    /// Jobs that nobody holds, and since when at the latest.
    pub free_since: BTreeMap<JobName, Instant>,
    /// Workers whose lease has ended within the last minute, for people to look at.
    pub gone: Vec<Gone>,
}

/// A worker that is not registered any more.
#[derive(Clone, Debug)]
pub struct Gone {
    pub id: String,
    pub info: WorkerInfo,
    /// When that was seen.
    pub at: Instant,
}

/// There has been no view of the store for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no fresh view of the store")]
pub struct Stale;

/// Gives the latest view to whoever asks.
#[derive(Clone, Debug)]
pub struct Views {
    latest: Arc<Latest>,
    wanted: Arc<Notify>,
}

/// Keeps [`Views`] fresh: a task to be run by the coordinator.
#[derive(Debug)]
pub struct Refresher {
    store: Arc<dyn Store>,
    /// Jobs that always exist.
    standing: Vec<JobName>,
    latest: Arc<Latest>,
    wanted: Arc<Notify>,
}

/// The last view, and who waits for the next. A `watch` channel, but for this: it wakes
/// its waiters in the order in which they came, so that a simulated run can be repeated.
#[derive(Debug, Default)]
struct Latest {
    seen: Mutex<Option<Arc<Seen>>>,
    changed: Notify,
    /// The refresher is gone.
    over: AtomicBool,
}

/// Views of a store, and the task that keeps them fresh.
pub fn views(store: Arc<dyn Store>, cluster: &ksched_core::cluster::Cluster) -> (Views, Refresher) {
    let latest = Arc::new(Latest::default());
    let wanted = Arc::new(Notify::new());
    let refresher = Refresher {
        store,
        standing: jobs::standing(cluster),
        latest: Arc::clone(&latest),
        wanted: Arc::clone(&wanted),
    };
    (Views { latest, wanted }, refresher)
}

impl Views {
    /// The latest view.
    pub fn latest(&self) -> Result<Arc<Seen>, Stale> {
        self.latest.get().filter(|seen| seen.at.elapsed() < STALE_AFTER).ok_or(Stale)
    }

    /// The last view there was, however old it is.
    pub fn last(&self) -> Option<Arc<Seen>> {
        self.latest.get()
    }

    /// A view that shows everything up to this fence.
    pub async fn with(&self, fence: Option<Fence>) -> Result<Arc<Seen>, Stale> {
        match self.latest() {
            Ok(seen) if fence.is_none_or(|fence| fence.0 <= seen.snapshot.revision) => Ok(seen),
            Ok(_) | Err(Stale) => self.since(Instant::now()).await,
        }
    }

    /// A view that was begun after this instant.
    pub async fn since(&self, instant: Instant) -> Result<Arc<Seen>, Stale> {
        self.wanted.notify_one();
        let fresh = self.latest.after(instant);
        time::timeout(FRESH_WITHIN, fresh).await.unwrap_or(Err(Stale))
    }

    /// The view after `seen`, waiting for it until there is reason to say that the
    /// store is away.
    pub async fn after(&self, seen: &Seen) -> Result<Arc<Seen>, Stale> {
        let next = self.latest.after(seen.at);
        time::timeout_at(seen.at + STALE_AFTER, next).await.unwrap_or(Err(Stale))
    }
}

impl Refresher {
    /// Looks after each nudge and from time to time, until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut changed = self.store.changed();
        let mut away = false;
        loop {
            // Listen before looking: what changes from here on is a nudge again.
            changed.mark_unchanged();
            let at = Instant::now();
            match self.store.snapshot().await {
                Ok(snapshot) => {
                    self.publish(snapshot, at);
                    away = false;
                }
                Err(error) => {
                    if !away {
                        tracing::warn!(%error, "store cannot be listed");
                    }
                    away = true;
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = changed.changed() => time::sleep(GATHER).await,
                () = self.wanted.notified() => {}
                () = time::sleep(INTERVAL) => {}
            }
        }
    }

    fn publish(&self, snapshot: Snapshot, at: Instant) {
        let before = self.latest.get();
        let since = |job: &JobName| before.as_ref().and_then(|seen| seen.free_since.get(job)).copied();
        let free_since = self
            .standing
            .iter()
            .chain(snapshot.drains.keys())
            .filter(|job| !snapshot.claims.contains_key(job))
            .map(|job| (job.clone(), since(job).unwrap_or(at)))
            .collect();
        let is_known = |id: &String| snapshot.workers.contains_key(id);
        let mut gone: Vec<_> = before.iter().flat_map(|seen| seen.gone.iter().cloned()).collect();
        gone.retain(|gone| at.saturating_duration_since(gone.at) < GONE_FOR && !is_known(&gone.id));
        let were = before.iter().flat_map(|seen| &seen.snapshot.workers).filter(|(id, _)| !is_known(id));
        gone.extend(were.map(|(id, info)| Gone { id: id.clone(), info: info.clone(), at }));
        self.latest.set(Seen { snapshot, at, free_since, gone });
    }
}

impl Drop for Refresher {
    fn drop(&mut self) {
        self.latest.over.store(true, Ordering::Release);
        self.latest.changed.notify_waiters();
    }
}

impl Latest {
    fn get(&self) -> Option<Arc<Seen>> {
        self.seen.lock().clone()
    }

    fn set(&self, seen: Seen) {
        *self.seen.lock() = Some(Arc::new(seen));
        self.changed.notify_waiters();
    }

    /// Waits for a view from after this instant.
    async fn after(&self, instant: Instant) -> Result<Arc<Seen>, Stale> {
        loop {
            // Listen before looking.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(seen) = self.get().filter(|seen| seen.at > instant) {
                return Ok(seen);
            }
            if self.over.load(Ordering::Acquire) {
                return Err(Stale);
            }
            changed.await;
        }
    }
}
