//! The store: who does what (design §2, §6). The contract is in prose here; the
//! conformance suite (`tests/store/`) checks every implementation against it.
//!
//! A store holds the cluster's settings, coordinators, workers, claims, open drain
//! jobs and the leader: never a payload, never anything per message.
//!
//! - Every call ends within a few seconds; [`Error::Unavailable`] says nothing
//!   about whether a write happened. All writes may be repeated.
//! - What is *leased* vanishes with its lease, all at once: after `end` at once, else
//!   when it was not renewed for its TTL (a store may let it live longer, never
//!   shorter).
//! - One revision counts every write. A claim's [`Fence`] is the revision that made
//!   it, so the fences of a job strictly increase.
//! - A claim is not a lock: its holder may be paused and wake up late. What makes
//!   it safe is the fencing of the log's producers (design §4.1).

pub mod etcd;
pub mod key;
pub mod memory;

use std::{collections::BTreeMap, fmt, time::Duration};

use ksched_core::{cluster::Cluster, jobs::JobName};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A lease's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub i64);

/// Makes an older holder of the same job harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub i64);

/// Who opened a lease: the id, unique for ever, and the lease itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    pub id: String,
    pub lease: LeaseId,
}

/// The right to write as leader; refused once another coordinator leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub(crate) revision: i64,
}

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    pub name: String,
    pub version: String,
    /// HOST:PORT of its /metrics, or empty.
    pub http_address: String,
    pub registered_at_ms: i64,
}

/// What a coordinator says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorInfo {
    pub name: String,
    pub version: String,
    pub grpc_address: String,
    pub http_address: String,
}

/// Who holds a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub worker_id: String,
    pub fence: Fence,
}

/// An open drain job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenDrain {
    /// The instant up to which the bucket counts as open, in ms.
    pub open_at_ms: i64,
}

/// Everything leased or open, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub revision: i64,
    /// By worker id.
    pub workers: BTreeMap<String, WorkerInfo>,
    /// Worker ids of those that say they have less than their share, and when, in ms.
    pub asking: BTreeMap<String, i64>,
    pub claims: BTreeMap<JobName, Claim>,
    pub drains: BTreeMap<JobName, OpenDrain>,
    /// By coordinator id.
    pub coordinators: BTreeMap<String, CoordinatorInfo>,
    /// Id of the coordinator that leads.
    pub leader: Option<String>,
}

/// The store did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// May pass. Nothing is known about whether the write happened.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// Will not pass by itself: refused credentials, a value nobody of us wrote.
    #[error("store broken: {0}")]
    Broken(String),
}

/// One setting on which a coordinator and its cluster differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub setting: String,
    pub ours: String,
    pub stored: String,
}

/// Why a coordinator must not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("settings differ from the cluster's: {}", list(.0))]
    Differ(Vec<Difference>),
    #[error(transparent)]
    Store(#[from] Error),
}

/// Why a lease was not renewed or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// It has expired or was ended; everything attached to it is gone too.
    #[error("lease is gone")]
    Gone,
    #[error(transparent)]
    Store(#[from] Error),
}

/// Why a job was not claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("job is held")]
    Held,
    /// A drain job that is complete.
    #[error("no such job")]
    NoSuchJob,
    #[error("lease is gone")]
    LeaseGone,
    #[error(transparent)]
    Store(#[from] Error),
}

/// Why a job was not completed or released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// Not held with this fence (any more).
    #[error("job is not held with this fence")]
    NotHeld,
    #[error(transparent)]
    Store(#[from] Error),
}

/// Why a leader's write was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaderError {
    /// Another coordinator leads, or none does.
    #[error("not the leader any more")]
    Deposed,
    #[error(transparent)]
    Store(#[from] Error),
}

