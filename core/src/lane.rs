//! The due lane: what fires next, what is settled, what is committed, which copies
//! are one (design §4.3, §4.5, §5).
//!
//! A lane's holder hands the records of the three inlets over ([`Lane::arrive`]),
//! asks for a batch of what is due ([`Lane::take`]) and does what its entries say,
//! all in one transaction with the batch's positions and markers. Taking a batch
//! settles it: if the transaction does not end cleanly, the whole [`Lane`] is dropped
//! and a new one is made from the committed positions, which re-reads the inlets.
//! So nothing in here is ever rolled back.
//!
//! Every record is settled in exactly one committed batch, whatever the caps, late
//! arrivals, clocks and take-overs; the property test in `lane/model.rs` is the judge.

mod dedupe;
mod inlet;
mod key;
mod marker;
#[cfg(test)]
mod model;
mod staircase;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, collections::BinaryHeap};

pub use self::{
    dedupe::{Answer, Lookup},
    inlet::Reading,
    marker::{DecodeError as MarkerDecodeError, Marker, MarkerId},
    staircase::{DecodeError, METADATA_LIMIT},
};
use self::{
    dedupe::{Judgement, Memory},
    inlet::Track,
    key::{Key, rank},
};
use crate::{cluster::INLETS, message::Identity, wheel::Inlet};

/// Markers forgotten with one batch at most, so that no batch is made of deletions.
const FORGOTTEN_MAX: usize = 1_000;
/// What a record costs in the lane besides its own bytes, its box and its slot in the
/// heap: its offset, its id as a first attempt, the allocator's own, and what growing
/// tables leave unused.
const OVERHEAD: usize = 150;

/// What all holders of a lane must agree on.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A record appended earlier than this before its due time, in ms, goes back to the
    /// wheel. Part of the lane's order: the same for the cluster's life.
    pub far_ahead_ms: i64,
    /// How long it is remembered that a message was handled, in ms.
    pub window_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { far_ahead_ms: 60_000, window_ms: 600_000 }
    }
}

/// A position in one inlet, as committed: text of at most [`METADATA_LIMIT`] bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    pub metadata: String,
}

/// A record read from an inlet. All but size and payload must be told by the record
/// alone, whoever reads it.
#[derive(Clone, Debug)]
pub struct Arrival<P> {
    pub inlet: Inlet,
    pub offset: i64,
    /// When it was appended (`LogAppendTime`).
    pub timestamp_ms: i64,
    /// [`effective_due_ms`](crate::envelope::Envelope::effective_due_ms), or
    /// the time of the append for what has no readable envelope.
    pub due_ms: i64,
    pub scheduled_at_us: i64,
    pub origin: u32,
    pub identity: Option<Identity>,
    /// Hash of what a request id stands for (target, due time, content); looked at
    /// only with a request id.
    pub body_hash: u64,
    /// Bytes it holds in memory, for [`Lane::bytes`] and [`Cap`].
    pub size: usize,
    pub payload: P,
}

/// The most one batch may hold. One entry is always taken, however large.
#[derive(Clone, Copy, Debug)]
pub struct Cap {
    pub count: usize,
    pub bytes: usize,
}

/// What the holder wants with a due message that is no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Fire it, or dead-letter it: either way it is handled.
    Fire,
    /// Its target takes nothing now: settle it and append it again.
    PutOff,
    /// Leave it in the lane, and end the batch here.
    Stop,
}

/// What settles a record, all in the batch's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// As the gate said: append it to its target or to the dead-letter topic.
    Fire,
    /// As the gate said: append it to the intake inlet, unchanged but for its not-before.
    PutOff,
    /// The same, because a [`Lookup`] is not answered yet.
    AwaitAnswer,
    /// Append it to where the wheel routes it now, unchanged.
    ReturnToWheel,
    /// Nothing: another copy is handled, or will be.
    Duplicate,
    /// Append it to the dead-letter topic: its request id was used for another body.
    Conflict,
}

/// A settled record.
#[derive(Clone, Debug)]
pub struct Entry<P> {
    pub inlet: Inlet,
    pub offset: i64,
    pub action: Action,
    pub payload: P,
}

/// What one transaction does.
#[derive(Clone, Debug)]
pub struct Batch<P> {
    /// In the lane's order; at least one.
    pub entries: Vec<Entry<P>>,
    /// Markers to delete from the control partition, before `markers` are written.
    pub forgotten: Vec<MarkerId>,
    /// Markers to write to the control partition.
    pub markers: Vec<Marker>,
    /// To commit, by number of the inlet.
    pub positions: [Committed; INLETS],
}

/// One due lane in the hands of one holder.
#[derive(Debug)]
pub struct Lane<P> {
    settings: Settings,
    tracks: [Track<P>; INLETS],
    heap: BinaryHeap<Pending<P>>,
    memory: Memory,
    bytes: usize,
    /// Offsets of the positions given out last.
    given: [i64; INLETS],
}

