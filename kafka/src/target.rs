//! Making a topic that is not the cluster's own: a bench's or a test's target.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{NewTopic, TopicReplication},
    error::RDKafkaErrorCode as Code,
};

use crate::{
    librdkafka::{Librdkafka, admin::Admin, error_of},
    log::{Error, Log as _, Offset, TopicPartition},
};

/// Until a topic just made has leaders, and the brokers asked know them.
const USABLE_WITHIN: Duration = Duration::from_secs(30);

/// Makes a topic with the broker's default replication and these settings
/// (`message.timestamp.type` and so on) and waits until it can be used. Whether it
/// was made: one that is there already is left as it is. Blocks.
///
/// # Errors
/// Those of the log.
pub fn create(
    log: &Librdkafka,
    name: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> Result<bool, Error> {
    if log.partitions(name)?.is_some() {
        return Ok(false);
    }
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
    let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let answers = log.administer(|admin| admin.create_topics([&topic], &Admin::options()))?;
    let made = match answers.into_iter().next() {
        Some(Ok(_)) => true,
        Some(Err((_, Code::TopicAlreadyExists))) => false,
        Some(Err((name, code))) => return Err(error_of(code, &name)),
        None => return Err(Error::Unavailable("no answer about the topic".to_owned())),
    };
    let topic: Arc<str> = name.into();
    let partitions: Vec<_> =
        (0..partitions).map(|partition| TopicPartition { topic: Arc::clone(&topic), partition }).collect();
    let deadline = Instant::now() + USABLE_WITHIN;
    loop {
        // It is seen before its partitions have leaders.
        match log.offsets(&partitions, Offset::End) {
            Ok(_) => return Ok(made),
            Err(Error::Unavailable(_) | Error::Unknown(_)) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
    }
}
