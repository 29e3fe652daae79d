//! The store in etcd. The only file that names `etcd-client`.
//!
//! etcd's limits that shape this: at most 128 operations a transaction; HTTP/2 pings
//! at least 5 s apart on a connection; TTLs of at least 2 s and in whole seconds; all
//! TTLs start anew when etcd's leader changes. Watches break, so they are only a nudge.

use std::{fmt, future::Future, time::Duration};

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse,
    TxnResponse, WatchOptions,
};
use ksched_core::{
    cluster::Cluster,
    jobs::{JobKind, JobName},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{sync::watch, task::JoinHandle, time};
use tonic::Code;

use super::{
    Claim, ClaimError, CoordinatorInfo, Error, Fence, HoldError, LeaderError, Leadership, LeaseError,
    LeaseId, OpenDrain, Registration, SettingsError, Snapshot, Store, WorkerInfo, differences,
    key::{Key, prefix},
};

/// How long a call may take. Well below the shortest TTL, so that a renewal that
/// hangs can be tried again.
const CALL_TIMEOUT: Duration = Duration::from_millis(1_500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// etcd sends GOAWAY to who pings more often than each 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two tries to watch.
const WATCH_PAUSE: Duration = Duration::from_millis(500);
/// Drain jobs written in one transaction: each counts against etcd's 128.
const DRAINS_A_WRITE: usize = 100;
/// A snapshot of many thousand drain jobs; tonic's own limit is 4 MiB.
const SNAPSHOT_BYTES: usize = 64 << 20;

/// Where etcd is and who we are to it.
#[derive(Clone, Default)]
pub struct Options {
    /// `HOST:PORT` or `http://HOST:PORT` each.
    pub endpoints: Vec<String>,
    /// User name and password, if etcd asks for them.
    pub user: Option<(String, String)>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(name, _)| name);
        f.debug_struct("Options").field("endpoints", &self.endpoints).field("user", &user).finish()
    }
}

/// See the module.
pub struct EtcdStore {
    client: Client,
    prefix: String,
    changed: watch::Sender<u64>,
    watcher: JoinHandle<()>,
}

/// Value of [`Key::Claim`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Holder {
    worker_id: String,
}

/// Value of [`Key::Leader`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Leader {
    coordinator_id: String,
}

/// A call's outcome when it is not an answer.
enum Failure {
    LeaseNotFound,
    Other(Error),
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::LeaseNotFound => Self::Unavailable("lease not found".to_owned()),
            Failure::Other(error) => error,
        }
    }
}

impl From<Failure> for LeaseError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::LeaseNotFound => Self::Gone,
            Failure::Other(error) => Self::Store(error),
        }
    }
}

impl From<Failure> for ClaimError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::LeaseNotFound => Self::LeaseGone,
            Failure::Other(error) => Self::Store(error),
        }
    }
}

impl EtcdStore {
    /// A store for this cluster. Connects when first called, so etcd may be away;
    /// only a user is authenticated at once.
    ///
    /// # Errors
    /// Endpoints that are none, and a user that is refused.
    pub async fn connect(options: &Options, cluster: &str) -> Result<Self, Error> {
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let Some((name, password)) = &options.user {
            connect = connect.with_user(name, password).with_auto_token_refresh(true);
        }
        let client = bounded("connect", Client::connect(&options.endpoints, Some(connect))).await?;
        let (prefix, changed) = (prefix(cluster), watch::Sender::new(0));
        let watcher = tokio::spawn(keep_watching(client.clone(), prefix.clone(), changed.clone()));
        Ok(Self { client, prefix, changed, watcher })
    }

    fn key(&self, key: &Key) -> String {
        key.encode(&self.prefix)
    }

    async fn get(&self, key: &Key) -> Result<Option<KeyValue>, Failure> {
        let mut kv = self.client.kv_client();
        let mut answer = bounded("get", kv.get(self.key(key), None)).await?;
        Ok(answer.take_kvs().into_iter().next())
    }

    async fn txn(&self, what: &str, txn: Txn) -> Result<TxnResponse, Failure> {
        bounded(what, self.client.kv_client().txn(txn)).await
    }

