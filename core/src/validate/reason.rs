//! Why a request is refused, field by field.

use std::{borrow::Cow, fmt};

use super::{ATTEMPT_CLOCK_BOUND_MS, ATTEMPT_WINDOW_MS, MAX_REQUEST_ID, MAX_TOPIC};

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path in `ksched.v1.ScheduleRequest`, `headers[3].name`; empty for the whole.
    pub field: Cow<'static, str>,
    pub reason: Reason,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.field {
            "" => write!(f, "message {}", self.reason),
            field => write!(f, "{field} {}", self.reason),
        }
    }
}

/// What is wrong with a field. Reads as a sentence that begins with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("is missing")]
    TopicMissing,
    #[error("has {bytes} bytes, at most {MAX_TOPIC} are allowed")]
    TopicTooLong { bytes: usize },
    #[error("has characters other than a-z A-Z 0-9 . _ -, or is . or ..")]
    TopicIllegal,
    #[error("is one of ksched's or Kafka's own topics")]
    TopicInternal,
    #[error("is negative")]
    NegativePartition,
    #[error("has {bytes} bytes, at most {max} fit")]
    TooLarge { bytes: usize, max: usize },
    #[error("are {count}, at most {max} are allowed")]
    TooManyHeaders { count: usize, max: usize },
    #[error("is empty")]
    HeaderNameMissing,
    #[error("contains a zero byte")]
    HeaderNameIllegal,
    #[error("is reserved: ks, ksched-… and __sm_… are ksched's own")]
    HeaderNameReserved,
    #[error("or delay must be set")]
    DueMissing,
    #[error("leads outside the years 2000 to 9999")]
    DueOutOfRange,
    #[error("is negative")]
    NegativeDelay,
    #[error("has nanoseconds out of range")]
    MalformedTime,
    #[error("has {bytes} characters, 1 to {MAX_REQUEST_ID} are allowed")]
    RequestIdLength { bytes: usize },
    #[error("has characters other than visible ASCII")]
    RequestIdIllegal,
    #[error("has {bytes} bytes, must have 16")]
    AttemptIdLength { bytes: usize },
    #[error("must be at least 1")]
    AttemptNumberMissing,
    #[error("is missing")]
    AttemptFirstAtMissing,
    #[error(
        "was {age_ms} ms ago, at most {ATTEMPT_WINDOW_MS} ms are allowed: later copies could not be recognised"
    )]
    AttemptTooLate { age_ms: i64 },
    #[error(
        "is {ahead_ms} ms ahead of this coordinator's clock, at most {ATTEMPT_CLOCK_BOUND_MS} ms are allowed"
    )]
    AttemptInFuture { ahead_ms: i64 },
}

impl Reason {
    /// The reason for machines; never changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TopicMissing => "TOPIC_MISSING",
            Self::TopicTooLong { .. } => "TOPIC_TOO_LONG",
            Self::TopicIllegal => "TOPIC_ILLEGAL",
            Self::TopicInternal => "TOPIC_INTERNAL",
            Self::NegativePartition => "PARTITION_NEGATIVE",
            Self::TooLarge { .. } => "MESSAGE_TOO_LARGE",
            Self::TooManyHeaders { .. } => "TOO_MANY_HEADERS",
            Self::HeaderNameMissing => "HEADER_NAME_MISSING",
            Self::HeaderNameIllegal => "HEADER_NAME_ILLEGAL",
            Self::HeaderNameReserved => "HEADER_NAME_RESERVED",
            Self::DueMissing => "DUE_TIME_MISSING",
            Self::DueOutOfRange => "DUE_TIME_OUT_OF_RANGE",
            Self::NegativeDelay => "DELAY_NEGATIVE",
            Self::MalformedTime => "TIME_MALFORMED",
            Self::RequestIdLength { .. } => "REQUEST_ID_LENGTH",
            Self::RequestIdIllegal => "REQUEST_ID_ILLEGAL",
            Self::AttemptIdLength { .. } => "ATTEMPT_ID_LENGTH",
            Self::AttemptNumberMissing => "ATTEMPT_NUMBER_MISSING",
            Self::AttemptFirstAtMissing => "ATTEMPT_FIRST_AT_MISSING",
            Self::AttemptTooLate { .. } => "ATTEMPT_TOO_LATE",
            Self::AttemptInFuture { .. } => "ATTEMPT_IN_FUTURE",
        }
    }
}
