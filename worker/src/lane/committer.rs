//! Commits an at-least-once lane's positions on a thread of its own, so that the lane
//! never waits for it; of several on their way only the last counts.

use std::{sync::Arc, time::Duration};

use ksched_core::host::Host;
use ksched_kafka::{Log, Position, TopicPartition};
use ksched_telemetry::logging::Repeats;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::warn;

use crate::{attempt::Ended, job::Control};

/// From one commit to the next.
const PACE: Duration = Duration::from_millis(100);
/// How long the last commit of a clean stop is waited for; without it some messages
/// are fired again.
const LAST: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(5);

/// The lane's end of it.
pub(super) struct Committer {
    host: Arc<dyn Host>,
    slot: Arc<Mutex<Slot>>,
}

#[derive(Default)]
struct Slot {
    positions: Option<Vec<(TopicPartition, Position)>>,
    /// No more positions will come.
    finished: bool,
    /// All that came are committed, or could not be.
    done: bool,
}

impl Committer {
    pub(super) fn spawn<L: Log>(host: Arc<dyn Host>, log: L, control: Control) -> Result<Self, Ended> {
        let slot = Arc::new(Mutex::new(Slot::default()));
        let (theirs, there) = (slot.clone(), host.clone());
        host.spawn("lane-commit", Box::new(move || run(&theirs, &*there, &log, &control)))
            .map_err(|reason| Ended::Failed(format!("no thread for commits: {reason}")))?;
        Ok(Self { host, slot })
    }

    pub(super) fn commit(&self, positions: Vec<(TopicPartition, Position)>) {
        self.slot.lock().positions = Some(positions);
    }

    /// Waits until the last positions are committed, or the next holder would repeat
    /// what they cover.
    pub(super) fn finish(&self) {
        self.slot.lock().finished = true;
        let began_at = Instant::now();
        while !self.slot.lock().done && began_at.elapsed() < LAST {
            self.host.sleep(GLANCE);
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn run(slot: &Mutex<Slot>, host: &dyn Host, log: &impl Log, control: &Control) {
    let (job, mut refused) = (&control.name, Repeats::default());
    loop {
        let (positions, finished) = {
            let mut slot = slot.lock();
            (slot.positions.take(), slot.finished)
        };
        if let Some(positions) = positions {
            if control.lease_left().is_zero() {
                // The lane may be another's by now, and its position further on.
                warn!(%job, "lease is over: position is not committed");
            } else if let Err(reason) = log.commit(&positions) {
                if let Some(left_out) = refused.tell() {
                    warn!(%job, %reason, left_out, "position was not committed: after a take-over messages may be repeated");
                }
                // A newer one covers it; if the lane has none to give, it is tried again.
                slot.lock().positions.get_or_insert(positions);
            }
        }
        if finished {
            slot.lock().done = true;
            return;
        }
        wait(slot, host);
    }
}

/// Until the pace allows another commit, or none will follow.
fn wait(slot: &Mutex<Slot>, host: &dyn Host) {
    let began_at = Instant::now();
    while began_at.elapsed() < PACE && !slot.lock().finished {
        host.sleep(PACE / 4);
    }
}
