//! How a lane's batches reach Kafka: in transactions (exactly once), or without
//! (at least once).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ksched_core::{
    cluster::{Delivery, INLETS},
    delivered,
    envelope::Envelope,
    lane::{Action, Batch, Committed, Entry},
    message::Content,
    mutant::{self, Mutant},
    trace::TraceContext,
    wheel::Inlet,
};
use ksched_kafka::{
    Log, Outgoing, Position, Producer, Record, RefusalReason, TopicPartition, TransactionError, Turns,
    turns::Turn,
};
use ksched_telemetry::{
    metrics::Kind,
    traces::{self, Links},
};
use tokio::time::Instant;
use tracing::{debug, field::display};

use super::{
    caution::{Caution, Rejected, fired, is_about},
    committer::Committer,
    held::{Body, Held},
};
use crate::{
    attempt::Ended,
    dead_letter::{self, Reason},
    drain::Places,
    job::Control,
    mover::Onward,
    node::Node,
    targets::{Refused, Targets, Verdict},
};

/// How long before its lease may end an at-least-once lane stops: nothing else
/// keeps two of them from firing the same.
const LEASE_MARGIN: Duration = Duration::from_millis(500);
/// How long a message waits whose target or look-up is not ready.
const PUT_OFF: Duration = Duration::from_secs(1);

/// The lane's producers, and where its batches go.
pub(super) struct Firing<'a, L: Log> {
    node: &'a Node<L>,
    lane: u16,
    control: &'a Control,
    inlets: [TopicPartition; INLETS],
    control_topic: String,
    places: Places,
    way: Way<L>,
    /// What of the last batch was refused, and so went elsewhere without a transaction: tags.
    elsewhere: HashSet<usize>,
    /// Where the messages of the last batch were scheduled.
    links: Links,
    /// Those of the last batch that became dead letters, by their place in it, and why.
    dead: HashMap<usize, &'static str>,
}

enum Way<L: Log> {
    ExactlyOnce(Box<Turns<L::Transactional>>),
    AtLeastOnce(Box<L::Producer>, Committer),
}

impl<'a, L: Log + Clone> Firing<'a, L> {
    /// Fences the lane's old holder. Only afterwards may positions be read.
    pub(super) fn take_over(
        node: &'a Node<L>,
        lane: u16,
        control: &'a Control,
        inlets: [TopicPartition; INLETS],
    ) -> Result<Self, Ended> {
        let first = &inlets[0];
        let producer = |turn| {
            node.log.transactional(&node.cluster.transactional_id(&first.topic, first.partition, turn))
        };
        // An at-least-once lane inits them too: its predecessor may have been an
        // exactly-once one, whose open transaction would hide its last position.
        let first = if mutant::is_on(Mutant::FirstOnB) { Turn::B } else { Turn::A };
        let mut turns = Turns::with_first(producer('a')?, producer('b')?, first);
        turns.take_over()?;
        let way = match node.cluster.delivery {
            Delivery::ExactlyOnce => Way::ExactlyOnce(Box::new(turns)),
            Delivery::AtLeastOnce => Way::AtLeastOnce(
                Box::new(node.log.producer()?),
                Committer::spawn(node.host.clone(), node.log.clone(), control.clone())?,
            ),
        };
        Ok(Self {
            node,
            lane,
            control,
            inlets,
            control_topic: node.cluster.control_topic(),
            places: Places::new(node),
            way,
            elsewhere: HashSet::new(),
            links: Links::default(),
            dead: HashMap::new(),
        })
    }

    pub(super) fn is_transactional(&self) -> bool {
        matches!(self.way, Way::ExactlyOnce(_))
    }

    /// Exactly-once lanes are fenced by Kafka and may always; at-least-once ones only
    /// while nobody else can have the lane.
    pub(super) fn may_fire(&self) -> bool {
        self.is_transactional()
            || self.control.lease_left() > LEASE_MARGIN
            || mutant::is_on(Mutant::FiresBeyondLease)
    }

    pub(super) fn judge(
        &self,
        targets: &Arc<Targets<L>>,
        caution: &Caution,
        topic: &str,
        partition: Option<i32>,
        bytes: usize,
    ) -> Verdict {
        if caution.is_unhealthy(topic) {
            return Verdict::PutOff(PUT_OFF);
        }
        targets.judge(topic, partition, bytes)
    }

