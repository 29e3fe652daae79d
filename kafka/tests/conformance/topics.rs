//! The cluster's own topics.

use ksched_core::cluster::{Cluster, Geometry};
use ksched_kafka::{
    Log, Offset,
    topics::{Error, IntakeStart, Options, Wrong, prepare, verify},
};

use crate::bed::{Bed as _, Server, append, at, create, partitions_of, unique};

fn cluster() -> Cluster {
    let name = unique("c");
    Cluster {
        topic_prefix: format!("{name}."),
        intake_topic: format!("{name}-intake"),
        intake_partitions: 2,
        dead_letter_topic: format!("{name}.dlq"),
        geometry: Geometry { ratio: 4, levels: 2, lanes: 2, ..Geometry::default() },
        name,
        ..Cluster::default()
    }
}

pub(crate) fn a_first_start_makes_what_a_later_one_finds_right(bed: &Server) {
    let cluster = cluster();
    let log = bed.log_of(&cluster.group());
    assert!(matches!(verify(&log, &cluster), Err(Error::Wrong(wrong)) if wrong.len() == 7));

    // The user's intake topic was there before.
    create(&bed.address, &cluster.intake_topic, 2, &[]);
    append(&log, &cluster.intake_topic, 1, &["old", "old"]);
    let prepared = prepare(&log, &cluster, Options::default()).unwrap();
    assert_eq!(prepared.created.len(), 6, "{prepared:?}");
    assert!(!prepared.created.contains(&cluster.intake_topic));

    let offsets = |topic: &str, count| -> Vec<Option<i64>> {
        let found = log.committed(&partitions_of(topic, count)).unwrap();
        found.into_iter().map(|each| each.map(|position| position.offset)).collect()
    };
    let due = cluster.geometry.due_partitions();
    assert_eq!(offsets(&cluster.due_topic(), due), vec![Some(0); due as usize]);
    let wheel = cluster.geometry.wheel_partitions();
    assert_eq!(offsets(&cluster.wheel_topic(2), wheel), vec![Some(0); wheel as usize]);
    assert_eq!(offsets(&cluster.intake_topic, 2), [Some(0), Some(2)]);

    // A second try changes nothing, and a later start is content.
    let again =
        prepare(&log, &cluster, Options { intake_start: IntakeStart::Earliest, ..Options::default() });
    assert!(again.unwrap().created.is_empty());
    assert_eq!(offsets(&cluster.intake_topic, 2), [Some(0), Some(2)]);
    verify(&log, &cluster).unwrap();
    // A broker on which messages could not be appended would be no use.
    append(&log, &cluster.due_topic(), 5, &["x"]);
    let due: std::sync::Arc<str> = cluster.due_topic().into();
    assert_eq!(log.offsets(&[at(&due, 5)], Offset::StableEnd).unwrap(), [1]);
}

pub(crate) fn everything_wrong_is_told(bed: &Server) {
    let cluster = cluster();
    let log = bed.log_of(&cluster.group());
    create(&bed.address, &cluster.due_topic(), 3, &[("retention.ms", "604800000")]);
    create(&bed.address, &cluster.control_topic(), 2, &[("cleanup.policy", "delete")]);
    let Err(Error::Wrong(wrong)) = prepare(&log, &cluster, Options::default()) else {
        panic!("accepted");
    };
    let expected = Wrong::Partitions { topic: cluster.due_topic(), found: 3, expected: 6 };
    assert!(wrong.contains(&expected), "{wrong:?}");
    for (topic, setting) in
        [(cluster.due_topic(), "retention.ms"), (cluster.control_topic(), "cleanup.policy")]
    {
        let told = |each: &Wrong| matches!(each, Wrong::Setting { topic: t, name, .. } if *t == topic && *name == setting);
        assert!(wrong.iter().any(told), "{topic} {setting}: {wrong:?}");
    }
}