/// A slot of the heap. Slots are small, because a heap that grows leaves half of them
/// unused and each step of a record through it moves one.
#[derive(Debug)]
struct Pending<P> {
    key: Key,
    record: Box<Unsettled<P>>,
}

#[derive(Debug)]
struct Unsettled<P> {
    inlet: Inlet,
    due_ms: i64,
    identity: Option<Identity>,
    body_hash: u64,
    size: usize,
    payload: P,
}

impl<P> Lane<P> {
    /// The lane as the last commit left it. Reading goes on at the positions' offsets.
    ///
    /// # Errors
    /// Metadata that no holder wrote: the lane must stop with an alarm.
    pub fn new(
        positions: &[Committed; INLETS],
        settings: Settings,
        now_ms: i64,
    ) -> Result<Self, DecodeError> {
        let [direct, intake, promoted] = positions;
        Ok(Self {
            settings,
            tracks: [Track::new(direct)?, Track::new(intake)?, Track::new(promoted)?],
            heap: BinaryHeap::new(),
            memory: Memory::new(settings.window_ms, now_ms),
            bytes: 0,
            given: [direct.offset, intake.offset, promoted.offset],
        })
    }

    /// Takes note of a marker read from the control partition, before the first batch.
    /// Of several with one id the last counts, and none if that was deleted.
    ///
    /// It is kept for a whole window from now on, however old it is: copies that were
    /// accepted within its window may have waited unread all the while.
    pub fn remember(&mut self, marker: Marker) {
        self.memory.remember(marker);
    }

    /// Takes a record over. Those of one inlet come in order of their offsets.
    pub fn arrive(&mut self, arrival: Arrival<P>) {
        self.bytes = self.bytes.saturating_add(weight::<P>(arrival.size));
        if let Some(arrival) = self.tracks[arrival.inlet as usize].hold(arrival) {
            self.admit(arrival);
        }
    }

    /// Takes note that all records of an inlet below `next` have been handed over, and
    /// that there are no others: `next` is the consumer's position, past
    /// transaction markers and aborted records.
    pub fn read_up_to(&mut self, inlet: Inlet, next: i64) {
        self.tracks[inlet as usize].read_up_to(next);
    }

    /// Whether an inlet may be read. Changes only with [`take`](Self::take) and,
    /// while `Needed`, with reading.
    pub fn reading(&self, inlet: Inlet) -> Reading {
        self.tracks[inlet as usize].reading()
    }

    /// The inlets, that one first whose last record read is the furthest from due: it
    /// is the first to be paused when memory runs short, the last to be resumed.
    pub fn furthest_from_due(&self) -> [Inlet; INLETS] {
        let mut inlets = Inlet::ALL;
        inlets.sort_by_key(|i| std::cmp::Reverse(self.tracks[*i as usize].last_time_ms));
        inlets
    }

    /// When [`take`](Self::take) will have something to give, Unix ms; `None` if more
    /// has to be read first.
    pub fn next_due_ms(&self) -> Option<i64> {
        if self.must_read() { None } else { self.heap.peek().map(|p| p.key.time_ms) }
    }

    /// The record that is the next to be settled, as far as has been read.
    pub fn first(&self) -> Option<&P> {
        self.heap.peek().map(|first| &first.record.payload)
    }

    /// Number of unsettled records read.
    pub fn pending(&self) -> usize {
        self.heap.len()
    }

    /// Offsets read beyond the positions given out last that nothing waits at: what is settled out of turn, and
    /// transactions' markers.
    pub fn settled_beyond(&self) -> u64 {
        let read =
            |(track, given): (&Track<P>, &i64)| track.next().saturating_sub(*given).max(0).unsigned_abs();
        let read: u64 = self.tracks.iter().zip(&self.given).map(read).sum();
        read.saturating_sub(self.heap.len() as u64)
    }

    /// Bytes held by records, those held back included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of markers remembered.
    pub fn markers(&self) -> usize {
        self.memory.markers()
    }

    /// Questions that have arisen since the last call. Each is to be answered,
    /// however long it takes; asking often makes for few messages put off.
    pub fn lookups(&mut self) -> Vec<Lookup> {
        self.memory.lookups()
    }

    /// Answers the [`Lookup`] of this attempt id.
    pub fn lookup_answer(&mut self, id: [u8; 16], answer: Answer) {
        self.memory.answer(id, answer);
    }

