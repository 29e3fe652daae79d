//! librdkafka's errors in ksched's words.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::log::{Error, RefusalReason};

/// Whether a code says that a newer holder of the transactional id exists, or that
/// the coordinator ended our transaction for its age (it fences alike: no KIP-588).
/// `TransactionCoordinatorFenced` is not one: that is the broker's own epoch.
pub(super) fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// An error of a call.
pub(crate) fn error(error: &KafkaError) -> Error {
    match error {
        // The value may be a secret.
        KafkaError::ClientConfig(_, why, key, _) => return Error::Refused(format!("{why} ({key})")),
        KafkaError::ClientCreation(why)
        | KafkaError::AdminOpCreation(why)
        | KafkaError::Subscription(why) => {
            return Error::Refused(why.clone());
        }
        KafkaError::Nul(_) => return Error::Refused("a name contains a zero byte".to_owned()),
        _ => {}
    }
    let text = error.to_string();
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    code.map_or_else(|| Error::Unavailable(text.clone()), |code| by_code(code, &text))
}

/// An error that came as a code.
pub(super) fn by_code(code: Code, text: &str) -> Error {
    if is_fenced(code) {
        return Error::Fenced;
    }
    match code {
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::InvalidTopic => {
            Error::Unknown(text.to_owned())
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::InvalidArgument
        | Code::InvalidConfig
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidTransactionTimeout
        | Code::OffsetMetadataTooLarge
        | Code::OffsetOutOfRange
        | Code::AutoOffsetReset
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::SecurityDisabled => Error::Refused(text.to_owned()),
        _ => Error::Unavailable(text.to_owned()),
    }
}

/// Why the broker, or librdkafka before it, refused one record. Too large is not
/// said here: a batch fails as one (see `deliveries`).
pub(crate) fn refusal(code: Code) -> RefusalReason {
    match code {
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::InvalidTopic => {
            RefusalReason::UnknownTarget
        }
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => RefusalReason::NotAuthorised,
        Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::PolicyViolation => RefusalReason::Invalid(code.to_string()),
        other => RefusalReason::Collateral(other.to_string()),
    }
}

/// Whether a code is about the size of a record or a batch.
pub(crate) fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_never_something_that_may_pass() {
        for code in [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch] {
            assert!(matches!(by_code(code, ""), Error::Fenced));
        }
        assert!(matches!(by_code(Code::TransactionCoordinatorFenced, ""), Error::Unavailable(_)));
    }

    #[test]
    fn a_wrong_setting_is_told_without_its_value() {
        let mut config = rdkafka::ClientConfig::new();
        config.set("sasl.passwort", "secret");
        let refused = match config.create_native_config() {
            Ok(_) => panic!("a property that does not exist was accepted"),
            Err(wrong) => error(&wrong).to_string(),
        };
        assert!(refused.contains("sasl.passwort") && !refused.contains("secret"), "{refused}");
    }
}
