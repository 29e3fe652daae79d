//! Names of attributes: OpenTelemetry's semantic conventions 1.36, and our own.
//!
//! Written out, since the crate of the conventions marks most of messaging's as unstable
//! and renames them between releases; consumers' dashboards hold on to these.

/// By which a backend translates them to another version's.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.36.0";

pub(super) const SERVICE_NAME: &str = "service.name";
pub(super) const SERVICE_INSTANCE: &str = "service.instance.id";
pub(super) const SERVICE_VERSION: &str = "service.version";

pub(super) const ERROR_TYPE: &str = "error.type";

pub(super) const RPC_SYSTEM: &str = "rpc.system";
pub(super) const RPC_SERVICE: &str = "rpc.service";
pub(super) const RPC_METHOD: &str = "rpc.method";
pub(super) const RPC_STATUS: &str = "rpc.grpc.status_code";

pub(super) const MESSAGING_SYSTEM: &str = "messaging.system";
pub(super) const MESSAGING_OPERATION: &str = "messaging.operation.name";
pub(super) const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
pub(super) const MESSAGING_DESTINATION: &str = "messaging.destination.name";
pub(super) const MESSAGING_PARTITION: &str = "messaging.destination.partition.id";
pub(super) const MESSAGING_GROUP: &str = "messaging.consumer.group.name";
pub(super) const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
pub(super) const MESSAGING_BATCH: &str = "messaging.batch.message_count";

/// `lane/0`, `drain/ksched.wheel.1/17`.
pub(super) const JOB: &str = "ksched.job";
/// The number of the job's lease.
pub(super) const FENCE: &str = "ksched.fence";
/// `done`, `stopped`, `fenced`, `failed`.
pub(super) const OUTCOME: &str = "ksched.outcome";
/// Epoch ms.
pub(super) const DUE_MS: &str = "ksched.due_ms";
