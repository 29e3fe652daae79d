//! What is said of targets and of records they refuse.

use std::sync::Arc;

use ksched_core::{message::Content, wheel::murmur2};
use ksched_kafka::{
    Log, Outgoing, Producer as _, Refusal, RefusalReason, TransactionError, TransactionalProducer as _,
};

use crate::bed::{Bed, keyed, read_all, text, to, unique};

/// Commits one transaction of these records; what was refused.
fn refused(bed: &impl Bed, records: &[(&str, i32, Content)]) -> Vec<Refusal> {
    let mut holder = bed.log().transactional(&unique("refused")).unwrap();
    holder.init().unwrap();
    holder.begin().unwrap();
    let sent = records
        .iter()
        .enumerate()
        .try_for_each(|(tag, (topic, partition, content))| holder.send(tag, to(topic, *partition, content)));
    match sent.and_then(|()| holder.commit(&[])) {
        Err(TransactionError::Refused(mut refused)) => {
            refused.sort_by_key(|each| each.tag);
            refused
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn an_unknown_partition_is_told_from_its_neighbours(bed: &impl Bed) {
    let known = bed.topic("known", 1);
    unknown_among_known(bed, &known, (&known, 1));
}

pub(crate) fn an_unknown_topic_is_told_from_its_neighbours(bed: &impl Bed) {
    let known = bed.topic("known", 1);
    unknown_among_known(bed, &known, (&unique("unknown"), 0));
    // One that was there: the producer knows it still, the broker does not.
    let deleted = bed.topic("deleted", 1);
    bed.delete_topic(&deleted);
    unknown_among_known(bed, &known, (&deleted, 0));
}

fn unknown_among_known(bed: &impl Bed, known: &Arc<str>, (topic, partition): (&str, i32)) {
    let neighbour = || (&**known, 0, text("neighbour"));
    let found = refused(bed, &[neighbour(), (topic, partition, text("lost")), neighbour()]);
    let of = |tag| found.iter().find(|each: &&Refusal| each.tag == tag).map(|each| each.reason.clone());
    assert_eq!(of(1), Some(RefusalReason::UnknownTarget), "{topic}/{partition}: {found:?}");
    for neighbour in [0, 2] {
        assert!(matches!(of(neighbour), None | Some(RefusalReason::Collateral(_))), "{found:?}");
    }
    assert!(read_all(&bed.log(), known, 0).is_empty());
}

/// A target deleted while a producer that has used it lives.
pub(crate) fn a_target_deleted_under_a_producer_is_told(bed: &impl Bed) {
    let (log, known, doomed) = (bed.log(), bed.topic("known", 1), bed.topic("doomed", 1));
    let mut holder = log.transactional(&unique("doomed")).unwrap();
    holder.init().unwrap();
    let mut fire = || {
        holder.begin()?;
        holder.send(0, to(&known, 0, &text("known")))?;
        holder.send(1, to(&doomed, 0, &text("doomed")))?;
        holder.commit(&[])
    };
    fire().unwrap();
    bed.delete_topic(&doomed);
    match fire() {
        Err(TransactionError::Refused(found)) => {
            let of =
                |tag| found.iter().find(|each: &&Refusal| each.tag == tag).map(|each| each.reason.clone());
            assert_eq!(of(1), Some(RefusalReason::UnknownTarget), "{found:?}");
            assert!(matches!(of(0), None | Some(RefusalReason::Collateral(_))), "{found:?}");
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn a_record_too_large_is_told_only_when_alone(bed: &impl Bed) {
    let small = bed.topic_with("small", 2, &[("max.message.bytes", "10000")]);
    let log = bed.log();
    assert_eq!(log.topics(&[&small]).unwrap()[0].unwrap().max_message_bytes, Some(10_000));
    let kilobyte = || text(&"x".repeat(1_000));
    // Alone, beside a good record in another partition.
    let found = refused(bed, &[(&small, 0, text(&"x".repeat(20_000))), (&small, 1, kilobyte())]);
    let of = |tag| found.iter().find(|each: &&Refusal| each.tag == tag).map(|each| each.reason.clone());
    assert_eq!(of(0), Some(RefusalReason::TooLarge), "{found:?}");
    assert!(matches!(of(1), None | Some(RefusalReason::Collateral(_))), "{found:?}");
    // A batch too large, of records that each would fit: none of them may be condemned.
    let batch: Vec<_> = (0..100).map(|_| (&*small, 0, kilobyte())).collect();
    let found = refused(bed, &batch);
    let condemned = |each: &&Refusal| !matches!(each.reason, RefusalReason::Collateral(_));
    assert!(!found.is_empty());
    assert_eq!(found.iter().find(condemned).map(|each| each.tag), None, "{found:?}");
}

pub(crate) fn a_topic_that_is_not_there_stays_so(bed: &impl Bed) {
    let log = bed.log();
    let name = unique("nowhere");
    for _ in 0..2 {
        assert_eq!(log.partitions(&name).unwrap(), None);
    }
    let there = bed.topic("there", 5);
    assert_eq!(log.partitions(&there).unwrap(), Some(5));
    let info = log.topics(&[&there]).unwrap()[0].unwrap();
    assert_eq!(info.partitions, Some(5));
    assert!(info.max_message_bytes.unwrap() >= 1_000_000);
    // Many are asked about in another way.
    let names: Vec<_> = (0..40).map(|n| if n == 7 { there.to_string() } else { unique("nowhere") }).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let expected: Vec<_> = names.iter().map(|name| (**name == *there).then_some(info)).collect();
    assert_eq!(log.topics(&names).unwrap(), expected);
}

/// A record without a partition goes where a Java client would send it. The hashes are
/// those of Kafka's own test (`UtilsTest.testMurmur2`).
pub(crate) fn partitions_are_java_s_choice(bed: &impl Bed) {
    let (log, topic) = (bed.log(), bed.topic("java", 7));
    let vectors = [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    let mut producer = log.producer().unwrap();
    for (tag, (key, _)) in vectors.iter().enumerate() {
        let content = keyed(key);
        let outgoing = Outgoing { topic: &topic, partition: None, timestamp_ms: None, content: &content };
        producer.send(tag, outgoing).unwrap();
    }
    assert!(producer.flush().unwrap().is_empty());
    let mut found = 0;
    for partition in 0..7 {
        for record in read_all(&log, &topic, partition) {
            let key = record.content.key.unwrap();
            let (_, hash) = vectors.iter().find(|(vector, _)| vector.as_bytes() == key).unwrap();
            assert_eq!(murmur2(&key), *hash as u32, "{key:?}");
            assert_eq!((hash & 0x7fff_ffff) % 7, partition, "{key:?}");
            found += 1;
        }
    }
    assert_eq!(found, vectors.len());
}
