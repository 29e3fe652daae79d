//! Every error as a `google.rpc.Status` with typed details (AIP-193).
//!
//! | code | `ErrorInfo.reason` | what the caller may do |
//! | --- | --- | --- |
//! | `INVALID_ARGUMENT` | of the first violation | mend the fields in `BadRequest` |
//! | `UNIMPLEMENTED` | `NOT_BUILT` | leave the field out |
//! | `RESOURCE_EXHAUSTED` | `OVERLOADED` | repeat after `RetryInfo.retry_delay` |
//! | `UNAVAILABLE` | `NOT_SCHEDULED`, `STOPPING` | repeat: nothing has happened |
//! | `UNAVAILABLE` | `OUTCOME_UNKNOWN` | repeat with the same `attempt.id` or `request_id`: it may have happened |
//! | `INTERNAL` | `REFUSED_BY_KAFKA` | tell the operator |

use std::{collections::HashMap, time::Duration};

use ksched_core::validate::Violation;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::scheduler::Error;

/// `ErrorInfo.domain` of every error of ours.
pub(crate) const DOMAIN: &str = "ksched";
/// Long enough for a few appends to be acknowledged.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Bytes of a description that may repeat what the caller sent. Errors travel in
/// trailers, three times over; a peer that reads at most 8 KiB of them sees none otherwise.
const REPEATED_MAX: usize = 500;

/// A status whose details tell machines the reason.
pub(crate) fn with_reason(code: Code, reason: &'static str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, details(reason))
}

/// A refused field of a request; `reason` is upper snake case.
pub(crate) fn bad_field(field: &str, reason: &'static str, description: impl Into<String>) -> Status {
    let (field, mut description) = (field.to_owned(), description.into());
    if let Some(end) = (0..=REPEATED_MAX).rev().find(|end| description.is_char_boundary(*end))
        && end < description.len()
    {
        description.replace_range(end.., "…");
    }
    bad_request(reason, format!("{field} {description}"), vec![violation(field, description, reason)])
}

/// The same error as an item of a batch or stream.
pub(crate) fn item(error: Error) -> tonic_types::Status {
    unpacked(&Status::from(error))
}

/// Code and reason alone, where there is no room for more.
pub(crate) fn brief(error: &Error) -> tonic_types::Status {
    let reason = error.label();
    let message = format!("{reason}; the batch has too many errors to tell each in full");
    unpacked(&with_reason(code(error), reason, message))
}

fn unpacked(status: &Status) -> tonic_types::Status {
    // tonic keeps the details as an encoded google.rpc.Status.
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

fn code(error: &Error) -> Code {
    match error {
        Error::Invalid(_) | Error::TooManyItems { .. } | Error::Sequence { .. } => Code::InvalidArgument,
        Error::NotBuilt { .. } => Code::Unimplemented,
        Error::Overloaded => Code::ResourceExhausted,
        Error::NotScheduled(_) | Error::OutcomeUnknown(_) | Error::Stopping => Code::Unavailable,
        Error::Refused(_) => Code::Internal,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, reason, message) = (code(&error), error.label(), error.to_string());
        match error {
            Error::Invalid(violations) => invalid(&violations, reason, message),
            Error::TooManyItems { .. } => bad_field("requests", reason, message),
            Error::Sequence { .. } => bad_field("sequence", reason, message),
            Error::NotBuilt { field } => {
                let mut details = details(reason);
                details.add_bad_request_violation(field, "is not built yet");
                Self::with_error_details(code, message, details)
            }
            Error::Overloaded => {
                let mut details = details(reason);
                details.set_retry_info(Some(RETRY_DELAY));
                Self::with_error_details(code, message, details)
            }
            Error::NotScheduled(_) | Error::OutcomeUnknown(_) | Error::Stopping | Error::Refused(_) => {
                with_reason(code, reason, message)
            }
        }
    }
}

fn invalid(violations: &[Violation], reason: &'static str, message: String) -> Status {
    let fields = violations.iter().map(|v| {
        // AIP-193 wants a path; the whole message is named by an empty one.
        violation(v.field.to_string(), format!("{} {}", v.field, v.reason).trim().to_owned(), v.reason.code())
    });
    bad_request(reason, message, fields.collect())
}

fn bad_request(reason: &'static str, message: String, fields: Vec<FieldViolation>) -> Status {
    let mut details = details(reason);
    details.set_bad_request(fields);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn violation(field: String, description: String, reason: &'static str) -> FieldViolation {
    FieldViolation { field, description, reason: reason.to_owned(), localized_message: None }
}

fn details(reason: &'static str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

#[cfg(test)]
mod tests {
    use ksched_core::validate::Reason;

    use super::*;

    #[test]
    fn says_whether_it_happened() {
        let reason = |error: Error| {
            let status = Status::from(error);
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.domain, DOMAIN);
            (status.code(), info.reason)
        };
        let unavailable = |reason: &str| (Code::Unavailable, reason.to_owned());
        assert_eq!(reason(Error::OutcomeUnknown("x".into())), unavailable("OUTCOME_UNKNOWN"));
        assert_eq!(reason(Error::NotScheduled("x".into())), unavailable("NOT_SCHEDULED"));
        assert_eq!(reason(Error::Stopping), unavailable("STOPPING"));
        assert!(
            Status::from(Error::OutcomeUnknown("x".into())).message().contains("may have been scheduled")
        );
    }

    #[test]
    fn an_item_tells_the_same_as_the_whole() {
        let error = || {
            Error::Invalid(vec![
                Violation { field: "topic".into(), reason: Reason::TopicMissing },
                Violation { field: "headers[2].name".into(), reason: Reason::HeaderNameReserved },
            ])
        };
        let (whole, item) = (Status::from(error()), item(error()));
        assert_eq!((item.code, &*item.message), (whole.code() as i32, whole.message()));
        assert_eq!(item.details.len(), 2);
        let fields = whole.get_details_bad_request().unwrap().field_violations;
        assert_eq!(fields[1].field, "headers[2].name");
        assert_eq!(fields[1].reason, "HEADER_NAME_RESERVED");
        assert_eq!(whole.get_details_error_info().unwrap().reason, "TOPIC_MISSING");
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let status = Status::from(Error::Overloaded);
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(RETRY_DELAY));
    }
}
