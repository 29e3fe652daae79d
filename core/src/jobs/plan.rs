//! Who should hold which job: problem in, decision out.
//!
//! Lanes, and apart from them intake partitions, are spread evenly: of J jobs on W
//! workers each holds ⌊J/W⌋ or ⌈J/W⌉, and at most J mod W hold the greater number.
//! A free job is taken at once by whoever asks within that share. If the rightful
//! worker does not come ([`GRACE_MS`]), workers that are not active lose their
//! claim to a share; a while later anybody may take it. A worker gives jobs up
//! only for one that *asks* and has less than its share: so a worker that never
//! asks (it cannot reach Kafka, say) moves nothing back and forth.
//!
//! Drain jobs end by themselves, so they are never given up; each asker takes its
//! part of the free ones, most urgent first.

use std::cmp::Reverse;

use super::{JobKind, JobName};

/// How long a free job waits for a worker that has a share open.
pub const GRACE_MS: i64 = 1_000;

/// A worker as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    pub id: String,
    pub held: Vec<JobName>,
    /// It has said lately that it has less than its share and wants more.
    pub asking: bool,
}

/// A job that nobody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeJob {
    pub name: JobName,
    /// How long it has been so, in ms.
    pub free_for_ms: i64,
    /// Lower goes first; only drains differ.
    pub urgency: i64,
}

/// All workers and all free jobs at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    pub workers: Vec<Worker>,
    pub free: Vec<FreeJob>,
}

/// Kinds of which every worker has its share.
const SHARED: [JobKind; 2] = [JobKind::Lane, JobKind::Intake];

impl Worker {
    fn count(&self, kind: JobKind) -> usize {
        self.held.iter().filter(|name| name.kind() == kind).count()
    }

    fn is_active(&self, kind: JobKind) -> bool {
        self.asking || self.count(kind) > 0
    }
}

impl Board {
    /// The free jobs that this worker should take now. None if it is not on the
    /// board.
    pub fn take(&self, worker_id: &str, free_drains: usize) -> Vec<JobName> {
        let Some(asker) = self.workers.iter().find(|w| w.id == worker_id) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        for kind in SHARED {
            taken.extend(self.take_shared(asker, kind));
        }
        taken.extend(self.take_drains(free_drains));
        taken
    }

    /// The lanes and intake partitions that this worker should stop and release.
    pub fn give_up(&self, worker_id: &str) -> Vec<JobName> {
        SHARED.into_iter().flat_map(|kind| self.give_up_shared(worker_id, kind)).collect()
    }

    /// Whether the worker has less than its share: what makes others give up.
    pub fn is_short(&self, worker_id: &str) -> bool {
        SHARED.into_iter().any(|kind| {
            let asker = self.workers.iter().find(|w| w.id == worker_id);
            asker.is_some_and(|w| {
                let active = |other: &&Worker| other.id == w.id || other.is_active(kind);
                self.room(w, kind, active) > 0
            })
        })
    }

    /// How many more jobs of a kind the asker may hold if those workers that
    /// `counts` lets in have a share each.
    fn room(&self, asker: &Worker, kind: JobKind, counts: impl Fn(&&Worker) -> bool) -> usize {
        let others: Vec<usize> =
            self.workers.iter().filter(|w| w.id != asker.id && counts(w)).map(|w| w.count(kind)).collect();
        let total = self.total(kind);
        let (floor, remainder) = (total / (others.len() + 1), total % (others.len() + 1));
        // The greater number is for the first ones who come for it.
        let greater = others.iter().filter(|held| **held > floor).count();
        let share = floor + usize::from(greater < remainder);
        share.saturating_sub(asker.count(kind))
    }

    fn total(&self, kind: JobKind) -> usize {
        let held: usize = self.workers.iter().map(|w| w.count(kind)).sum();
        held + self.free.iter().filter(|job| job.name.kind() == kind).count()
    }

    fn take_shared(&self, asker: &Worker, kind: JobKind) -> Vec<JobName> {
        let mut free: Vec<_> = self.free.iter().filter(|job| job.name.kind() == kind).collect();
        if free.is_empty() {
            return Vec::new();
        }
        free.sort_by(|a, b| a.name.cmp(&b.name));
        // Several who ask at once begin at different jobs and seldom collide.
        let place = self.workers.iter().filter(|w| w.id < asker.id).count();
        let start = (place * free.len() / self.workers.len().max(1)).min(free.len());
        free.rotate_left(start);
        // The longest free first: only those may go beyond the share.
        free.sort_by_key(|job| Reverse(job.free_for_ms / GRACE_MS));

        let share = self.room(asker, kind, |_| true);
        let active_share = self.room(asker, kind, |w| w.is_active(kind));
        let mut taken = Vec::new();
        for job in free {
            let room = match job.free_for_ms / GRACE_MS {
                ..=0 => share,
                1 => share.max(active_share),
                _ => usize::MAX,
            };
            if taken.len() < room {
                taken.push(job.name.clone());
            }
        }
        taken
    }

