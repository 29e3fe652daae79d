//! Very much at one instant.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ksched_client::{
    Message,
    reader::{Since, TopicReader, Until},
};
use ksched_core::message::{Content, Header};
use ksched_kafka::{Log as _, Outgoing, Producer as _};
use ksched_testbed::proxy::Cut;
use parking_lot::Mutex;

use crate::{
    bed::{Bed, COORDINATORS, WORKERS, block_on, now_ms},
    catch::{Catch, Caught},
    flood::{Flood, Told},
    mischief::{light, until_ended},
    table,
};

const MILLION: usize = 1_000_000;
/// `memory.limit` and what a process has besides.
pub(crate) const WORKER_MIB: u64 = 400;
const BATCH: usize = 1_000;
/// On two cores that also run the brokers, and with the profile that tests are built with.
const MILLION_OUT_WITHIN: Duration = Duration::from_secs(45);
/// Scheduling takes some 10 s of it.
const AHEAD_MS: i64 = 90_000;

/// Records that nobody can schedule, as fast as one producer writes them.
const RUBBISH: usize = 100_000;
/// A round of the producer.
const ROUND: usize = 10_000;
/// Messages by gRPC; the dead letters take the same two cores.
const BESIDE_RUBBISH: Duration = Duration::from_secs(5);

/// A dead letter for each, with its reason; what comes by gRPC hardly feels it.
pub(crate) fn intake_flooded(bed: &Bed) {
    let scenario = "loads::intake_flooded";
    let kinds: [(&str, &[(&str, &str)]); 4] = [
        ("TOPIC_MISSING", &[]),
        ("DUE_TIME_MISSING", &[("ksched-topic", "somewhere")]),
        ("DUE_TIME_UNREADABLE", &[("ksched-topic", "somewhere"), ("ksched-deliver-at", "soon")]),
        ("HEADER_REPEATED", &[("ksched-topic", "somewhere"), ("ksched-topic", "elsewhere")]),
    ];
    let dead = Catch::start(bed, "ksched.dlq");
    let (outcome, peak) = bed.peak_rss(&WORKERS, || {
        until_ended(bed, scenario, light(20), || {
            let mut producer = bed.log.producer().unwrap();
            for n in 0..RUBBISH {
                let (_, headers) = kinds[n % kinds.len()];
                let headers = headers.iter().map(|(name, value)| Header::new(*name, (*value).to_owned()));
                let value = Some(n.to_string().into());
                let content = Content { key: None, value, headers: headers.collect() };
                let record = Outgoing {
                    topic: "SCHEDULED_MESSAGES",
                    partition: None,
                    timestamp_ms: None,
                    content: &content,
                };
                producer.send(n, record).unwrap();
                if n % ROUND == ROUND - 1 {
                    assert!(producer.flush().unwrap().is_empty(), "records are taken");
                }
            }
        })
    });
    let began_at = Instant::now();
    let letters = dead.wait_for(RUBBISH, Duration::from_secs(60), |_| true);
    table::note(
        scenario,
        format!("{} dead letters, {:.1} s after the run", letters.len(), began_at.elapsed().as_secs_f64()),
    );
    table::note(scenario, format!("peak resident memory of a worker: {} MiB", peak >> 20));
    let mut values = HashMap::<String, String>::new();
    for letter in &letters {
        values.insert(letter.value(), letter.header("ksched-error-code").unwrap_or_default());
    }
    outcome.assert_exact();
    outcome.assert_worst_below(BESIDE_RUBBISH);
    assert_eq!((letters.len(), values.len()), (RUBBISH, RUBBISH), "dead letters, each once");
    for (n, code) in values {
        let expected = kinds[n.parse::<usize>().unwrap() % kinds.len()].0;
        assert_eq!(code, expected, "reason of {n}");
    }
    assert!(peak >> 20 < WORKER_MIB, "a worker has {} MiB", peak >> 20);
}

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
        let (appended_ms, late_ms) = (r.record.timestamp_ms - due(n), r.at_us / 1_000 - due(n));
        let one = &mut into.lock()[n];
        *one = (one.0 + 1, one.1.min(appended_ms).min(late_ms), one.2.max(late_ms));
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
    let ((), peak) = bed.peak_rss(&WORKERS, || {
        while missing() > 0 && now_ms() < deadline_ms {
            thread::sleep(Duration::from_millis(500));
        }
        thread::sleep(Duration::from_secs(1));
    });
    let seen = seen.lock().clone();
    let doubled = seen.iter().filter(|one| one.0 > 1).count();
    let early = seen.iter().filter(|one| one.0 > 0 && one.1 < 0).count();
    let lost = seen.iter().filter(|one| one.0 == 0).count();
    let worst_ms = seen.iter().map(|one| one.2).max().unwrap_or_default();
    table::push_counted(scenario, MILLION - lost, [lost, doubled, early], worst_ms);
    let mib = peak >> 20;
    table::note(scenario, format!("peak resident memory of a worker: {mib} MiB"));
    assert!(mib < WORKER_MIB, "{mib} MiB resident");
    assert_eq!([lost, doubled, early], [0; 3], "lost, doubled, early");
    assert!(Duration::from_millis(worst_ms as u64) < MILLION_OUT_WITHIN, "{worst_ms} ms late");
}

