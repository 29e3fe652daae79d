//! One run: a cluster, its users and its faults, all from one seed.

mod blows;

use std::{
    cell::RefCell,
    panic,
    sync::{Arc, Once},
    time::Duration,
};

use ksched_core::cluster::{Cluster, Delivery, Geometry};
use ksched_kafka::{
    Position, TopicPartition,
    memory::{Request, TopicConfig},
};
use ksched_server::store::Store as _;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};

use crate::{
    faults::Weather,
    judge,
    nodes::{Directory, WorkerNode, start_coordinator, start_worker},
    users::{Load, TARGET, TARGET_PARTITIONS, Users},
    world::World,
};

/// After the last fault has healed, and all is due, everything is out within this (I7).
const HEALS_WITHIN: Duration = Duration::from_secs(12);
/// Jobs of dead processes have ended after this.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
const TTL_MS: i64 = 2_000;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub seed: u64,
    /// Requests, calls, kills and the like.
    pub steps: u64,
    /// Two runs with the same are alike step by step.
    pub fingerprint: u64,
    /// From the last fault's end, or the last due time if that was later, until all was out.
    pub healed_in: Duration,
    /// Empty if all is well.
    pub violations: Vec<String>,
}

/// Whether each step is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trace {
    On,
    #[default]
    Off,
}

/// How a seed is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub trace: Trace,
    /// Faults last so many times as long, for as many times the messages.
    pub stretch: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { trace: Trace::Off, stretch: 1 }
    }
}

/// Runs one seed, in virtual time.
///
/// # Errors
/// The machine has no runtime to give.
pub fn run(seed: u64, options: Options) -> std::io::Result<Outcome> {
    notice_panics();
    PANICS.take();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    // Drawn inside, where time is the runtime's.
    let mut outcome = runtime.block_on(async { Simulation::draw(seed, options).run(seed).await });
    outcome.violations.extend(PANICS.take().into_iter().map(|panic| format!("panicked: {panic}")));
    Ok(outcome)
}

thread_local! {
    /// Of this run. Jobs and tasks catch them, as the shipped processes do.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Panics are violations, not lines on the terminal. To unwind a killed process's job
/// calls no hook.
fn notice_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|info| PANICS.with_borrow_mut(|panics| panics.push(info.to_string()))));
    });
}

struct Simulation {
    world: Arc<World>,
    users: Arc<Users>,
    directory: Directory,
    workers: Vec<WorkerNode>,
    /// Nothing goes wrong in this run, so the order is judged.
    fair: bool,
    rages_for: Duration,
    /// At this instant everything stops for this long.
    outage: Option<(Duration, Duration)>,
}

