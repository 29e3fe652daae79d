//! What refused batches teach a lane: smaller batches, targets that are left alone for a
//! while, the one record that is to blame.

use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
    time::Duration,
};

use ksched_core::{
    lane::{Action, Cap, Entry},
    wheel::Inlet,
};
use ksched_kafka::{Log, Refusal, RefusalReason};
use tokio::time::Instant;
use tracing::warn;

use super::held::{Body, Held, Message};
use crate::targets::{Targets, Verdict};

/// Inlet and offset of a record that the broker refuses, and why.
pub(super) type Rejected = (Inlet, i64, RefusalReason);

/// Whether it is this entry that the broker refuses.
pub(super) fn is_about(rejected: &Rejected, entry: &Entry<Held>) -> bool {
    (rejected.0, rejected.1) == (entry.inlet, entry.offset)
}

/// The message of an entry whose record goes to a user's target: one that is put off, or dead,
/// or a marker, goes to a topic of ours, and says nothing about a target.
pub(super) fn fired(entry: &Entry<Held>) -> Option<&Message> {
    let is_dead = matches!(entry.payload.verdict.get(), Some(Verdict::Refuse(_)));
    match &entry.payload.body {
        Body::Message(message) if entry.action == Action::Fire && !is_dead => Some(message),
        _ => None,
    }
}

fn target(entry: &Entry<Held>) -> Option<&str> {
    fired(entry).map(|message| &*message.topic)
}

/// How carefully the next batches are made, after records were refused.
#[derive(Debug)]
pub(super) struct Caution {
    /// The most that one transaction fires.
    pub(super) count: usize,
    /// Targets whose records fail for reasons that may pass.
    unhealthy: HashMap<Box<str>, Unhealthy>,
    /// A record that the broker refuses by itself.
    pub(super) rejected: Option<Rejected>,
}

/// A target's messages are put off until `until`; then it is tried again, and put
/// off for twice as long if that fails.
#[derive(Clone, Copy, Debug)]
struct Unhealthy {
    until: Instant,
    pause: Duration,
}

/// A record that nobody acknowledges costs the whole lane `message.timeout.ms`, so
/// such a target is tried less and less often.
const UNHEALTHY_FOR: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(60);

impl Default for Caution {
    fn default() -> Self {
        Self { count: usize::MAX, unhealthy: HashMap::new(), rejected: None }
    }
}

impl Caution {
    pub(super) fn cap(&self, cap: Cap) -> Cap {
        Cap { count: cap.count.min(self.count), ..cap }
    }

    pub(super) fn succeeded(&mut self) {
        self.count = self.count.saturating_mul(2);
        self.unhealthy.retain(|_, target| target.until + target.pause > Instant::now());
    }

    pub(super) fn is_unhealthy(&self, topic: &str) -> bool {
        self.unhealthy.get(topic).is_some_and(|target| target.until > Instant::now())
    }

    /// What a refused batch says about targets and records.
    pub(super) fn learn<L: Log>(
        &mut self,
        targets: &Targets<L>,
        entries: &[Entry<Held>],
        refusals: &[Refusal],
    ) {
        let topic = |tag: usize| entries.get(tag).and_then(target).map(Box::from);
        let topics: HashSet<_> = (0..entries.len()).filter_map(topic).collect();
        let is_blamed =
            |r: &&Refusal| matches!(r.reason, RefusalReason::UnknownTarget | RefusalReason::NotAuthorised);
        let blamed = refusals.iter().filter(is_blamed);
        let blamed: HashMap<Box<str>, _> = blamed.filter_map(|r| Some((topic(r.tag)?, &r.reason))).collect();
        if !blamed.is_empty() {
            let is_open = |r: &&Refusal| r.reason == RefusalReason::NotAttempted;
            let open = refusals.iter().filter(is_open).filter_map(|r| target(entries.get(r.tag)?));
            targets.prove(open);
            // Theirs is the blame: the rest is sent again without them. Where one is gone others may be gone too.
            if blamed.values().any(|reason| **reason == RefusalReason::UnknownTarget) {
                targets.doubt(topics.iter().map(|topic| &**topic));
            }
            for (topic, reason) in blamed {
                if *reason == RefusalReason::UnknownTarget {
                    // The facts may be older than its end. If new ones still say that it is there, one of two
                    // brokers is behind: nothing to dead-letter a message for.
                    self.put_off(topic);
                } else {
                    warn!(%topic, %reason, "target refuses: its messages are dead-lettered");
                    targets.condemn(topic, reason.to_string());
                }
            }
            return;
        }
        targets.doubt(topics.iter().map(|topic| &**topic));
        let collateral = |r: &&Refusal| r.reason.is_collateral();
        let failing: HashSet<_> = refusals.iter().filter(collateral).filter_map(|r| topic(r.tag)).collect();
        let refused = refusals.iter().find(|refusal| !collateral(refusal));
        match (entries, refused) {
            // Alone in its transaction, so it is this one.
            ([only], Some(refused)) if refused.tag == 0 => {
                self.rejected = Some((only.inlet, only.offset, refused.reason.clone()));
            }
            // Its marker is refused, so that it cannot be told handled.
            ([_], Some(_)) => topics.into_iter().for_each(|topic| self.put_off(topic)),
            // One that is refused takes all others with it.
            (_, Some(_)) => {}
            (_, None) if failing.len() < topics.len() || entries.len() == 1 => {
                failing.into_iter().for_each(|topic| self.put_off(topic));
            }
            (_, None) => {}
        }
        // Smaller and smaller, until the one that is refused stands alone.
        self.count = (entries.len().min(self.count) / 8).max(1);
    }

