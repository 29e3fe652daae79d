//! How far the intake is behind.

use ksched_kafka::{Error, Log, Offset, TopicPartition};

/// Offsets between position and end, over these partitions of the intake topic: a little more than the records that
/// are not taken over. `None` if one of them has no committed position. Blocking.
///
/// # Errors
/// Kafka's.
pub(crate) fn behind(log: &impl Log, intake: &[TopicPartition]) -> Result<Option<i64>, Error> {
    let ends = log.offsets(intake, Offset::StableEnd)?;
    let committed = log.committed_before_pending(intake)?;
    let behind = ends.iter().zip(&committed).map(|(end, at)| Some((end - at.as_ref()?.offset).max(0)));
    Ok(behind.sum())
}
