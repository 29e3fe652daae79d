//! What a fixed piece of work costs, counted exactly: bytes that Kafka keeps, transactions, and requests.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ksched_client::Message;
use ksched_kafka::{Log as _, Offset, TopicPartition};
use ksched_local::kafka::metrics;

use crate::{
    bed::{Bed, WORKERS, block_on},
    catch::Catch,
    table,
};

/// All due when the workers come, without keys, for one partition.
const MESSAGES: usize = 20_000;
const LARGEST_BATCH: usize = 10_000;
const VALUE_BYTES: usize = 200;
/// bench.md: our headers stored, and delivered.
const STORED: f64 = 64.0;
const DELIVERED: f64 = 120.0;
/// What Kafka adds to a record of a full batch: lengths, deltas, counts.
const RECORD: f64 = 14.0;
/// Each of four lanes fires 10,000 at once; some more where one begins before it has read all.
const TRANSACTIONS: i64 = 8;
/// For all of it: each transaction's batches of at most 1 MB.
const PRODUCE: u64 = 100;
/// Those that fire, and those by which every lane's positions move.
const END_TXN: u64 = 60;
const WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn of_a_backlog(bed: &Bed) {
    let scenario = "costs::of_a_backlog";
    let target = "e2e.costs".to_owned();
    ksched_kafka::target::create(&bed.log, &target, 1, &[]).unwrap();
    WORKERS.iter().for_each(|worker| bed.cluster.stop(worker).unwrap());
    let data = bed.cluster.dir().join("kafka-1/data");
    let (due_before, caught) = (kept(&data, "ksched.due-"), Catch::start(bed, &target));
    for _ in 0..MESSAGES / LARGEST_BATCH {
        let message = |_| Message::new(&target).value("x".repeat(VALUE_BYTES)).delay(Duration::ZERO);
        let results = block_on(bed.client().batch((0..LARGEST_BATCH).map(message).collect()));
        assert!(results.iter().all(Result::is_ok), "{:?}", results.iter().find(|r| r.is_err()));
    }
    let nodes = bed.cluster.describe().kafka_metrics;
    let counted_before = metrics::read(&nodes).unwrap();
    let began_at = Instant::now();
    WORKERS.iter().for_each(|worker| bed.cluster.start_again(worker).unwrap());
    let came = caught.wait_for(MESSAGES, WITHIN, |_| true).len();
    let counted = metrics::read(&nodes).unwrap().since(&counted_before).expect("Kafka did not begin anew");
    let (due, delivered) = (kept(&data, "ksched.due-") - due_before, kept(&data, &format!("{target}-")));
    let per_message = |bytes: u64| bytes as f64 / MESSAGES as f64;
    let (due, delivered) = (per_message(due), per_message(delivered));
    let place = TopicPartition { topic: Arc::from(&*target), partition: 0 };
    let end = bed.log.offsets(&[place], Offset::StableEnd).unwrap()[0];
    // Each commit leaves one marker.
    let transactions = end - MESSAGES as i64;
    table::note(
        scenario,
        format!(
            "{due:.1} bytes stored, {delivered:.1} delivered a message, {transactions} transactions, {:?}",
            began_at.elapsed()
        ),
    );
    table::note(scenario, format!("requests: {:?}", counted.requests));
    let requests = |api: &str| counted.requests.get(api).copied().unwrap_or(0);
    assert_eq!(came, MESSAGES);
    assert!((1..=PRODUCE).contains(&requests("Produce")), "{} Produce requests", requests("Produce"));
    assert!((1..=END_TXN).contains(&requests("EndTxn")), "{} EndTxn requests", requests("EndTxn"));
    assert!(due.min(delivered) > VALUE_BYTES as f64, "looked at the wrong files");
    let user = VALUE_BYTES as f64 + RECORD;
    assert!(due < user + STORED, "{due} bytes stored a message");
    assert!(delivered < user + DELIVERED, "{delivered} bytes delivered a message");
    assert!((1..=TRANSACTIONS).contains(&transactions), "{transactions} transactions");
}

/// Bytes of all segments of the partitions whose names begin so.
fn kept(data: &Path, partitions: &str) -> u64 {
    let is_one = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(partitions);
    let entries = |dir: &Path| std::fs::read_dir(dir).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    let partitions = entries(data).into_iter().filter(is_one);
    let files = partitions.flat_map(|partition| entries(&partition.path()));
    let segments = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "log"));
    segments.map(|segment| segment.metadata().unwrap().len()).sum()
}
