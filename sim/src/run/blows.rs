//! Blows: what befalls a process, or a part of the cluster, at an instant.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ksched_core::cluster::Delivery;
use rand::{RngExt, rngs::StdRng};
use tokio::time::sleep;

use super::{Simulation, TTL_MS};
use crate::{
    process::{CutOff, Process},
    world::World,
};

/// How wrong a worker's clock is where it is beyond all bounds.
const WORKER_WRONG_US: i64 = 3_600_000_000;
/// A coordinator's is wrong by something else, or the two would confirm each other.
const COORDINATOR_WRONG_US: i64 = 2 * WORKER_WRONG_US;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    WorkerDies,
    WorkerStops,
    /// Every worker is stopped and started again, one soon after the other.
    WorkersRoll,
    WorkerStandsStill,
    WorkerIsCutOff,
    /// It cannot renew its lease, and Kafka is as near as ever.
    WorkerIsNotHeard,
    CoordinatorDies,
    CoordinatorStandsStill,
    /// It sees but one of broker and store.
    CoordinatorIsHalfBlind,
    BrokerIsAway,
    StoreIsAway,
    WorkersClockMoves,
    /// A worker's clock falls behind what it has settled by, and then it dies.
    WorkersClockFallsBack,
    WorkersClockIsWrong,
    CoordinatorsClockMoves,
    CoordinatorsClockIsWrong,
}

impl Blow {
    const ALL: [Self; 16] = [
        Self::WorkerDies,
        Self::WorkerStops,
        Self::WorkersRoll,
        Self::WorkerStandsStill,
        Self::WorkerIsCutOff,
        Self::WorkerIsNotHeard,
        Self::CoordinatorDies,
        Self::CoordinatorStandsStill,
        Self::CoordinatorIsHalfBlind,
        Self::BrokerIsAway,
        Self::StoreIsAway,
        Self::WorkersClockMoves,
        Self::WorkersClockFallsBack,
        Self::WorkersClockIsWrong,
        Self::CoordinatorsClockMoves,
        Self::CoordinatorsClockIsWrong,
    ];

    /// Drawn so often, of all weights' sum.
    fn weight(self, world: &World) -> u32 {
        let clocks = &world.weather.clocks;
        match self {
            Self::WorkerDies | Self::WorkerStandsStill => 2,
            // Nothing but the lease keeps two holders of such a lane apart.
            Self::WorkerIsNotHeard if world.cluster.delivery == Delivery::AtLeastOnce => 6,
            Self::WorkersClockFallsBack if clocks.differ() => 3,
            Self::WorkersClockMoves | Self::WorkersClockIsWrong if clocks.differ() => 1,
            Self::CoordinatorsClockMoves | Self::CoordinatorsClockIsWrong if clocks.coordinators_differ() => {
                1
            }
            Self::WorkersClockMoves
            | Self::WorkersClockFallsBack
            | Self::WorkersClockIsWrong
            | Self::CoordinatorsClockMoves
            | Self::CoordinatorsClockIsWrong => 0,
            _ => 1,
        }
    }

    fn draw(world: &World, rng: &mut StdRng) -> Self {
        let mut left = rng.random_range(0..Self::ALL.iter().map(|blow| blow.weight(world)).sum());
        let is_drawn = |blow: &Self| match left.checked_sub(blow.weight(world)) {
            Some(less) => {
                left = less;
                false
            }
            None => true,
        };
        Self::ALL.into_iter().find(is_drawn).unwrap_or(Self::WorkerDies)
    }
}

