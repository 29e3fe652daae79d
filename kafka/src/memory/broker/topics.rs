//! Making, describing and deleting topics and what is in them.

use std::sync::Arc;

use super::{Partition, State, Topic};
use crate::{
    log::{Offset, TopicInfo, TopicPartition},
    memory::protocol::{Failure, TopicConfig},
};

impl State {
    pub(super) fn create_topic(
        &mut self,
        name: &Arc<str>,
        partitions: i32,
        config: TopicConfig,
    ) -> Result<(), Failure> {
        if self.topics.contains_key(name) {
            return Err(Failure::TopicExists);
        }
        let count = count(partitions)?;
        let partitions = (0..count).map(|_| Partition::default()).collect();
        self.topics.insert(Arc::clone(name), Topic { config, partitions });
        Ok(())
    }

    pub(super) fn create_partitions(&mut self, name: &Arc<str>, partitions: i32) -> Result<(), Failure> {
        let count = count(partitions)?;
        let topic = self.topics.get_mut(name).ok_or_else(|| unknown(name))?;
        if count <= topic.partitions.len() {
            return Err(Failure::InvalidPartitions);
        }
        topic.partitions.resize_with(count, Partition::default);
        Ok(())
    }

    /// With it go the group's positions in it.
    pub(super) fn delete_topic(&mut self, name: &Arc<str>) -> Result<(), Failure> {
        self.topics.remove(name).ok_or_else(|| unknown(name))?;
        self.coordinator.forget(name);
        self.groups.values_mut().for_each(|group| group.forget(name));
        Ok(())
    }

    /// Each partition or none: Kafka answers for each, ksched looks at all.
    pub(super) fn delete_records(&mut self, before: &[(TopicPartition, i64)]) -> Result<(), Failure> {
        for (at, offset) in before {
            let (config, partition) = self.topic_and_partition(at)?;
            if config.compacted {
                return Err(Failure::PolicyViolation);
            }
            if !(0..=partition.end()).contains(offset) {
                return Err(Failure::OffsetOutOfRange);
            }
        }
        for (at, offset) in before {
            self.partition_mut(at)?.delete_before(*offset);
        }
        Ok(())
    }
}

impl Topic {
    pub(super) fn info(&self) -> TopicInfo {
        TopicInfo {
            partitions: Some(i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)),
            max_message_bytes: Some(self.config.max_message_bytes),
        }
    }
}

impl Partition {
    pub(super) fn offset(&self, which: Offset) -> i64 {
        match which {
            Offset::Start => self.start(),
            Offset::StableEnd => self.stable_end(),
            Offset::End => self.end(),
            // None so late: the end.
            Offset::At(ms) => self.at_or_after(ms).unwrap_or_else(|| self.stable_end()),
        }
    }
}

fn count(partitions: i32) -> Result<usize, Failure> {
    usize::try_from(partitions).ok().filter(|count| *count > 0).ok_or(Failure::InvalidPartitions)
}

fn unknown(topic: &Arc<str>) -> Failure {
    Failure::Unknown(vec![TopicPartition { topic: Arc::clone(topic), partition: -1 }])
}
