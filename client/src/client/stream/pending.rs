//! What is on the wire without an answer, by the wire's sequence numbers.

use std::{collections::VecDeque, time::Instant};

use ksched_proto::v1;

/// A message on its way.
#[derive(Debug)]
pub(super) struct Entry {
    /// The sender's number.
    pub(super) sequence: u64,
    pub(super) request: v1::ScheduleRequest,
    /// When it was first tried.
    pub(super) begun_at: Instant,
    /// Whether an earlier attempt may have scheduled it.
    pub(super) may_have_happened: bool,
}

impl Entry {
    pub(super) fn new(sequence: u64, request: v1::ScheduleRequest) -> Self {
        Self { sequence, request, begun_at: Instant::now(), may_have_happened: false }
    }

    /// The deadline counts from now: until here it only waited for its turn.
    pub(super) fn begun(mut self) -> Self {
        self.begun_at = Instant::now();
        self
    }
}

/// Entries in the order they were sent on the connection at hand.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// `None` where one out of turn was settled.
    sent: VecDeque<Option<(Instant, Entry)>>,
    /// Wire sequences settled before the front of `sent`.
    before: u64,
    len: usize,
    answers: u64,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many have been answered, over all connections.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// Adds an entry; its sequence on the wire, from 1 on each connection.
    pub(super) fn push(&mut self, entry: Entry) -> u64 {
        self.sent.push_back(Some((Instant::now(), entry)));
        self.len += 1;
        self.before + self.sent.len() as u64
    }

    /// The entry that a result is about, once.
    pub(super) fn take(&mut self, wire_sequence: u64) -> Option<Entry> {
        let index = usize::try_from(wire_sequence.checked_sub(self.before + 1)?).ok()?;
        let (_, entry) = self.sent.get_mut(index)?.take()?;
        self.len -= 1;
        self.answers += 1;
        self.drop_settled();
        Some(entry)
    }

    /// The first entry at or before this sequence.
    pub(super) fn take_up_to(&mut self, wire_sequence: u64) -> Option<Entry> {
        // After `drop_settled` the front, if any, is unsettled.
        if self.before >= wire_sequence { None } else { self.take(self.before + 1) }
    }

    /// Since when the oldest one waits for its answer.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.sent.front().and_then(|slot| slot.as_ref()).map(|(at, _)| *at)
    }

    /// All entries in order; the next connection counts from 1 again.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry> + use<> {
        self.before = 0;
        self.len = 0;
        std::mem::take(&mut self.sent).into_iter().flatten().map(|(_, entry)| entry)
    }

    fn drop_settled(&mut self) {
        while matches!(self.sent.front(), Some(None)) {
            self.sent.pop_front();
            self.before += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(count: u64) -> Pending {
        let mut pending = Pending::default();
        for sequence in 0..count {
            let wire = pending.push(Entry::new(sequence, v1::ScheduleRequest::default()));
            assert_eq!(wire, sequence + 1);
        }
        pending
    }

    #[test]
    fn settles_out_of_turn_and_up_to() {
        let mut pending = pending(5);
        assert_eq!(pending.take(3).map(|e| e.sequence), Some(2));
        assert!(pending.take(3).is_none(), "an answer counts once");
        let rest: Vec<_> = std::iter::from_fn(|| pending.take_up_to(4)).map(|e| e.sequence).collect();
        assert_eq!(rest, [0, 1, 3]);
        assert!(pending.take(0).is_none() && pending.take(9).is_none());
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn a_new_connection_counts_from_one() {
        let mut pending = pending(3);
        pending.take(2);
        let left: Vec<_> = pending.drain().collect();
        assert_eq!(left.iter().map(|e| e.sequence).collect::<Vec<_>>(), [0, 2]);
        for (entry, wire) in left.into_iter().zip(1..) {
            assert_eq!(pending.push(entry), wire);
        }
        assert_eq!(pending.len(), 2);
    }
}