/// Where coordinators agree on who does what. See the module's contract.
#[tonic::async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Writes the cluster's settings if there are none, compares them otherwise.
    ///
    /// # Errors
    /// Every setting that differs. Those that may differ between coordinators for
    /// the time of a restart are not compared: [`differences`].
    async fn settle(&self, cluster: &Cluster) -> Result<(), SettingsError>;

    /// Opens a lease for a worker and registers it.
    async fn register_worker(&self, info: &WorkerInfo, ttl: Duration) -> Result<Registration, Error>;

    /// Opens a lease for a coordinator and registers it.
    async fn register_coordinator(
        &self,
        info: &CoordinatorInfo,
        ttl: Duration,
    ) -> Result<Registration, Error>;

    /// Renews a worker's lease for another TTL.
    async fn renew_worker(&self, worker: &Registration) -> Result<(), LeaseError>;

    /// Renews a coordinator's lease for another TTL.
    async fn renew_coordinator(&self, coordinator: &Registration) -> Result<(), LeaseError>;

    /// Ends a lease with all that is attached to it; nothing if it is gone.
    async fn end(&self, lease: LeaseId) -> Result<(), Error>;

    /// Everything leased or open, consistent: as it was at one revision, not older
    /// than any write whose call had returned before this one began.
    async fn snapshot(&self) -> Result<Snapshot, Error>;

    /// Claims a job for a worker; of several that try at once, one succeeds. The
    /// claim is attached to the worker's lease.
    async fn claim(&self, job: &JobName, worker: &Registration) -> Result<Fence, ClaimError>;

    /// Gives a job back unfinished.
    async fn release(&self, job: &JobName, fence: Fence) -> Result<(), HoldError>;

    /// Ends a drain job: claim and job vanish together.
    async fn complete(&self, job: &JobName, fence: Fence) -> Result<(), HoldError>;

    /// Notes that a worker has less than its share since `at_ms` (attached to its
    /// lease), or with `None` that it has not.
    async fn set_asking(&self, worker: &Registration, at_ms: Option<i64>) -> Result<(), LeaseError>;

    /// Leads if nobody does. `None`: another coordinator leads. The one that leads
    /// already is told its leadership again.
    async fn campaign(&self, coordinator: &Registration) -> Result<Option<Leadership>, LeaseError>;

    /// Opens drain jobs, as leader; those that are open already stay as they are.
    async fn open_drains(
        &self,
        leadership: Leadership,
        drains: &[(JobName, OpenDrain)],
    ) -> Result<(), LeaderError>;

    /// Opens drain jobs for buckets that a router has just found passed: any
    /// coordinator may, for a drain too many does no harm.
    async fn ask_for_drains(&self, drains: &[(JobName, OpenDrain)]) -> Result<(), Error>;

    /// Changes soon after something in [`Store::snapshot`] did. Only a hint: it may
    /// come late, in vain, or not at all, so look again from time to time.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// The settings in which a coordinator differs from its cluster and must not.
///
/// `delivered_headers` and `compat_stamps` may differ while coordinators are being
/// restarted with a new setting.
pub fn differences(ours: &Cluster, stored: &Cluster) -> Vec<Difference> {
    let (o, s) = (&ours.geometry, &stored.geometry);
    let pairs = [
        ("slot_width_ms", o.slot_width_ms.to_string(), s.slot_width_ms.to_string()),
        ("ratio", o.ratio.to_string(), s.ratio.to_string()),
        ("levels", o.levels.to_string(), s.levels.to_string()),
        ("lanes", o.lanes.to_string(), s.lanes.to_string()),
        ("lease_ttl_ms", o.lease_ttl_ms.to_string(), s.lease_ttl_ms.to_string()),
        ("topic_prefix", ours.topic_prefix.clone(), stored.topic_prefix.clone()),
        ("intake_topic", ours.intake_topic.clone(), stored.intake_topic.clone()),
        ("intake_partitions", ours.intake_partitions.to_string(), stored.intake_partitions.to_string()),
        ("dead_letter_topic", ours.dead_letter_topic.clone(), stored.dead_letter_topic.clone()),
        ("delivery", format!("{:?}", ours.delivery), format!("{:?}", stored.delivery)),
    ];
    pairs
        .into_iter()
        .filter(|(_, ours, stored)| ours != stored)
        .map(|(setting, ours, stored)| Difference { setting: setting.to_owned(), ours, stored })
        .collect()
}

fn list(differences: &[Difference]) -> String {
    let one = |d: &Difference| format!("{} is {}, the cluster's is {}", d.setting, d.ours, d.stored);
    differences.iter().map(one).collect::<Vec<_>>().join("; ")
}
