//! What every store promises (`ksched_server::store`). Times are generous: leases
//! live at least their TTL, and not for ever.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use ksched_core::{cluster::Cluster, jobs::JobName};
use ksched_local::etcd;
use ksched_server::store::{
    ClaimError, CoordinatorInfo, HoldError, LeaderError, LeaseError, OpenDrain, Registration, SettingsError,
    Store, WorkerInfo, etcd::EtcdStore, memory::MemoryStore,
};

pub(crate) const TTL: Duration = Duration::from_secs(2);
/// A lease that nobody renews is gone by then, on a busy machine too.
const GONE_WITHIN: Duration = Duration::from_secs(20);

pub(crate) type AnyStore = Arc<dyn Store>;

/// One etcd for all tests of this binary; each test has a cluster of its own.
fn shared_etcd() -> &'static str {
    static ETCD: OnceLock<(etcd::Etcd, tempfile::TempDir, String)> = OnceLock::new();
    let start = || {
        let dir = tempfile::tempdir().unwrap();
        let etcd = etcd::Etcd::start(dir.path(), &etcd::Options::default()).unwrap();
        let address = etcd.address();
        (etcd, dir, address)
    };
    &ETCD.get_or_init(start).2
}

pub(crate) async fn etcd_store(address: &str, cluster: &str) -> AnyStore {
    let options =
        ksched_server::store::etcd::Options { endpoints: vec![address.to_owned()], ..Default::default() };
    Arc::new(EtcdStore::connect(&options, cluster).await.unwrap())
}

/// Runs each check on both stores.
macro_rules! conformance {
    ($($check:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $check() {
                super::$check(super::Arc::new(super::MemoryStore::new())).await;
            })+
        }
        mod real_etcd {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                let address = tokio::task::spawn_blocking(super::shared_etcd).await.unwrap();
                super::$check(super::etcd_store(address, stringify!($check)).await).await;
            })+
        }
    };
}

conformance!(
    settings_are_put_once_and_compared,
    leases_expire_with_their_claims,
    renewed_leases_live_on,
    an_ended_lease_is_gone_at_once,
    fences_strictly_increase,
    of_many_claims_one_wins,
    older_fences_are_refused,
    drains_open_once_and_complete,
    many_drains_at_once,
    leadership_passes_on,
    a_deposed_leader_writes_nothing,
    asking_is_noted_and_leased,
    snapshots_are_consistent,
    changes_are_hinted,
);

pub(crate) fn worker() -> WorkerInfo {
    WorkerInfo {
        name: "worker-1".to_owned(),
        version: "0".to_owned(),
        http_address: String::new(),
        registered_at_ms: 7,
    }
}

fn coordinator(name: &str) -> CoordinatorInfo {
    CoordinatorInfo {
        name: name.to_owned(),
        version: "0".to_owned(),
        grpc_address: "127.0.0.1:1".to_owned(),
        http_address: "127.0.0.1:2".to_owned(),
    }
}

fn drain(partition: i32) -> JobName {
    JobName::Drain { topic: "ksched.wheel.1".into(), partition }
}

pub(crate) const LANE: JobName = JobName::Lane(0);
const OPEN: OpenDrain = OpenDrain { open_at_ms: 5 };

/// Waits until it holds, for at most [`GONE_WITHIN`].
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < GONE_WITHIN, "{what}: not within {GONE_WITHIN:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn settings_are_put_once_and_compared(store: AnyStore) {
    let ours = Cluster::default();
    store.settle(&ours).await.unwrap();
    store.settle(&ours).await.unwrap();
    let mut other = ours.clone();
    other.geometry.ratio = 16;
    other.intake_topic = "elsewhere".to_owned();
    other.compat_stamps = true;
    let Err(SettingsError::Differ(differences)) = store.settle(&other).await else { panic!("accepted") };
    let settings: Vec<_> = differences.iter().map(|d| d.setting.as_str()).collect();
    assert_eq!(settings, ["ratio", "intake_topic"]);
    assert_eq!((differences[0].ours.as_str(), differences[0].stored.as_str()), ("16", "32"));
    store.settle(&ours).await.unwrap();
}

async fn leases_expire_with_their_claims(store: AnyStore) {
    let w = store.register_worker(&worker(), TTL).await.unwrap();
    let since = Instant::now();
    let fence = store.claim(&LANE, &w).await.unwrap();
    eventually("lease expires", async || store.snapshot().await.unwrap().workers.is_empty()).await;
    // A little less than the TTL: the lease began before `since`.
    assert!(since.elapsed() > TTL - Duration::from_millis(500), "expired early");
    assert!(store.snapshot().await.unwrap().claims.is_empty());
    assert_eq!(store.renew_worker(&w).await, Err(LeaseError::Gone));
    assert_eq!(store.claim(&LANE, &w).await, Err(ClaimError::LeaseGone));
    assert_eq!(store.release(&LANE, fence).await, Err(HoldError::NotHeld));
    assert_eq!(store.set_asking(&w, Some(1)).await, Err(LeaseError::Gone));
}

