//! What a call to a coordinator may end in, and whether it happened.

use std::error::Error as _;

use tonic::{Code, ConnectError, Status};
use tonic_types::StatusExt as _;

/// Reason a coordinator gives when an append's outcome is not known to it.
const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";

/// A message was not scheduled, or is not known to be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// An address of a coordinator is not `HOST:PORT`.
    #[error("{0:?} is not the address of a coordinator: HOST:PORT is wanted, such as 127.0.0.1:50051")]
    Address(String),
    /// The stream's outcomes are not read any more.
    #[error("the stream has ended")]
    StreamEnded,
    /// A coordinator answered with an error, or none answered in time.
    #[error("{}", display(.0))]
    Call(Box<CallError>),
}

/// The last error of a call, and what is known of all its attempts.
#[derive(Clone, Debug)]
pub struct CallError {
    /// `Unavailable` as well when no answer came at all.
    pub code: Code,
    pub message: String,
    /// `HOST:PORT` of the coordinator that was asked last, if it is in doubt: it did
    /// not answer, or is not able to serve now.
    pub coordinator: Option<String>,
    /// Whether not even a connection to it could be made.
    pub unreachable: bool,
    /// Whether nobody answered the last attempt: not a coordinator, as far as can be told.
    pub unanswered: bool,
    /// Fields of the request that were refused, with the reason.
    pub violations: Vec<(String, String)>,
    /// How often it was tried.
    pub attempts: u32,
    /// Whether any of the attempts may have scheduled the message.
    pub may_have_happened: bool,
}

impl Error {
    /// Whether the same call may succeed later. Only `UNAVAILABLE` is retried by
    /// the library itself (AIP-194), and it has been by now.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Call(call) if call.code == Code::Unavailable)
    }

    /// Of a call that can have scheduled nothing.
    pub(crate) fn of_a_question(mut self) -> Self {
        if let Self::Call(call) = &mut self {
            call.may_have_happened = false;
        }
        self
    }

    /// Whether the message may have been scheduled in spite of the error.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Call(call) if call.may_have_happened)
    }

    /// Whether nobody answered.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Call(call) if call.unanswered)
    }

    /// Whether the request itself was refused: repeating it is of no use.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Address(_) => true,
            Self::StreamEnded => false,
            Self::Call(call) => matches!(
                call.code,
                Code::InvalidArgument
                    | Code::OutOfRange
                    | Code::FailedPrecondition
                    | Code::Unimplemented
                    | Code::PermissionDenied
                    | Code::Unauthenticated
            ),
        }
    }
}

fn display(call: &CallError) -> String {
    let mut text = match &call.coordinator {
        Some(address) if call.unreachable => format!("cannot reach {address}: {}", call.message),
        Some(address) => format!("{:?}: {address}: {}", call.code, call.message),
        None => format!("{:?}: {}", call.code, call.message),
    };
    // A coordinator's message sums its violations up already.
    for (field, reason) in call.violations.iter().filter(|(_, reason)| !call.message.contains(reason)) {
        text.push_str(&format!("; {field}: {reason}"));
    }
    if call.attempts > 1 {
        text.push_str(&format!(" (after {} attempts)", call.attempts));
    }
    if call.may_have_happened {
        text.push_str(" (it may have been scheduled)");
    }
    text
}

/// One attempt that did not succeed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    message: String,
    violations: Vec<(String, String)>,
    coordinator: Option<String>,
    unreachable: bool,
    unanswered: bool,
    pub(crate) may_have_happened: bool,
}

impl Failure {
    /// Names whose failure it is, where the coordinator and not the request is to blame.
    pub(crate) fn of(mut self, coordinator: &str) -> Self {
        self.coordinator = self.is_retryable().then(|| coordinator.to_owned());
        self
    }

    /// No answer within the attempt's time.
    pub(crate) fn silence() -> Self {
        Self {
            code: Code::Unavailable,
            message: "no answer in time".to_owned(),
            violations: Vec::new(),
            coordinator: None,
            unreachable: false,
            unanswered: true,
            may_have_happened: true,
        }
    }

    /// The stream ended while requests on it had no answer.
    pub(crate) fn cut() -> Self {
        Self { message: "the stream broke".to_owned(), ..Self::silence() }
    }

    pub(crate) fn is_retryable(&self) -> bool {
        self.code == Code::Unavailable
    }

