//! A worker that is thought dead and is not: at most one of two that hold the same lane fires.

use std::{
    ops::{ControlFlow, Range},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use ksched_client::{
    Message,
    reader::{Since, TopicReader, Until},
};
use ksched_core::message::Content;
use ksched_kafka::{Log as _, Outgoing, Producer as _};
use ksched_testbed::{
    bed::eventually,
    links::LINKED,
    proxy::{Action, Cut, Proxy},
    wire::Api,
};
use parking_lot::Mutex;

use crate::{
    bed::{Bed, WORKERS, block_on, now_ms},
    mischief::{FENCED, Logs, TAKEN_OVER_WITHIN, assert_said, lanes_of, light, taken_over, until_ended},
    table,
};

/// A lane under load sends each kind of request many times a second.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// Some hundred transactions of the next holder, on both of its producers.
const FIRES_ON: Duration = Duration::from_millis(1_500);
const BOUND: Duration = Duration::from_secs(25);
/// Due over as many ms as there are.
const MESSAGES: usize = 4_000;
/// A transaction may last 10 s, and the broker looks for those each 10 s; 2 s are for two busy cores.
const HELD_UP_MS: Range<i64> = 1_000..22_000;

/// Its EndTxn is on its way when it is stopped, beyond its lease. Another has taken over when the request comes to
/// the broker, and then the zombie goes on.
pub(crate) fn stopped_inside_a_commit(bed: &Bed) {
    let scenario = "zombies::stopped_inside_a_commit";
    bed.wait_lane_on(LINKED);
    let (link, log) = (&bed.links().worker_kafka, bed.log_length(LINKED));
    let outcome = until_ended(bed, scenario, light(24), || {
        let (lanes, before) = (lanes_of(bed, LINKED), Logs::now(bed));
        link.on(Api::END_TXN, 1, Action::Hold);
        assert!(link.wait_caught(1, SEEN_WITHIN), "no EndTxn came");
        bed.cluster.pause(LINKED).unwrap();
        for lane in &lanes {
            let by = taken_over(bed, lane, LINKED, &before);
            table::note(scenario, format!("{lane} taken over by {by}"));
        }
        thread::sleep(FIRES_ON);
        link.release();
        thread::sleep(Duration::from_millis(500));
        bed.cluster.resume(LINKED).unwrap();
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
    assert_said(bed, LINKED, log, &[FENCED]);
}

/// The first has made producer a its own and waits to be told the same of b. Nobody hears of it, its lease ends,
/// another takes over and fires; then its request for b comes to the broker and is granted. So one has a valid a
/// and the other a valid b: both must give up.
pub(crate) fn two_holders(bed: &Bed) {
    let scenario = "zombies::two_holders";
    let links = bed.links();
    bed.wait_all_lanes_held();
    bed.cluster.stop(LINKED).unwrap();
    let log = bed.log_length(LINKED);
    let mut other = (String::new(), 0);
    let outcome = until_ended(bed, scenario, light(28), || {
        let before = Logs::now(bed);
        // Only lanes have a producer b.
        links.worker_kafka.on_init(".b", 1, Action::Hold);
        bed.cluster.process(LINKED).unwrap().start().unwrap();
        assert!(links.worker_kafka.wait_caught(1, TAKEN_OVER_WITHIN), "{LINKED} took no lane over");
        let lane = lanes_of(bed, LINKED).pop().expect("the lane that it takes over");
        links.worker_coordinators.iter().for_each(|link| link.cut(Cut::Both));
        let by = taken_over(bed, &lane, LINKED, &before);
        other = (by.clone(), bed.log_length(&by));
        thread::sleep(FIRES_ON);
        table::note(scenario, format!("{lane} is {by}'s, and {LINKED} is let go on with it"));
        links.worker_kafka.release();
        eventually("fenced zombie", TAKEN_OVER_WITHIN, || {
            bed.log_since(LINKED, log).contains(FENCED).then_some(())
        });
        links.worker_coordinators.iter().for_each(Proxy::heal);
    });
    outcome.assert_exact_but_order();
    outcome.assert_worst_below(BOUND);
    // Its b was taken from it.
    let (by, since) = other;
    assert_said(bed, &by, since, &[FENCED]);
    bed.wait_all_lanes_held();
}

/// Every worker dies while it fires into a target, and none comes back in time: the broker itself ends what they left
/// open, and until then whoever else writes there is held up (I8).
pub(crate) fn nobody_takes_over(bed: &Bed) {
    let scenario = "zombies::nobody_takes_over";
    bed.wait_lane_on(LINKED);
    let topic = bed.target(scenario);
    let seen = Arc::new(Mutex::new((vec![0_u32; MESSAGES], 0)));
    let into = Arc::clone(&seen);
    let reader = TopicReader::start(Arc::clone(&bed.log), &topic, Since::End, Until::Stopped, move |r| {
        let (copies, held_up_ms) = &mut *into.lock();
        let value = r.record.content.value.as_deref();
        match value.and_then(|v| std::str::from_utf8(v).ok()?.parse::<usize>().ok()) {
            Some(n) => copies[n] += 1,
            // Of somebody else's; the broker has stamped it.
            None => *held_up_ms = i64::max(*held_up_ms, r.at_us / 1_000 - r.record.timestamp_ms),
        }
        ControlFlow::Continue(())
    });
    let _reader = reader.expect("a reader");
    let link = &bed.links().worker_kafka;
    let due_ms = now_ms() + 2_000;
    let message = |n: usize| Message::new(&topic).value(n.to_string()).due_ms(due_ms + n as i64);
    let accepted = block_on(bed.client().batch((0..MESSAGES).map(message).collect()));
    assert!(accepted.iter().all(Result::is_ok));
    thread::sleep(Duration::from_millis((due_ms + 500 - now_ms()).unsigned_abs()));
    link.on(Api::END_TXN, 1, Action::Hold);
    assert!(link.wait_caught(1, SEEN_WITHIN), "no EndTxn came");
    WORKERS.iter().for_each(|worker| bed.cluster.kill(worker).unwrap());

    let mut producer = bed.log.producer().unwrap();
    let content = Content { value: Some(Bytes::from_static(b"somebody's")), ..Content::default() };
    let until_ms = now_ms() + HELD_UP_MS.end;
    while now_ms() < until_ms {
        for partition in 0..4 {
            let partition = Some(partition);
            let record = Outgoing { topic: &topic, partition, timestamp_ms: None, content: &content };
            producer.send(0, record).unwrap();
        }
        assert!(producer.flush().unwrap().is_empty(), "records are taken");
        thread::sleep(Duration::from_millis(100));
    }
    let (so_far, held_up_ms) = seen.lock().clone();
    let fired = so_far.iter().filter(|copies| **copies > 0).count();
    table::note(scenario, format!("{fired} of {MESSAGES} fired, others held up for at most {held_up_ms} ms"));
    assert!(HELD_UP_MS.contains(&held_up_ms), "held up for {held_up_ms} ms");

    link.heal();
    WORKERS.iter().for_each(|worker| bed.cluster.start_again(worker).unwrap());
    eventually("all of them", BOUND, || seen.lock().0.iter().all(|copies| *copies > 0).then_some(()));
    thread::sleep(Duration::from_secs(1));
    let doubled = seen.lock().0.iter().filter(|copies| **copies > 1).count();
    table::push_counted(scenario, MESSAGES, [0, doubled, 0], held_up_ms);
    assert_eq!(doubled, 0);
}
