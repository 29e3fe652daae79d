//! Very much at one instant.

use std::{
    ops::ControlFlow,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ksched_client::{
    Message,
    reader::{Since, TopicReader, Until},
};
use parking_lot::Mutex;

use crate::{
    bed::{Bed, block_on, now_ms},
    catch::Catch,
    table,
};

const MILLION: usize = 1_000_000;
/// `memory.limit` and what a process has besides.
const WORKER_MIB: u64 = 400;
const BATCH: usize = 1_000;
/// On two cores that also run the brokers, and with the profile that tests are built with.
const MILLION_OUT_WITHIN: Duration = Duration::from_secs(45);
/// Scheduling takes some 10 s of it.
const AHEAD_MS: i64 = 90_000;

/// Ties keep the order in which they were scheduled.
pub(crate) fn a_thousand_for_one_key(bed: &Bed) {
    let scenario = "loads::a_thousand_for_one_key";
    bed.wait_all_lanes_held();
    let topic = bed.target(scenario);
    let catch = Catch::start(bed, &topic);
    let due_ms = now_ms() + 6_000;
    let message = |n: usize| Message::new(&topic).key("one key").value(n.to_string()).due_ms(due_ms);
    let client = bed.client();
    for first in (0..1_000).step_by(100) {
        let results = block_on(client.batch((first..first + 100).map(message).collect()));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    let ahead_ms = due_ms - now_ms();
    assert!(ahead_ms > 1_000, "order is promised for what is scheduled a second before: {ahead_ms} ms");
    let caught = catch.wait_for(1_000, Duration::from_secs(20), |_| true);
    let values: Vec<_> = caught.iter().map(|c| c.value()).collect();
    let worst_ms = caught.iter().map(|c| c.late_ms()).max();
    table::tally(scenario, &caught.iter().map(|c| (c.value(), c.late_ms())).collect::<Vec<_>>(), 1_000);
    assert_eq!(values, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(caught.iter().all(|c| c.late_ms() >= 0), "early");
    assert!(worst_ms.is_some_and(|ms| ms < 3_000), "{worst_ms:?} ms late");
}

/// Each once, none early, all out within the bound; measured 7 s, with workers' memory at its default.
pub(crate) fn a_million_in_one_second(bed: &Bed) {
    let scenario = "loads::a_million_in_one_second";
    bed.wait_all_lanes_held();
    let topic = bed.target(scenario);
    // A count and a worst lateness each: the records themselves would fill the memory.
    let seen = Arc::new(Mutex::new(vec![(0_u8, i64::MAX, 0_i64); MILLION]));
    let into = Arc::clone(&seen);
    let due_from_ms = now_ms() + AHEAD_MS;
    let due = move |n: usize| due_from_ms + (n % 1_000) as i64;
    let reader = TopicReader::start(Arc::clone(&bed.log), &topic, Since::End, Until::Stopped, move |r| {
        let value = r.record.content.value.as_deref().and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
        let n: usize = value.expect("a number of ours");
        let late_ms = r.at_us / 1_000 - due(n);
        let one = &mut into.lock()[n];
        *one = (one.0 + 1, one.1.min(late_ms), one.2.max(late_ms));
        ControlFlow::Continue(())
    });
    let _reader = reader.expect("a reader");
    let client = bed.client();
    let began_at = Instant::now();
    for first in (0..MILLION).step_by(BATCH) {
        let message = |n: usize| Message::new(&topic).value(n.to_string()).due_ms(due(n));
        let results = block_on(client.batch((first..first + BATCH).map(message).collect()));
        assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|r| r.is_err()));
    }
    let ahead_ms = due_from_ms - now_ms();
    table::note(scenario, format!("scheduled in {:.0?}, {ahead_ms} ms ahead", began_at.elapsed()));
    let deadline_ms = due_from_ms + MILLION_OUT_WITHIN.as_millis() as i64;
    let missing = || seen.lock().iter().filter(|one| one.0 == 0).count();
    while missing() > 0 && now_ms() < deadline_ms {
        thread::sleep(Duration::from_millis(500));
    }
    thread::sleep(Duration::from_secs(1));
    let seen = seen.lock().clone();
    let doubled = seen.iter().filter(|one| one.0 > 1).count();
    let early = seen.iter().filter(|one| one.0 > 0 && one.1 < 0).count();
    let lost = seen.iter().filter(|one| one.0 == 0).count();
    let worst_ms = seen.iter().map(|one| one.2).max().unwrap_or_default();
    table::push_counted(scenario, MILLION - lost, [lost, doubled, early], worst_ms);
    for worker in ["worker-1", "worker-2", "worker-3"] {
        let mib = bed.cluster.rss_bytes(worker).unwrap() >> 20;
        table::note(scenario, format!("{worker} has {mib} MiB resident"));
        assert!(mib < WORKER_MIB, "{worker} has {mib} MiB");
    }
    assert_eq!([lost, doubled, early], [0; 3], "lost, doubled, early");
    assert!(Duration::from_millis(worst_ms as u64) < MILLION_OUT_WITHIN, "{worst_ms} ms late");
}