    pub(crate) fn into_error(self, attempts: u32, earlier_may_have: bool) -> Error {
        Error::Call(Box::new(CallError {
            code: self.code,
            message: self.message,
            violations: self.violations,
            coordinator: self.coordinator,
            unreachable: self.unreachable,
            unanswered: self.unanswered,
            attempts,
            may_have_happened: self.may_have_happened || earlier_may_have,
        }))
    }
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        // A status with a source was made on this side: the transport broke.
        let local = status.source().is_some();
        // The end of one attempt's time, told by the coordinator, is not the end of
        // the call's: the same as no answer, and as safe to repeat.
        let timed_out = matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded);
        let code = if local || timed_out { Code::Unavailable } else { status.code() };
        let unreachable = local && never_sent(status);
        let may_have_happened = if local { !unreachable } else { server_may_have(status) };
        let violations = status
            .get_details_bad_request()
            .map(|bad| bad.field_violations.into_iter().map(|v| (v.field, v.description)).collect())
            .unwrap_or_default();
        let message = if local { innermost(status) } else { status.message().to_owned() };
        Self {
            code,
            message,
            violations,
            coordinator: None,
            unreachable,
            unanswered: local,
            may_have_happened,
        }
    }
}

impl From<&tonic_types::pb::Status> for Failure {
    fn from(status: &tonic_types::pb::Status) -> Self {
        let details = prost::Message::encode_to_vec(status);
        let code = Code::from(status.code);
        Self::from(&Status::with_details(code, status.message.clone(), details.into()))
    }
}

/// What an answered error says about its effect.
fn server_may_have(status: &Status) -> bool {
    match status.code() {
        // A coordinator says which it is; a proxy in between says nothing, and
        // may have passed the request on.
        Code::Unavailable => {
            status.get_details_error_info().is_none_or(|info| info.reason == OUTCOME_UNKNOWN)
        }
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::ResourceExhausted => false,
        _ => true,
    }
}

/// Whether the connection was never made, so nothing can have happened.
fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The deepest cause: the outer ones only say "transport error".
fn innermost(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    #[test]
    fn unavailable_says_whether_it_may_have_happened() {
        let with = |reason: &str| {
            let details = ErrorDetails::with_error_info(reason, "ksched", HashMap::new());
            Failure::from(&Status::with_error_details(Code::Unavailable, "kafka away", details))
        };
        assert!(with(OUTCOME_UNKNOWN).may_have_happened);
        assert!(!with("KAFKA_UNAVAILABLE").may_have_happened);
        assert!(Failure::from(&Status::unavailable("from a proxy")).may_have_happened);
    }

    #[test]
    fn refusals_carry_their_fields_and_are_not_retried() {
        let details = ErrorDetails::with_bad_request(vec![FieldViolation::new("topic", "must not be empty")]);
        let status = Status::with_error_details(Code::InvalidArgument, "refused", details);
        let error = Failure::from(&status).into_error(1, false);
        assert!(error.is_refusal() && !error.is_retryable() && !error.may_have_happened());
        assert!(error.to_string().contains("topic: must not be empty"), "{error}");
    }

    #[test]
    fn a_violation_that_the_message_tells_is_not_told_again() {
        let details = ErrorDetails::with_bad_request(vec![FieldViolation::new("topic", "topic is missing")]);
        let status = Status::with_error_details(Code::InvalidArgument, "topic is missing", details);
        let error = Failure::from(&status).of("here:1").into_error(1, false);
        assert_eq!(error.to_string(), "InvalidArgument: topic is missing");
    }

    #[test]
    fn a_coordinator_that_cannot_serve_is_named() {
        let error = Failure::from(&Status::unavailable("kafka is away")).of("here:1").into_error(1, false);
        assert!(error.to_string().starts_with("Unavailable: here:1: kafka is away"), "{error}");
        assert!(!error.is_unanswered());
    }

    #[test]
    fn an_attempt_timed_out_by_the_coordinator_is_repeated() {
        for status in [Status::cancelled("Timeout expired"), Status::deadline_exceeded("late")] {
            let failure = Failure::from(&status);
            assert!(failure.is_retryable() && failure.may_have_happened);
        }
    }

    #[test]
    fn an_earlier_unknown_outcome_is_not_forgotten() {
        let error = Failure::from(&Status::invalid_argument("no")).into_error(2, true);
        assert!(error.may_have_happened());
    }
}
