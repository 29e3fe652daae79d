//! A consumer group's positions: those committed, and those that wait for the end of
//! a transaction. In Kafka a partition of its own, and so it is fenced like one.

use std::collections::BTreeMap;

use crate::{
    log::{Position, TopicPartition},
    memory::protocol::{GroupPosition, Outcome, ProducerId},
};

#[derive(Debug)]
struct Written {
    position: Position,
    /// When it was written, as a count: a transaction that ends late does not
    /// overwrite a position written after its own.
    count: u64,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    committed: BTreeMap<TopicPartition, Written>,
    /// By producer id.
    pending: BTreeMap<i64, BTreeMap<TopicPartition, Written>>,
    /// By producer id, the highest seen.
    epochs: BTreeMap<i64, i16>,
    count: u64,
}

impl Group {
    pub(super) fn is_fenced(&self, producer: ProducerId) -> bool {
        self.epochs.get(&producer.id).is_some_and(|&epoch| epoch > producer.epoch)
    }

    /// Whether this producer has positions waiting.
    pub(super) fn is_open(&self, producer: ProducerId) -> bool {
        self.pending.contains_key(&producer.id)
    }

    pub(super) fn commit(&mut self, positions: &[(TopicPartition, Position)]) {
        for (at, position) in positions {
            let written = self.write(position);
            self.committed.insert(at.clone(), written);
        }
    }

    /// Positions that count when the producer's transaction is committed.
    pub(super) fn commit_pending(&mut self, producer: ProducerId, positions: &[(TopicPartition, Position)]) {
        self.epochs.insert(producer.id, producer.epoch);
        for (at, position) in positions {
            let written = self.write(position);
            self.pending.entry(producer.id).or_default().insert(at.clone(), written);
        }
    }

    fn write(&mut self, position: &Position) -> Written {
        self.count += 1;
        Written { position: position.clone(), count: self.count }
    }

    pub(super) fn mark(&mut self, producer: ProducerId, outcome: Outcome) {
        if self.is_fenced(producer) {
            return;
        }
        self.epochs.insert(producer.id, producer.epoch);
        let pending = self.pending.remove(&producer.id).unwrap_or_default();
        if outcome == Outcome::Abort {
            return;
        }
        for (at, written) in pending {
            if self.committed.get(&at).is_none_or(|present| present.count < written.count) {
                self.committed.insert(at, written);
            }
        }
    }

    pub(super) fn position(&self, at: &TopicPartition) -> GroupPosition {
        GroupPosition {
            position: self.committed.get(at).map(|written| written.position.clone()),
            pending: self.pending.values().any(|each| each.contains_key(at)),
        }
    }

    /// Forgets a topic that was deleted.
    pub(super) fn forget(&mut self, topic: &str) {
        self.committed.retain(|at, _| &*at.topic != topic);
        for pending in self.pending.values_mut() {
            pending.retain(|at, _| &*at.topic != topic);
        }
    }

    /// Every position, in order.
    pub(super) fn all(&self) -> Vec<(TopicPartition, Position)> {
        self.committed.iter().map(|(at, written)| (at.clone(), written.position.clone())).collect()
    }
}