    /// Opens a lease and puts the key of its owner, whose id is the lease's number.
    async fn register(
        &self,
        ttl: Duration,
        key: impl FnOnce(String) -> Key,
        info: &(impl Serialize + Sync),
    ) -> Result<Registration, Error> {
        let seconds = ttl.as_millis().div_ceil(1_000) as i64;
        let granted = bounded("grant a lease", self.client.lease_client().grant(seconds, None)).await?;
        let lease = LeaseId(granted.id());
        let id = format!("{:x}", lease.0);
        let put = PutOptions::new().with_lease(lease.0);
        let (key, value) = (self.key(&key(id.clone())), encode(info)?);
        bounded("register", self.client.kv_client().put(key, value, Some(put))).await?;
        Ok(Registration { id, lease })
    }

    /// Renews a lease whose owner's key is `key`.
    async fn renew(&self, key: Key, lease: LeaseId) -> Result<(), LeaseError> {
        bounded("renew", self.client.lease_client().keep_alive(lease.0)).await?;
        // Releases before 3.5.23 and 3.6.5 may renew a lease that was revoked.
        match self.get(&key).await? {
            Some(found) if found.lease() == lease.0 => Ok(()),
            Some(_) | None => Err(LeaseError::Gone),
        }
    }

    /// Ends a claim that has this fence, and whatever else `also` deletes.
    async fn end_claim(&self, job: &JobName, fence: Fence, also: &[Key]) -> Result<(), HoldError> {
        let claim = self.key(&Key::Claim(job.clone()));
        let mut deletes = vec![TxnOp::delete(claim.clone(), None)];
        deletes.extend(also.iter().map(|key| TxnOp::delete(self.key(key), None)));
        let txn =
            Txn::new().when([Compare::mod_revision(claim, CompareOp::Equal, fence.0)]).and_then(deletes);
        let done = self.txn("end a claim", txn).await.map_err(Error::from)?.succeeded();
        done.then_some(()).ok_or(HoldError::NotHeld)
    }

