//! The simulator itself: runs can be repeated, and it can fail. How often each broken rule
//! is caught tells `ksched-sim --mutants`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Mutex;

use ksched_core::mutant::{self, Mutant};
use ksched_sim::{Options, run};

/// Mutants are set for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Seeds of so many in which something does not hold.
fn caught(mutant: Option<Mutant>, seeds: std::ops::Range<u64>) -> usize {
    let _alone = ALONE.lock().unwrap();
    mutant::set(mutant);
    let is_caught = |seed: &u64| !run(*seed, Options::default()).unwrap().violations.is_empty();
    let count = seeds.filter(is_caught).count();
    mutant::set(None);
    count
}

#[test]
fn a_seed_runs_alike_each_time() {
    let _alone = ALONE.lock().unwrap();
    for seed in 1..40 {
        let (first, second) =
            (run(seed, Options::default()).unwrap(), run(seed, Options::default()).unwrap());
        assert_eq!((first.steps, first.fingerprint), (second.steps, second.fingerprint), "seed {seed}");
        assert!(first.steps >= 500, "seed {seed} has {} steps", first.steps);
    }
}

#[test]
fn with_all_rules_all_holds() {
    assert_eq!(caught(None, 1..100), 0);
}

#[test]
fn copies_that_are_not_recognised_are_seen() {
    assert!(caught(Some(Mutant::NoDedupe), 1..40) > 10);
}

#[test]
fn routing_to_open_slots_is_seen() {
    assert!(caught(Some(Mutant::RoutesToOpenSlot), 1..40) > 10);
}

#[test]
fn lanes_that_fire_beyond_their_lease_are_seen() {
    assert!(caught(Some(Mutant::FiresBeyondLease), 1..600) > 0);
}

#[test]
fn positions_read_before_the_init_are_seen() {
    assert!(caught(Some(Mutant::PositionsBeforeInit), 1..600) > 0);
}

/// Found by 50,000 longer seeds: at least once, a message alone in its batch was put off, the record of that timed
/// out, and the message was dead-lettered for it.
#[test]
fn a_put_off_that_times_out_is_not_its_messages_refusal() {
    let _alone = ALONE.lock().unwrap();
    let outcome = run(5_051_293, Options { stretch: 2, ..Options::default() }).unwrap();
    assert!(outcome.violations.is_empty(), "{:?}", outcome.violations);
}

/// Heavy seeds show it, and of those one in ten.
#[test]
fn a_staircase_of_one_step_is_seen() {
    assert!(caught(Some(Mutant::OneStep), 1..300) > 0);
}
