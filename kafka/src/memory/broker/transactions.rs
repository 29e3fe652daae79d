//! What producers ask: where the coordinator's decisions meet partitions and groups.

use std::sync::Arc;

use super::{
    State, Verification,
    coordinator::{Init, Touched},
};
use crate::{
    log::{Position, TopicPartition},
    memory::protocol::{Batch, Failure, ProducerId, Session},
};

impl State {
    pub(super) fn advance(&mut self, now_ms: i64) {
        let delay = Arc::clone(&self.marker_delay);
        self.coordinator.expire(now_ms, &*delay);
        for marker in self.coordinator.take_markers(now_ms) {
            match &marker.touched {
                Touched::Group(group) => self.group(group).mark(marker.producer, marker.outcome),
                // A topic that is gone needs no marker.
                Touched::Partition(at) => {
                    if let Ok(partition) = self.partition_mut(at) {
                        partition.mark(marker.producer, marker.outcome, now_ms);
                    }
                }
            }
        }
    }

    pub(super) fn init(
        &mut self,
        transactional_id: Option<&Arc<str>>,
        timeout_ms: i64,
        now_ms: i64,
    ) -> Result<ProducerId, Failure> {
        let Some(id) = transactional_id else { return Ok(self.coordinator.new_producer()) };
        if let Init::Done(producer) = self.coordinator.init(id, timeout_ms)? {
            return Ok(producer);
        }
        let delay = Arc::clone(&self.marker_delay);
        self.coordinator.fence(id, now_ms, &*delay);
        self.advance(now_ms);
        match self.coordinator.init(id, timeout_ms)? {
            Init::Done(producer) => Ok(producer),
            Init::MustAbort => Err(Failure::ConcurrentTransactions),
        }
    }

    pub(super) fn commit_pending(
        &mut self,
        session: &Session,
        group: &Arc<str>,
        positions: &[(TopicPartition, Position)],
    ) -> Result<(), Failure> {
        self.check_positions(positions)?;
        let verification = self.verification;
        let producer = session.producer;
        let touched = Touched::Group(Arc::clone(group));
        let touches = self.coordinator.touches(&session.transactional_id, producer, &touched);
        let group = self.group(group);
        if group.is_fenced(producer) {
            return Err(Failure::Fenced);
        }
        if verification == Verification::On && !group.is_open(producer) && !touches {
            return Err(Failure::InvalidTxnState);
        }
        group.commit_pending(producer, positions);
        Ok(())
    }

    pub(super) fn produce(&mut self, batch: &Batch, now_ms: i64) -> Result<i64, Failure> {
        if let (Some(id), Verification::On) = (&batch.transactional_id, self.verification) {
            let touched = Touched::Partition(batch.at.clone());
            let open = self.partition(&batch.at)?.is_open(batch.producer);
            if !open && !self.coordinator.touches(id, batch.producer, &touched) {
                return Err(Failure::InvalidTxnState);
            }
        }
        let (config, partition) = self.topic_and_partition(&batch.at)?;
        partition.append(batch, &config, now_ms)
    }
}
