//! One part killed or paused in the middle of a run: nothing lost, doubled or early, and all of it out again
//! without anyone's help.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    bed::{Bed, WORKERS, now_ms},
    run::{Load, Outcome, Run},
    table,
};

/// From the start of the run to the fault.
const BEFORE: Duration = Duration::from_secs(5);
const PAUSED: Duration = Duration::from_secs(15);
const ETCD_GONE: Duration = Duration::from_secs(20);
/// What recovers from a fault of some seconds is out within this.
const BOUND: Duration = Duration::from_secs(20);
const KAFKA: &str = "kafka-1";
/// In the broker's log when its group coordinator has given up.
const COORDINATOR_STUCK: &str = "No in-memory snapshot for epoch";
/// What is not to be affected at all, on a busy machine.
const BRIEF: Duration = Duration::from_secs(3);

pub(crate) fn worker_killed(bed: &Bed) {
    let worker = bed.worker_with_lanes();
    let outcome = during_a_run(bed, "faults::worker_killed", || {
        bed.cluster.kill(&worker).unwrap();
        // Only the others can take over meanwhile.
        thread::sleep(Duration::from_secs(8));
        bed.cluster.start_again(&worker).unwrap();
    });
    outcome.assert_exact();
    outcome.assert_worst_below(BOUND);
}

pub(crate) fn worker_paused(bed: &Bed) {
    let worker = bed.worker_with_lanes();
    let log = bed.log_length(&worker);
    let outcome = during_a_run(bed, "faults::worker_paused", || {
        bed.cluster.pause(&worker).unwrap();
        thread::sleep(PAUSED);
        bed.cluster.resume(&worker).unwrap();
    });
    outcome.assert_exact();
    outcome.assert_worst_below(BOUND);
    let said = bed.log_since(&worker, log);
    assert!(
        said.contains("fenced") || said.contains("lease is gone") || said.contains("not ours any more"),
        "the zombie {worker} did not say that its jobs were taken:\n{said}"
    );
}

pub(crate) fn leading_coordinator_killed(bed: &Bed) {
    let leader = bed.leader();
    let outcome = during_a_run(bed, "faults::leading_coordinator_killed", || {
        bed.cluster.kill(&leader).unwrap();
        thread::sleep(Duration::from_secs(8));
        bed.cluster.start_again(&leader).unwrap();
    });
    outcome.assert_exact();
    outcome.assert_worst_below(BOUND);
}

/// Lanes go on meanwhile: nobody can take them over, so what is scheduled straight into them is on time. Drains
/// wait for jobs to be made again.
pub(crate) fn etcd_killed(bed: &Bed) {
    bed.wait_all_lanes_held();
    let direct = Load { rate: 300, seconds: 30, delays_ms: (0, 5_000), ..Load::default() };
    let through_the_wheel = Load { rate: 200, delays_ms: (16_000, 25_000), ..Load::default() };
    let direct = Run::start(bed, "faults::etcd_killed, lanes alone", direct);
    let wheel = Run::start(bed, "faults::etcd_killed, through the wheel", through_the_wheel);
    thread::sleep(BEFORE);
    let at_ms = now_ms();
    bed.cluster.kill("etcd").unwrap();
    thread::sleep(ETCD_GONE);
    bed.cluster.start_again("etcd").unwrap();
    let (direct, wheel) = (direct.finish(Some(at_ms)), wheel.finish(Some(at_ms)));
    direct.assert_exact();
    direct.assert_worst_below(BRIEF);
    wheel.assert_exact_but_order();
    wheel.assert_worst_below(ETCD_GONE + BOUND);
    bed.wait_all_lanes_held();
}

/// How long Kafka takes to come back is the machine's matter (8 s to 58 s seen); what ksched takes after that is
/// bounded.
pub(crate) fn kafka_killed(bed: &Bed) {
    let scenario = "faults::kafka_killed";
    let mut gone = Duration::ZERO;
    let outcome = during_a_run(bed, scenario, || {
        let log = bed.log_length(KAFKA);
        bed.between_transactions(&WORKERS, || bed.cluster.kill(KAFKA).unwrap());
        let killed = Instant::now();
        bed.cluster.start_again(KAFKA).unwrap();
        gone = killed.elapsed();
        table::note(scenario, format!("Kafka answers again after {} ms", gone.as_millis()));
        // Seen with Kafka 4.4: the broker's group coordinator loads __consumer_offsets while it is written to, gets
        // out of step and stays NOT_COORDINATOR for good. Only the broker's restart helps, so it gets one.
        thread::sleep(Duration::from_secs(10));
        if bed.log_since(KAFKA, log).contains(COORDINATOR_STUCK) {
            table::note(scenario, "the broker's group coordinator is stuck: restarting the broker");
            bed.cluster.restart(KAFKA).unwrap();
            gone = killed.elapsed();
        }
    });
    // What the client had to send again may be looked up for a moment when it is due, and others overtake it.
    outcome.assert_exact_in_any_order();
    outcome.assert_worst_below(gone + BOUND);
}

fn during_a_run(bed: &Bed, scenario: &'static str, fault: impl FnOnce()) -> Outcome {
    bed.wait_all_lanes_held();
    let run = Run::start(bed, scenario, Load::default());
    run.get_under_way(BEFORE);
    let at_ms = now_ms();
    fault();
    run.finish(Some(at_ms))
}
