//! Which messages are copies of one another (design §4.5).
//!
//! A message is handled once it is fired, or dead-lettered in its turn. What is
//! known of that:
//!
//! - A **marker** is written in the transaction that handles a message with a
//!   request id, or one that is known to be retried. It outlives the holder.
//! - The **first** attempt of a message is handled without one, or nothing would be
//!   saved. But it stays in the inlet for some minutes, and a first attempt in an
//!   inlet either is handled or will be: it can only be put off or sent back to the
//!   wheel by appending it again in the same transaction. So a later attempt is a
//!   copy if and only if it is marked or its first attempt stands in an inlet. That
//!   is looked up, by someone else, while the attempt is put off.
//! - Attempts are known to be retried from the moment that a later one arrives. A first
//!   attempt that arrives after the look-up is therefore marked when it is handled.

use std::collections::{HashMap, HashSet, VecDeque};

use super::marker::{Marker, MarkerId};
use crate::{
    message::Identity,
    mutant::{self, Mutant},
};

/// A question to the lane's inlets: does a record of attempt number 1 (or 0) with
/// this id stand in any of them, settled or not?
///
/// All three are to be read, from about `first_at_ms` (by append time, with a
/// margin for the client's clock) or where they begin now, to their stable ends as
/// asked for *after* the lookup was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub id: [u8; 16],
    pub first_at_ms: i64,
}

/// What a [`Lookup`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Found,
    Absent,
}

/// What to do with a message because of its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    New,
    Copy,
    /// A copy by its request id, yet it says something else.
    Conflict,
    /// Not known until a lookup is answered.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Memory {
    window_ms: i64,
    now_ms: i64,
    markers: HashMap<MarkerId, Kept>,
    marked: VecDeque<(i64, MarkerId)>,
    /// Attempt ids of which a later attempt has arrived.
    retried: HashMap<[u8; 16], Retried>,
    noticed: VecDeque<(i64, [u8; 16])>,
    /// First attempts in the heap.
    firsts: HashSet<[u8; 16]>,
    lookups: Vec<Lookup>,
}

#[derive(Debug)]
struct Kept {
    body_hash: u64,
    at_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retried {
    /// The first attempt was in the heap then.
    Unasked,
    Asked,
    Answered(Answer),
}

impl Memory {
    pub(super) fn new(window_ms: i64, now_ms: i64) -> Self {
        Self {
            window_ms,
            now_ms,
            markers: HashMap::new(),
            marked: VecDeque::new(),
            retried: HashMap::new(),
            noticed: VecDeque::new(),
            firsts: HashSet::new(),
            lookups: Vec::new(),
        }
    }

    pub(super) fn set_now(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    pub(super) fn remember(&mut self, marker: Marker) {
        self.marked.push_back((self.now_ms, marker.id.clone()));
        self.markers.insert(marker.id, Kept { body_hash: marker.body_hash, at_ms: self.now_ms });
    }

    /// A message enters the heap.
    pub(super) fn enter(&mut self, identity: &Identity) {
        let Identity::Attempt { id, number, first_at_ms } = identity else { return };
        if is_first(*number) {
            self.firsts.insert(*id);
        } else if !self.retried.contains_key(id) && !self.markers.contains_key(&MarkerId::Attempt(*id)) {
            self.noticed.push_back((self.now_ms, *id));
            self.retried.insert(*id, Retried::Unasked);
            if !self.firsts.contains(id) {
                self.ask(*id, *first_at_ms);
            }
        }
    }

    /// A message leaves the heap.
    pub(super) fn leave(&mut self, identity: &Identity) {
        if let Identity::Attempt { id, number, .. } = identity
            && is_first(*number)
        {
            self.firsts.remove(id);
        }
    }

    pub(super) fn judge(&mut self, identity: &Identity, body_hash: u64) -> Judgement {
        if mutant::is_on(Mutant::NoDedupe) {
            return Judgement::New;
        }
        match (identity, self.markers.get(&MarkerId::of(identity))) {
            (Identity::Attempt { .. }, Some(_)) => Judgement::Copy,
            (Identity::Attempt { number, .. }, None) if is_first(*number) => Judgement::New,
            (Identity::Attempt { id, first_at_ms, .. }, None) => self.judge_retry(*id, *first_at_ms),
            (Identity::Request(_), None) => Judgement::New,
            (Identity::Request(_), Some(kept)) if kept.body_hash == body_hash => Judgement::Copy,
            (Identity::Request(_), Some(_)) => Judgement::Conflict,
        }
    }

    fn judge_retry(&mut self, id: [u8; 16], first_at_ms: i64) -> Judgement {
        match self.retried.get(&id) {
            Some(Retried::Answered(Answer::Found)) => Judgement::Copy,
            Some(Retried::Answered(Answer::Absent)) => Judgement::New,
            // The first attempt will find the marker that this one leaves.
            _ if self.firsts.contains(&id) => Judgement::New,
            Some(Retried::Asked) => Judgement::Unknown,
            known => {
                if known.is_none() {
                    self.noticed.push_back((self.now_ms, id));
                }
                self.ask(id, first_at_ms);
                Judgement::Unknown
            }
        }
    }

    fn ask(&mut self, id: [u8; 16], first_at_ms: i64) {
        self.retried.insert(id, Retried::Asked);
        self.lookups.push(Lookup { id, first_at_ms });
    }

    pub(super) fn lookups(&mut self) -> Vec<Lookup> {
        std::mem::take(&mut self.lookups)
    }

    pub(super) fn answer(&mut self, id: [u8; 16], answer: Answer) {
        // Forgotten questions stay so: what has arrived since was not watched.
        if let Some(retried @ Retried::Asked) = self.retried.get_mut(&id) {
            *retried = Retried::Answered(answer);
        }
    }

    /// A message is handled in this batch; the marker to write with it.
    pub(super) fn handled(&mut self, identity: &Identity, body_hash: u64) -> Option<Marker> {
        if let Identity::Attempt { id, number, .. } = identity
            && is_first(*number)
            && !self.retried.contains_key(id)
        {
            return None;
        }
        let marker = Marker { id: MarkerId::of(identity), body_hash };
        self.remember(marker.clone());
        Some(marker)
    }

    /// Forgets what is older than the window; up to `most` markers to delete.
    pub(super) fn forget(&mut self, most: usize) -> Vec<MarkerId> {
        let limit_ms = self.now_ms.saturating_sub(self.window_ms);
        while let Some((_, id)) = pop_before(&mut self.noticed, limit_ms) {
            // A question is kept until it is answered, or a late answer might be
            // taken for that to a later question.
            if self.retried.get(&id) == Some(&Retried::Asked) {
                self.noticed.push_back((self.now_ms, id));
            } else {
                self.retried.remove(&id);
            }
        }
        let mut forgotten = Vec::new();
        while forgotten.len() < most
            && let Some((at_ms, id)) = pop_before(&mut self.marked, limit_ms)
        {
            // It may have been marked anew since.
            if self.markers.get(&id).is_some_and(|kept| kept.at_ms == at_ms) {
                self.markers.remove(&id);
                forgotten.push(id);
            }
        }
        forgotten
    }

    pub(super) fn markers(&self) -> usize {
        self.markers.len()
    }
}

fn is_first(number: u32) -> bool {
    number <= 1
}

fn pop_before<T>(aged: &mut VecDeque<(i64, T)>, limit_ms: i64) -> Option<(i64, T)> {
    if aged.front().is_some_and(|(at_ms, _)| *at_ms < limit_ms) { aged.pop_front() } else { None }
}
