//! What a killed drain or intake worker leaves behind: a transaction that is open on an inlet of the due topic.

use std::{thread, time::Duration};

use bytes::Bytes;
use ksched_client::bench::Door;
use ksched_core::{
    delivered,
    envelope::Envelope,
    message::{Content, Target},
    wheel::Inlet,
};
use ksched_kafka::{Log as _, Outgoing, TransactionalProducer as _};

use crate::{
    bed::{Bed, now_ms},
    run::{Load, Run},
};

const SCENARIO: &str = "open_transactions::hold_up_no_direct_message";
const TRANSACTIONAL_ID: &str = "e2e-left-open";

pub(crate) fn hold_up_no_direct_message(bed: &Bed) {
    bed.wait_all_lanes_held();
    let run =
        Run::start(bed, SCENARIO, Load { rate: 300, seconds: 9, delays_ms: (0, 2_000), ..Load::default() });
    thread::sleep(Duration::from_secs(1));
    let open = leave_open(bed);
    // It stays open to the end of the run: the broker itself would end it only later.
    let outcome = run.finish(None);
    outcome.assert_exact();
    outcome.assert_worst_below(Duration::from_secs(3));
    drop(open);

    // Whoever takes over the id ends it, and the inlets flow again.
    bed.log.transactional(TRANSACTIONAL_ID).unwrap().init().unwrap();
    let load = Load { door: Door::Intake, rate: 200, seconds: 2, delays_ms: (500, 2_000), ..Load::default() };
    let after = Run::start(bed, "open_transactions::intake_afterwards", load).finish(None);
    after.assert_exact();
    after.assert_worst_below(Duration::from_secs(5));
}

/// A message as it waits in a lane.
pub(crate) fn stored(topic: &str, due_ms: i64, value: &'static str) -> Content {
    let envelope = Envelope {
        due_ms,
        scheduled_at_us: now_ms() * 1_000,
        origin: 0,
        hops: 0,
        target: Target { topic: topic.into(), partition: None },
        not_before_ms: None,
        identity: None,
        stamps: false,
        trace: None,
    };
    let user = Content { value: Some(Bytes::from_static(value.as_bytes())), ..Content::default() };
    delivered::store(&envelope, user)
}

/// One in the intake and the promoted inlet of every lane, not committed.
fn leave_open(bed: &Bed) -> impl Sized {
    // The verifier would call it invented.
    let stored = stored("e2e.open_transactions.hold_up_no_direct_message", now_ms(), "never committed");
    let mut producer = bed.log.transactional(TRANSACTIONAL_ID).unwrap();
    producer.init().unwrap();
    producer.begin().unwrap();
    for lane in 0..4 {
        for inlet in [Inlet::Intake, Inlet::Promoted] {
            let partition = Some(3 * lane + inlet as i32);
            let record = Outgoing { topic: "ksched.due", partition, timestamp_ms: None, content: &stored };
            producer.send(0, record).unwrap();
        }
    }
    producer.flush().unwrap();
    producer
}
