//! What a lane knows of one of its inlets.

use std::collections::VecDeque;

use super::{
    Arrival, Committed,
    key::Key,
    staircase::{DecodeError, Staircase},
};

/// Whether an inlet may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As memory allows.
    Free,
    /// No: the next commit's metadata would have no room for what was read.
    /// Records that arrive all the same are held back.
    Stopped,
    /// It must: until it is read as far as the last holder had read, nothing can be
    /// taken. It had room in memory for this.
    Needed,
}

#[derive(Debug)]
pub(super) struct Track<P> {
    /// All below is read: settled, or in the heap.
    next: i64,
    /// Offsets in the heap, rising, and whether they have been settled since; the
    /// first one is not.
    unsettled: VecDeque<(i64, bool)>,
    stairs: Staircase,
    /// Records that arrived while reading was stopped, and the position beyond them.
    held: VecDeque<Arrival<P>>,
    held_next: i64,
    /// Turn of the record that was read last.
    pub(super) last_time_ms: i64,
}

impl<P> Track<P> {
    pub(super) fn new(committed: &Committed) -> Result<Self, DecodeError> {
        let mut stairs = Staircase::decode(&committed.metadata)?;
        stairs.forget_below(committed.offset);
        Ok(Self {
            next: committed.offset,
            unsettled: VecDeque::new(),
            stairs,
            held: VecDeque::new(),
            held_next: committed.offset,
            last_time_ms: i64::MIN,
        })
    }

    /// Notes that a record was read; whether it is to be settled still.
    pub(super) fn read(&mut self, offset: i64, key: &Key) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset.saturating_add(1);
        self.last_time_ms = key.time_ms;
        let open = !self.stairs.settled(offset, key);
        if open {
            self.unsettled.push_back((offset, false));
        }
        open
    }

    /// All below is read.
    pub(super) const fn next(&self) -> i64 {
        self.next
    }

    /// Notes that all below `next` was read.
    pub(super) fn read_up_to(&mut self, next: i64) {
        self.held_next = self.held_next.max(next);
        self.catch_up();
    }

    /// Notes what was noted while records were held, once they are not.
    pub(super) fn catch_up(&mut self) {
        if self.reading() != Reading::Stopped && self.held.is_empty() {
            self.next = self.next.max(self.held_next);
        }
    }

    /// Gives the arrival back unless it must be held.
    pub(super) fn hold(&mut self, arrival: Arrival<P>) -> Option<Arrival<P>> {
        if self.reading() != Reading::Stopped && self.held.is_empty() {
            return Some(arrival);
        }
        self.held.push_back(arrival);
        None
    }

    /// What was held and need not be any longer.
    pub(super) fn release(&mut self) -> VecDeque<Arrival<P>> {
        if self.reading() == Reading::Stopped { VecDeque::new() } else { std::mem::take(&mut self.held) }
    }

    pub(super) fn settle(&mut self, offset: i64) {
        if let Ok(at) = self.unsettled.binary_search_by_key(&offset, |(o, _)| *o) {
            self.unsettled[at].1 = true;
        }
        while self.unsettled.front().is_some_and(|(_, settled)| *settled) {
            self.unsettled.pop_front();
        }
    }

    /// Makes a step of what a batch has settled (see [`Staircase::settle`]).
    pub(super) fn step(&mut self, last: Key, pending: Option<Key>) {
        self.stairs.settle(last, pending, self.next);
        self.stairs.forget_below(self.offset());
    }

    /// The smallest unsettled offset.
    pub(super) fn offset(&self) -> i64 {
        self.unsettled.front().map_or(self.next, |(offset, _)| *offset)
    }

    pub(super) fn position(&mut self) -> Committed {
        let offset = self.offset();
        self.stairs.forget_below(offset);
        Committed { offset, metadata: self.stairs.encode() }
    }

    pub(super) fn reading(&self) -> Reading {
        match self.stairs.end() {
            Some(end) if !self.stairs.has_room() && end > self.offset() => {
                if self.next < end {
                    Reading::Needed
                } else {
                    Reading::Stopped
                }
            }
            _ => Reading::Free,
        }
    }
}
