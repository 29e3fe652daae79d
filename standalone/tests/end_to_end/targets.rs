//! Targets that cannot take what is sent to them.

use std::time::Duration;

use ksched_client::Message;

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
