//! The id that Schedule returns and a delivered message carries.
//!
//! It names the lane, the due time and the instant of scheduling, so a later
//! search for the message needs no index: `wheel::route(due, scheduled_at, lane)`
//! is the bucket it was first put into, and `scheduled_at` says where in that
//! bucket's log to begin.

use std::{fmt, str::FromStr};

/// A message's id. 28 characters of URL-safe text: letters, digits, `-`, `_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    pub lane: u16,
    pub due_ms: i64,
    /// Microseconds; strictly increasing at each part that schedules.
    pub scheduled_at_us: i64,
    /// Random number of the process that scheduled it.
    pub origin: u32,
}

/// The text is not an id of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ksched message id")]
pub struct ParseError;

/// First byte of the binary form; a user-chosen id will get another.
const VERSION: u8 = 1;
/// version 1 + lane 2 + due 7 + scheduled-at 7 + origin 4.
const LEN: usize = 21;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl MessageId {
    fn to_bytes(self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[0] = VERSION;
        out[1..3].copy_from_slice(&self.lane.to_be_bytes());
        // 56 bits of milliseconds and of microseconds: until the year 3111.
        out[3..10].copy_from_slice(&self.due_ms.to_be_bytes()[1..]);
        out[10..17].copy_from_slice(&self.scheduled_at_us.to_be_bytes()[1..]);
        out[17..21].copy_from_slice(&self.origin.to_be_bytes());
        out
    }

    fn from_bytes(bytes: [u8; LEN]) -> Result<Self, ParseError> {
        let [version, l0, l1, rest @ ..] = bytes;
        if version != VERSION {
            return Err(ParseError);
        }
        let wide = |from: usize| {
            let mut eight = [0; 8];
            eight[1..].copy_from_slice(&rest[from..from + 7]);
            // Sign-extend the 56-bit number.
            (i64::from_be_bytes(eight) << 8) >> 8
        };
        Ok(Self {
            lane: u16::from_be_bytes([l0, l1]),
            due_ms: wide(0),
            scheduled_at_us: wide(7),
            origin: u32::from_be_bytes([rest[14], rest[15], rest[16], rest[17]]),
        })
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; LEN / 3 * 4];
        for (three, four) in self.to_bytes().chunks(3).zip(text.chunks_mut(4)) {
            let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
            for (place, out) in four.iter_mut().enumerate() {
                *out = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            }
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for MessageId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() != LEN / 3 * 4 {
            return Err(ParseError);
        }
        let mut bytes = [0; LEN];
        for (four, three) in text.as_bytes().chunks(4).zip(bytes.chunks_mut(3)) {
            let mut bits = 0_u32;
            for c in four {
                let digit = ALPHABET.iter().position(|a| a == c).ok_or(ParseError)?;
                bits = bits << 6 | digit as u32;
            }
            three.copy_from_slice(&bits.to_be_bytes()[1..]);
        }
        Self::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(lane: u16, due_ms in -(1_i64 << 55)..(1 << 55), scheduled_at_us in 0_i64..(1 << 55), origin: u32) {
            let id = MessageId { lane, due_ms, scheduled_at_us, origin };
            prop_assert_eq!(id.to_string().parse::<MessageId>(), Ok(id));
            prop_assert_eq!(id.to_string().len(), 28);
        }

        #[test]
        fn refuses_or_round_trips_any_text(text in "\\PC{0,40}|[A-Za-z0-9_-]{28}") {
            if let Ok(id) = text.parse::<MessageId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
