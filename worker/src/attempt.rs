//! What every job does when a transaction does not end well: start over from the
//! committed positions with new producers (design §4.2).

use std::time::Duration;

use ksched_kafka::{Error, Log, Position, TopicPartition, TransactionError};
use ksched_telemetry::logging::Repeats;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::{
    job::{Control, Outcome},
    node::Node,
};

/// How an attempt ended before its time.
#[derive(Debug)]
pub(crate) enum Ended {
    /// A newer holder exists.
    Fenced,
    /// The outcome is unknown or cannot be trusted: build everything anew.
    Unclean(String),
    /// The same, because the commit of a position is still pending.
    Pending(String),
    /// Nothing that this holder can mend.
    Failed(String),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        match error {
            Error::Fenced => Self::Fenced,
            Error::Unavailable(reason) => Self::Unclean(reason),
            Error::Unknown(_) | Error::Refused(_) | Error::Unreadable(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<TransactionError> for Ended {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Fenced => Self::Fenced,
            TransactionError::Refused(_) | TransactionError::Unclean(_) => Self::Unclean(error.to_string()),
        }
    }
}

/// The jobs' committed positions, in order of `partitions`.
///
/// A commit that stays pending although all older producers are fenced belongs to a
/// transaction that hangs in `__consumer_offsets` (docs/OPERATIONS.md tells when that was met).
/// The position before it may be wrong, so the job waits, and says why.
pub(crate) fn positions<L: Log>(
    node: &Node<L>,
    partitions: &[TopicPartition],
) -> Result<Vec<Option<Position>>, Ended> {
    node.log.committed(partitions).map_err(|error| match error {
        Error::Unavailable(why) if node.log.committed_before_pending(partitions).is_ok() => {
            Ended::Pending(why)
        }
        other => other.into(),
    })
}

/// A commit that is pending for longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(30);
const RECYCLE_PAUSE: Duration = Duration::from_millis(100);
/// Before a job that failed is given back, so that it does not go round in circles.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Runs `attempt` until one ends cleanly. Between two the holder asks its
/// coordinator whether the job is still its own, or two holders would fence each
/// other for ever (design §4.1).
pub(crate) fn until_clean<L: Log>(
    node: &Node<L>,
    control: &Control,
    mut attempt: impl FnMut() -> Result<(), Ended>,
) -> Result<(), Outcome> {
    let mut pending_since: Option<Instant> = None;
    let (mut starting_over, mut pending) = (Repeats::default(), Repeats::default());
    loop {
        let began_at = Instant::now();
        let ended = attempt();
        if !matches!(ended, Err(Ended::Pending(_))) {
            pending_since = None;
        }
        match ended {
            Ok(()) => return Ok(()),
            Err(Ended::Fenced) => {
                node.metrics.fences_met.inc();
                return Err(Outcome::Fenced);
            }
            Err(Ended::Failed(reason)) => {
                control.nap(FAILURE_PAUSE);
                return Err(Outcome::Failed(reason));
            }
            Err(Ended::Unclean(reason)) => {
                node.metrics.producers_recycled.inc();
                if let Some(left_out) = starting_over.tell() {
                    warn!(job = %control.name, %reason, left_out, "unclean: starting over from the committed positions");
                }
            }
            Err(Ended::Pending(reason)) => {
                let (job, pending_for) = (&control.name, pending_since.get_or_insert(began_at).elapsed());
                match pending.tell() {
                    Some(left_out) if pending_for < HANGS_AFTER => {
                        warn!(%job, %reason, left_out, "the commit of a position is pending; asking again");
                    }
                    Some(_) => {
                        error!(%job, ?pending_for, "a transaction hangs in __consumer_offsets; see docs/OPERATIONS.md");
                    }
                    None => {}
                }
            }
        }
        control.nap(RECYCLE_PAUSE);
        if !control.confirm() {
            return Err(Outcome::Stopped);
        }
    }
}
