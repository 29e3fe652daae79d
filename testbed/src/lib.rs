//! What tests on real Apache Kafka and etcd share.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`bed`] | clusters that scenarios run on, and ways to them |
//! | [`run`] | a bench run beside which a scenario does its mischief, judged by the verifier |
//! | [`catch`] | everything that comes to a topic |
//! | [`table`] | the row of each run |
//! | [`proxy`] | a TCP proxy that understands Kafka frames: holds, drops, delays, replays by API key |
//! | [`links`] | a cluster with such a proxy on each link |
//! | [`dice`] | chance from a seed |
//! | [`etcd`] | the few things of etcd that tests do by themselves |
//! | [`wire`] | the few Kafka requests that tests send by themselves |
//!
//! Only tests depend on this; it panics where a test cannot go on.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

pub mod bed;
pub mod catch;
pub mod dice;
pub mod etcd;
pub mod http;
pub mod links;
pub mod proxy;
pub mod run;
pub mod table;
pub mod wire;
