//! What is settled of an inlet beyond its committed offset (design §4.3).
//!
//! A step (W, E) says: every record with `offset < E` and `key ≤ W` is settled. A
//! record is settled if one step says so. Steps stay true for ever, so a holder
//! needs not know what its predecessors read, and steps made from less reading can
//! stand beside theirs. Kept sorted: E rises, W falls strictly, since a step that
//! another one implies is dropped.
//!
//! Each inlet has its own staircase in its own commit metadata. The keys are those
//! of the whole lane; the ends are the inlet's own, and an inlet that stands still
//! gains no steps while others move.
//!
//! ```text
//! empty                          no steps
//! "1:" base64url of, by step:    E − E before, time before − time, rank u8 (0–2, or 255 for
//!                                the end of the ms, which ends the step), scheduled-at −
//!                                time · 1000, origin, E − offset; varints as in the envelope
//! ```

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::key::Key;
use crate::{
    envelope::{Reader, put_int},
    mutant::{self, Mutant},
};

/// Kafka's `offset.metadata.max.bytes`.
pub const METADATA_LIMIT: usize = 4_096;

const PREFIX: &str = "1:";
/// What fits into the metadata before base64 makes four bytes of three.
const LIMIT: usize = (METADATA_LIMIT - PREFIX.len()) / 4 * 3;
/// The longest step: three 64-bit numbers relative to others, one absolute
/// 32-bit number, a time, a rank.
const STEP_MAX: usize = 10 + 10 + 1 + 10 + 5 + 10;

/// Why a text is not the metadata of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("position metadata has no known version")]
    Version,
    #[error("position metadata is not base64url")]
    Base64,
    #[error("position metadata ends within a step")]
    Truncated,
    #[error("position metadata has a number out of range")]
    Range,
    #[error("position metadata has steps out of order")]
    Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    key: Key,
    end: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Staircase {
    steps: Vec<Step>,
    /// Bytes the steps take before base64.
    len: usize,
}

impl Staircase {
    /// Whether the steps say that the record is settled.
    pub(super) fn settled(&self, offset: i64, key: &Key) -> bool {
        // Of the steps that reach beyond the offset the first has the greatest key.
        let first = self.steps.partition_point(|s| s.end <= offset);
        self.steps.get(first).is_some_and(|s| *key <= s.key)
    }

    /// Adds that of the records below `next` all with a key up to `last` are settled,
    /// and that the first pending one, if any, has the key `pending` (> `last`).
    ///
    /// Any key from `last` to just below `pending` would be right. The smallest is
    /// chosen that makes all those steps superfluous that can be: it is the one that
    /// later steps can make superfluous the most easily.
    pub(super) fn settle(&mut self, last: Key, pending: Option<Key>, next: i64) {
        let below = |key: &Key| pending.is_none_or(|p| *key < p);
        let mut key = Some(Key::end_of(last.time_ms)).filter(below).unwrap_or(last);
        let from = self.steps.partition_point(|s| !below(&s.key));
        let to = self.steps.partition_point(|s| s.end <= next);
        if from < to {
            key = key.max(self.steps[from].key);
            self.steps.drain(from..to);
        }
        let implied = |s: &Step| s.end >= next && s.key >= key;
        // Of the steps that end at `next` or later the first has the greatest key.
        let first = self.steps.partition_point(|s| s.end < next);
        if !self.steps.get(first).is_some_and(implied) {
            self.steps.insert(first, Step { key, end: next });
            if mutant::is_on(Mutant::OneStep) {
                self.steps.retain(|s| s.end == next);
            }
        }
        self.len = self.bytes().len();
    }

    /// Drops the steps that say nothing beyond "all below `offset` is settled".
    pub(super) fn forget_below(&mut self, offset: i64) {
        let gone = self.steps.partition_point(|s| s.end <= offset);
        if gone > 0 {
            self.steps.drain(..gone);
            self.len = self.bytes().len();
        }
    }

    /// Where the reading ended that the longest-reaching step was made from.
    pub(super) fn end(&self) -> Option<i64> {
        self.steps.last().map(|s| s.end)
    }

    /// Whether more may be read before the next step is made.
    ///
    /// Room for two: one for the step that the reading may add, and one because
    /// the last step may grow while nothing is read and each new step replaces it.
    pub(super) fn has_room(&self) -> bool {
        self.len + 2 * STEP_MAX <= LIMIT
    }

    /// The metadata of a commit, at most [`METADATA_LIMIT`] bytes.
    pub(super) fn encode(&self) -> String {
        let mut out = String::new();
        if !self.steps.is_empty() {
            out.push_str(PREFIX);
            BASE64_URL_SAFE_NO_PAD.encode_string(self.bytes(), &mut out);
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(super) fn decode(text: &str) -> Result<Self, DecodeError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let text = text.strip_prefix(PREFIX).ok_or(DecodeError::Version)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| DecodeError::Base64)?;
        let mut rest = Reader(&bytes);
        let mut steps: Vec<Step> = Vec::new();
        while !rest.0.is_empty() {
            let step = read_step(&mut rest, steps.last())?;
            if steps.last().is_some_and(|before| before.end >= step.end || before.key <= step.key) {
                return Err(DecodeError::Order);
            }
            steps.push(step);
        }
        Ok(Self { steps, len: bytes.len() })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len + STEP_MAX);
        let (mut end_before, mut time_before) = (0, 0);
        for Step { key, end } in &self.steps {
            put_int(&mut out, end.wrapping_sub(end_before));
            put_int(&mut out, key.time_ms.wrapping_sub(time_before));
            out.push(key.rank);
            if !key.is_end() {
                put_int(&mut out, key.scheduled_at_us.wrapping_sub(key.time_ms.wrapping_mul(1_000)));
                put_int(&mut out, i64::from(key.origin));
                put_int(&mut out, end.wrapping_sub(key.offset));
            }
            (end_before, time_before) = (*end, key.time_ms);
        }
        out
    }
}