/// Less than the 10 s after which an append's outcome is unknown.
const HELD: Duration = Duration::from_secs(6);
/// 48 MiB of calls in flight, 64 MiB in librdkafka's queue (those of callers that have gone, too), 16 chunks of 1 MiB
/// for each of the flood's four streams, a call of each of its callers that is being read (112 MiB), and what a process
/// has besides.
const COORDINATOR_MIB: usize = 330;

/// Kafka takes nothing for a while, and callers of every door push as fast as they are let: calls are refused, streams
/// wait, no coordinator takes more memory than it has room for, and whatever was acknowledged comes once.
pub(crate) fn faster_than_kafka(bed: &Bed) {
    let scenario = "loads::faster_than_kafka";
    let topic = bed.target("loads::faster_than_kafka, flood");
    let catch = Catch::start(bed, &topic);
    let link = &bed.links().coordinators_kafka;
    let mut told = None;
    let (outcome, peak) = bed.peak_rss(&COORDINATORS, || {
        until_ended(bed, scenario, light(20), || {
            link.cut(Cut::Both);
            let flood = Flood::start(bed, &topic);
            thread::sleep(HELD);
            link.heal();
            told = Some(flood.end());
        })
    });
    let Told { taken, refused, given_up, others, refused_on_streams, offered_bytes } =
        told.expect("it has ended");
    let (offered_mib, peak_mib) = (offered_bytes >> 20, peak as usize >> 20);
    table::note(
        scenario,
        format!(
            "{offered_mib} MiB offered: {} taken, {} refused, {given_up} given up",
            taken.len(),
            refused.len()
        ),
    );
    table::note(scenario, format!("peak resident memory of a coordinator: {peak_mib} MiB"));
    let number = |c: &Caught| std::str::from_utf8(c.content.key.as_deref()?).ok()?.parse::<usize>().ok();
    let taken: HashSet<_> = taken.into_iter().collect();
    let is_taken = |c: &Caught| number(c).is_some_and(|number| taken.contains(&number));
    catch.wait_for(taken.len(), Duration::from_secs(60), is_taken);
    let caught = catch.all();
    let mut times = HashMap::<usize, usize>::new();
    for one in &caught {
        *times.entry(number(one).expect("a number of ours")).or_default() += 1;
    }
    let lost = taken.iter().filter(|number| !times.contains_key(number)).count();
    let doubled = times.values().filter(|times| **times > 1).count();
    let early = caught.iter().filter(|c| c.late_ms() < 0).count();
    let worst_ms = caught.iter().map(|c| c.late_ms()).max().unwrap_or_default();
    table::push_counted("loads::faster_than_kafka, flood", times.len(), [lost, doubled, early], worst_ms);
    outcome.assert_nothing_wrong();
    outcome.assert_worst_below(HELD + Duration::from_secs(15));
    assert_eq!([lost, doubled, early], [0; 3], "lost, doubled, early");
    assert!(refused.iter().all(|number| !times.contains_key(number)), "refused, and yet delivered");
    assert!(!taken.is_empty() && !refused.is_empty(), "{} taken, {} refused", taken.len(), refused.len());
    assert!(others.is_empty(), "a call is taken or overload refuses it: {others:?}");
    assert_eq!(refused_on_streams, 0, "a stream waits");
    assert!(offered_mib > COORDINATOR_MIB, "only {offered_mib} MiB were offered");
    assert!(peak_mib < COORDINATOR_MIB, "a coordinator has {peak_mib} MiB");
}
