//! The transaction coordinator: who holds a transactional id, what its transaction
//! touches, and how that ends. Kafka's transactions V1, those librdkafka uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    log::TopicPartition,
    memory::protocol::{Failure, Outcome, ProducerId, Session},
};

/// Somewhere a transaction leaves its marker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    Group(Arc<str>),
    Partition(TopicPartition),
}

/// A marker to be written now.
#[derive(Debug)]
pub(super) struct Marker {
    pub(super) touched: Touched,
    pub(super) producer: ProducerId,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Ongoing {
        began_ms: i64,
    },
    /// Decided; markers are still to be written.
    Ending(Outcome),
    Ended(Outcome),
}

#[derive(Debug)]
struct Held {
    producer: ProducerId,
    timeout_ms: i64,
    state: State,
    touched: BTreeSet<Touched>,
    /// Markers to be written, each when it is time.
    markers: Vec<(i64, Touched)>,
}

#[derive(Debug, Default)]
pub(super) struct Coordinator {
    held: BTreeMap<Arc<str>, Held>,
    last_producer_id: i64,
}

/// How long after the decision a marker is written, asked for each in turn.
pub(super) type MarkerDelay = dyn Fn() -> i64 + Send + Sync;

impl Coordinator {
    /// A producer id never used before.
    pub(super) fn new_producer(&mut self) -> ProducerId {
        self.last_producer_id += 1;
        ProducerId { id: self.last_producer_id, epoch: 0 }
    }

    /// The next epoch of a transactional id. The open transaction of the one before is
    /// aborted first, and while its markers are unwritten the caller must ask again.
    pub(super) fn init(&mut self, transactional_id: &Arc<str>, timeout_ms: i64) -> Result<Init, Failure> {
        let Some(held) = self.held.get_mut(transactional_id) else {
            let producer = self.new_producer();
            let held = Held {
                producer,
                timeout_ms,
                state: State::Empty,
                touched: BTreeSet::new(),
                markers: Vec::new(),
            };
            self.held.insert(Arc::clone(transactional_id), held);
            return Ok(Init::Done(producer));
        };
        match held.state {
            State::Ending(_) => Err(Failure::ConcurrentTransactions),
            State::Ongoing { .. } => Ok(Init::MustAbort),
            State::Empty | State::Ended(_) => {
                // The last epoch is kept for fencing; after it a new id.
                if held.producer.epoch >= i16::MAX - 1 {
                    self.last_producer_id += 1;
                    held.producer = ProducerId { id: self.last_producer_id, epoch: 0 };
                } else {
                    held.producer.epoch += 1;
                }
                held.timeout_ms = timeout_ms;
                held.state = State::Empty;
                Ok(Init::Done(held.producer))
            }
        }
    }

    /// Fences the holder and decides that its open transaction is aborted.
    pub(super) fn fence(&mut self, transactional_id: &str, now_ms: i64, delay: &MarkerDelay) {
        if let Some(held) = self.held.get_mut(transactional_id) {
            held.fence(now_ms, delay);
        }
    }

    /// Begins a transaction if none is open, and lets it touch these.
    pub(super) fn add(
        &mut self,
        session: &Session,
        touched: impl IntoIterator<Item = Touched>,
        now_ms: i64,
    ) -> Result<(), Failure> {
        let held = self.held(session)?;
        match held.state {
            State::Ending(_) => return Err(Failure::ConcurrentTransactions),
            State::Ongoing { .. } => {}
            State::Empty | State::Ended(_) => held.state = State::Ongoing { began_ms: now_ms },
        }
        held.touched.extend(touched);
        Ok(())
    }

    /// Ends the open transaction of this epoch, whichever it is. Once more when it has
    /// ended just so is no error: that is how a client's retry finds it.
    pub(super) fn end(
        &mut self,
        session: &Session,
        outcome: Outcome,
        now_ms: i64,
        delay: &MarkerDelay,
    ) -> Result<(), Failure> {
        let held = self.held(session)?;
        match held.state {
            State::Ongoing { .. } => {
                held.decide(outcome, now_ms, delay);
                Ok(())
            }
            State::Ended(ended) if ended == outcome => Ok(()),
            State::Ending(ending) if ending == outcome => Err(Failure::ConcurrentTransactions),
            _ => Err(Failure::InvalidTxnState),
        }
    }

    /// Whether the open transaction of this producer touches it.
    pub(super) fn touches(&self, transactional_id: &str, producer: ProducerId, touched: &Touched) -> bool {
        self.held.get(transactional_id).is_some_and(|held| {
            let open = matches!(held.state, State::Ongoing { .. });
            open && held.producer == producer && held.touched.contains(touched)
        })
    }

    /// Whether a producer is its transactional id's holder.
    pub(super) fn check(&self, session: &Session) -> Result<(), Failure> {
        match self.held.get(&session.transactional_id) {
            Some(held) if held.producer == session.producer => Ok(()),
            _ => Err(Failure::Fenced),
        }
    }

    /// Aborts what has been open for too long, and fences its holder for good (librdkafka
    /// has no KIP-588).
    pub(super) fn expire(&mut self, now_ms: i64, delay: &MarkerDelay) {
        for held in self.held.values_mut() {
            if let State::Ongoing { began_ms } = held.state
                && now_ms.saturating_sub(began_ms) >= held.timeout_ms
            {
                held.fence(now_ms, delay);
            }
        }
    }

    /// The markers whose time has come.
    pub(super) fn take_markers(&mut self, now_ms: i64) -> Vec<Marker> {
        let mut taken = Vec::new();
        for held in self.held.values_mut() {
            let State::Ending(outcome) = held.state else { continue };
            let producer = held.producer;
            let due = held.markers.extract_if(.., |(at_ms, _)| *at_ms <= now_ms);
            taken.extend(due.map(|(_, touched)| Marker { touched, producer, outcome }));
            if held.markers.is_empty() {
                held.state = State::Ended(outcome);
            }
        }
        taken
    }

    /// Forgets a topic that was deleted: nowhere to leave a marker.
    pub(super) fn forget(&mut self, topic: &str) {
        let stays = |touched: &Touched| !matches!(touched, Touched::Partition(at) if &*at.topic == topic);
        for held in self.held.values_mut() {
            held.touched.retain(stays);
            held.markers.retain(|(_, touched)| stays(touched));
        }
    }

    fn held(&mut self, session: &Session) -> Result<&mut Held, Failure> {
        self.check(session)?;
        self.held.get_mut(&session.transactional_id).ok_or(Failure::Fenced)
    }
}

/// What became of an `init`.
#[derive(Debug)]
pub(super) enum Init {
    Done(ProducerId),
    /// A transaction is open: fence its holder, then again.
    MustAbort,
}

impl Held {
    fn fence(&mut self, now_ms: i64, delay: &MarkerDelay) {
        self.producer.epoch = self.producer.epoch.saturating_add(1);
        self.decide(Outcome::Abort, now_ms, delay);
    }

    fn decide(&mut self, outcome: Outcome, now_ms: i64, delay: &MarkerDelay) {
        self.state = State::Ending(outcome);
        let touched = std::mem::take(&mut self.touched);
        self.markers = touched.into_iter().map(|touched| (now_ms.saturating_add(delay()), touched)).collect();
    }
}
