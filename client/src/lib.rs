//! The client library, the verifier and the ksched-client command.
