//! Targets that cannot take what is sent to them.

use std::time::Duration;

use bytes::Bytes;
use ksched_client::Message;
use ksched_core::{
    message::{Content, Header},
    validate::Limits,
};
use ksched_kafka::{Log as _, Outgoing, Producer as _};

use crate::{
    bed::{Bed, block_on},
    catch::Catch,
    run::{Load, Run},
};

const EACH: usize = 30;

/// They go to the dead-letter topic with the reason; what goes elsewhere is on time.
pub(crate) fn one_bad_target_among_good(bed: &Bed) {
    let scenario = "targets::one_bad_target_among_good";
    let dead = Catch::start(bed, "ksched.dlq");
    let (missing, narrow) = ("e2e.targets.missing", "e2e.targets.narrow");
    ksched_kafka::target::create(&bed.log, narrow, 1, &[("max.message.bytes", "2000")]).unwrap();
    let taken = Catch::start(bed, narrow);
    let load = Load { rate: 200, seconds: 8, delays_ms: (0, 3_000), ..Load::default() };
    let run = Run::start(bed, scenario, load);
    let client = bed.client();
    for n in 0..EACH {
        let delay = Duration::from_millis(1_000 + 100 * n as u64);
        let message = |topic: &str| Message::new(topic).key(format!("key-{n}")).delay(delay);
        let small = message(narrow).value("fits");
        let messages =
            [message(missing).value("nowhere to go"), message(narrow).value(vec![b'x'; 5_000]), small];
        let results = block_on(client.batch(messages.into()));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    let outcome = run.finish(None);
    outcome.assert_exact();
    outcome.assert_worst_below(Duration::from_secs(3));

    for (topic, code) in [(missing, "UNKNOWN_TOPIC"), (narrow, "TOO_LARGE")] {
        let is_for = |c: &crate::catch::Caught| c.header("ksched-topic").as_deref() == Some(topic);
        let letters = dead.wait_for(EACH, Duration::from_secs(15), is_for);
        assert_eq!(letters.len(), EACH, "dead letters for {topic}");
        for letter in &letters {
            assert_eq!(letter.header("ksched-error-code").as_deref(), Some(code));
            assert!(letter.header("ksched-error").is_some_and(|text| !text.is_empty()));
            assert_eq!(letter.header("ksched-origin-topic").as_deref(), Some("ksched.due"));
        }
    }
    assert_eq!(taken.wait_for(EACH, Duration::from_secs(15), |_| true).len(), EACH, "what fits is delivered");
}

/// What a door takes to the last byte, a target with Kafka's usual limit takes too, with all that ksched adds on the
/// way. A partition that is not there is told when the message is due.
pub(crate) fn what_just_fits_is_delivered(bed: &Bed) {
    let topic = bed.target("targets::what_just_fits_is_delivered");
    let (catch, dead) = (Catch::start(bed, &topic), Catch::start(bed, "ksched.dlq"));
    let value = Bytes::from(vec![b'x'; Limits::default().max_record_bytes - 1]);
    let message = |key: &'static str| Message::new(&topic).key(key).delay(Duration::from_secs(1));
    block_on(bed.client().schedule(message("g").value(value.clone()))).unwrap();
    let refused = block_on(bed.client().schedule(message("gg").value(value.clone()))).unwrap_err();
    assert!(refused.is_refusal(), "{refused}");
    block_on(bed.client().schedule(message("p").value("nowhere").partition(i32::MAX))).unwrap();

    let mut producer = bed.log.producer().unwrap();
    for (tag, key) in ["i", "ii"].into_iter().enumerate() {
        let headers = vec![Header::new("ksched-topic", topic.clone()), Header::new("ksched-delay", "1s")];
        let content = &Content { key: Some(key.into()), value: Some(value.clone()), headers };
        let out = Outgoing { topic: "SCHEDULED_MESSAGES", partition: Some(0), timestamp_ms: None, content };
        producer.send(tag, out).unwrap();
    }
    assert!(producer.flush().unwrap().is_empty());

    let within = Duration::from_secs(20);
    let caught = catch.wait_for(2, within, |_| true);
    let mut keys: Vec<_> = caught.iter().filter_map(|c| c.content.key.clone()).collect();
    keys.sort();
    assert_eq!(keys, ["g", "i"]);
    assert!(caught.iter().all(|c| c.content.value.as_ref() == Some(&value)), "byte for byte");
    for (key, code) in [("ii", "MESSAGE_TOO_LARGE"), ("p", "UNKNOWN_PARTITION")] {
        let letters = dead.wait_for(1, within, |c| c.content.key.as_deref() == Some(key.as_bytes()));
        assert_eq!(letters.len(), 1, "dead letters of {key}");
        assert_eq!(letters[0].header("ksched-error-code").as_deref(), Some(code));
    }
    assert_eq!(catch.all().len(), 2, "none of those is delivered");
}