    /// Puts what of `drains` is not there yet; `false` if a compare of `when` failed.
    async fn open(&self, when: &[Compare], drains: &[(JobName, OpenDrain)]) -> Result<bool, Error> {
        for some in drains.chunks(DRAINS_A_WRITE) {
            let mut puts = Vec::with_capacity(some.len());
            for (job, drain) in some {
                let key = self.key(&Key::Open(job.clone()));
                let put = TxnOp::put(key.clone(), encode(drain)?, None);
                puts.push(TxnOp::txn(Txn::new().when([absent(key)]).and_then([put])));
            }
            if !self.txn("open drains", Txn::new().when(when).and_then(puts)).await?.succeeded() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[tonic::async_trait]
impl Store for EtcdStore {
    async fn settle(&self, cluster: &Cluster) -> Result<(), SettingsError> {
        let key = self.key(&Key::Cluster);
        let txn = Txn::new()
            .when([absent(key.clone())])
            .and_then([TxnOp::put(key.clone(), encode(cluster)?, None)])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.txn("settle", txn).await.map_err(Error::from)?;
        let Some(stored) = found(&answer).into_iter().flatten().next() else { return Ok(()) };
        let differences = differences(cluster, &decode(&stored)?);
        if differences.is_empty() { Ok(()) } else { Err(SettingsError::Differ(differences)) }
    }

    async fn register_worker(&self, info: &WorkerInfo, ttl: Duration) -> Result<Registration, Error> {
        self.register(ttl, Key::Worker, info).await
    }

    async fn register_coordinator(
        &self,
        info: &CoordinatorInfo,
        ttl: Duration,
    ) -> Result<Registration, Error> {
        self.register(ttl, Key::Coordinator, info).await
    }

    async fn renew_worker(&self, worker: &Registration) -> Result<(), LeaseError> {
        self.renew(Key::Worker(worker.id.clone()), worker.lease).await
    }

    async fn renew_coordinator(&self, coordinator: &Registration) -> Result<(), LeaseError> {
        self.renew(Key::Coordinator(coordinator.id.clone()), coordinator.lease).await
    }

    async fn end(&self, lease: LeaseId) -> Result<(), Error> {
        match bounded("end a lease", self.client.lease_client().revoke(lease.0)).await {
            Ok(_) | Err(Failure::LeaseNotFound) => Ok(()),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        let mut kv = self.client.kv_client().max_decoding_message_size(SNAPSHOT_BYTES);
        let all = GetOptions::new().with_prefix();
        let answer = bounded("list", kv.get(self.prefix.as_str(), Some(all))).await?;
        let mut snapshot =
            Snapshot { revision: answer.header().map_or(0, |h| h.revision()), ..Snapshot::default() };
        for pair in answer.kvs() {
            let key = pair.key_str().ok().and_then(|key| Key::decode(&self.prefix, key));
            // Keys of a later version are none of our business.
            if let Some(key) = key {
                add(&mut snapshot, key, pair)?;
            }
        }
        Ok(snapshot)
    }

    async fn claim(&self, job: &JobName, worker: &Registration) -> Result<Fence, ClaimError> {
        let claim = self.key(&Key::Claim(job.clone()));
        let registered = self.key(&Key::Worker(worker.id.clone()));
        let open = self.key(&Key::Open(job.clone()));
        let mut when =
            vec![absent(claim.clone()), Compare::lease(registered.clone(), CompareOp::Equal, worker.lease.0)];
        if job.kind() == JobKind::Drain {
            when.push(Compare::create_revision(open.clone(), CompareOp::Greater, 0));
        }
        let value = encode(&Holder { worker_id: worker.id.clone() })?;
        let attached = PutOptions::new().with_lease(worker.lease.0);
        let txn = Txn::new()
            .when(when)
            .and_then([TxnOp::put(claim.clone(), value, Some(attached))])
            .or_else([claim, registered, open].map(|key| TxnOp::get(key, None)));
        let answer = self.txn("claim", txn).await?;
        if answer.succeeded() {
            return Ok(Fence(answer.header().map_or(0, |h| h.revision())));
        }
        match found(&answer).as_slice() {
            [Some(_), ..] => Err(ClaimError::Held),
            [None, Some(w), None] if w.lease() == worker.lease.0 => Err(ClaimError::NoSuchJob),
            _ => Err(ClaimError::LeaseGone),
        }
    }

    async fn release(&self, job: &JobName, fence: Fence) -> Result<(), HoldError> {
        self.end_claim(job, fence, &[]).await
    }

    async fn complete(&self, job: &JobName, fence: Fence) -> Result<(), HoldError> {
        self.end_claim(job, fence, &[Key::Open(job.clone())]).await
    }

    async fn set_asking(&self, worker: &Registration, at_ms: Option<i64>) -> Result<(), LeaseError> {
        let registered = self.key(&Key::Worker(worker.id.clone()));
        let asking = self.key(&Key::Asking(worker.id.clone()));
        let op = match at_ms {
            Some(at_ms) => {
                let attached = PutOptions::new().with_lease(worker.lease.0);
                TxnOp::put(asking, encode(&at_ms)?, Some(attached))
            }
            None => TxnOp::delete(asking, None),
        };
        let txn =
            Txn::new().when([Compare::lease(registered, CompareOp::Equal, worker.lease.0)]).and_then([op]);
        let done = self.txn("note who asks", txn).await?.succeeded();
        done.then_some(()).ok_or(LeaseError::Gone)
    }

    async fn campaign(&self, coordinator: &Registration) -> Result<Option<Leadership>, LeaseError> {
        let leader = self.key(&Key::Leader);
        let registered = self.key(&Key::Coordinator(coordinator.id.clone()));
        let value = encode(&Leader { coordinator_id: coordinator.id.clone() })?;
        let attached = PutOptions::new().with_lease(coordinator.lease.0);
        let txn = Txn::new()
            .when([
                absent(leader.clone()),
                Compare::lease(registered.clone(), CompareOp::Equal, coordinator.lease.0),
            ])
            .and_then([TxnOp::put(leader.clone(), value, Some(attached))])
            .or_else([leader, registered].map(|key| TxnOp::get(key, None)));
        let answer = self.txn("campaign", txn).await?;
        if answer.succeeded() {
            return Ok(Some(Leadership { revision: answer.header().map_or(0, |h| h.revision()) }));
        }
        match found(&answer).as_slice() {
            [Some(leader), Some(_)] => {
                let ours = decode::<Leader>(leader)?.coordinator_id == coordinator.id;
                Ok(ours.then_some(Leadership { revision: leader.create_revision() }))
            }
            _ => Err(LeaseError::Gone),
        }
    }

    async fn open_drains(
        &self,
        leadership: Leadership,
        drains: &[(JobName, OpenDrain)],
    ) -> Result<(), LeaderError> {
        let leads = Compare::create_revision(self.key(&Key::Leader), CompareOp::Equal, leadership.revision);
        self.open(&[leads], drains).await?.then_some(()).ok_or(LeaderError::Deposed)
    }

    async fn ask_for_drains(&self, drains: &[(JobName, OpenDrain)]) -> Result<(), Error> {
        self.open(&[], drains).await.map(|_| ())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Sorts one pair into the snapshot.
fn add(snapshot: &mut Snapshot, key: Key, pair: &KeyValue) -> Result<(), Error> {
    match key {
        Key::Cluster => {}
        Key::Leader => snapshot.leader = Some(decode::<Leader>(pair)?.coordinator_id),
        Key::Coordinator(id) => {
            snapshot.coordinators.insert(id, decode(pair)?);
        }
        Key::Worker(id) => {
            snapshot.workers.insert(id, decode(pair)?);
        }
        Key::Asking(id) => {
            snapshot.asking.insert(id, decode(pair)?);
        }
        Key::Claim(job) => {
            let worker_id = decode::<Holder>(pair)?.worker_id;
            snapshot.claims.insert(job, Claim { worker_id, fence: Fence(pair.mod_revision()) });
        }
        Key::Open(job) => {
            snapshot.drains.insert(job, decode(pair)?);
        }
    }
    Ok(())
}

/// What the gets of a transaction's other branch found, in order; empty if the
/// transaction succeeded.
fn found(answer: &TxnResponse) -> Vec<Option<KeyValue>> {
    let one = |op| match op {
        TxnOpResponse::Get(mut get) => Some(get.take_kvs().into_iter().next()),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    };
    answer.op_responses().into_iter().filter_map(one).collect()
}

fn absent(key: String) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, 0)
}

fn encode(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| Error::Broken(e.to_string()))
}

fn decode<T: DeserializeOwned>(pair: &KeyValue) -> Result<T, Error> {
    let key = || String::from_utf8_lossy(pair.key()).into_owned();
    serde_json::from_slice(pair.value()).map_err(|e| Error::Broken(format!("value of {}: {e}", key())))
}

/// Every call goes through here, so none is without a time-out.
async fn bounded<T>(
    what: &str,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, Failure> {
    match time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(classify(what, &error)),
        Err(_) => {
            let text = format!("{what}: no answer from etcd within {} ms", CALL_TIMEOUT.as_millis());
            Err(Failure::Other(Error::Unavailable(text)))
        }
    }
}

fn classify(what: &str, error: &etcd_client::Error) -> Failure {
    use etcd_client::Error as E;
    let text = format!("{what}: {error}");
    match error {
        // The client makes this of an answer with TTL ≤ 0.
        E::LeaseKeepAliveError(_) => Failure::LeaseNotFound,
        E::GRpcStatus(status) => match status.code() {
            // Of all we ask for only leases can be missing.
            Code::NotFound => Failure::LeaseNotFound,
            Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented => {
                Failure::Other(Error::Broken(text))
            }
            _ => Failure::Other(Error::Unavailable(text)),
        },
        E::InvalidArgs(_) | E::InvalidUri(_) | E::InvalidMetadataValue(_) | E::EndpointsNotManaged => {
            Failure::Other(Error::Broken(text))
        }
        _ => Failure::Other(Error::Unavailable(text)),
    }
}

/// Nudges after each change below `prefix`, and after each break, since changes may
/// have been missed meanwhile. Ends with the store.
async fn keep_watching(client: Client, prefix: String, changed: watch::Sender<u64>) {
    loop {
        let mut watch = client.watch_client();
        let all = WatchOptions::new().with_prefix();
        if let Ok(mut stream) = bounded("watch", watch.watch(prefix.as_str(), Some(all))).await {
            while let Ok(Some(answer)) = stream.message().await {
                if answer.canceled() {
                    break;
                }
                changed.send_modify(|n| *n += 1);
            }
        }
        changed.send_modify(|n| *n += 1);
        time::sleep(WATCH_PAUSE).await;
    }
}