impl Simulation {
    pub(super) async fn strike(&mut self) {
        let (blow, at, span_ms) = self.world.draw(|rng| {
            (
                Blow::draw(&self.world, rng),
                rng.random_range(0..self.workers.len()),
                rng.random_range(100..8_000),
            )
        });
        let span = Duration::from_millis(span_ms);
        let worker = Arc::clone(&self.workers[at].process);
        let coordinator = self.directory.lock().first().map(|node| Arc::clone(&node.process));
        match blow {
            Blow::WorkerDies => {
                worker.kill();
                self.restart_worker(at, span / 2).await;
            }
            Blow::WorkerStops => {
                self.workers[at].shutdown.cancel();
                self.restart_worker(at, span / 8).await;
            }
            Blow::WorkersRoll => self.roll().await,
            Blow::WorkerStandsStill => worker.pause_for(span),
            Blow::WorkerIsCutOff => {
                let broker = self.world.once_in(2);
                cut_off(&worker, CutOff { broker, coordinators: true, store: false }, span).await;
            }
            Blow::WorkerIsNotHeard => {
                let span = Duration::from_millis(TTL_MS.unsigned_abs()) + span;
                cut_off(&worker, CutOff { coordinators: true, ..CutOff::default() }, span).await;
            }
            Blow::CoordinatorDies => self.coordinator_dies(span / 2).await,
            Blow::CoordinatorStandsStill => coordinator.iter().for_each(|one| one.pause_for(span)),
            Blow::CoordinatorIsHalfBlind => {
                let broker = self.world.once_in(2);
                if let Some(one) = coordinator {
                    cut_off(&one, CutOff { broker, coordinators: false, store: !broker }, span).await;
                }
            }
            Blow::BrokerIsAway => self.away(&self.world.broker_away, span).await,
            Blow::StoreIsAway => self.away(&self.world.store_away, span).await,
            Blow::WorkersClockMoves => worker.set_skew(self.world.draw_skew_us(|c| &c.workers_us)),
            Blow::WorkersClockFallsBack => {
                let clocks = &self.world.weather.clocks;
                worker.set_skew(i64::midpoint(*clocks.workers_us.start(), *clocks.workers_us.end()));
                sleep(Duration::from_millis(1_500)).await;
                worker.set_skew(*clocks.workers_us.start());
                sleep(self.world.draw_ms(20, 1_300)).await;
                worker.kill();
                self.restart_worker(at, span / 8).await;
            }
            Blow::WorkersClockIsWrong => {
                worker.set_skew(if self.world.once_in(2) { WORKER_WRONG_US } else { -WORKER_WRONG_US });
                sleep(span).await;
                worker.set_skew(self.world.draw_skew_us(|c| &c.workers_us));
            }
            Blow::CoordinatorsClockMoves => {
                let skew_us = self.world.draw_skew_us(|c| &c.coordinators_us);
                coordinator.iter().for_each(|one| one.set_skew(skew_us));
            }
            Blow::CoordinatorsClockIsWrong => {
                let ahead = self.world.once_in(2);
                let wrong_us = if ahead { COORDINATOR_WRONG_US } else { -COORDINATOR_WRONG_US };
                self.world.coordinator_was_wrong.store(true, Ordering::Relaxed);
                coordinator.iter().for_each(|one| one.set_skew(wrong_us));
                sleep(span).await;
                let skew_us = self.world.draw_skew_us(|c| &c.coordinators_us);
                coordinator.iter().for_each(|one| one.set_skew(skew_us));
            }
        }
    }

    async fn restart_worker(&mut self, at: usize, after: Duration) {
        let name = self.workers.remove(at).process.name.clone();
        sleep(after).await;
        self.add_worker(&name);
    }

    async fn roll(&mut self) {
        for _ in 0..self.workers.len() {
            let worker = self.workers.remove(0);
            if self.world.once_in(3) {
                worker.process.kill()
            } else {
                worker.shutdown.cancel()
            }
            sleep(self.world.draw_ms(1, 400)).await;
            self.add_worker(&worker.process.name);
            sleep(self.world.draw_ms(1, 1_500)).await;
        }
    }

    async fn coordinator_dies(&self, after: Duration) {
        let first = self.directory.lock().pop();
        let Some(node) = first else { return };
        node.process.kill();
        sleep(after).await;
        self.add_coordinator(&node.process.name);
    }

    async fn away(&self, what: &AtomicBool, span: Duration) {
        self.world.step("faults", || format!("broker or store away for {span:?}"));
        what.store(true, Ordering::Relaxed);
        sleep(span).await;
        what.store(false, Ordering::Relaxed);
    }
}

async fn cut_off(process: &Process, links: CutOff, span: Duration) {
    *process.cut_off.lock() = links;
    sleep(span).await;
    *process.cut_off.lock() = CutOff::default();
}