    fn put_off(&mut self, topic: Box<str>) {
        warn!(%topic, "target takes nothing: its messages are put off");
        let pause = self.unhealthy.get(&topic).map_or(*UNHEALTHY_FOR.start(), |target| target.pause * 2);
        let pause = pause.min(*UNHEALTHY_FOR.end());
        self.unhealthy.insert(topic, Unhealthy { until: Instant::now() + pause, pause });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ksched_core::{
        delivered,
        envelope::Envelope,
        message::{Content, Target},
    };
    use ksched_kafka::memory::{MemoryBroker, MemoryLog, TopicConfig};
    use tokio::time::advance;

    use super::{super::held, *};
    use crate::{clock::InPlace, targets::Refused};

    fn entry(topic: &str) -> Entry<Held> {
        let envelope = Envelope {
            due_ms: 0,
            scheduled_at_us: 0,
            origin: 0,
            hops: 0,
            target: Target { topic: topic.into(), partition: None },
            not_before_ms: None,
            identity: None,
            stamps: false,
            trace: None,
        };
        let content = delivered::store(&envelope, Content::default());
        let arrival = held::message(Inlet::Intake, 0, 0, content, envelope, topic.into());
        Entry { inlet: arrival.inlet, offset: arrival.offset, action: Action::Fire, payload: arrival.payload }
    }

    #[tokio::test(start_paused = true)]
    async fn a_target_that_a_broker_does_not_know_is_put_off_until_kafka_says_that_it_is_gone() {
        let broker = MemoryBroker::new(Arc::new(|| 0));
        broker.create_topic("gone", 1, TopicConfig::default()).unwrap();
        let targets = Targets::new(MemoryLog::direct(&broker, "group"), Arc::<InPlace>::default());
        let mut caution = Caution::default();
        let refuse = |reason| [Refusal { tag: 0, reason }];
        let unknown = || refuse(RefusalReason::UnknownTarget);
        let judge = || targets.judge("gone", None, 1);
        assert_eq!(judge(), Verdict::Send);
        // Metadata says that it is there, however often a broker does not know it.
        for _ in 0..3 {
            caution.learn(&targets, &[entry("gone")], &unknown());
            assert!(caution.is_unhealthy("gone"));
            advance(*UNHEALTHY_FOR.end()).await;
            assert!(!caution.is_unhealthy("gone"));
            assert_eq!(judge(), Verdict::Send);
        }
        // They say otherwise at once when it is gone.
        broker.delete_topic("gone").unwrap();
        caution.learn(&targets, &[entry("gone")], &unknown());
        advance(Duration::from_millis(1)).await;
        assert_eq!(judge(), Verdict::Refuse(Box::new(Refused::NoTopic("gone".into()))));

        // One that may not be written to is dead at once.
        broker.create_topic("closed", 1, TopicConfig::default()).unwrap();
        caution.learn(&targets, &[entry("closed")], &refuse(RefusalReason::NotAuthorised));
        assert!(!caution.is_unhealthy("closed"));
        assert!(matches!(targets.judge("closed", None, 1), Verdict::Refuse(_)));
    }
}
