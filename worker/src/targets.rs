//! What is known of target topics, so that one bad target never disturbs others
//! (design §5, Targets).
//!
//! Kafka aborts a whole transaction for one refused record, and librdkafka fails a
//! whole batch for one record too large, so each record is judged before it is
//! produced, by facts that are at most some seconds old. They are asked for anew, on a thread
//! of its own, before they are too old, or a lane would wait for the answer every few seconds.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ksched_core::host::Host;
use ksched_kafka::{Error, Log, TopicInfo};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::debug;

/// How long a topic's facts are believed once they were needed, and when they are needed first: what was asked
/// along with another is older by then. That a topic is missing is believed as long as it has been so, at most a minute.
const FRESH: Duration = Duration::from_secs(5);
const FRESH_FIRST: Duration = Duration::from_secs(1);
const FRESH_MAX: Duration = Duration::from_secs(60);
/// All facts are believed so many times as long as it took to ask for them, or thousands of topics would
/// keep lanes asking; but not long, as answers may be slow for another reason.
const PATIENCE: u32 = 10;
const PATIENCE_MAX: Duration = Duration::from_secs(15);
/// A topic is forgotten that was asked about so often with nobody needing it.
const IDLE_MAX: u32 = 100;
/// How long all of a target's messages are dead-lettered after the broker has
/// refused one for good, before one is tried again.
const CONDEMNED: Duration = Duration::from_secs(10);
/// How long after a refusal nothing is sent to targets that may refuse as well: a refusal
/// costs its lane a transaction and new producers, some 300 ms, which the others must not
/// wait for again and again.
const WARY: Duration = Duration::from_secs(2);
/// Topics remembered; beyond this those go that would be asked about anyway.
const REMEMBERED: usize = 10_000;
/// librdkafka's `batch.size`: it never splits a batch that a topic with a smaller
/// `max.message.bytes` refuses, so such topics take records one at a time.
const BATCH_BYTES: usize = 1_000_000;
/// What a record costs on the wire besides its content: batch header, varints, and
/// the headers and stamps we add (`delivered`).
const RECORD_OVERHEAD: usize = 512;
/// How long Kafka is not asked again at least after it gave no answer; as long as [`PATIENCE`] says if that took long.
const SILENCE: Duration = Duration::from_secs(1);

/// What to do with a record for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Hand it over.
    Send,
    /// Hand it over and wait for its acknowledgement before the next.
    SendAlone,
    /// It can never be delivered: dead-letter topic, with this reason.
    Refuse(Box<Refused>),
    /// The target does not take records now: put it off, for so long.
    PutOff(Duration),
}

/// Why a message cannot be delivered; code and text go into the dead letter's headers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("target topic {0} does not exist")]
    NoTopic(Box<str>),
    #[error("target topic {topic} has {partitions} partitions, no number {partition}")]
    NoPartition { topic: Box<str>, partitions: i32, partition: i32 },
    #[error("record of {bytes} bytes is larger than {topic}'s max.message.bytes of {limit}")]
    TooLarge { topic: Box<str>, bytes: usize, limit: usize },
    #[error("{0}")]
    ByBroker(String),
}

/// Boxed: of what waits in a lane each holds a verdict.
fn refuse(refused: Refused) -> Verdict {
    Verdict::Refuse(Box::new(refused))
}

impl Refused {
    /// For programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoTopic(_) => "UNKNOWN_TOPIC",
            Self::NoPartition { .. } => "UNKNOWN_PARTITION",
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::ByBroker(_) => "REFUSED_BY_BROKER",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Fact {
    asked_at: Instant,
    /// How long it took to ask.
    took: Duration,
    /// Or since when it is missing.
    info: Result<TopicInfo, Instant>,
    /// Whether it was needed since it was asked for, and whether what was known before was.
    used: bool,
    used_before: bool,
    /// How often it was asked about since a record for it was read or judged.
    idle: u32,
    /// Whether the broker takes records for it: some were delivered, or would have been.
    proven: bool,
    /// When something was refused that this may have to do with.
    doubted_at: Option<Instant>,
}

impl Fact {
    fn is_fresh(&self) -> bool {
        self.asked_at.elapsed() < self.life()
    }

    /// Asked about before it is too old.
    fn is_ageing(&self) -> bool {
        self.asked_at.elapsed() > self.life() / 2
    }

    /// Asked about along with another: all that are in use, or each would be asked about by itself.
    fn is_taken_along(&self) -> bool {
        self.idle < IDLE_MAX && (!self.is_fresh() || self.used && self.asked_at.elapsed() > self.life() / 4)
    }

