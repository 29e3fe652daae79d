//! etcd killed and started again under a connected store.

use std::time::{Duration, Instant};

use ksched_local::etcd::{Etcd, Options};
use ksched_server::store::{ClaimError, Error, LeaseError};

use crate::conformance::{LANE, etcd_store, worker};

/// A call's time-out, and what a busy machine adds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const BACK_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn calls_fail_in_time_and_work_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let start = move || Etcd::start(&path, &Options::default()).unwrap();
    let etcd = tokio::task::spawn_blocking(start).await.unwrap();
    let store = etcd_store(&etcd.address(), "outage").await;
    let w = store.register_worker(&worker(), Duration::from_secs(30)).await.unwrap();
    let fence = store.claim(&LANE, &w).await.unwrap();

    tokio::task::block_in_place(|| etcd.kill()).unwrap();
    for _ in 0..3 {
        let since = Instant::now();
        assert!(matches!(store.snapshot().await, Err(Error::Unavailable(_))));
        assert!(matches!(store.renew_worker(&w).await, Err(LeaseError::Store(Error::Unavailable(_)))));
        let claim = store.claim(&LANE, &w).await;
        assert!(matches!(claim, Err(ClaimError::Store(Error::Unavailable(_)))), "{claim:?}");
        assert!(since.elapsed() < 3 * ANSWERS_WITHIN);
    }

    tokio::task::block_in_place(|| etcd.start_again()).unwrap();
    let since = Instant::now();
    let now = loop {
        match store.snapshot().await {
            Ok(now) => break now,
            Err(error) => assert!(since.elapsed() < BACK_WITHIN, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // What was written is still there, and the store's hint works again.
    assert_eq!(now.claims[&LANE].fence, fence);
    store.renew_worker(&w).await.unwrap();
    let mut changed = store.changed();
    store.set_asking(&w, Some(1)).await.unwrap();
    tokio::time::timeout(BACK_WITHIN, changed.changed()).await.expect("no hint").unwrap();
    store.release(&LANE, fence).await.unwrap();
    assert!(store.claim(&LANE, &w).await.unwrap() > fence);
}
