//! Domain types to and from those of the contract.

use std::{collections::BTreeMap, time::Duration};

use ksched_core::{
    cluster::{Cluster, DeliveredHeaders, Delivery, Geometry},
    jobs::{JobKind, JobName},
};
pub(crate) use ksched_proto::time::{at_ms, ms};
use ksched_proto::v1;

use super::Error;
use crate::store::{Fence, LeaseId, OpenDrain, Registration};

/// Milliseconds since the epoch as a timestamp.
pub(crate) fn timestamp(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: ms.div_euclid(1_000), nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32 }
}

/// Microseconds since the epoch as a timestamp.
pub(crate) fn timestamp_us(us: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: us.div_euclid(1_000_000),
        nanos: (us.rem_euclid(1_000_000) * 1_000) as i32,
    }
}

/// Milliseconds as a duration.
pub(crate) fn duration(ms: i64) -> prost_types::Duration {
    prost_types::Duration { seconds: ms / 1_000, nanos: (ms % 1_000 * 1_000_000) as i32 }
}

/// The cluster's settings; `kafka` is where Kafka is.
pub(crate) fn cluster(cluster: &Cluster, kafka: &str) -> v1::Cluster {
    let delivery = match cluster.delivery {
        Delivery::ExactlyOnce => v1::Delivery::ExactlyOnce,
        Delivery::AtLeastOnce => v1::Delivery::AtLeastOnce,
    };
    let delivered_headers = match cluster.delivered_headers {
        DeliveredHeaders::All => v1::DeliveredHeaders::All,
        DeliveredHeaders::Id => v1::DeliveredHeaders::Id,
        DeliveredHeaders::None => v1::DeliveredHeaders::None,
    };
    v1::Cluster {
        name: cluster.name.clone(),
        geometry: Some(geometry(&cluster.geometry)),
        topic_prefix: cluster.topic_prefix.clone(),
        intake_topic: cluster.intake_topic.clone(),
        intake_partitions: cluster.intake_partitions,
        dead_letter_topic: cluster.dead_letter_topic.clone(),
        delivery: delivery.into(),
        delivered_headers: delivered_headers.into(),
        compat_stamps: cluster.compat_stamps,
        kafka: kafka.to_owned(),
    }
}

fn geometry(geometry: &Geometry) -> v1::Geometry {
    v1::Geometry {
        slot_width: Some(duration(geometry.slot_width_ms)),
        ratio: geometry.ratio,
        levels: geometry.levels,
        lanes: geometry.lanes.into(),
        lease_ttl: Some(duration(geometry.lease_ttl_ms)),
    }
}

/// A job; without a fence if it is not handed out.
pub(crate) fn job(
    cluster: &Cluster,
    name: &JobName,
    drain: Option<OpenDrain>,
    fence: Option<Fence>,
) -> v1::Job {
    let kind = match name.kind() {
        JobKind::Lane => v1::JobKind::Lane,
        JobKind::Drain => v1::JobKind::Drain,
        JobKind::Intake => v1::JobKind::Intake,
    };
    let (topic, partition) = name.source(cluster);
    v1::Job {
        name: name.to_string(),
        kind: kind.into(),
        topic: topic.as_ref().to_owned(),
        partition,
        lane: name.lane(&cluster.geometry).unwrap_or_default().into(),
        open_time: drain.map(|drain| timestamp(drain.open_at_ms)),
        fence: fence.map_or(0, |fence| fence.0),
    }
}

/// Who calls.
pub(super) fn registration(lease: Option<v1::WorkerLease>) -> Result<Registration, Error> {
    let lease = lease.filter(|lease| !lease.worker_id.is_empty());
    let lease = lease.ok_or(Error::BadField { field: "lease", description: "is missing".to_owned() })?;
    Ok(Registration { id: lease.worker_id, lease: LeaseId(lease.lease_id) })
}

/// Jobs as their holder names them.
pub(super) fn held(jobs: Vec<v1::HeldJob>) -> Result<BTreeMap<JobName, Fence>, Error> {
    jobs.into_iter().map(one_held).collect()
}

pub(super) fn one_held(job: v1::HeldJob) -> Result<(JobName, Fence), Error> {
    match job.name.parse() {
        Ok(name) => Ok((name, Fence(job.fence))),
        Err(e) => Err(Error::BadField { field: "held.name", description: format!("`{}`: {e}", job.name) }),
    }
}

/// A span; nothing below zero.
pub(super) fn span(duration: Option<prost_types::Duration>) -> Duration {
    duration.and_then(|d| Duration::try_from(d).ok()).unwrap_or_default()
}
