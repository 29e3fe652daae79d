//! A bench run beside which a scenario does its mischief.

use std::{sync::Arc, thread, time::Duration};

use ksched_client::{
    bench::{self, Door, Options, Report},
    verify::{AnomalyKind, Verification},
};
use tokio::task::JoinHandle;

use crate::{
    bed::{Bed, block_on, eventually, runtime},
    catch::{Catch, Caught},
    dice,
    table::Row,
};

/// For the first delivery.
const UNDER_WAY_WITHIN: Duration = Duration::from_secs(20);
/// What counts as affected by a fault.
const AFFECTED_MS: i64 = 500;

/// How a scenario's messages are scheduled.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub door: Door,
    pub rate: u32,
    pub seconds: u32,
    pub delays_ms: (i64, i64),
    /// Bytes of each value.
    pub size: usize,
    /// By so much clocks may differ before a message counts as early.
    pub clock_ms: i64,
}

impl Default for Load {
    fn default() -> Self {
        Self { door: Door::Unary, rate: 500, seconds: 20, delays_ms: (0, 15_000), size: 200, clock_ms: 0 }
    }
}

/// A run on its way.
#[derive(Debug)]
pub struct Run {
    scenario: &'static str,
    report: JoinHandle<Result<Report, bench::Error>>,
    catch: Catch,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Outcome {
    pub scenario: &'static str,
    pub report: Report,
    /// Every delivered record.
    pub caught: Vec<Caught>,
}

impl Run {
    pub fn start(bed: &Bed, scenario: &'static str, load: Load) -> Self {
        let topic = bed.target(scenario);
        let catch = Catch::start(bed, &topic);
        let count = u64::from(load.rate) * u64::from(load.seconds);
        let (from_ms, to_ms) = load.delays_ms;
        let mut options = Options::new(f64::from(load.rate), count, from_ms..=to_ms, dice::seed());
        options.shape.size = load.size;
        options.door = load.door;
        options.bounds.clock_ms = load.clock_ms;
        options.topic = topic;
        options.grace = Duration::from_secs(60);
        let run = bench::run(options, bed.client(), Arc::clone(&bed.log), |_| ());
        Self { scenario, report: runtime().spawn(Box::pin(run)), catch }
    }

    /// Waits for its end and prints its row; `fault_at_ms` is when the trouble began.
    pub fn finish(self, fault_at_ms: Option<i64>) -> Outcome {
        let report = block_on(self.report).expect("a run that ends").expect("a run");
        let outcome = Outcome { scenario: self.scenario, report, caught: self.catch.all() };
        let heal_ms = fault_at_ms.map(|at_ms| (outcome.healed_at_ms().unwrap_or(at_ms) - at_ms).max(0));
        Row::new(self.scenario, &outcome.report, outcome.worst_ms(), heal_ms).print();
        outcome
    }

    /// Lets it run for so long, and until something is delivered.
    pub fn get_under_way(&self, at_least: Duration) {
        thread::sleep(at_least);
        // A cluster in its first seconds is slow.
        eventually("message before the fault", UNDER_WAY_WITHIN, || (self.delivered() > 0).then_some(()));
    }

    /// What has been delivered so far.
    pub fn delivered(&self) -> usize {
        self.catch.all().len()
    }
}

impl Outcome {
    fn verification(&self) -> &Verification {
        self.report.verification()
    }

    /// Worst visible lateness.
    pub fn worst_ms(&self) -> f64 {
        self.verification().visible_ms.map_or(f64::INFINITY, |p| p.max)
    }

    pub fn p99_ms(&self) -> f64 {
        self.verification().visible_ms.map_or(f64::INFINITY, |p| p.p99)
    }

    /// When the last affected message came.
    pub fn healed_at_ms(&self) -> Option<i64> {
        self.caught.iter().filter(|c| c.late_ms() > AFFECTED_MS).map(|c| c.at_ms).max()
    }

    /// Nothing lost, doubled, early, out of order, changed or invented, and everything was taken.
    #[track_caller]
    pub fn assert_exact(&self) {
        self.assert_exact_but_order();
        let v = self.verification();
        assert_eq!(v.reordered, 0, "{}: {:?}", self.scenario, v.examples);
    }

    /// Nothing lost, early, changed or invented; repeated perhaps.
    #[track_caller]
    pub fn assert_at_least_once(&self) {
        let v = self.verification();
        assert!(v.delivered > 0, "{}: nothing was delivered", self.scenario);
        assert_eq!(v.lost + v.early + v.corrupted + v.invented, 0, "{}: {:?}", self.scenario, v.examples);
        assert_eq!(self.report.refused, 0, "{}: {:?}", self.scenario, self.report.problems);
    }

    /// For when buckets could not be drained in time: a later message that was in the lane already then overtakes
    /// an earlier one that still waited in the wheel. Order is promised for what is in the lane when it is due.
    #[track_caller]
    pub fn assert_exact_but_order(&self) {
        self.assert_exact_in_any_order();
        let (v, scenario) = (self.verification(), self.scenario);
        let told = || v.examples.iter().filter(|example| example.kind == AnomalyKind::Reordered);
        assert_eq!(v.reordered, told().count() as u64, "{scenario}: too many out of order to look at each");
        for behind in told() {
            let is_it =
                |c: &&Caught| (Some(c.partition), Some(c.offset)) == (behind.partition, behind.offset);
            let waited_in_the_wheel = self.caught.iter().find(is_it).is_some_and(|c| c.hops() > 0);
            assert!(waited_in_the_wheel, "{scenario}: out of order within the lane: {behind:?}");
        }
    }

    /// Nothing lost, doubled, early, changed or invented, and everything was taken.
    #[track_caller]
    pub fn assert_exact_in_any_order(&self) {
        let (scenario, problems) = (self.scenario, &self.report.problems);
        self.assert_nothing_wrong();
        assert_eq!(self.report.refused, 0, "{scenario}: {problems:?}");
    }

    /// Nothing lost, doubled, early, changed or invented of what was taken; some may have been refused.
    #[track_caller]
    pub fn assert_nothing_wrong(&self) {
        let (v, scenario) = (self.verification(), self.scenario);
        assert!(v.delivered > 0, "{scenario}: nothing was delivered");
        let wrong = v.lost + v.doubled + v.early + v.corrupted + v.invented;
        let earliest_ms = self.caught.iter().map(Caught::late_ms).min();
        assert_eq!(
            wrong, 0,
            "{scenario}: {:?}, the earliest seen {earliest_ms:?} ms after its due time {:?}",
            self.report.problems, v.examples
        );
    }

    #[track_caller]
    pub fn assert_worst_below(&self, bound: Duration) {
        let worst = self.worst_ms();
        assert!(
            worst < bound.as_millis() as f64,
            "{}: worst lateness {worst} ms, not {bound:?}",
            self.scenario
        );
    }
}
