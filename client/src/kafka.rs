//! The way to Kafka for those commands that read or write it themselves.

use std::collections::BTreeMap;

use ksched_kafka::{Error, Librdkafka, Settings, target};

/// Names the client in the broker's logs; its group, into which only the bench's floors commit.
const NAME: &str = "ksched-client";

/// A way to the Kafka at `bootstrap`, with librdkafka properties passed through.
///
/// # Errors
/// Properties that librdkafka does not accept.
pub fn connect(bootstrap: &str, properties: BTreeMap<String, String>) -> Result<Librdkafka, Error> {
    Librdkafka::new(Settings {
        bootstrap: bootstrap.to_owned(),
        group: NAME.to_owned(),
        client_id: NAME.to_owned(),
        properties,
        ..Settings::default()
    })
}

/// Makes a bench's target if it is not there: stamped by the broker on append, so
/// that append lateness is by a neutral clock. Blocks.
///
/// # Errors
/// Those of Kafka.
pub fn make_target(log: &Librdkafka, topic: &str, partitions: i32) -> Result<(), Error> {
    target::create(log, topic, partitions, &[("message.timestamp.type", "LogAppendTime")])?;
    Ok(())
}