    /// For how long it is believed.
    fn life(&self) -> Duration {
        if self.doubted_at.is_some_and(|at| at >= self.asked_at) {
            return Duration::ZERO;
        }
        let missing_for = self.info.err().map_or(Duration::ZERO, |since| self.asked_at - since);
        // What nobody needed may have been missing long and be there since.
        let is_needed = self.used || (self.used_before && self.info.is_ok());
        let fresh = if is_needed { FRESH.max(missing_for).min(FRESH_MAX) } else { FRESH_FIRST };
        fresh.max((self.took * PATIENCE).min(PATIENCE_MAX))
    }
}

/// Targets that the broker has refused for good, till when, and why.
#[derive(Debug, Default)]
struct Condemned {
    targets: HashMap<Box<str>, (Instant, String)>,
    last_at: Option<Instant>,
}

/// Facts about targets, shared by all jobs of a process. No lock is held while Kafka is asked:
/// in the simulator, whose lanes share a thread, that would be for ever.
#[derive(Debug)]
pub(crate) struct Targets<L> {
    log: L,
    host: Arc<dyn Host>,
    facts: Mutex<HashMap<Box<str>, Fact>>,
    /// Read by a lane, and not asked about yet.
    wanted: Mutex<HashSet<Box<str>>>,
    condemned: Mutex<Condemned>,
    silence: Mutex<Silence>,
    /// Whether a thread is asking.
    refreshing: AtomicBool,
}

/// That Kafka gave no answer.
#[derive(Debug, Default)]
struct Silence {
    /// Until when it is not asked.
    until: Option<Instant>,
    /// When it was last asked something that it answered.
    answered: Option<Instant>,
}

/// Lowers the flag that a thread is asking, whatever becomes of it.
struct Refreshing<L>(Arc<Targets<L>>);

impl<L> Drop for Refreshing<L> {
    fn drop(&mut self) {
        self.0.refreshing.store(false, Ordering::Release);
    }
}

impl<L: Log> Targets<L> {
    pub(crate) fn new(log: L, host: Arc<dyn Host>) -> Arc<Self> {
        let (facts, wanted, condemned, silence, refreshing) = Default::default();
        Arc::new(Self { log, host, facts, wanted, condemned, silence, refreshing })
    }

    /// Records for this topic will have to be judged: one question asks about all that are
    /// wanted.
    pub(crate) fn want(&self, topic: &str) {
        if let Some(fact) = self.facts.lock().get_mut(topic) {
            fact.idle = 0;
            return;
        }
        let mut wanted = self.wanted.lock();
        if wanted.len() < REMEMBERED && !wanted.contains(topic) {
            wanted.insert(topic.into());
        }
    }

    /// A record for this topic is about to be judged: what is older than half its life is asked for
    /// now, on a thread of its own.
    pub(crate) fn soon(self: &Arc<Self>, topic: &str) {
        let is_known = self.facts.lock().get(topic).is_some_and(|fact| !fact.is_ageing());
        if !is_known {
            self.refresh(topic);
        }
    }

    /// Judges a record of `bytes` content bytes; may ask Kafka, so it blocks.
    pub(crate) fn judge(self: &Arc<Self>, topic: &str, partition: Option<i32>, bytes: usize) -> Verdict {
        let (condemned, wary_for) = self.condemned.lock().look(topic);
        if let Some(reason) = condemned {
            return refuse(Refused::ByBroker(reason));
        }
        let (fact, is_fresh) = match self.fact(topic) {
            Ok(fact) => (fact, true),
            // Kafka gives no answer. What is known will mostly still be so; of the rest the transaction will tell.
            Err(_) => match self.facts.lock().get(topic) {
                Some(fact) => (*fact, false),
                None => return Verdict::Send,
            },
        };
        if is_fresh && fact.is_ageing() {
            self.refresh(topic);
        }
        let info = match fact.info {
            Ok(info) => info,
            Err(_) if is_fresh => return refuse(Refused::NoTopic(topic.into())),
            Err(_) => return Verdict::PutOff(SILENCE),
        };
        if let (Some(partition), Some(partitions)) = (partition, info.partitions)
            && partition >= partitions
        {
            return refuse(Refused::NoPartition { topic: topic.into(), partitions, partition });
        }
        let bytes = bytes + RECORD_OVERHEAD;
        let sent = match info.max_message_bytes {
            Some(limit) if bytes > limit => {
                return refuse(Refused::TooLarge { topic: topic.into(), bytes, limit });
            }
            Some(limit) if limit < BATCH_BYTES => Verdict::SendAlone,
            // The broker judges.
            None if bytes > BATCH_BYTES => Verdict::SendAlone,
            _ => Verdict::Send,
        };
        if let Some(pause) = wary_for.filter(|_| !fact.proven) {
            return Verdict::PutOff(pause);
        }
        sent
    }

