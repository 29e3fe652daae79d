//! Tracing set-up and the metrics endpoint.
