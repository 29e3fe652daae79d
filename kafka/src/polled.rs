//! A producer with a thread that polls it.
//!
//! Trap 2, once more: `ThreadedProducer` polls for 100 ms at a time, and the part
//! of the last whole millisecond that is left it spins: 1 % of a core for each idle
//! producer, and a worker has some twenty. So [`POLL`] is long, and a trifle more than
//! whole milliseconds, or nearly one more would be left to spin; the end of a producer
//! waits for it at most so long.

use std::{
    io,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext as _,
    error::{KafkaError, KafkaResult},
    producer::{BaseProducer, ProducerContext},
};

const POLL: Duration = Duration::from_micros(2_000_050);

/// Dereferences to the producer. Dropping it blocks until its thread has ended.
pub(crate) struct Polled<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> Polled<C> {
    pub(crate) fn new(config: &ClientConfig, context: C) -> KafkaResult<Self> {
        let producer = Arc::new(BaseProducer::from_config_and_context(config, context)?);
        let (polled, stop) = (Arc::clone(&producer), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let poll = move || {
            while !stopped.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
        };
        let thread = thread::Builder::new().name("kafka-poll".to_owned()).spawn(poll);
        let thread = thread.map_err(|error: io::Error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { producer, stop, thread: Some(thread) })
    }
}

impl<C: ProducerContext + 'static> Polled<C> {
    /// For a thread that may outlast this one's.
    pub(crate) fn shared(&self) -> Arc<BaseProducer<C>> {
        Arc::clone(&self.producer)
    }
}

impl<C: ProducerContext + 'static> Deref for Polled<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &Self::Target {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for Polled<C> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It polls and nothing else; if that panicked there is nothing left to poll.
            let _ = thread.join();
        }
    }
}
