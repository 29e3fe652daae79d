//! Every key that is persisted in etcd: one enum, one codec.
//!
//! | key, after `/ksched/<cluster>/` | value (JSON) | attached to the lease of |
//! | --- | --- | --- |
//! | `cluster` | the cluster's settings | nobody |
//! | `leader` | [`Leader`](super::etcd::Leader): the coordinator's id | the leader |
//! | `coordinator/<id>` | [`CoordinatorInfo`](super::CoordinatorInfo) | the coordinator |
//! | `worker/<id>` | [`WorkerInfo`](super::WorkerInfo) | the worker |
//! | `asking/<id>` | ms since the epoch: the worker has less than its share | the worker |
//! | `claim/<job>` | [`Holder`](super::etcd::Holder): the worker's id; fence = mod revision | the worker |
//! | `open/<job>` | [`OpenDrain`](super::OpenDrain) | nobody |

use ksched_core::jobs::JobName;

/// What a persisted key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Cluster,
    Leader,
    Coordinator(String),
    Worker(String),
    Asking(String),
    Claim(JobName),
    Open(JobName),
}

/// Under which all keys of a cluster are, with its closing slash.
pub fn prefix(cluster: &str) -> String {
    format!("/ksched/{cluster}/")
}

impl Key {
    /// The key's text below a cluster's [`prefix`].
    pub fn encode(&self, prefix: &str) -> String {
        match self {
            Self::Cluster => format!("{prefix}cluster"),
            Self::Leader => format!("{prefix}leader"),
            Self::Coordinator(id) => format!("{prefix}coordinator/{id}"),
            Self::Worker(id) => format!("{prefix}worker/{id}"),
            Self::Asking(id) => format!("{prefix}asking/{id}"),
            Self::Claim(job) => format!("{prefix}claim/{job}"),
            Self::Open(job) => format!("{prefix}open/{job}"),
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for a key of somebody else
    /// or of a later version.
    pub fn decode(prefix: &str, key: &str) -> Option<Self> {
        let key = key.strip_prefix(prefix)?;
        match key.split_once('/') {
            None if key == "cluster" => Some(Self::Cluster),
            None if key == "leader" => Some(Self::Leader),
            Some(("coordinator", id)) => Some(Self::Coordinator(id.to_owned())),
            Some(("worker", id)) => Some(Self::Worker(id.to_owned())),
            Some(("asking", id)) => Some(Self::Asking(id.to_owned())),
            Some(("claim", job)) => job.parse().ok().map(Self::Claim),
            Some(("open", job)) => job.parse().ok().map(Self::Open),
            None | Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn jobs() -> impl Strategy<Value = JobName> {
        let topic = "[A-Za-z0-9._-]{1,20}";
        prop_oneof![
            any::<u16>().prop_map(JobName::Lane),
            (topic, 0_i32..).prop_map(|(t, partition)| JobName::Drain { topic: t.into(), partition }),
            (topic, 0_i32..).prop_map(|(t, partition)| JobName::Intake { topic: t.into(), partition }),
        ]
    }

    fn keys() -> impl Strategy<Value = Key> {
        let id = || "[0-9a-f]{1,16}";
        prop_oneof![
            Just(Key::Cluster),
            Just(Key::Leader),
            id().prop_map(Key::Coordinator),
            id().prop_map(Key::Worker),
            id().prop_map(Key::Asking),
            jobs().prop_map(Key::Claim),
            jobs().prop_map(Key::Open),
        ]
    }

    proptest! {
        #[test]
        fn round_trips(key in keys(), cluster in "[a-z0-9-]{1,10}") {
            let prefix = prefix(&cluster);
            prop_assert_eq!(Key::decode(&prefix, &key.encode(&prefix)), Some(key));
        }

        #[test]
        fn any_text_is_refused_or_round_trips(text in "(coordinator|worker|claim|open|leader|x)?(/[a-z0-9/]{0,9})?|\\PC{0,20}") {
            let prefix = prefix("c");
            let text = format!("{prefix}{text}");
            if let Some(key) = Key::decode(&prefix, &text) {
                prop_assert_eq!(key.encode(&prefix), text);
            }
        }
    }

    #[test]
    fn looks_as_documented() {
        let claim = Key::Claim(JobName::Drain { topic: "ksched.wheel.1".into(), partition: 17 });
        assert_eq!(claim.encode(&prefix("main")), "/ksched/main/claim/drain/ksched.wheel.1/17");
        assert_eq!(Key::decode("/ksched/main/", "/ksched/mainly/leader"), None);
    }
}
