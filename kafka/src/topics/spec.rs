//! What the cluster's topics should be.

use ksched_core::cluster::Cluster;

/// Bytes: Kafka's default `max.message.bytes`, and head-room for the envelope and the
/// headers of dead letters, so that what a target takes always fits into ours
/// (traps.md: a message of exactly the limit once blocked a whole scheduler).
const MAX_MESSAGE_BYTES: i64 = 1_048_588 + (64 << 10);
/// Bytes. `DeleteRecords` frees whole segments and never the one being written, so
/// this times the number of partitions is what a drained wheel may still occupy.
const SEGMENT_BYTES: i64 = 64 << 20;
/// Control topic: settled entries are tombstones; compact them away soon.
const CONTROL_SEGMENT_BYTES: i64 = 8 << 20;
const CONTROL_SEGMENT_MS: i64 = 10 * 60 * 1000;
/// Dead letters are for people to look at: 30 days.
const DEAD_LETTER_RETENTION_MS: i64 = 30 * 24 * 3600 * 1000;
const JOB_LOG_RETENTION_MS: i64 = 7 * 24 * 3600 * 1000;

/// Whose settings a topic's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Wheel and due: messages wait in it, positions are kept for it.
    Messages,
    Control,
    /// The user's to set: only warned about.
    Intake,
    /// Dead letters and the job log: nothing depends on them.
    Output,
}

/// How a setting of an existing topic is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Exactly,
    AtLeast,
    /// For creation only.
    Free,
}

/// One setting.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) rule: Rule,
}

/// One topic.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) partitions: i32,
    pub(super) kind: Kind,
    pub(super) settings: Vec<Setting>,
}

/// All topics of a cluster.
pub(super) fn topics(cluster: &Cluster) -> Vec<Spec> {
    let geometry = &cluster.geometry;
    let mut topics = vec![
        Spec::new(cluster.due_topic(), geometry.due_partitions(), Kind::Messages),
        Spec::new(cluster.control_topic(), i32::from(geometry.lanes), Kind::Control),
        Spec::new(cluster.intake_topic.clone(), cluster.intake_partitions, Kind::Intake),
        Spec::new(cluster.dead_letter_topic.clone(), 4, Kind::Output).with(
            "retention.ms",
            DEAD_LETTER_RETENTION_MS,
            Rule::Free,
        ),
        Spec::new(cluster.job_log_topic(), 1, Kind::Output).with(
            "retention.ms",
            JOB_LOG_RETENTION_MS,
            Rule::Free,
        ),
    ];
    topics.extend(
        (1..=geometry.levels)
            .map(|k| Spec::new(cluster.wheel_topic(k), geometry.wheel_partitions(), Kind::Messages)),
    );
    topics
}

impl Spec {
    fn new(name: String, partitions: i32, kind: Kind) -> Self {
        let spec = Self { name, partitions, kind, settings: Vec::new() };
        match kind {
            Kind::Messages => spec.ours().with("cleanup.policy", "delete", Rule::Exactly).with(
                "segment.bytes",
                SEGMENT_BYTES,
                Rule::Free,
            ),
            Kind::Control => spec
                .ours()
                .with("cleanup.policy", "compact", Rule::Exactly)
                .with("segment.bytes", CONTROL_SEGMENT_BYTES, Rule::Free)
                .with("segment.ms", CONTROL_SEGMENT_MS, Rule::Free)
                .with("min.cleanable.dirty.ratio", "0.05", Rule::Free),
            Kind::Intake => spec,
            Kind::Output => spec.with("max.message.bytes", MAX_MESSAGE_BYTES, Rule::Free),
        }
    }

    /// Retention must never decide the life of an undelivered message (design §3).
    fn ours(self) -> Self {
        self.with("retention.ms", -1, Rule::Exactly)
            .with("retention.bytes", -1, Rule::Exactly)
            .with("message.timestamp.type", "LogAppendTime", Rule::Exactly)
            .with("max.message.bytes", MAX_MESSAGE_BYTES, Rule::AtLeast)
    }

    fn with(mut self, name: &'static str, value: impl ToString, rule: Rule) -> Self {
        self.settings.push(Setting { name, value: value.to_string(), rule });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_cluster_has_what_the_design_counts() {
        let topics = topics(&Cluster::default());
        let ours: i32 = topics
            .iter()
            .filter(|each| {
                each.kind == Kind::Messages && each.name.contains("wheel") || each.name.ends_with("due")
            })
            .map(|each| each.partitions)
            .sum();
        assert_eq!(ours, 844);
    }
}
