//! Asking until an answer comes: what librdkafka does inside its calls.

use std::{sync::Arc, time::Duration};

use crate::{
    log::Error,
    memory::{Failure, Link, LinkError, Request, Response},
};

/// After a request without an answer.
const LOST_BACKOFF: Duration = Duration::from_millis(20);
/// After CONCURRENT_TRANSACTIONS, as our `retry.backoff.ms`.
const CONCURRENT_BACKOFF: Duration = Duration::from_millis(5);

/// Whether requests without an answer are noted (design §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disconnects {
    Noted,
    Ignored,
}

/// Whether a request is repeated once something was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    ToTheLimit,
    UntilNoted,
}

/// Why there is no good answer.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    Failed(Failure),
    /// None came in time; what was asked for may be done or not.
    Lost(String),
}

impl CallError {
    /// An answer to another question: a link's mistake.
    pub(super) fn unexpected() -> Self {
        Self::Lost("unexpected answer".to_owned())
    }
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Lost(why) => why.fmt(f),
        }
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Lost(why) => Self::Unavailable(why),
            CallError::Failed(failure) => failure.into(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::Unknown(_) => Self::Unknown(text),
            Failure::Fenced => Self::Fenced,
            Failure::OutOfOrderSequence | Failure::InvalidTxnState | Failure::ConcurrentTransactions => {
                Self::Unavailable(text)
            }
            Failure::TooLarge
            | Failure::InvalidTimestamp
            | Failure::InvalidRecord
            | Failure::OffsetOutOfRange
            | Failure::MetadataTooLarge
            | Failure::PolicyViolation
            | Failure::TopicExists
            | Failure::InvalidPartitions => Self::Refused(text),
        }
    }
}

/// One client's way to its broker, with what it noted.
pub(super) struct Caller {
    link: Arc<dyn Link>,
    disconnects: Disconnects,
    notes: u64,
    last_note: Option<LinkError>,
}

impl Caller {
    pub(super) fn new(link: Arc<dyn Link>, disconnects: Disconnects) -> Self {
        Self { link, disconnects, notes: 0, last_note: None }
    }

    /// Requests without an answer so far.
    pub(super) fn notes(&self) -> u64 {
        self.notes
    }

    pub(super) fn last_note(&self) -> String {
        self.last_note.map(|note| note.to_string()).unwrap_or_default()
    }

    /// Asks, and asks again when no answer comes, until `limit` has passed.
    pub(super) fn call(&mut self, request: &Request, limit: Duration) -> Result<Response, CallError> {
        self.call_with(request, limit, Persistence::ToTheLimit)
    }

    pub(super) fn call_with(
        &mut self,
        request: &Request,
        limit: Duration,
        persistence: Persistence,
    ) -> Result<Response, CallError> {
        let mut waited = Duration::ZERO;
        loop {
            let (backoff, why) = match self.link.call(request.clone()) {
                Ok(Response::Failed(failure @ Failure::ConcurrentTransactions)) => {
                    (CONCURRENT_BACKOFF, failure.to_string())
                }
                Ok(Response::Failed(failure)) => return Err(CallError::Failed(failure)),
                Ok(response) => return Ok(response),
                Err(error) => {
                    let noted = self.note(error);
                    if noted && persistence == Persistence::UntilNoted {
                        return Err(CallError::Lost(error.to_string()));
                    }
                    waited += lasted(error, &*self.link);
                    (LOST_BACKOFF, error.to_string())
                }
            };
            if waited >= limit {
                return Err(CallError::Lost(why));
            }
            self.pause(backoff);
            waited += backoff;
        }
    }

    pub(super) fn pause(&self, wait: Duration) {
        self.link.pause(wait);
    }

    fn note(&mut self, error: LinkError) -> bool {
        if self.disconnects == Disconnects::Ignored {
            return false;
        }
        self.notes += 1;
        self.last_note = Some(error);
        true
    }
}

/// How long a call without an answer took.
pub(super) fn lasted(error: LinkError, link: &dyn Link) -> Duration {
    match error {
        LinkError::TimedOut => link.time_out(),
        LinkError::Disconnected => Duration::ZERO,
    }
}
