//! Lists of partitions, to and from rust-rdkafka's. Elements are added and then set:
//! `add_partition_offset` searches the list for each, which is quadratic.

use std::collections::HashMap;

use rdkafka::{
    Offset, TopicPartitionList,
    error::{KafkaError, KafkaResult},
    topic_partition_list::TopicPartitionListElem,
};

use super::failure;
use crate::log::{Error, Position, TopicPartition};

/// Partitions, each with an offset (or what stands in its place).
pub(super) fn of_offsets<'a>(
    offsets: impl ExactSizeIterator<Item = (&'a TopicPartition, Offset)>,
) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (at, offset) in offsets {
        add(&mut list, at)?.set_offset(offset).map_err(|error| failure::error(&error))?;
    }
    Ok(list)
}

/// Positions with their metadata.
pub(super) fn of_positions(positions: &[(TopicPartition, Position)]) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (at, position) in positions {
        let mut element = add(&mut list, at)?;
        element.set_offset(Offset::Offset(position.offset)).map_err(|error| failure::error(&error))?;
        if !position.metadata.is_empty() {
            element.set_metadata(&position.metadata);
        }
    }
    Ok(list)
}

/// What `read` makes of each of `partitions`' elements, in their order.
pub(super) fn in_order<T>(
    list: &TopicPartitionList,
    partitions: &[TopicPartition],
    read: impl Fn(&TopicPartitionListElem<'_>) -> T,
) -> Result<Vec<T>, Error> {
    let elements = list.elements();
    let index: HashMap<(&str, i32), usize> =
        elements.iter().enumerate().map(|(i, each)| ((each.topic(), each.partition()), i)).collect();
    partitions
        .iter()
        .map(|at| {
            let element = index.get(&(&*at.topic, at.partition)).and_then(|&i| elements.get(i));
            let element = element.ok_or_else(|| Error::Unavailable(format!("no answer for {at}")))?;
            check(element.error(), at)?;
            Ok(read(element))
        })
        .collect()
}

fn check(result: KafkaResult<()>, at: &TopicPartition) -> Result<(), Error> {
    result.map_err(|error| match error {
        KafkaError::OffsetFetch(code) => failure::by_code(code, &format!("{at}: {code}")),
        other => failure::error(&other),
    })
}

fn add<'a>(
    list: &'a mut TopicPartitionList,
    at: &TopicPartition,
) -> Result<TopicPartitionListElem<'a>, Error> {
    // rust-rdkafka panics over a zero byte in a topic name.
    if at.topic.contains('\0') {
        return Err(Error::Unknown(at.topic.replace('\0', "\\0")));
    }
    Ok(list.add_partition(&at.topic, at.partition))
}
