//! Drains that routers ask for: they learned at the acknowledgement that the bucket
//! they appended to had opened meanwhile (design §3).

use std::{collections::BTreeMap, sync::Arc};

use ksched_core::jobs::JobName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    leasing::Views,
    store::{OpenDrain, Store},
};

/// Taken from the channel at once: a burst of messages for one bucket is one drain.
const AT_ONCE: usize = 1_024;

/// Opens what is asked for, until shutdown. A drain that is open already stays as it
/// is: if it misses the message, the next tick of the job maker finds it.
pub async fn open_passed(
    store: Arc<dyn Store>,
    views: Views,
    mut passed: mpsc::Receiver<(JobName, OpenDrain)>,
    shutdown: CancellationToken,
) {
    let mut asked = Vec::with_capacity(AT_ONCE);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            n = passed.recv_many(&mut asked, AT_ONCE) => if n == 0 { return },
        }
        let mut drains: BTreeMap<_, _> = asked.drain(..).collect();
        if let Ok(seen) = views.latest() {
            drains.retain(|job, _| !seen.snapshot.drains.contains_key(job));
        }
        let drains: Vec<_> = drains.into_iter().collect();
        if let Err(error) = store.ask_for_drains(&drains).await {
            // The job maker finds the bucket by itself.
            tracing::warn!(%error, drains = drains.len(), "drains not asked for");
        }
    }
}