    /// The broker refuses a target's records for a reason that will not pass by itself.
    pub(crate) fn condemn(&self, topic: Box<str>, reason: String) {
        let (mut condemned, now) = (self.condemned.lock(), Instant::now());
        // Only what is condemned now stays so while we are wary.
        condemned.targets.retain(|_, (until, _)| *until > now);
        self.facts.lock().remove(&topic);
        condemned.last_at = Some(now);
        condemned.targets.insert(topic, (now + CONDEMNED, reason));
    }

    /// The broker takes records for these.
    pub(crate) fn prove<'a>(&self, topics: impl Iterator<Item = &'a str>) {
        let (mut condemned, mut facts, mut last) = (self.condemned.lock(), self.facts.lock(), "");
        for topic in topics.filter(|topic| std::mem::replace(&mut last, topic) != *topic) {
            if let Some(fact) = facts.get_mut(topic) {
                fact.proven = true;
            }
            if !condemned.targets.is_empty() {
                condemned.targets.remove(topic);
            }
        }
    }

    /// Asks anew about these before the next record: something was refused.
    pub(crate) fn doubt<'a>(&self, topics: impl Iterator<Item = &'a str>) {
        let (mut facts, now) = (self.facts.lock(), Instant::now());
        for topic in topics {
            if let Some(fact) = facts.get_mut(topic) {
                fact.doubted_at = Some(now);
            }
        }
    }

    fn fact(&self, topic: &str) -> Result<Fact, Error> {
        if let Some(fact) = self.fresh(topic) {
            return Ok(fact);
        }
        if self.is_silent() {
            return Err(Error::Unavailable("kafka has just not answered".to_owned()));
        }
        self.ask_and_note(topic)
    }

    /// Whether Kafka gave no answer just now.
    fn is_silent(&self) -> bool {
        self.silence.lock().until.is_some_and(|until| Instant::now() < until)
    }

    /// Asks on a thread of its own, unless one is asking already.
    fn refresh(self: &Arc<Self>, topic: &str) {
        if self.is_silent() || self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (refreshing, topic) = (Refreshing(Arc::clone(self)), topic.to_owned());
        let work = move || {
            if let Err(error) = refreshing.0.ask_and_note(&topic) {
                debug!(%error, "not asked about targets");
            }
        };
        if let Err(error) = self.host.spawn("targets", Box::new(work)) {
            // Then the lane asks, when it must.
            debug!(%error, "no thread to ask about targets");
        }
    }

    fn ask_and_note(&self, topic: &str) -> Result<Fact, Error> {
        let began_at = Instant::now();
        let asked = self.ask(topic);
        let pause = (began_at.elapsed() * PATIENCE).clamp(SILENCE, PATIENCE_MAX);
        let mut silence = self.silence.lock();
        if silence.answered.is_none_or(|at| at <= began_at) {
            silence.until = asked.is_err().then(|| Instant::now() + pause);
        }
        if asked.is_ok() {
            silence.answered = silence.answered.max(Some(began_at));
        }
        asked
    }

    fn fresh(&self, topic: &str) -> Option<Fact> {
        let mut facts = self.facts.lock();
        let fact = facts.get_mut(topic).filter(|fact| fact.is_fresh())?;
        (fact.idle, fact.used) = (0, true);
        Some(*fact)
    }

    /// Asks about this topic and, with it, about all others that are wanted or no longer fresh:
    /// one request for many costs little more than for one.
    fn ask(&self, topic: &str) -> Result<Fact, Error> {
        // In order, for the simulator to do the same each time.
        let mut topics: BTreeSet<Box<str>> = self.wanted.lock().iter().cloned().collect();
        topics.insert(topic.into());
        for (topic, fact) in self.facts.lock().iter() {
            if fact.is_taken_along() {
                topics.insert(topic.clone());
            }
        }
        let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        let asked_at = Instant::now();
        let found = self.log.topics(&names)?;
        let took = asked_at.elapsed();
        debug!(topics = names.len(), ?took, "asked about targets");
        let (mut facts, mut wanted) = (self.facts.lock(), self.wanted.lock());
        for (name, info) in names.into_iter().zip(found) {
            wanted.remove(name);
            let known = facts.get(name);
            // Another question was asked later, and answered sooner.
            if known.is_some_and(|known| known.asked_at > asked_at) {
                continue;
            }
            let missing_since = known.and_then(|known| known.info.err()).unwrap_or(asked_at);
            let known_limit = known.and_then(|known| known.info.ok()?.max_message_bytes);
            // A limit that is not told this time is the one told last.
            let still = |info: TopicInfo| TopicInfo {
                max_message_bytes: info.max_message_bytes.or(known_limit),
                ..info
            };
            let (used, used_before) = (name == topic, known.is_some_and(|known| known.used));
            let fact = Fact {
                asked_at,
                took,
                info: info.map(still).ok_or(missing_since),
                used,
                used_before,
                idle: known.map_or(0, |known| if used { 0 } else { known.idle + 1 }),
                proven: known.is_some_and(|known| known.proven),
                doubted_at: known.and_then(|known| known.doubted_at),
            };
            facts.insert(name.into(), fact);
        }
        let asked = facts.get(topic).copied();
        let is_full = facts.len() > REMEMBERED;
        facts.retain(|_, fact| fact.is_fresh() || !(is_full || fact.idle >= IDLE_MAX));
        asked.ok_or_else(|| Error::Unavailable("kafka has not answered".to_owned()))
    }
}