fn read_step(rest: &mut Reader<'_>, before: Option<&Step>) -> Result<Step, DecodeError> {
    let (end_before, time_before) = before.map_or((0, 0), |s| (s.end, s.key.time_ms));
    let end = int(rest)?.wrapping_add(end_before);
    let time_ms = int(rest)?.wrapping_add(time_before);
    let rank = rest.byte().map_err(|_| DecodeError::Truncated)?;
    let key = match rank {
        u8::MAX => Key::end_of(time_ms),
        0..=2 => Key {
            time_ms,
            scheduled_at_us: int(rest)?.wrapping_add(time_ms.wrapping_mul(1_000)),
            origin: int(rest)?.try_into().map_err(|_| DecodeError::Range)?,
            rank,
            offset: end.wrapping_sub(int(rest)?),
        },
        _ => return Err(DecodeError::Range),
    };
    Ok(Step { key, end })
}

fn int(rest: &mut Reader<'_>) -> Result<i64, DecodeError> {
    rest.int().map_err(|e| match e {
        crate::envelope::DecodeError::Truncated => DecodeError::Truncated,
        _ => DecodeError::Range,
    })
}

#[cfg(test)]
impl Staircase {
    /// Number of steps.
    pub(super) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// A staircase as a holder would make it that keeps one step only.
    pub(super) fn only_last(mut self) -> Self {
        self.steps = self.steps.pop().into_iter().collect();
        self.len = self.bytes().len();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(times: impl Strategy<Value = i64>) -> impl Strategy<Value = Key> {
        prop_oneof![
            1 => any::<i64>().prop_map(Key::end_of),
            4 => (times, any::<(i64, u32, i64)>(), 0..3_u8).prop_map(
                |(time_ms, (scheduled_at_us, origin, offset), rank)| Key { time_ms, scheduled_at_us, origin, rank, offset }
            ),
        ]
    }

    fn staircases() -> impl Strategy<Value = Staircase> {
        let keys = prop_oneof![keys(any::<i64>()).boxed(), keys(0..9_i64).boxed()];
        (proptest::collection::vec(keys, 0..20), proptest::collection::btree_set(any::<i64>(), 20)).prop_map(
            |(mut keys, ends)| {
                keys.sort_by(|a, b| b.cmp(a));
                keys.dedup();
                let steps: Vec<_> = keys.into_iter().zip(ends).map(|(key, end)| Step { key, end }).collect();
                let mut stairs = Staircase { steps, len: 0 };
                stairs.len = stairs.bytes().len();
                stairs
            },
        )
    }

    proptest! {
        #[test]
        fn round_trips(stairs in staircases()) {
            prop_assert!(stairs.len <= stairs.steps() * STEP_MAX);
            let text = stairs.encode();
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(Staircase::decode(&text), Ok(stairs));
        }

        #[test]
        fn no_text_panics(text in "(1:)?[A-Za-z0-9_-]{0,60}|\\PC{0,20}") {
            if let Ok(stairs) = Staircase::decode(&text) {
                // Longer forms of a varint are read too, so the text may shorten.
                prop_assert_eq!(Staircase::decode(&stairs.encode()), Ok(stairs));
            }
        }

        #[test]
        fn cut_short_is_refused_or_a_whole_number_of_steps(stairs in staircases()) {
            let bytes = stairs.bytes();
            for end in 0..bytes.len() {
                let text = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(&bytes[..end]));
                if let Ok(cut) = Staircase::decode(&text) {
                    prop_assert_eq!(&cut.steps[..], &stairs.steps[..cut.steps()]);
                }
            }
        }

        /// Losing steps never lengthens the text, on which `has_room` counts.
        #[test]
        fn fewer_steps_are_no_longer(stairs in staircases(), at: prop::sample::Index) {
            prop_assume!(stairs.steps() > 0);
            let mut fewer = stairs.clone();
            fewer.steps.remove(at.index(stairs.steps()));
            prop_assert!(fewer.bytes().len() <= stairs.len);
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let decode = |bytes: &[u8]| Staircase::decode(&format!("1:{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)));
        assert_eq!(Staircase::decode("2:AAAA"), Err(DecodeError::Version));
        assert_eq!(Staircase::decode("1:*"), Err(DecodeError::Base64));
        assert_eq!(decode(&[2, 2]), Err(DecodeError::Truncated));
        assert_eq!(decode(&[2, 2, 3]), Err(DecodeError::Range));
        assert_eq!(decode(&[2, 2, 1, 2, 1, 2]), Err(DecodeError::Range), "negative origin");
        assert_eq!(decode(&[2, 4, 255, 2, 1, 255]).map(|s| s.steps()), Ok(2));
        assert_eq!(decode(&[2, 4, 255, 2, 2, 255]), Err(DecodeError::Order), "key rises");
        assert_eq!(decode(&[2, 4, 255, 0, 1, 255]), Err(DecodeError::Order), "end stands still");
    }
}