impl Simulation {
    fn draw(seed: u64, options: Options) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        let geometry = Geometry {
            slot_width_ms: 4_000,
            ratio: 4,
            levels: 2,
            lanes: rng.random_range(1..=2),
            lease_ttl_ms: TTL_MS,
        };
        let cluster = Cluster {
            geometry,
            intake_partitions: 1,
            delivery: if rng.random_bool(0.15) { Delivery::AtLeastOnce } else { Delivery::ExactlyOnce },
            ..Cluster::default()
        };
        let fair = rng.random_bool(0.05);
        let load = match rng.random_range(0..20) {
            _ if fair => Load::Thin,
            0..=3 => Load::Dense,
            4..=5 => Load::Heavy,
            _ => Load::Thin,
        };
        let weather =
            if fair { Weather::fair() } else { Weather::draw(&mut rng, TTL_MS.unsigned_abs(), load) };
        let world = World::new(seed, cluster, weather, options.trace == Trace::On);
        let stretch = options.stretch.max(1);
        let span_ms = rng.random_range(8_000..20_000) * i64::from(stretch);
        let ahead_ms = if rng.random_bool(0.25) { 70_000 } else { 15_000 };
        let second = |s: u64| Duration::from_secs(s);
        let outage = (!fair && rng.random_bool(0.15))
            .then(|| (second(rng.random_range(2..10)), second(rng.random_range(20..200))));
        let users = Users::draw(&world, load, span_ms, ahead_ms, stretch as usize);
        Self {
            world,
            users,
            directory: Directory::default(),
            workers: Vec::new(),
            fair,
            rages_for: Duration::from_millis(span_ms.unsigned_abs() + 8_000),
            outage,
        }
    }

    async fn run(mut self, seed: u64) -> Outcome {
        self.make_topics();
        self.populate();
        self.users.start(&self.world, &self.directory);
        if !self.fair {
            self.rage().await;
        }
        self.heal();
        let healed_in = self.settle().await;
        if !judge::missing(&self.world, &self.users).is_empty()
            && let Ok(seen) = self.world.store.snapshot().await
        {
            self.world.step("store", || format!("{seen:#?}"));
        }
        judge::judge(&self.world, &self.users, self.fair);
        self.end().await;
        let world = &self.world;
        Outcome {
            seed,
            steps: world.steps(),
            fingerprint: world.fingerprint(),
            healed_in,
            violations: world.violations(),
        }
    }

    /// As the first coordinator of a cluster does: every topic, every position at 0.
    fn make_topics(&self) {
        let cluster = &self.world.cluster;
        let geometry = &cluster.geometry;
        let internal = TopicConfig { log_append_time: true, ..TopicConfig::default() };
        let mut topics = vec![
            (cluster.due_topic(), geometry.due_partitions(), internal),
            (cluster.intake_topic.clone(), cluster.intake_partitions, TopicConfig::default()),
        ];
        topics.extend(
            (1..=geometry.levels).map(|k| (cluster.wheel_topic(k), geometry.wheel_partitions(), internal)),
        );
        let positions = topics.iter().flat_map(|(topic, count, _)| {
            let topic: Arc<str> = topic.as_str().into();
            (0..*count).map(move |partition| {
                let at = TopicPartition { topic: Arc::clone(&topic), partition };
                (at, Position { offset: 0, metadata: String::new() })
            })
        });
        let positions = positions.collect();
        let lanes = i32::from(geometry.lanes);
        topics.push((cluster.control_topic(), lanes, TopicConfig { compacted: true, ..internal }));
        topics.push((cluster.dead_letter_topic.clone(), 4, TopicConfig::default()));
        topics.push((TARGET.to_owned(), TARGET_PARTITIONS, internal));
        for (topic, partitions, config) in topics {
            if let Err(why) = self.world.broker.create_topic(&topic, partitions, config) {
                self.world.violated(format!("{topic} cannot be made: {why}"));
            }
        }
        let group = cluster.group().into();
        self.world.broker.handle(&Request::OffsetCommit { group, positions });
    }

    fn populate(&mut self) {
        let (coordinators, workers) =
            self.world.draw(|rng| (rng.random_range(1..=2), rng.random_range(2..=3)));
        for number in 1..=coordinators {
            self.add_coordinator(&format!("coordinator-{number}"));
        }
        for number in 1..=workers {
            self.add_worker(&format!("worker-{number}"));
        }
    }

    fn add_coordinator(&self, name: &str) {
        let skew_us = self.world.draw_skew_us(|clocks| &clocks.coordinators_us);
        let node = start_coordinator(&self.world, name, skew_us);
        self.directory.lock().push(node);
    }

    fn add_worker(&mut self, name: &str) {
        let skew_us = self.world.draw_skew_us(|clocks| &clocks.workers_us);
        self.workers.push(start_worker(&self.world, &self.directory, name, skew_us));
    }

    /// Strikes now and then, until it is time to heal.
    async fn rage(&mut self) {
        let began_at = Instant::now();
        let mut outage = self.outage;
        while began_at.elapsed() < self.rages_for {
            sleep(self.world.draw_ms(100, 5_000)).await;
            self.revive();
            match outage.take_if(|(at, _)| began_at.elapsed() >= *at) {
                Some((_, span)) => self.everything_stops(span).await,
                None => self.strike().await,
            }
        }
    }

    async fn everything_stops(&mut self, span: Duration) {
        let names: Vec<_> = self
            .workers
            .drain(..)
            .map(|worker| {
                worker.process.kill();
                worker.process.name.clone()
            })
            .collect();
        let coordinators: Vec<_> = self.directory.lock().drain(..).collect();
        coordinators.iter().for_each(|node| node.process.kill());
        sleep(span).await;
        coordinators.iter().for_each(|node| self.add_coordinator(&node.process.name));
        names.iter().for_each(|name| self.add_worker(name));
    }

    /// Starts again what died at a certain request.
    fn revive(&mut self) {
        let is_dead = |worker: &WorkerNode| worker.process.dead.is_cancelled();
        let dead: Vec<_> = self.workers.extract_if(.., |worker| is_dead(worker)).collect();
        dead.iter().for_each(|worker| self.add_worker(&worker.process.name));
        let dead: Vec<_> =
            self.directory.lock().extract_if(.., |node| node.process.dead.is_cancelled()).collect();
        dead.iter().for_each(|node| self.add_coordinator(&node.process.name));
    }

    fn heal(&mut self) {
        self.revive();
        self.world.step("faults", || "all heals".to_owned());
        self.world.weather.heal();
    }

    /// Until everything accepted is out, or should be.
    async fn settle(&self) -> Duration {
        let all_due_ms = self.users.plan.iter().map(|p| p.due_ms).max().unwrap_or(0);
        let wait = Duration::from_millis((all_due_ms - self.world.now_ms()).max(0).unsigned_abs());
        sleep(wait).await;
        let began_at = Instant::now();
        while began_at.elapsed() < HEALS_WITHIN {
            sleep(Duration::from_millis(500)).await;
            if self.users.are_done() && judge::missing(&self.world, &self.users).is_empty() {
                let healed_in = began_at.elapsed();
                // A copy that is still on its way has time to show itself.
                sleep(Duration::from_secs(6)).await;
                return healed_in;
            }
        }
        began_at.elapsed()
    }

    async fn end(&self) {
        self.workers.iter().for_each(|worker| worker.process.kill());
        self.directory.lock().iter().for_each(|node| node.process.kill());
        let began_at = Instant::now();
        loop {
            let jobs = self.world.jobs.lock().clone();
            if jobs.is_empty() {
                return;
            }
            if began_at.elapsed() > ENDS_WITHIN {
                return self.world.violated(format!("jobs of dead processes do not end: {jobs:?}"));
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}