impl Condemned {
    /// Why a topic is condemned, and how long nothing doubtful is sent. What waits for that is
    /// then tried together, so that one refusal tells of many.
    fn look(&self, topic: &str) -> (Option<String>, Option<Duration>) {
        let now = Instant::now();
        let wary_for = self.last_at.and_then(|at| (at + WARY).checked_duration_since(now));
        let condemned = self.targets.get(topic).filter(|(until, _)| wary_for.is_some() || *until > now);
        (condemned.map(|(_, reason)| reason.clone()), wary_for)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ksched_kafka::memory::{MemoryBroker, MemoryLog, TopicConfig};
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::clock::InPlace;

    #[tokio::test(start_paused = true)]
    async fn many_that_are_in_use_are_asked_about_together() {
        let broker = MemoryBroker::new(Arc::new(|| 0));
        let names: Vec<_> = (0..100).map(|n| format!("t-{n}")).collect();
        names.iter().for_each(|name| broker.create_topic(name, 1, TopicConfig::default()).unwrap());
        let host = Arc::<InPlace>::default();
        let targets = Targets::new(MemoryLog::direct(&broker, "group"), Arc::<InPlace>::clone(&host));
        // They come into use one after the other.
        for name in names.iter().chain(names.iter().cycle().take(2_000)) {
            advance(Duration::from_millis(10)).await;
            targets.judge(name, None, 1);
        }
        let asked = host.spawned.load(Ordering::Relaxed);
        assert!((8..=12).contains(&asked), "{asked} questions in 21 s");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_needed_is_asked_about_before_it_is_too_old() {
        let broker = MemoryBroker::new(Arc::new(|| 0));
        broker.create_topic("t", 1, TopicConfig::default()).unwrap();
        let targets = Targets::new(MemoryLog::direct(&broker, "group"), Arc::<InPlace>::default());
        let age = || targets.facts.lock()["t"].asked_at.elapsed();
        targets.soon("t");
        assert_eq!(age(), Duration::ZERO, "asked before it was needed");
        targets.judge("t", None, 1);
        // One that is needed every second is never asked about by a lane.
        for _ in 0..20 {
            advance(Duration::from_secs(1)).await;
            assert!(targets.fresh("t").is_some());
            targets.judge("t", None, 1);
            assert!(age() <= FRESH / 2);
        }
        // Of one that is not, it is known in time.
        advance(2 * FRESH).await;
        targets.soon("t");
        assert_eq!(age(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_asks_about_all_that_will_be_needed() {
        let broker = MemoryBroker::new(Arc::new(|| 0));
        let names: Vec<_> = (0..100).map(|n| format!("target-{n}")).collect();
        for name in &names[..50] {
            broker.create_topic(name, 1, TopicConfig::default()).unwrap();
        }
        let targets = Targets::new(MemoryLog::direct(&broker, "group"), Arc::<InPlace>::default());
        let asked_now = || {
            let facts = targets.facts.lock();
            facts.values().filter(|fact| fact.asked_at == Instant::now()).count()
        };
        names.iter().for_each(|name| targets.want(name));
        assert_eq!(targets.judge("target-7", None, 1), Verdict::Send);
        assert_eq!(asked_now(), 100);
        // What is there now may be gone when it is needed.
        advance(FRESH_FIRST).await;
        assert_eq!(targets.judge("target-70", None, 1), refuse(Refused::NoTopic("target-70".into())));
        assert_eq!(asked_now(), 99);
        advance(FRESH_FIRST).await;
        assert_eq!(targets.judge("target-7", None, 1), Verdict::Send);
        assert_eq!(asked_now(), 0);
        // What nobody needs any more is forgotten.
        for _ in 0..=IDLE_MAX {
            advance(FRESH_MAX).await;
            targets.judge("target-7", None, 1);
        }
        assert_eq!(targets.facts.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_missing_is_believed_so_only_while_it_is_needed() {
        let broker = MemoryBroker::new(Arc::new(|| 0));
        broker.create_topic("there", 1, TopicConfig::default()).unwrap();
        let targets = Targets::new(MemoryLog::direct(&broker, "group"), Arc::<InPlace>::default());
        let missing = || refuse(Refused::NoTopic("late".into()));
        assert_eq!(targets.judge("late", None, 1), missing());
        // For half a minute only the other one is needed; then the first is made.
        for _ in 0..6 {
            advance(FRESH).await;
            assert_eq!(targets.judge("there", None, 1), Verdict::Send);
        }
        broker.create_topic("late", 1, TopicConfig::default()).unwrap();
        advance(FRESH_FIRST).await;
        assert_eq!(targets.judge("late", None, 1), Verdict::Send);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_doubted_is_asked_about_anew() {
        let broker = MemoryBroker::new(Arc::new(|| 0));
        broker.create_topic("gone", 1, TopicConfig::default()).unwrap();
        let targets = Targets::new(MemoryLog::direct(&broker, "group"), Arc::<InPlace>::default());
        assert_eq!(targets.judge("gone", None, 1), Verdict::Send);
        broker.delete_topic("gone").unwrap();
        assert_eq!(targets.judge("gone", None, 1), Verdict::Send);
        targets.doubt(["gone"].into_iter());
        // As if the question were under way: what is doubted while it is asked about is asked once more.
        assert_eq!(targets.judge("gone", None, 1), refuse(Refused::NoTopic("gone".into())));
        advance(Duration::from_millis(1)).await;
        assert_eq!(targets.judge("gone", None, 1), refuse(Refused::NoTopic("gone".into())));
        assert_eq!(targets.facts.lock()["gone"].asked_at, Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn one_refusal_is_paid_for_many_and_what_is_proven_goes_on() {
        let broker = MemoryBroker::new(Arc::new(|| 0));
        for topic in ["closed", "proven", "unproven"] {
            broker.create_topic(topic, 1, TopicConfig::default()).unwrap();
        }
        let targets = Targets::new(MemoryLog::direct(&broker, "group"), Arc::<InPlace>::default());
        let judge = |topic: &str| targets.judge(topic, None, 1);
        let refused = || refuse(Refused::ByBroker("no".to_owned()));
        assert_eq!(
            ["closed", "proven", "unproven"].map(judge),
            [Verdict::Send, Verdict::Send, Verdict::Send]
        );
        targets.prove(["proven", "proven"].into_iter());
        // That something was refused says nothing against it.
        targets.doubt(["proven"].into_iter());
        targets.condemn("closed".into(), "no".to_owned());
        let all = ["closed", "proven", "unproven"].map(judge);
        assert_eq!(all, [refused(), Verdict::Send, Verdict::PutOff(WARY)]);
        // What waits is tried at one moment.
        advance(WARY / 2).await;
        assert_eq!(judge("unproven"), Verdict::PutOff(WARY / 2));
        sleep(WARY / 2 + Duration::from_millis(1)).await;
        assert_eq!([judge("closed"), judge("unproven")], [refused(), Verdict::Send]);
        // Facts are asked for anew, and it is still known what takes records.
        advance(CONDEMNED - WARY / 2).await;
        targets.condemn("unproven".into(), "no".to_owned());
        // Refused once is not refused for ever, whatever else is refused.
        assert_eq!([judge("closed"), judge("proven")], [Verdict::PutOff(WARY), Verdict::Send]);
        sleep(WARY + Duration::from_millis(1)).await;
        assert_eq!([judge("closed"), judge("unproven")], [Verdict::Send, refused()]);
    }
}
