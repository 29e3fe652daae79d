//! Names of attributes: OpenTelemetry's semantic conventions 1.36, and our own.
//!
//! Written out, since the crate of the conventions marks most of messaging's as unstable
//! and renames them between releases; consumers' dashboards hold on to these.

pub(super) const SERVICE_NAME: &str = "service.name";
pub(super) const SERVICE_INSTANCE: &str = "service.instance.id";
pub(super) const SERVICE_VERSION: &str = "service.version";

pub(super) const RPC_SYSTEM: &str = "rpc.system";
pub(super) const RPC_SERVICE: &str = "rpc.service";
pub(super) const RPC_METHOD: &str = "rpc.method";

pub(super) const MESSAGING_SYSTEM: &str = "messaging.system";
pub(super) const MESSAGING_OPERATION: &str = "messaging.operation.name";
pub(super) const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
pub(super) const MESSAGING_DESTINATION: &str = "messaging.destination.name";
pub(super) const MESSAGING_BATCH: &str = "messaging.batch.message_count";

/// `lane/0`, `drain/ksched.wheel.1/17`.
pub(super) const JOB: &str = "ksched.job";
/// Epoch ms.
pub(super) const DUE_MS: &str = "ksched.due";