    /// Settles what is due at `now_ms`, in order, up to the cap. `None` if there is nothing.
    ///
    /// `gate` is asked once for each message that is due and no copy. It must not change
    /// its mind: a marker says that the message is handled.
    pub fn take(&mut self, now_ms: i64, cap: Cap, mut gate: impl FnMut(&P) -> Gate) -> Option<Batch<P>> {
        self.memory.set_now(now_ms);
        if self.must_read() {
            return None;
        }
        let mut batch =
            Batch { entries: vec![], forgotten: vec![], markers: vec![], positions: Default::default() };
        let mut last = None;
        let mut room = cap.bytes;
        while let Some(first) = self.heap.peek().filter(|p| p.key.time_ms <= now_ms) {
            let full = batch.entries.len() >= cap.count || first.record.size > room;
            if full && !batch.entries.is_empty() {
                break;
            }
            let Some(action) = decide(&mut self.memory, first, now_ms, &mut gate) else { break };
            let Some(first) = self.heap.pop() else { break };
            if action == Action::Fire
                && let Some(identity) = &first.record.identity
            {
                batch.markers.extend(self.memory.handled(identity, first.record.body_hash));
            }
            room = room.saturating_sub(first.record.size);
            last = Some(first.key);
            batch.entries.push(self.settle(first, action));
        }
        let pending = self.heap.peek().map(|p| p.key);
        for track in &mut self.tracks {
            track.step(last?, pending);
        }
        // With something due left, copies of what is to be forgotten may be among it.
        if pending.is_none_or(|key| key.time_ms > now_ms) {
            batch.forgotten = self.memory.forget(FORGOTTEN_MAX);
        }
        batch.positions = self.positions();
        self.release();
        // A burst must not hold its memory for ever.
        if self.heap.capacity() / 8 > self.heap.len().max(1_000) {
            self.heap.shrink_to(2 * self.heap.len());
        }
        Some(batch)
    }

    /// Positions to commit, if they have moved since those given out last. Reading may
    /// move them with nothing to settle, past transaction markers for instance;
    /// committed now and then, an idle inlet does not look behind.
    pub fn moved(&mut self) -> Option<[Committed; INLETS]> {
        let offsets = self.tracks.each_ref().map(Track::offset);
        (offsets != self.given).then(|| self.positions())
    }

    /// Positions to commit, moved or not: Kafka forgets those that nobody commits.
    pub fn positions(&mut self) -> [Committed; INLETS] {
        let positions = self.tracks.each_mut().map(Track::position);
        self.given = positions.each_ref().map(|p| p.offset);
        positions
    }

    fn must_read(&self) -> bool {
        self.tracks.iter().any(|t| t.reading() == Reading::Needed)
    }

    fn admit(&mut self, arrival: Arrival<P>) {
        let far = arrival.due_ms.saturating_sub(arrival.timestamp_ms) > self.settings.far_ahead_ms;
        let key = Key {
            time_ms: if far { arrival.timestamp_ms } else { arrival.due_ms },
            scheduled_at_us: arrival.scheduled_at_us,
            origin: arrival.origin,
            rank: rank(arrival.inlet),
            offset: arrival.offset,
        };
        if !self.tracks[arrival.inlet as usize].read(arrival.offset, &key) {
            self.bytes = self.bytes.saturating_sub(weight::<P>(arrival.size));
            return;
        }
        if let Some(identity) = &arrival.identity {
            self.memory.enter(identity);
        }
        let Arrival { inlet, due_ms, identity, body_hash, size, payload, .. } = arrival;
        let record = Box::new(Unsettled { inlet, due_ms, identity, body_hash, size, payload });
        self.heap.push(Pending { key, record });
    }

    fn settle(&mut self, pending: Pending<P>, action: Action) -> Entry<P> {
        let (offset, record) = (pending.key.offset, *pending.record);
        if let Some(identity) = &record.identity {
            self.memory.leave(identity);
        }
        self.bytes = self.bytes.saturating_sub(weight::<P>(record.size));
        self.tracks[record.inlet as usize].settle(offset);
        Entry { inlet: record.inlet, offset, action, payload: record.payload }
    }

    /// Admits what had to be held while the metadata had no room.
    fn release(&mut self) {
        for inlet in Inlet::ALL {
            for arrival in self.tracks[inlet as usize].release() {
                self.admit(arrival);
            }
            self.tracks[inlet as usize].catch_up();
        }
    }
}

/// What to do with the first message of the heap; `None`: nothing now.
fn decide<P>(
    memory: &mut Memory,
    first: &Pending<P>,
    now_ms: i64,
    gate: &mut impl FnMut(&P) -> Gate,
) -> Option<Action> {
    // Far ahead of its due time, or its turn would not have come.
    let record = &first.record;
    if record.due_ms > now_ms {
        return Some(Action::ReturnToWheel);
    }
    match record.identity.as_ref().map_or(Judgement::New, |i| memory.judge(i, record.body_hash)) {
        Judgement::Copy => Some(Action::Duplicate),
        Judgement::Conflict => Some(Action::Conflict),
        Judgement::Unknown => Some(Action::AwaitAnswer),
        Judgement::New => match gate(&record.payload) {
            Gate::Fire => Some(Action::Fire),
            Gate::PutOff => Some(Action::PutOff),
            Gate::Stop => None,
        },
    }
}

/// Bytes that a record of this size takes in the lane.
const fn weight<P>(size: usize) -> usize {
    size.saturating_add(2 * size_of::<Pending<P>>() + size_of::<Unsettled<P>>() + OVERHEAD)
}

/// By key, the smallest on top of the heap.
impl<P> Ord for Pending<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key.cmp(&self.key)
    }
}

impl<P> PartialOrd for Pending<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> Eq for Pending<P> {}

impl<P> PartialEq for Pending<P> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