async fn renewed_leases_live_on(store: AnyStore) {
    let w = store.register_worker(&worker(), TTL).await.unwrap();
    let fence = store.claim(&LANE, &w).await.unwrap();
    for _ in 0..8 {
        tokio::time::sleep(TTL / 4).await;
        store.renew_worker(&w).await.unwrap();
    }
    assert_eq!(store.snapshot().await.unwrap().claims[&LANE].fence, fence);
}

async fn an_ended_lease_is_gone_at_once(store: AnyStore) {
    let w = store.register_worker(&worker(), TTL * 10).await.unwrap();
    let other = store.register_worker(&worker(), TTL * 10).await.unwrap();
    assert_ne!(w.id, other.id);
    store.claim(&LANE, &w).await.unwrap();
    store.end(w.lease).await.unwrap();
    let now = store.snapshot().await.unwrap();
    assert!(now.claims.is_empty());
    assert_eq!(now.workers.keys().collect::<Vec<_>>(), [&other.id]);
    store.end(w.lease).await.unwrap();
    assert_eq!(store.renew_worker(&w).await, Err(LeaseError::Gone));
    let mixed = Registration { id: w.id, lease: other.lease };
    assert_eq!(store.claim(&LANE, &mixed).await, Err(ClaimError::LeaseGone));
}

async fn fences_strictly_increase(store: AnyStore) {
    let a = store.register_worker(&worker(), TTL * 10).await.unwrap();
    let b = store.register_worker(&worker(), TTL * 10).await.unwrap();
    let mut last = None;
    for turn in 0..6 {
        let w = if turn % 2 == 0 { &a } else { &b };
        let fence = store.claim(&LANE, w).await.unwrap();
        assert!(Some(fence) > last);
        last = Some(fence);
        let claim = store.snapshot().await.unwrap().claims[&LANE].clone();
        assert_eq!((claim.worker_id, claim.fence), (w.id.clone(), fence));
        store.release(&LANE, fence).await.unwrap();
    }
}

async fn of_many_claims_one_wins(store: AnyStore) {
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let store = Arc::clone(&store);
        tries.spawn(async move {
            let w = store.register_worker(&worker(), TTL * 10).await.unwrap();
            store.claim(&LANE, &w).await
        });
    }
    let outcomes = tries.join_all().await;
    assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|o| matches!(o, Ok(_) | Err(ClaimError::Held))), "{outcomes:?}");
}

async fn older_fences_are_refused(store: AnyStore) {
    let w = store.register_worker(&worker(), TTL * 10).await.unwrap();
    store.ask_for_drains(&[(drain(1), OPEN)]).await.unwrap();
    let old = store.claim(&drain(1), &w).await.unwrap();
    store.release(&drain(1), old).await.unwrap();
    assert_eq!(store.release(&drain(1), old).await, Err(HoldError::NotHeld));
    let new = store.claim(&drain(1), &w).await.unwrap();
    assert_eq!(store.release(&drain(1), old).await, Err(HoldError::NotHeld));
    assert_eq!(store.complete(&drain(1), old).await, Err(HoldError::NotHeld));
    let now = store.snapshot().await.unwrap();
    assert_eq!(now.claims[&drain(1)].fence, new);
    assert!(now.drains.contains_key(&drain(1)));
    store.complete(&drain(1), new).await.unwrap();
}

async fn drains_open_once_and_complete(store: AnyStore) {
    let w = store.register_worker(&worker(), TTL * 10).await.unwrap();
    assert_eq!(store.claim(&drain(3), &w).await, Err(ClaimError::NoSuchJob));
    store.ask_for_drains(&[(drain(3), OPEN)]).await.unwrap();
    store.ask_for_drains(&[(drain(3), OpenDrain { open_at_ms: 99 }), (drain(4), OPEN)]).await.unwrap();
    let drains = store.snapshot().await.unwrap().drains;
    assert_eq!(drains.into_iter().collect::<Vec<_>>(), [(drain(3), OPEN), (drain(4), OPEN)]);

    let fence = store.claim(&drain(3), &w).await.unwrap();
    assert_eq!(store.claim(&drain(3), &w).await, Err(ClaimError::Held));
    store.complete(&drain(3), fence).await.unwrap();
    assert_eq!(store.complete(&drain(3), fence).await, Err(HoldError::NotHeld));
    let now = store.snapshot().await.unwrap();
    assert!(now.claims.is_empty());
    assert_eq!(now.drains.into_keys().collect::<Vec<_>>(), [drain(4)]);
    assert_eq!(store.claim(&drain(3), &w).await, Err(ClaimError::NoSuchJob));
}