    /// Does what the batch says: all of it or nothing, if exactly once.
    pub(super) fn fire(&mut self, batch: Batch<Held>, now: i64, caution: &mut Caution) -> Result<(), Ended> {
        let is_there = |rejected: &mut Rejected| batch.entries.iter().any(|entry| is_about(rejected, entry));
        let (rejected, began_at) = (caution.rejected.take_if(is_there), Instant::now());
        let tried = self.try_fire(&batch, rejected.as_ref(), caution.count == 1, now);
        let (job, messages, took) = (&*self.control.name, batch.entries.len(), began_at.elapsed());
        let mut span = traces::batch(Kind::Lane, job, None, messages, took, &self.links);
        let (trace_id, fired_in) = (span.trace_id().map(display), span.context());
        if let Err(error) = &tried {
            span.fail("unclean", error);
        }
        drop(span);
        match tried {
            Ok(()) => {
                caution.succeeded();
                self.node.metrics.committed(Kind::Lane, took, messages);
                debug!(%job, messages, ?took, trace_id, "fired");
                self.observe(&batch.entries, rejected.as_ref(), fired_in);
                Ok(())
            }
            Err(TransactionError::Refused(refusals)) => {
                caution.learn(&self.node.targets, &batch.entries, &refusals);
                Err(TransactionError::Refused(refusals).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn try_fire(
        &mut self,
        batch: &Batch<Held>,
        rejected: Option<&Rejected>,
        after_refusals: bool,
        now: i64,
    ) -> Result<(), TransactionError> {
        self.elsewhere.clear();
        self.links.clear();
        self.dead.clear();
        self.begin()?;
        for (tag, entry) in batch.entries.iter().enumerate() {
            let rejected = rejected.filter(|rejected| is_about(rejected, entry));
            let Some(onward) = self.onward(entry, rejected.map(|(_, _, reason)| reason), now)? else {
                continue;
            };
            self.links.add(onward.trace);
            self.dead.extend(onward.dead.map(|reason| (tag, reason)));
            let Onward { topic, partition, content, .. } = &onward;
            self.send(tag, Outgoing { topic, partition: *partition, timestamp_ms: Some(now), content })?;
            if entry.payload.verdict.get() == Some(&Verdict::SendAlone) {
                self.flush(batch, now)?;
            }
        }
        if !self.is_transactional() || after_refusals {
            // A marker says that its message was handled: never before it is true. And where the
            // refused one is looked for, a refusal must be its target's, not its marker's.
            self.flush(batch, now)?;
        }
        let deletions = batch.forgotten.iter().map(|id| (id.encode(), None));
        let markers = batch.markers.iter().map(|marker| (marker.id.encode(), Some(marker.value())));
        for (key, value) in deletions.chain(markers) {
            let content =
                Content { key: Some(key.into()), value: value.map(Into::into), headers: Vec::new() };
            let partition = Some(i32::from(self.lane));
            let topic = self.control_topic.clone();
            // Beyond the entries' tags: a marker is refused only with everything else.
            self.send(
                usize::MAX,
                Outgoing { topic: &topic, partition, timestamp_ms: None, content: &content },
            )?;
        }
        if !self.is_transactional() {
            self.flush(batch, now)?;
        }
        // What a transaction waits for comes with its positions.
        self.commit_with(&batch.positions)
    }

    /// The record that an entry becomes; `None` for copies.
    fn onward(
        &self,
        entry: &Entry<Held>,
        rejected: Option<&RefusalReason>,
        now: i64,
    ) -> Result<Option<Onward>, TransactionError> {
        let message = match &entry.payload.body {
            Body::Message(message) => message,
            Body::Foreign(foreign) => return Ok(Some(self.dead_foreign(entry, &foreign.0, &foreign.1, now))),
        };
        if entry.action == Action::Duplicate {
            return Ok(None);
        }
        let (envelope, user) = message.unpack()?;
        let trace = envelope.trace;
        let onward = match entry.action {
            Action::Fire | Action::Duplicate => {
                self.deliver(entry, &message.topic, &envelope, user, rejected, now)
            }
            Action::Conflict => {
                let text = "the same request_id was used for another message".to_owned();
                self.dead_message(entry, &envelope, user, &Reason { code: "REQUEST_ID_REUSED", text })
            }
            Action::PutOff | Action::AwaitAnswer => self.put_off(entry, envelope, user, now),
            Action::ReturnToWheel => {
                let place = self.node.cluster.geometry.route(envelope.due_ms, now, self.lane);
                let content = delivered::store(&envelope, user);
                self.places.onward(self.node, place, self.lane, Inlet::Intake, content)
            }
        };
        Ok(Some(Onward { trace, ..onward }))
    }

    fn dead_foreign(&self, entry: &Entry<Held>, content: &Content, why: &str, now: i64) -> Onward {
        let reason = Reason { code: "NOT_A_MESSAGE", text: why.to_owned() };
        let record = Record {
            source: self.inlets[entry.inlet as usize].clone(),
            offset: entry.offset,
            timestamp_ms: now,
            content: content.clone(),
        };
        dead_letter::of_record(self.node, record, &reason)
    }

    fn deliver(
        &self,
        entry: &Entry<Held>,
        topic: &Arc<str>,
        envelope: &Envelope,
        user: Content,
        rejected: Option<&RefusalReason>,
        now: i64,
    ) -> Onward {
        let refused = match (rejected, entry.payload.verdict.get()) {
            (Some(reason), _) => Refused::ByBroker(reason.to_string()),
            (None, Some(Verdict::Refuse(refused))) => (**refused).clone(),
            (None, _) => {
                let content = delivered::deliver(&self.node.cluster, envelope, self.lane, user, now);
                let (partition, trace) = (envelope.target.partition, envelope.trace);
                return Onward { trace, ..Onward::new(Arc::clone(topic), partition, content) };
            }
        };
        let reason = Reason { code: refused.code(), text: refused.to_string() };
        self.dead_message(entry, envelope, user, &reason)
    }

    fn dead_message(
        &self,
        entry: &Entry<Held>,
        envelope: &Envelope,
        user: Content,
        reason: &Reason,
    ) -> Onward {
        let source = &self.inlets[entry.inlet as usize];
        dead_letter::of_message(self.node, envelope, self.lane, user, source, entry.offset, reason)
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        match &mut self.way {
            Way::ExactlyOnce(turns) => turns.begin(),
            Way::AtLeastOnce(..) => Ok(()),
        }
    }

    fn send(&mut self, tag: usize, record: Outgoing<'_>) -> Result<(), TransactionError> {
        match &mut self.way {
            Way::ExactlyOnce(turns) => turns.send(tag, record),
            Way::AtLeastOnce(producer, _) => producer.send(tag, record).map_err(unclean),
        }
    }

    /// Waits for all acknowledgements. Without a transaction only what was refused is
    /// sent elsewhere, or one refusal would repeat the whole batch.
    fn flush(&mut self, batch: &Batch<Held>, now: i64) -> Result<(), TransactionError> {
        let refusals = match &mut self.way {
            Way::ExactlyOnce(turns) => return turns.flush(),
            Way::AtLeastOnce(producer, _) => producer.flush().map_err(unclean)?,
        };
        for refusal in &refusals {
            // Without its entry it is a marker's: then only doing it all again helps. So it
            // is with a message that leaves a marker, which would call what is put off handled.
            let entry = batch.entries.get(refusal.tag).filter(|_| batch.markers.is_empty());
            let Some(entry) = entry else {
                return Err(TransactionError::Refused(refusals));
            };
            self.elsewhere.insert(refusal.tag);
            self.dead.remove(&refusal.tag);
            let Some(onward) = self.instead(entry, &refusal.reason, now)? else { continue };
            self.dead.extend(onward.dead.map(|reason| (refusal.tag, reason)));
            let Onward { topic, partition, content, .. } = &onward;
            self.send(
                usize::MAX,
                Outgoing { topic, partition: *partition, timestamp_ms: Some(now), content },
            )?;
        }
        match &mut self.way {
            Way::AtLeastOnce(producer, _) if !refusals.is_empty() => {
                match producer.flush().map_err(unclean)? {
                    again if again.is_empty() => Ok(()),
                    again => Err(TransactionError::Refused(again)),
                }
            }
            _ => Ok(()),
        }
    }

    /// Where a refused entry goes without a transaction: put off if that may help, or dead.
    fn instead(
        &self,
        entry: &Entry<Held>,
        reason: &RefusalReason,
        now: i64,
    ) -> Result<Option<Onward>, TransactionError> {
        let may_pass = reason.is_collateral() || *reason == RefusalReason::UnknownTarget;
        match &entry.payload.body {
            Body::Message(message) if may_pass => {
                // Whether it is there is asked before it is sent again.
                self.node.targets.doubt(std::iter::once(&*message.topic));
                let (envelope, user) = message.unpack()?;
                Ok(Some(self.put_off(entry, envelope, user, now)))
            }
            _ => self.onward(entry, Some(reason), now),
        }
    }

    fn put_off(&self, entry: &Entry<Held>, envelope: Envelope, user: Content, now: i64) -> Onward {
        let pause = match entry.payload.verdict.get() {
            Some(Verdict::PutOff(pause)) => *pause,
            _ => PUT_OFF,
        };
        let not_before_ms = Some(now + pause.as_millis() as i64 + 1);
        let content = delivered::store(&Envelope { not_before_ms, ..envelope }, user);
        self.places.to_lane(self.node, self.lane, Inlet::Intake, content)
    }

    fn commit_with(&mut self, positions: &[Committed; INLETS]) -> Result<(), TransactionError> {
        let positions = self.named(positions);
        match &mut self.way {
            Way::ExactlyOnce(turns) => turns.commit(&positions),
            Way::AtLeastOnce(_, committer) => {
                committer.commit(positions);
                Ok(())
            }
        }
    }

    /// Commits positions that moved with nothing to fire.
    pub(super) fn commit(&mut self, positions: [Committed; INLETS]) -> Result<(), Ended> {
        self.begin()?;
        Ok(self.commit_with(&positions)?)
    }

    /// The last commit of a clean stop.
    pub(super) fn finish(&mut self, moved: Option<[Committed; INLETS]>) -> Result<(), Ended> {
        let last = match moved {
            Some(positions) if self.may_fire() => self.commit(positions),
            _ => Ok(()),
        };
        // Behind the last one, which it commits.
        if let Way::AtLeastOnce(_, committer) = &mut self.way {
            committer.finish();
        }
        last
    }

    fn named(&self, positions: &[Committed; INLETS]) -> Vec<(TopicPartition, Position)> {
        let position = |c: &Committed| Position { offset: c.offset, metadata: c.metadata.clone() };
        self.inlets.iter().cloned().zip(positions.iter().map(position)).collect()
    }

    fn observe(
        &self,
        entries: &[Entry<Held>],
        rejected: Option<&Rejected>,
        mut fired_in: Option<TraceContext>,
    ) {
        let (metrics, now) = (&self.node.metrics, self.node.clock.wall_ms());
        let is_refused = |tag: usize, entry: &Entry<Held>| {
            rejected.is_some_and(|rejected| is_about(rejected, entry)) || self.elsewhere.contains(&tag)
        };
        let taken = |(tag, entry)| if is_refused(tag, entry) { None } else { fired(entry) };
        let delivered = || entries.iter().enumerate().filter_map(taken);
        self.node.targets.prove(delivered().map(|message| &*message.topic));
        let copies = entries.iter().filter(|entry| entry.action == Action::Duplicate).count();
        metrics.duplicates_dropped.inc_by(copies as u64);
        self.dead.values().for_each(|reason| metrics.dead_lettered.add(reason));
        for message in delivered() {
            metrics.delivered.inc();
            // The first is the latest: one example of each transaction is enough.
            metrics.lateness.observe_ms((now - message.due_ms) as f64, fired_in.take());
        }
        self.node.figures.delivered(self.lane, delivered().map(|message| now - message.due_ms));
    }
}

fn unclean(error: ksched_kafka::Error) -> TransactionError {
    match error {
        ksched_kafka::Error::Fenced => TransactionError::Fenced,
        other => TransactionError::Unclean(other.to_string()),
    }
}