    fn take_drains(&self, free_drains: usize) -> Vec<JobName> {
        let mut free: Vec<_> = self.free.iter().filter(|job| job.name.kind() == JobKind::Drain).collect();
        free.sort_by(|a, b| a.urgency.cmp(&b.urgency).then_with(|| a.name.cmp(&b.name)));
        let part = free.len().div_ceil(self.workers.len().max(1));
        free.into_iter().take(part.min(free_drains)).map(|job| job.name.clone()).collect()
    }

    fn give_up_shared(&self, worker_id: &str, kind: JobKind) -> Vec<JobName> {
        let mut ranked: Vec<&Worker> = self.workers.iter().filter(|w| w.is_active(kind)).collect();
        if ranked.is_empty() {
            return Vec::new();
        }
        // Those who hold most keep the greater number: fewest moves.
        ranked.sort_by(|a, b| b.count(kind).cmp(&a.count(kind)).then_with(|| a.id.cmp(&b.id)));
        let total = self.total(kind);
        let (floor, remainder) = (total / ranked.len(), total % ranked.len());
        let target = |rank: usize| floor + usize::from(rank < remainder);

        let wanted: usize = ranked
            .iter()
            .enumerate()
            .filter(|(_, w)| w.asking)
            .map(|(rank, w)| target(rank).saturating_sub(w.count(kind)))
            .sum();
        // Free jobs are there for the taking and spare a move.
        let free = self.free.iter().filter(|job| job.name.kind() == kind).count();
        let mut wanted = wanted.saturating_sub(free);
        for (rank, worker) in ranked.iter().enumerate() {
            let excess = worker.count(kind).saturating_sub(target(rank)).min(wanted);
            if worker.id == worker_id {
                let mut held: Vec<_> = worker.held.iter().filter(|n| n.kind() == kind).cloned().collect();
                held.sort();
                return held.split_off(held.len() - excess);
            }
            wanted -= excess;
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lanes(numbers: impl IntoIterator<Item = u16>) -> Vec<JobName> {
        numbers.into_iter().map(JobName::Lane).collect()
    }

    fn worker(id: &str, held: Vec<JobName>) -> Worker {
        Worker { id: id.to_owned(), held, asking: false }
    }

    fn free(name: JobName, free_for_ms: i64) -> FreeJob {
        FreeJob { name, free_for_ms, urgency: 0 }
    }

    fn board(workers: Vec<Worker>, unclaimed: Vec<JobName>) -> Board {
        Board { workers, free: unclaimed.into_iter().map(|name| free(name, 0)).collect() }
    }

    /// Workers with random holdings of `jobs` lanes and 2 · `jobs` intakes.
    fn boards() -> impl Strategy<Value = Board> {
        (1_usize..8, 1_u16..40).prop_flat_map(|(workers, jobs)| {
            prop::collection::vec(0..=workers, 3 * usize::from(jobs)).prop_map(move |holders| {
                let mut b = board((0..workers).map(|w| worker(&format!("w{w}"), vec![])).collect(), vec![]);
                for (n, holder) in holders.into_iter().enumerate() {
                    let n = n as u16;
                    let name = if n < jobs {
                        JobName::Lane(n)
                    } else {
                        JobName::Intake { topic: "in".into(), partition: i32::from(n - jobs) }
                    };
                    match b.workers.get_mut(holder) {
                        Some(w) => w.held.push(name),
                        None => b.free.push(free(name, 0)),
                    }
                }
                b
            })
        })
    }

    fn take(b: &mut Board, w: usize) -> usize {
        let names = b.take(&b.workers[w].id.clone(), 0);
        b.free.retain(|job| !names.contains(&job.name));
        b.workers[w].held.extend(names.iter().cloned());
        b.workers[w].asking = b.is_short(&b.workers[w].id);
        names.len()
    }

    fn give_up(b: &mut Board, w: usize) -> usize {
        let names = b.give_up(&b.workers[w].id.clone());
        b.workers[w].held.retain(|name| !names.contains(name));
        b.free.extend(names.iter().map(|name| free(name.clone(), 0)));
        names.len()
    }

    fn spread(b: &Board, kind: JobKind) -> usize {
        let counts = || b.workers.iter().map(|w| w.count(kind));
        counts().max().unwrap() - counts().min().unwrap()
    }

    /// The fewest jobs that must leave a holder for all to be balanced.
    fn fewest_moves(b: &Board, kind: JobKind) -> usize {
        let (total, n) = (b.total(kind), b.workers.len());
        let mut counts: Vec<_> = b.workers.iter().map(|w| w.count(kind)).collect();
        counts.sort_unstable_by_key(|c| Reverse(*c));
        let target = |rank: usize| total / n + usize::from(rank < total % n);
        counts.iter().enumerate().map(|(rank, c)| c.saturating_sub(target(rank))).sum()
    }

    proptest! {
        /// From any start, when all ask and heartbeat in any order, every job is
        /// assigned, spread within one, with the fewest moves, and then all is still.
        #[test]
        fn settles_balanced_with_fewest_moves(mut b in boards(), order in prop::collection::vec(0_usize..64, 1..30)) {
            let n = b.workers.len();
            let fewest: usize = SHARED.into_iter().map(|kind| fewest_moves(&b, kind)).sum();
            let mut moves = 0;
            // All have asked once before anybody gives up, as workers that hang in
            // their long polls have.
            for step in 0..n {
                take(&mut b, (step + order[0]) % n);
            }
            for step in 0..10 * n {
                moves += give_up(&mut b, step % n);
                for asker in 0..n {
                    take(&mut b, (asker + order[step % order.len()]) % n);
                }
            }
            prop_assert!(b.free.is_empty());
            for kind in SHARED {
                prop_assert!(spread(&b, kind) <= 1, "{:?}", b);
            }
            prop_assert!(moves <= fewest, "{} moves, {} would do", moves, fewest);
            for w in 0..n {
                prop_assert_eq!(give_up(&mut b, w) + take(&mut b, w), 0);
            }
        }

        /// Nobody but one worker ever asks: it has everything in the end, and the
        /// silent ones take nothing away.
        #[test]
        fn one_who_asks_is_enough(mut b in boards()) {
            for w in &mut b.workers[1..] {
                b.free.extend(w.held.drain(..).map(|name| free(name, 0)));
            }
            for age in 0..4 {
                take(&mut b, 0);
                b.free.iter_mut().for_each(|job| job.free_for_ms = age * GRACE_MS);
            }
            prop_assert!(b.free.is_empty());
            prop_assert_eq!(give_up(&mut b, 0), 0);
        }

        /// Within the grace time nobody takes more than its share.
        #[test]
        fn no_more_than_the_share_at_once(mut b in boards(), w in 0_usize..8) {
            let w = w % b.workers.len();
            let before: Vec<_> = SHARED.into_iter().map(|kind| b.workers[w].count(kind)).collect();
            take(&mut b, w);
            for (kind, before) in SHARED.into_iter().zip(before) {
                let share = b.total(kind).div_ceil(b.workers.len());
                prop_assert!(b.workers[w].count(kind) <= share.max(before));
            }
        }
    }

    #[test]
    fn a_newcomer_gets_its_share() {
        let mut b = board(vec![worker("a", lanes(0..4)), worker("b", vec![])], vec![]);
        assert_eq!(b.give_up("a"), []);
        assert!(b.is_short("b"));
        b.workers[1].asking = true;
        assert_eq!(b.give_up("a"), lanes([2, 3]));
        assert_eq!(b.give_up("b"), []);
    }

    #[test]
    fn a_dead_workers_lanes_are_shared_at_once() {
        let b = board(vec![worker("a", lanes([0])), worker("b", lanes([1]))], lanes([2, 3]));
        assert_eq!(b.take("a", 0).len(), 1);
        assert_eq!(b.take("b", 0).len(), 1);
        assert_ne!(b.take("a", 0), b.take("b", 0));
    }

    #[test]
    fn a_lane_waits_a_moment_for_the_rightful_worker() {
        let mut b = board(vec![worker("a", lanes([0])), worker("b", vec![])], lanes([1]));
        assert_eq!(b.take("a", 0), []);
        b.free[0].free_for_ms = GRACE_MS;
        assert_eq!(b.take("a", 0), lanes([1]));
    }

    #[test]
    fn drains_go_round_most_urgent_first() {
        let drain = |partition| JobName::Drain { topic: "w".into(), partition };
        let mut b = board(vec![worker("a", vec![]), worker("b", vec![])], vec![]);
        b.free =
            (0..4).map(|p| FreeJob { name: drain(p), free_for_ms: 0, urgency: i64::from(10 - p) }).collect();
        assert_eq!(b.take("a", 8), [drain(3), drain(2)]);
        assert_eq!(b.take("a", 1), [drain(3)]);
        assert_eq!(b.take("a", 0), []);
        assert_eq!(b.take("stranger", 8), []);
    }
}
