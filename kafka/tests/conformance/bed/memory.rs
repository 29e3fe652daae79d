//! The log in memory as a bed.

use std::{
    sync::{Arc, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

use ksched_kafka::{
    TopicPartition,
    memory::{MemoryBroker, MemoryLog, TopicConfig},
};

use super::{Bed, unique};

/// A broker in memory, on the machine's clock.
#[derive(Debug)]
pub(crate) struct Memory {
    broker: MemoryBroker,
}

pub(crate) fn memory() -> &'static Memory {
    static BED: OnceLock<Memory> = OnceLock::new();
    let now = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    BED.get_or_init(|| Memory { broker: MemoryBroker::new(Arc::new(now)) })
}

impl Bed for Memory {
    type Log = MemoryLog;

    fn log_of(&self, group: &str) -> MemoryLog {
        MemoryLog::direct(&self.broker, group)
    }

    fn topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Arc<str> {
        let mut config = TopicConfig::default();
        for (name, value) in settings {
            match *name {
                "max.message.bytes" => config.max_message_bytes = value.parse().unwrap(),
                "message.timestamp.type" => config.log_append_time = *value == "LogAppendTime",
                "cleanup.policy" => config.compacted = *value == "compact",
                other => panic!("not modelled: {other}"),
            }
        }
        let name = unique(name);
        self.broker.create_topic(&name, partitions, config).unwrap();
        name.into()
    }

    fn delete_topic(&self, name: &str) {
        self.broker.delete_topic(name).unwrap();
    }

    fn delete_records(&self, before: &[(TopicPartition, i64)]) -> Result<(), ksched_kafka::Error> {
        Ok(self.broker.delete_records(before)?)
    }
}
