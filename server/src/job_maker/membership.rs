//! This coordinator's registration, and its leadership if it has it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::store::{CoordinatorInfo, Leadership, LeaseError, Registration, Store};

/// Renewals a TTL: three may fail before the lease does.
const RENEWALS: u32 = 4;

/// Keeps this coordinator registered and campaigns for the lead: a task to be run by
/// the coordinator.
#[derive(Debug)]
pub struct Membership {
    store: Arc<dyn Store>,
    info: CoordinatorInfo,
    ttl: Duration,
    leadership: watch::Sender<Option<Leadership>>,
}

/// A registration and when it was last known to be good.
struct Held {
    registration: Registration,
    /// Just before the renewal that succeeded was sent.
    good_at: Instant,
}

/// The task, and what it tells: `Some` while this coordinator leads. It is withdrawn
/// before the lease can have expired unnoticed.
pub fn membership(
    store: Arc<dyn Store>,
    info: CoordinatorInfo,
    ttl: Duration,
) -> (Membership, watch::Receiver<Option<Leadership>>) {
    let (leadership, receiver) = watch::channel(None);
    (Membership { store, info, ttl, leadership }, receiver)
}

impl Membership {
    /// Until shutdown; then it leaves at once, so that another may lead.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut held = None;
        loop {
            held = self.step(held).await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = time::sleep(self.ttl / RENEWALS) => {}
            }
        }
        self.tell(None);
        if let Some(held) = held
            && let Err(error) = self.store.end(held.registration.lease).await
        {
            tracing::warn!(%error, "lease left to expire");
        }
    }

    /// Registers or renews, then campaigns.
    async fn step(&self, held: Option<Held>) -> Option<Held> {
        let began = Instant::now();
        let held = match held {
            Some(held) => self.renew(held, began).await,
            None => self.register(began).await,
        };
        let Some(held) = held else {
            self.tell(None);
            return None;
        };
        match self.store.campaign(&held.registration).await {
            Ok(leadership) => self.tell(leadership),
            Err(LeaseError::Gone) => {
                self.tell(None);
                return None;
            }
            Err(LeaseError::Store(error)) => {
                // The lease outlives the next step, else the lead is withdrawn below.
                tracing::debug!(%error, "no campaign");
            }
        }
        if held.good_at.elapsed() > self.ttl - self.ttl / RENEWALS {
            self.tell(None);
        }
        Some(held)
    }

    async fn register(&self, began: Instant) -> Option<Held> {
        match self.store.register_coordinator(&self.info, self.ttl).await {
            Ok(registration) => Some(Held { registration, good_at: began }),
            Err(error) => {
                tracing::warn!(%error, "coordinator not registered");
                None
            }
        }
    }

    async fn renew(&self, held: Held, began: Instant) -> Option<Held> {
        match self.store.renew_coordinator(&held.registration).await {
            Ok(()) => Some(Held { good_at: began, ..held }),
            Err(LeaseError::Gone) => {
                tracing::warn!("coordinator's lease is gone");
                self.register(began).await
            }
            Err(LeaseError::Store(error)) => {
                tracing::debug!(%error, "coordinator's lease not renewed");
                Some(held)
            }
        }
    }

    fn tell(&self, leadership: Option<Leadership>) {
        self.leadership.send_if_modified(|told| {
            let news = *told != leadership;
            if news {
                tracing::info!(leads = leadership.is_some(), "leadership");
            }
            *told = leadership;
            news
        });
    }
}
