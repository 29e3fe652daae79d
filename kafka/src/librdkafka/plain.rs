//! An idempotent producer without transactions.

use std::time::Duration;

use super::{
    config::Settings,
    failure,
    queue::{NotTaken, Queue},
};
use crate::log::{Error, Outgoing, Producer, Refusal};

/// A little more than `message.timeout.ms`.
const FLUSH_LIMIT: Duration = Duration::from_secs(12);
/// Ms. Batches form while the caller is handing records over.
const LINGER_MS: &str = "0.5";

/// Appends without transactions.
#[derive(Debug)]
pub struct Plain {
    queue: Queue,
}

impl Plain {
    pub(super) fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self { queue: Queue::new(&settings.producer(LINGER_MS), settings.part())? })
    }
}

impl Producer for Plain {
    fn send(&mut self, tag: usize, record: Outgoing<'_>) -> Result<(), Error> {
        match self.queue.send(tag, record) {
            Ok(()) => Ok(()),
            Err(NotTaken::Full) => Err(Error::Unavailable("queue stays full".to_owned())),
            Err(NotTaken::Closed(code)) => {
                let (code, why) = self.queue.fatal().unwrap_or((code, String::new()));
                Err(failure::by_code(code, &format!("{code} {why}")))
            }
        }
    }

    fn flush(&mut self) -> Result<Vec<Refusal>, Error> {
        let settled = self.queue.settle(FLUSH_LIMIT);
        let undelivered = self.queue.deliveries.take_undelivered();
        if !settled {
            return Err(Error::Unavailable("records were not acknowledged in time".to_owned()));
        }
        Ok(self.queue.explain(&undelivered))
    }
}
