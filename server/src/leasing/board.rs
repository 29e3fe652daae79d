//! A view of the store as the planner's problem.

use ksched_core::{
    cluster::Cluster,
    jobs::{
        JobName,
        plan::{Board, FreeJob, Worker},
    },
};
use tokio::time::Instant;

use super::seen::Seen;

/// A worker that hangs in its long poll repeats that it asks this often.
pub(super) const ASK_EVERY_MS: i64 = 5_000;
/// What it said is believed this long.
const ASKED_FOR_MS: i64 = 3 * ASK_EVERY_MS;

/// Whether what a worker said at `asked_at_ms` still counts. Clocks of coordinators
/// differ by little, in either direction.
fn is_asking(asked_at_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(asked_at_ms).abs() < ASKED_FOR_MS
}

/// Who holds what and what is free.
pub(super) fn board(cluster: &Cluster, seen: &Seen, now: Instant, now_ms: i64) -> Board {
    let snapshot = &seen.snapshot;
    let held = |id: &String| {
        let ours = snapshot.claims.iter().filter(|(_, claim)| claim.worker_id == *id);
        ours.map(|(job, _)| job.clone()).collect()
    };
    let workers = snapshot.workers.keys().map(|id| Worker {
        id: id.clone(),
        held: held(id),
        asking: snapshot.asking.get(id).is_some_and(|at_ms| is_asking(*at_ms, now_ms)),
    });
    let free = seen.free_since.iter().map(|(name, since)| FreeJob {
        name: name.clone(),
        free_for_ms: i64::try_from(now.saturating_duration_since(*since).as_millis()).unwrap_or(i64::MAX),
        urgency: urgency(cluster, seen, name),
    });
    Board { workers: workers.collect(), free: free.collect() }
}

/// The lower levels have the shorter leads: a drain of level 1 has some seconds,
/// one of level 4 weeks.
fn urgency(cluster: &Cluster, seen: &Seen, job: &JobName) -> i64 {
    let JobName::Drain { topic, .. } = job else { return 0 };
    let levels = cluster.geometry.levels;
    let level = (1..=levels).find(|level| cluster.wheel_topic(*level) == **topic).unwrap_or(levels);
    let open_at_ms = seen.snapshot.drains.get(job).map_or(i64::MAX, |drain| drain.open_at_ms);
    open_at_ms.saturating_add(cluster.geometry.slot_width_ms(level) / 4)
}
