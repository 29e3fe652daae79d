//! The settings all parts of a cluster share, and the names made from them.

use serde::{Deserialize, Serialize};

/// Geometry of the timing wheel (design §3). Fixed at first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometry {
    /// Width of a level-1 slot, in ms.
    pub slot_width_ms: i64,
    /// R: slots of level k in a slot of level k + 1; even, at least 4.
    pub ratio: u32,
    /// K: number of levels.
    pub levels: u32,
    /// N: number of lanes.
    pub lanes: u16,
    /// How long a worker's lease lasts, in ms. Leads are made from it.
    pub lease_ttl_ms: i64,
}

impl Default for Geometry {
    fn default() -> Self {
        Self { slot_width_ms: 10_000, ratio: 32, levels: 4, lanes: 4, lease_ttl_ms: 5_000 }
    }
}

/// How a due message reaches its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// One Kafka transaction moves the message and the lane's position.
    #[default]
    ExactlyOnce,
    /// Appended without a transaction, the position committed afterwards.
    AtLeastOnce,
}

/// Which headers ksched adds to a delivered message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveredHeaders {
    #[default]
    All,
    Id,
    None,
}

/// What every part of a cluster must agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    pub name: String,
    pub geometry: Geometry,
    /// Prefix of the wheel, due and control topics, with its dot.
    pub topic_prefix: String,
    pub intake_topic: String,
    pub intake_partitions: i32,
    pub dead_letter_topic: String,
    pub delivery: Delivery,
    pub delivered_headers: DeliveredHeaders,
    /// Adds the earlier system's stamps to every delivered message.
    pub compat_stamps: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: "ksched".to_owned(),
            geometry: Geometry::default(),
            topic_prefix: "ksched.".to_owned(),
            intake_topic: "SCHEDULED_MESSAGES".to_owned(),
            intake_partitions: 16,
            dead_letter_topic: "ksched.dlq".to_owned(),
            delivery: Delivery::default(),
            delivered_headers: DeliveredHeaders::default(),
            compat_stamps: false,
        }
    }
}

/// Why the names of two topics cannot stand together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("intake.topic and dead-letter.topic are both {0}: dead letters would be taken in again for ever")]
    DeadLettersTakenIn(String),
    #[error("{setting} is {topic}, where messages under way are kept")]
    Ours { setting: &'static str, topic: String },
    #[error("{setting} is {topic}: names that begin with __ are Kafka's own")]
    Kafkas { setting: &'static str, topic: String },
    #[error("{setting} is {topic}, which is no name for a topic")]
    Dots { setting: &'static str, topic: String },
}

/// Inlets of a lane: its partitions of the due topic (design §5).
pub const INLETS: usize = 3;

impl Cluster {
    /// The due topic: partition = 3 · lane + inlet.
    pub fn due_topic(&self) -> String {
        format!("{}due", self.topic_prefix)
    }

    /// The control topic: one partition a lane.
    pub fn control_topic(&self) -> String {
        format!("{}control", self.topic_prefix)
    }

    /// The topic of one wheel level, 1 ≤ `level` ≤ K.
    pub fn wheel_topic(&self, level: u32) -> String {
        format!("{}wheel.{level}", self.topic_prefix)
    }

    /// The job log: one partition, one record for each drain that is done ([`Finished`](crate::jobs::Finished)).
    pub fn job_log_topic(&self) -> String {
        format!("{}joblog", self.topic_prefix)
    }

    /// The consumer group that holds every position.
    pub fn group(&self) -> String {
        format!("ksched.{}", self.name)
    }

    /// The transactional id of one producer of the job that owns a partition
    /// (design §4.1). `turn` is `a` or `b`.
    pub fn transactional_id(&self, topic: &str, partition: i32, turn: char) -> String {
        format!("ksched.{}.{topic}.{partition}.{turn}", self.name)
    }

    /// What contradicts itself in the names of the topics that the operator chooses.
    pub fn topic_errors(&self) -> Vec<TopicError> {
        let mut errors = Vec::new();
        let chosen = [("intake.topic", &self.intake_topic), ("dead-letter.topic", &self.dead_letter_topic)];
        for (setting, topic) in chosen {
            let topic = topic.clone();
            let under_way = topic
                .strip_prefix(&self.topic_prefix)
                .is_some_and(|name| matches!(name, "due" | "control") || name.starts_with("wheel."));
            if under_way {
                errors.push(TopicError::Ours { setting, topic });
            } else if topic.starts_with("__") {
                errors.push(TopicError::Kafkas { setting, topic });
            } else if matches!(&*topic, "." | "..") {
                errors.push(TopicError::Dots { setting, topic });
            }
        }
        if self.intake_topic == self.dead_letter_topic {
            errors.push(TopicError::DeadLettersTakenIn(self.intake_topic.clone()));
        }
        errors
    }

    /// Whether a topic is ours or Kafka's own, and so never a target.
    pub fn is_internal_topic(&self, topic: &str) -> bool {
        topic.starts_with("__")
            || topic == self.intake_topic
            || topic == self.dead_letter_topic
            || topic.starts_with(&self.topic_prefix)
    }
}
