//! What a new holder reads before it fires: committed positions and the control partition.

use std::{collections::BTreeMap, time::Duration};

use ksched_core::{
    cluster::INLETS,
    lane::{Committed, Marker},
};
use ksched_kafka::{Error, Log, Offset, Position, Reader, TopicPartition};
use tokio::time::Instant;
use tracing::{error, warn};

use super::FETCH_BYTES;
use crate::{
    attempt::{Ended, positions},
    job::Control,
    node::Node,
};

const CONTROL_STALLED: Duration = Duration::from_secs(30);
/// One look for a record: the last ones at an end are often markers, which are never handed over.
const END_WAIT: Duration = Duration::from_millis(5);

/// The lane's positions. That there are none is an error: a lane starts with some.
pub(super) fn committed<L: Log>(
    node: &Node<L>,
    control: &Control,
    inlets: &[TopicPartition; INLETS],
) -> Result<[Committed; INLETS], Ended> {
    let mut positions = positions(node, inlets)?.into_iter();
    let mut all: [Committed; INLETS] = Default::default();
    for (slot, inlet) in all.iter_mut().zip(inlets) {
        let Some(Position { offset, metadata }) = positions.next().flatten() else {
            error!(job = %control.name, ?inlet, "no committed position: it was lost; see docs/OPERATIONS.md");
            return Err(Ended::Failed(format!("{inlet:?} has no committed position")));
        };
        *slot = Committed { offset, metadata };
    }
    Ok(all)
}

/// The markers of handled messages, from the lane's control partition.
pub(super) fn markers<L: Log>(node: &Node<L>, lane: u16) -> Result<Vec<Marker>, Ended> {
    let partition = TopicPartition { topic: node.cluster.control_topic().into(), partition: i32::from(lane) };
    let only = std::slice::from_ref(&partition);
    let first = |offsets: Vec<i64>| offsets.into_iter().next().unwrap_or(0);
    let (start, end) =
        (first(node.log.offsets(only, Offset::Start)?), first(node.log.offsets(only, Offset::StableEnd)?));
    if start >= end {
        return Ok(Vec::new());
    }
    // One of its own: what the lane's is asking for it would have to wait for.
    let mut reader = node.log.reader(FETCH_BYTES)?;
    reader.assign(&[(partition.clone(), start)])?;
    let mut kept: BTreeMap<Vec<u8>, Option<Vec<u8>>> = Default::default();
    let mut progressed_at = Instant::now();
    while reader.position(&partition)? < end {
        if progressed_at.elapsed() > CONTROL_STALLED {
            return Err(Ended::Unclean(format!("{partition:?} could not be read to its end at {end}")));
        }
        let record = match reader.poll(END_WAIT) {
            Ok(Some(record)) => record,
            Ok(None) => continue,
            // Not ours, whoever wrote it.
            Err(Error::Unreadable(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        progressed_at = Instant::now();
        if let Some(key) = record.content.key {
            kept.insert(key.to_vec(), record.content.value.map(|v| v.to_vec()));
        }
    }
    let decode = |(key, value): (Vec<u8>, Option<Vec<u8>>)| {
        let marker = Marker::decode(&key, &value?);
        marker.inspect_err(|reason| warn!(lane, %reason, "control record is not understood")).ok()
    };
    Ok(kept.into_iter().filter_map(decode).collect())
}
