//! The same message scheduled more than once, by the contract's own stubs.

use std::{thread, time::Duration};

use ksched_proto::v1::{
    Attempt, ScheduleRequest,
    schedule_request::{RecordKey, RecordValue, When},
};
use prost_types::Timestamp;

use crate::{
    bed::{Bed, block_on, now_ms},
    catch::Catch,
};

const WITHIN: Duration = Duration::from_secs(20);

pub(crate) fn repeats_are_delivered_once(bed: &Bed) {
    let topic = bed.target("dedupe::repeats_are_delivered_once");
    let (catch, dead) = (Catch::start(bed, &topic), Catch::start(bed, "ksched.dlq"));
    // To either coordinator in turn, as retries go.
    let mut turn = 0;
    let mut schedule = |request: ScheduleRequest| {
        turn += 1;
        block_on(bed.scheduler(turn % 2).schedule(request)).expect("accepted");
    };
    let soon_ms = now_ms() + 3_000;
    let request = |value: &str, due_ms: i64| ScheduleRequest {
        topic: topic.clone(),
        record_key: Some(RecordKey::KeyText(format!("key of {value}"))),
        record_value: Some(RecordValue::ValueText(value.to_owned())),
        when: Some(When::DueTime(timestamp(due_ms))),
        ..ScheduleRequest::default()
    };
    let named = |value: &str, due_ms: i64, id: &str| ScheduleRequest {
        request_id: id.to_owned(),
        ..request(value, due_ms)
    };
    let first_at = Some(timestamp(now_ms()));
    let tried = |value: &str, due_ms: i64, number: u32| {
        let mut id = [7; 16];
        id[..value.len()].copy_from_slice(value.as_bytes());
        let attempt = Attempt { id: id.to_vec().into(), number, first_at };
        ScheduleRequest { attempt: Some(attempt), ..request(value, due_ms) }
    };

    // Pending together.
    schedule(named("request", soon_ms, "r-1"));
    schedule(named("request", soon_ms, "r-1"));
    schedule(tried("one-two", soon_ms, 1));
    schedule(tried("one-two", soon_ms, 2));
    schedule(tried("two-one", soon_ms, 2));
    schedule(tried("two-one", soon_ms, 1));
    // Another body under the same id: the key decides the lane, so it stays the same.
    schedule(named("first", soon_ms, "r-2"));
    let other = ScheduleRequest {
        record_value: Some(RecordValue::ValueText("second".to_owned())),
        ..named("first", soon_ms, "r-2")
    };
    schedule(other);
    // The first has fired when the second comes.
    schedule(named("request-fired", now_ms(), "r-3"));
    schedule(tried("1-fired-2", now_ms(), 1));
    schedule(tried("2-fired-1", now_ms(), 2));
    let fired = ["request-fired", "1-fired-2", "2-fired-1"];
    let caught = catch.wait_for(3, WITHIN, |c| fired.contains(&c.value().as_str()));
    assert_eq!(caught.len(), 3, "all first copies are delivered: {caught:?}");
    let due_ms = caught.iter().find(|c| c.value() == "request-fired").map(|c| c.due_ms());
    schedule(named("request-fired", due_ms.unwrap(), "r-3"));
    schedule(tried("1-fired-2", now_ms(), 2));
    schedule(tried("2-fired-1", now_ms(), 1));
    // One after all of them in every respect.
    thread::sleep(Duration::from_secs(5));
    schedule(request("last", now_ms()));
    catch.wait_for(1, WITHIN, |c| c.value() == "last");

    let caught = catch.all();
    let count = |value: &str| caught.iter().filter(|c| c.value() == value).count();
    for value in ["request", "one-two", "two-one", "first", "request-fired", "1-fired-2", "2-fired-1", "last"]
    {
        assert_eq!(count(value), 1, "copies of {value} delivered");
    }
    assert_eq!(count("second"), 0, "the other body of the same request_id was delivered");
    let refused = dead.wait_for(1, WITHIN, |c| c.header("ksched-topic").as_deref() == Some(&topic));
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].value(), "second");
    assert_eq!(refused[0].header("ksched-error-code").as_deref(), Some("REQUEST_ID_REUSED"));
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1_000), nanos: ms.rem_euclid(1_000) as i32 * 1_000_000 }
}
