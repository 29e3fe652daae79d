//! What can go wrong between a program and its table.

use std::time::Duration;

/// A call to the database, or what was read from it, was not right.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither of the two.
    #[error("{0:?} is no address of a database: postgres://… or mariadb://… is wanted")]
    Address(String),
    /// The server answered with an error: the statement did nothing.
    #[error("the database refuses: {0}")]
    Refused(#[source] sqlx::Error),
    /// No answer, or a connection lost: nothing is known about whether it happened.
    #[error("the database is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// As [`Unavailable`](Self::Unavailable).
    #[error("no answer from the database within {0:?}")]
    Silent(Duration),
    /// A row has headers that this crate did not write.
    #[error("row {id} cannot be read: its headers are broken")]
    Broken { id: i64 },
    /// From Kafka, while producing what is due.
    #[error("{0}")]
    Kafka(#[from] ksched_kafka::Error),
}

impl Error {
    /// Whether an insert that ended so may have happened all the same.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Silent(_))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(_) | sqlx::Error::Configuration(_) => Self::Refused(error),
            _ => Self::Unavailable(error),
        }
    }
}
