//! The gRPC contract of ksched, generated from `proto/ksched/v1/*.proto`.
//!
//! These types live at the doors only; inside, `ksched-core` has the domain types.

pub mod activity;
mod codec;
pub mod time;

/// Package `ksched.v1`.
pub mod v1 {
    tonic::include_proto!("ksched.v1");
}

/// The compiled descriptors, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("ksched");
