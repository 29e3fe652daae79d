//! The store's conformance suite, run on etcd and on the stand-in in memory; and
//! what only etcd can do: die.

mod conformance;
mod outage;
