//! Faults by chance, one after the other, all from the seed.

use std::{sync::OnceLock, thread, time::Duration};

use ksched_client::bench::Door;
use ksched_testbed::{
    dice::Dice,
    proxy::{Action, Cut},
    wire::Api,
};

use crate::{
    bed::{Bed, COORDINATORS, WORKERS, now_ms},
    mischief::during,
    run::Load,
    table,
};

const SECONDS: u32 = 180;
static ASKED_SECONDS: OnceLock<u32> = OnceLock::new();

/// `--soak-seconds`; to be called before it runs.
pub(crate) fn set_seconds(seconds: u32) {
    ASKED_SECONDS.set(seconds).expect("set once");
}

pub(crate) fn random_mix(bed: &Bed) {
    let scenario = "soak::random_mix";
    let mut dice = Dice::of(scenario);
    let seconds = ASKED_SECONDS.get().copied().unwrap_or(SECONDS);
    let load = Load { door: Door::Unary, rate: 200, seconds, delays_ms: (0, 40_000), ..Load::default() };
    let outcome = during(bed, scenario, load, || {
        let until_ms = now_ms() + i64::from(seconds.saturating_sub(10)) * 1_000;
        while now_ms() < until_ms {
            one(bed, scenario, &mut dice);
            bed.mend().expect("all running again");
            thread::sleep(Duration::from_millis(dice.below(1_000..8_000)));
        }
        now_ms()
    });
    outcome.assert_nothing_wrong();
}

fn one(bed: &Bed, scenario: &str, dice: &mut Dice) {
    let links = bed.links();
    let worker = WORKERS[dice.below(0..3) as usize];
    let coordinator = COORDINATORS[dice.below(0..2) as usize];
    let cut = [Cut::Both, Cut::Answers, Cut::Requests][dice.below(0..3) as usize];
    let time = Duration::from_millis(dice.below(500..9_000));
    let say = |what: String| table::note(scenario, format!("{what}, {time:.1?}"));
    let (kill, pause) =
        (|name: &str| bed.cluster.kill(name).unwrap(), |name: &str| bed.cluster.pause(name).unwrap());
    match dice.below(0..10) {
        0 => (say(format!("kill {worker}")), kill(worker)),
        1 => (say(format!("pause {worker}")), pause(worker)),
        2 => (say(format!("kill {coordinator}")), kill(coordinator)),
        3 => (say(format!("pause {coordinator}")), pause(coordinator)),
        4 => (say("kill etcd".to_owned()), kill("etcd")),
        5 => (say(format!("worker from Kafka {cut:?}")), links.worker_kafka.cut(cut)),
        6 => (
            say(format!("worker from coordinators {cut:?}")),
            links.worker_coordinators.iter().for_each(|link| link.cut(cut)),
        ),
        7 => {
            (say(format!("coordinators from etcd {cut:?}")), links.etcd.iter().for_each(|link| link.cut(cut)))
        }
        8 => (
            say("answers to EndTxn lost".to_owned()),
            links.worker_kafka.on(Api::END_TXN, 3, Action::LoseAnswer),
        ),
        _ => (say("clock a minute ahead".to_owned()), bed.clock().set("+60")),
    };
    thread::sleep(time);
}