async fn many_drains_at_once(store: AnyStore) {
    let drains: Vec<_> = (0..1_000).map(|p| (drain(p), OPEN)).collect();
    store.ask_for_drains(&drains).await.unwrap();
    store.ask_for_drains(&drains).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().drains.len(), 1_000);
}

async fn leadership_passes_on(store: AnyStore) {
    let a = store.register_coordinator(&coordinator("a"), TTL).await.unwrap();
    let b = store.register_coordinator(&coordinator("b"), TTL * 10).await.unwrap();
    let first = store.campaign(&a).await.unwrap().expect("nobody else leads");
    assert_eq!(store.campaign(&a).await.unwrap(), Some(first));
    assert_eq!(store.campaign(&b).await.unwrap(), None);
    assert_eq!(store.snapshot().await.unwrap().leader, Some(a.id.clone()));
    assert_eq!(store.snapshot().await.unwrap().coordinators[&b.id], coordinator("b"));

    // a is not heard of again.
    eventually("b leads", async || store.campaign(&b).await.unwrap().is_some()).await;
    assert_eq!(store.renew_coordinator(&a).await, Err(LeaseError::Gone));
    assert_eq!(store.campaign(&a).await, Err(LeaseError::Gone));
    let now = store.snapshot().await.unwrap();
    assert_eq!(now.leader.as_ref(), Some(&b.id));
    assert_eq!(now.coordinators.into_keys().collect::<Vec<_>>(), [b.id]);
}

async fn a_deposed_leader_writes_nothing(store: AnyStore) {
    let a = store.register_coordinator(&coordinator("a"), TTL * 10).await.unwrap();
    let b = store.register_coordinator(&coordinator("b"), TTL * 10).await.unwrap();
    let old = store.campaign(&a).await.unwrap().unwrap();
    store.open_drains(old, &[(drain(0), OPEN)]).await.unwrap();
    store.end(a.lease).await.unwrap();
    assert_eq!(store.open_drains(old, &[(drain(1), OPEN)]).await, Err(LeaderError::Deposed));
    let new = store.campaign(&b).await.unwrap().unwrap();
    assert_eq!(store.open_drains(old, &[(drain(1), OPEN)]).await, Err(LeaderError::Deposed));
    store.open_drains(new, &[(drain(2), OPEN)]).await.unwrap();
    let drains = store.snapshot().await.unwrap().drains;
    assert_eq!(drains.into_keys().collect::<Vec<_>>(), [drain(0), drain(2)]);
}

async fn asking_is_noted_and_leased(store: AnyStore) {
    let w = store.register_worker(&worker(), TTL * 10).await.unwrap();
    store.set_asking(&w, Some(11)).await.unwrap();
    store.set_asking(&w, Some(12)).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().asking[&w.id], 12);
    store.set_asking(&w, None).await.unwrap();
    assert!(store.snapshot().await.unwrap().asking.is_empty());
    store.set_asking(&w, Some(13)).await.unwrap();
    store.end(w.lease).await.unwrap();
    assert!(store.snapshot().await.unwrap().asking.is_empty());
}

/// While workers come with a claim and go with it, no snapshot shows one without
/// the other's end, and revisions never fall.
async fn snapshots_are_consistent(store: AnyStore) {
    let churn = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for _ in 0..50 {
                let w = store.register_worker(&worker(), TTL * 10).await.unwrap();
                store.claim(&LANE, &w).await.unwrap();
                store.claim(&JobName::Lane(1), &w).await.unwrap();
                tokio::task::yield_now().await;
                store.end(w.lease).await.unwrap();
            }
        })
    };
    let (mut revision, mut seen) = (0, 0);
    while !churn.is_finished() {
        let now = store.snapshot().await.unwrap();
        assert!(now.revision >= revision);
        revision = now.revision;
        for claim in now.claims.values() {
            assert!(now.workers.contains_key(&claim.worker_id));
            assert!(claim.fence.0 <= now.revision);
            seen += 1;
        }
        tokio::task::yield_now().await;
    }
    churn.await.unwrap();
    assert!(seen > 0, "no claim was ever seen");
    assert!(store.snapshot().await.unwrap().claims.is_empty());
}

async fn changes_are_hinted(store: AnyStore) {
    let mut changed = store.changed();
    // The hint may begin late (a watch is being set up), so the change is repeated.
    let w = store.register_worker(&worker(), TTL * 10).await.unwrap();
    eventually("hint", async || {
        changed.mark_unchanged();
        store.set_asking(&w, Some(1)).await.unwrap();
        tokio::time::timeout(Duration::from_millis(500), changed.changed()).await.is_ok()
    })
    .await;
}
