//! Settings of each kind of client, and why. Ours first, then the user's
//! pass-through properties over them, then what correctness depends on over all.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel, error::KafkaError};

use super::statistics::{self, Part, Statistics};

/// How to reach a cluster, and as whom.
#[derive(Clone, Default)]
pub struct Settings {
    /// `host:port` pairs separated by commas.
    pub bootstrap: String,
    /// The consumer group that holds every position.
    pub group: String,
    /// Shown in the broker's logs and quotas.
    pub client_id: String,
    /// Any librdkafka property, as the user set it.
    pub properties: BTreeMap<String, String>,
    /// Where producers tell how they are, if anybody looks.
    pub statistics: Option<Statistics>,
}

/// Names the properties but not their values: there are secrets among them.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("bootstrap", &self.bootstrap)
            .field("group", &self.group)
            .field("client_id", &self.client_id)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// Ms. librdkafka's `message.timeout.ms` must not exceed it. Short, because a dead
/// holder's open transaction holds up every reader of its targets until it ends.
pub(super) const TRANSACTION_TIMEOUT_MS: u64 = 10_000;
/// Ms until a record that is not acknowledged counts as not delivered.
const MESSAGE_TIMEOUT_MS: u64 = 8_000;
/// A record larger than this is refused here; smaller ones are the broker's to judge.
const MESSAGE_MAX_BYTES: usize = 16 << 20;

/// Isolation of a consumer that only answers questions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Isolation {
    Committed,
    Uncommitted,
}

/// What librdkafka says against properties, each by itself: no such name, no such value. It may still refuse them together.
pub fn property_mistakes(properties: &BTreeMap<String, String>) -> Vec<String> {
    let mistake = |(name, value): (&String, &String)| {
        let mut config = ClientConfig::new();
        config.set(name, value);
        match config.create_native_config() {
            Err(KafkaError::ClientConfig(_, why, ..)) => Some(format!("kafka.{name}: {why}")),
            _ => None,
        }
    };
    properties.iter().filter_map(mistake).collect()
}

impl Settings {
    /// A consumer for manual assignment holding back at most about `fetch_bytes`.
    pub(super) fn reader(&self, fetch_bytes: usize, wait: Duration) -> ClientConfig {
        let wait_ms = wait.as_millis().to_string();
        let kbytes = (fetch_bytes / 1024).max(64).to_string();
        let bytes = fetch_bytes.clamp(64 << 10, 64 << 20).to_string();
        let mut config = self.tuned(&[
            // Trap "Defaults that hurt": 1 s and 500 ms would be lateness.
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.error.backoff.ms", "50"),
            ("queued.max.messages.kbytes", &kbytes),
            ("fetch.max.bytes", &bytes),
            // An answer comes at once when there is something; a partition assigned or
            // resumed meanwhile waits for the fetch under way, at most so long.
            ("fetch.wait.max.ms", &wait_ms),
            ("fetch.min.bytes", "1"),
        ]);
        if fetch_bytes < 1 << 20 {
            config.set("max.partition.fetch.bytes", &bytes);
        }
        self.consumer(&mut config, Isolation::Committed);
        config
    }

    /// A consumer that is never assigned anything: positions and offsets.
    pub(super) fn asker(&self, isolation: Isolation) -> ClientConfig {
        let mut config = self.tuned(&[]);
        self.consumer(&mut config, isolation);
        // Bounds a commit whose coordinator is away; no session exists.
        config.set("session.timeout.ms", "6000");
        config
    }

    fn consumer(&self, config: &mut ClientConfig, isolation: Isolation) {
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Trap: the default `largest` skips messages.
            .set("auto.offset.reset", "error")
            // Trap: only then a position waits for a pending transactional commit, and
            // offsets_for_times answers the last stable offset.
            .set(
                "isolation.level",
                match isolation {
                    Isolation::Committed => "read_committed",
                    Isolation::Uncommitted => "read_uncommitted",
                },
            )
            .set("allow.auto.create.topics", "false")
            .set("enable.partition.eof", "false")
            // A thread that waits for Kafka or for a due time does not poll.
            .set("max.poll.interval.ms", "86400000");
    }

    /// A transactional producer.
    pub(super) fn transactional(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.producer_tuned("0.1");
        config
            // Trap 1: AddOffsets that meets CONCURRENT_TRANSACTIONS is tried again after this.
            .set("retry.backoff.ms", "5")
            .set("retry.backoff.max.ms", "100")
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string())
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS.to_string())
            // Design §4.2: disconnects must reach the log callback. The client removes
            // idle connections never; a broker that does is logged at debug only.
            .set("log.connection.close", "true")
            .set("connections.max.idle.ms", "0")
            .set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// An idempotent producer without transactions; `linger_ms` may have a fraction.
    pub(super) fn producer(&self, linger_ms: &str) -> ClientConfig {
        let mut config = self.producer_tuned(linger_ms);
        config
            // It refuses by itself what it thinks is beyond a topic's last partition; by default it
            // looks each five minutes whether there are more.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("retry.backoff.ms", "20")
            .set("retry.backoff.max.ms", "200")
            .set("message.timeout.ms", "10000");
        config
    }

    /// A producer that never times a record out by itself. When it does, librdkafka takes a new epoch and sends what
    /// else was in flight again under new sequence numbers, though the broker may have it
    /// (`rd_kafka_broker_produce_toppar`, "message(s) timed out"): twice, then. Whoever uses this gives the whole
    /// producer up instead.
    pub(super) fn patient_producer(&self, linger_ms: &str) -> ClientConfig {
        let mut config = self.producer(linger_ms);
        config.set("message.timeout.ms", "0");
        config
    }

    fn producer_tuned(&self, linger_ms: &str) -> ClientConfig {
        let message_max = MESSAGE_MAX_BYTES.to_string();
        let mut config = self.tuned(&[
            ("linger.ms", linger_ms),
            ("queue.buffering.max.messages", "200000"),
            ("queue.buffering.max.kbytes", "65536"),
            ("message.max.bytes", &message_max),
            // Targets are looked at before records go to them, so one that does not
            // exist need not be waited for; by default it is for 30 s, and the record
            // would time out instead of being refused.
            ("topic.metadata.propagation.max.ms", "1000"),
            // Trap: the default CRC32 is not what Java clients use.
            ("partitioner", "murmur2_random"),
        ]);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5");
        if self.statistics.is_some() {
            config.set("statistics.interval.ms", statistics::INTERVAL_MS);
        }
        config
    }

    /// Of a producer that begins.
    pub(super) fn part(&self) -> Option<Part> {
        self.statistics.as_ref().map(Statistics::part)
    }

    /// A client for topics and their settings.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut config = self.tuned(&[]);
        // rust-rdkafka's AdminClient polls its own queue, never the main one where log
        // lines go, so they would pile up: have none.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config
    }

    /// What all clients have, `defaults` over it, the user's properties over both.
    fn tuned(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "1000");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        // Trap: the `log_level` property is overridden by rust-rdkafka with what the
        // `log` crate has enabled, so the level is set through its own method.
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_properties_are_told_without_their_secrets() {
        let set = |pairs: &[(&str, &str)]| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            property_mistakes(&pairs.iter().map(owned).collect())
        };
        assert_eq!(set(&[("sasl.password", "hunter2"), ("security.protocol", "SASL_SSL")]), [""; 0]);
        let told = set(&[("nope", "hunter2"), ("socket.timeout.ms", "soon")]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("kafka.nope: ") && !told[0].contains("hunter2"), "{told:?}");
        assert!(told[1].starts_with("kafka.socket.timeout.ms: "), "{told:?}");
    }
}
