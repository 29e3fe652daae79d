//! An idempotent producer without transactions.

use std::time::Duration;

use super::{
    caller::{CallError, Caller, Persistence},
    outbox::Outbox,
};
use crate::log::{Error, Outgoing, Producer, Refusal};

const INIT_LIMIT: Duration = Duration::from_secs(10);

/// Appends without transactions.
pub struct MemoryPlain {
    outbox: Outbox,
}

impl std::fmt::Debug for MemoryPlain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryPlain").field("producer", &self.outbox.producer()).finish_non_exhaustive()
    }
}

impl MemoryPlain {
    pub(super) fn new(caller: Caller) -> Self {
        Self { outbox: Outbox::new(caller, None) }
    }

    fn deliver(&mut self) {
        for (at, batch) in self.outbox.take_batches() {
            // Without an id the batch is refused, for want of an answer.
            let ready = self.outbox.producer().is_some() || self.outbox.init(0, INIT_LIMIT).is_ok();
            let produced = self.outbox.produce(at, batch, Persistence::ToTheLimit);
            if ready && matches!(produced, Err(CallError::Lost(_))) {
                self.outbox.forget_producer();
            }
        }
    }
}

impl Producer for MemoryPlain {
    fn send(&mut self, tag: usize, record: Outgoing<'_>) -> Result<(), Error> {
        self.outbox.push(tag, record);
        if self.outbox.is_full() {
            self.deliver();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Vec<Refusal>, Error> {
        self.deliver();
        Ok(self.outbox.take_refusals())
    }
}
