//! The way from a client to a broker, and the only thing a client ever waits on.

use std::{thread, time::Duration};

use super::{MemoryBroker, Request, Response};

/// Brings requests to a broker. A simulator's own link delays, loses, repeats and
/// reorders them in virtual time; the client has no other clock and blocks nowhere else.
pub trait Link: Send + Sync + 'static {
    /// Brings a request and its answer.
    ///
    /// # Errors
    /// When no answer came; the request may still arrive.
    fn call(&self, request: Request) -> Result<Response, LinkError>;

    /// Lets this much time pass.
    fn pause(&self, wait: Duration);

    /// How long `call` waits before it is [`LinkError::TimedOut`]: the client counts it
    /// towards its own time limits, which are otherwise sums of pauses.
    fn time_out(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// No answer came: whether the request did, or will, is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("request timed out")]
    TimedOut,
    #[error("disconnected")]
    Disconnected,
}

/// How long a pause of [`Direct`] really is, at most.
const DIRECT_PAUSE: Duration = Duration::from_millis(1);

/// A link on which nothing goes wrong. Its time runs faster than the wall clock's.
#[derive(Clone, Debug)]
pub struct Direct {
    broker: MemoryBroker,
}

impl Direct {
    pub fn new(broker: MemoryBroker) -> Self {
        Self { broker }
    }
}

impl Link for Direct {
    fn call(&self, request: Request) -> Result<Response, LinkError> {
        Ok(self.broker.handle(&request))
    }

    fn pause(&self, wait: Duration) {
        thread::sleep(wait.min(DIRECT_PAUSE));
    }
}
