//! A request that its client has given up, arriving later: the anomaly that Jepsen found in Bufstream. Kafka must
//! refuse it, because whoever lost it has raised its producer's epoch before it went on.

use std::{io, thread, time::Duration};

use ksched_core::message::Content;
use ksched_kafka::append::{self, Append, Appender, Limits};
use ksched_testbed::{
    dice::Dice,
    links::LINKED,
    proxy::{Action, Cut},
    wire::{Api, Frame},
};

use crate::{
    bed::{Bed, block_on},
    catch::{Catch, Caught},
    mischief::{light, until_ended},
    table,
};

const TIMES: usize = 5;
/// A lane under load sends each kind of request many times a second.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// Of the ten seconds after which an append's outcome is unknown.
const NEARLY_TIMED_OUT: Duration = Duration::from_millis(8_500);
/// Longer than `socket.timeout.ms`: its client has given it up.
const ON_HOLD: Duration = Duration::from_secs(12);
/// INVALID_PRODUCER_EPOCH, PRODUCER_FENCED.
const FENCED: [i16; 2] = [47, 90];

/// A broker that took each of them would have been asked too early: then nothing is shown.
pub(crate) fn end_txn(bed: &Bed) {
    let codes = replay_each(bed, "replays::end_txn", Api::END_TXN);
    assert!(codes.iter().any(|code| FENCED.contains(code)), "none was refused: {codes:?}");
}

pub(crate) fn produce(bed: &Bed) {
    replay_each(bed, "replays::produce", Api::PRODUCE);
}

pub(crate) fn txn_offset_commit(bed: &Bed) {
    replay_each(bed, "replays::txn_offset_commit", Api::TXN_OFFSET_COMMIT);
}

/// The request waits on its own, old connection, and goes on from there.
pub(crate) fn end_txn_on_hold(bed: &Bed) {
    let scenario = "replays::end_txn_on_hold";
    bed.wait_lane_on(LINKED);
    let link = &bed.links().worker_kafka;
    let outcome = until_ended(bed, scenario, light(22), || {
        link.on(Api::END_TXN, 1, Action::Hold);
        assert!(link.wait_caught(1, SEEN_WITHIN), "no EndTxn came");
        thread::sleep(ON_HOLD);
        link.release();
    });
    outcome.assert_exact_but_order();
    // Its transaction is open all the while, and its readers wait.
    outcome.assert_worst_below(ON_HOLD + Duration::from_secs(15));
}

/// Kafka has both records and nobody hears so. When the first one's time is up, librdkafka left to itself would begin
/// a new epoch and send the second one again.
pub(crate) fn one_of_two_times_out(bed: &Bed) {
    let scenario = "replays::one_of_two_times_out";
    let topic = bed.target(scenario);
    let catch = Catch::start(bed, &topic);
    let link = &bed.links().coordinators_kafka;
    let log = ksched_client::kafka::connect(&link.address(), Default::default()).unwrap();
    let appender = Appender::new(&log, Limits::default(), topic.as_str().into()).unwrap();
    let append = |value: &str| {
        let content = Content { value: Some(value.to_owned().into()), ..Content::default() };
        let record = Append { topic: topic.as_str().into(), partition: 0, content, timestamp_ms: None };
        appender.append_all(vec![record], None)
    };
    // What is appended while something is in flight has a producer of its own.
    let (lone, before) = (append("alone before"), append("before"));
    let before = block_on(async { [lone.await, before.await] }).concat();
    assert!(before.iter().all(Result::is_ok), "{before:?}");
    link.cut(Cut::Answers);
    let (lone, old) = (append("alone"), append("old"));
    thread::sleep(NEARLY_TIMED_OUT);
    let young = append("young");
    let given_up = block_on(async { [lone.await, old.await] }).concat();
    link.heal();
    let outcomes = [given_up, block_on(young)].concat();
    table::note(scenario, format!("{outcomes:?}"));
    let unknown = |outcome: &Result<_, _>| matches!(outcome, Err(append::Error::Unknown(_)));
    assert!(outcomes.iter().all(unknown), "{outcomes:?}");
    let after = block_on(append("after"));
    assert!(after.iter().all(Result::is_ok), "{after:?}");
    catch.wait_for(6, SEEN_WITHIN, |_| true);
    // What would be sent again would be so at once.
    thread::sleep(Duration::from_secs(2));
    let mut values: Vec<_> = catch.all().iter().map(Caught::value).collect();
    values.sort();
    assert_eq!(values, ["after", "alone", "alone before", "before", "old", "young"]);
}

/// Takes one away, lets its sender go on for a moment, lets it through; several times. The error codes that came.
fn replay_each(bed: &Bed, scenario: &'static str, api: Api) -> Vec<i16> {
    bed.wait_lane_on(LINKED);
    let (link, mut dice) = (&bed.links().worker_kafka, Dice::of(scenario));
    let mut codes = Vec::new();
    let outcome = until_ended(bed, scenario, light(16), || {
        for _ in 0..TIMES {
            link.on(api, 1, Action::Keep);
            assert!(link.wait_caught(1, SEEN_WITHIN), "no such request came");
            let pause = Duration::from_millis(dice.below(20..1_500));
            thread::sleep(pause);
            for (request, answer) in link.replay() {
                let code = answer.as_ref().ok().and_then(|answer| code(&request, answer));
                codes.extend(code);
                table::note(scenario, format!("replayed after {pause:?}: {}", told(code, &answer)));
            }
        }
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(Duration::from_secs(15));
    codes
}
/// Where tests know to read one.
fn code(request: &Frame, answer: &Frame) -> Option<i16> {
    match request.api() {
        Api::END_TXN => Some(answer.end_txn_error()),
        Api::PRODUCE => Some(answer.produce_error()),
        _ => None,
    }
}

fn told(code: Option<i16>, answer: &io::Result<Frame>) -> String {
    match (code, answer) {
        (Some(code), _) => format!("error code {code}"),
        (None, Ok(answer)) => format!("an answer of {} bytes", answer.0.len()),
        (None, Err(error)) => format!("no answer ({error})"),
    }
}
