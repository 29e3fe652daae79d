//! The compact binary header a message carries inside ksched.
//!
//! Inside ksched a record is: the user's key and value untouched, one header
//! [`NAME`] with the bytes below, then the user's headers untouched, in order.
//!
//! ```text
//! version u8 = 1 | flags u8 | due_ms varint | scheduled_at_us varint | origin u32
//! | hops varint | topic length varint, topic
//! | [partition varint] | [not_before_ms varint] | [attempt id 16, number varint, first_at_ms varint]
//! | [request id length varint, request id] | [trace id 16, span id 8, trace flags u8]
//! ```
//!
//! Varints are zigzag LEB128. Flags say which optional parts follow. An unknown
//! version or flag is an error, never ignored: a newer ksched wrote it.

use crate::{
    id::MessageId,
    message::{Identity, Target},
    trace::TraceContext,
};

/// Name of the header.
pub const NAME: &str = "ks";

const VERSION: u8 = 1;
const PARTITION: u8 = 1;
const NOT_BEFORE: u8 = 2;
const ATTEMPT: u8 = 4;
const REQUEST: u8 = 8;
const STAMPS: u8 = 16;
/// A ksched from before it refuses it (docs/OPERATIONS.md, Traces).
const TRACE: u8 = 32;
const TRACE_BYTES: usize = 16 + 8 + 1;
const KNOWN: u8 = PARTITION | NOT_BEFORE | ATTEMPT | REQUEST | STAMPS | TRACE;

/// What ksched knows of a message besides its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub due_ms: i64,
    pub scheduled_at_us: i64,
    pub origin: u32,
    /// Promotions so far.
    pub hops: u32,
    pub target: Target,
    /// Set when the message was put off: not to be tried before this instant.
    pub not_before_ms: Option<i64>,
    pub identity: Option<Identity>,
    /// Came in with the earlier system's headers, so it is delivered with its stamps.
    pub stamps: bool,
    /// The span of its scheduling if that is recorded, else its caller's: 25 bytes more.
    pub trace: Option<TraceContext>,
}

/// Why bytes are not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("envelope ends early")]
    Truncated,
    #[error("envelope has bytes after its end")]
    Trailing,
    #[error("envelope version {0} is not known")]
    Version(u8),
    #[error("envelope flags {0:#010b} are not known")]
    Flags(u8),
    #[error("envelope number out of range")]
    Range,
    #[error("envelope text is not UTF-8")]
    Utf8,
}

impl Envelope {
    /// The id of the message, given the lane (told by the partition it is in).
    pub fn id(&self, lane: u16) -> MessageId {
        MessageId { lane, due_ms: self.due_ms, scheduled_at_us: self.scheduled_at_us, origin: self.origin }
    }

    /// The instant before which nothing is to be done with the message, in ms.
    pub fn effective_due_ms(&self) -> i64 {
        self.not_before_ms.map_or(self.due_ms, |t| t.max(self.due_ms))
    }

    /// The bytes of the header.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.trace.map_or(0, |_| TRACE_BYTES));
        let (identity_flag, attempt, request) = match &self.identity {
            None => (0, None, None),
            Some(Identity::Attempt { id, number, first_at_ms }) => {
                (ATTEMPT, Some((id, *number, *first_at_ms)), None)
            }
            Some(Identity::Request(id)) => (REQUEST, None, Some(id)),
        };
        out.push(VERSION);
        out.push(
            identity_flag
                | if self.target.partition.is_some() { PARTITION } else { 0 }
                | if self.not_before_ms.is_some() { NOT_BEFORE } else { 0 }
                | if self.stamps { STAMPS } else { 0 }
                | if self.trace.is_some() { TRACE } else { 0 },
        );
        put_int(&mut out, self.due_ms);
        put_int(&mut out, self.scheduled_at_us);
        out.extend_from_slice(&self.origin.to_be_bytes());
        put_int(&mut out, i64::from(self.hops));
        put_text(&mut out, &self.target.topic);
        if let Some(partition) = self.target.partition {
            put_int(&mut out, i64::from(partition));
        }
        if let Some(not_before) = self.not_before_ms {
            put_int(&mut out, not_before);
        }
        if let Some((id, number, first_at)) = attempt {
            out.extend_from_slice(id);
            put_int(&mut out, i64::from(number));
            put_int(&mut out, first_at);
        }
        if let Some(id) = request {
            put_text(&mut out, id);
        }
        if let Some(trace) = &self.trace {
            out.extend_from_slice(&trace.trace_id);
            out.extend_from_slice(&trace.span_id);
            out.push(trace.flags);
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Any bytes that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut rest = Reader(bytes);
        let version = rest.byte()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let flags = rest.byte()?;
        if flags & !KNOWN != 0 || flags & ATTEMPT != 0 && flags & REQUEST != 0 {
            return Err(DecodeError::Flags(flags));
        }
        let due_ms = rest.int()?;
        let scheduled_at_us = rest.int()?;
        let origin = u32::from_be_bytes(rest.array()?);
        let hops = rest.narrow()?;
        let topic = rest.text()?;
        let partition = if flags & PARTITION == 0 { None } else { Some(rest.narrow()?) };
        let not_before_ms = if flags & NOT_BEFORE == 0 { None } else { Some(rest.int()?) };
        let identity = if flags & ATTEMPT != 0 {
            Some(Identity::Attempt { id: rest.array()?, number: rest.narrow()?, first_at_ms: rest.int()? })
        } else if flags & REQUEST != 0 {
            Some(Identity::Request(rest.text()?))
        } else {
            None
        };
        let trace = if flags & TRACE == 0 {
            None
        } else {
            Some(TraceContext { trace_id: rest.array()?, span_id: rest.array()?, flags: rest.byte()? })
        };
        if !rest.0.is_empty() {
            return Err(DecodeError::Trailing);
        }
        Ok(Self {
            due_ms,
            scheduled_at_us,
            origin,
            hops,
            target: Target { topic, partition },
            not_before_ms,
            identity,
            stamps: flags & STAMPS != 0,
            trace,
        })
    }
}

/// Appends a zigzag LEB128 number, at most ten bytes.
pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_int(out, text.len() as i64);
    out.extend_from_slice(text.as_bytes());
}

/// A cursor over bytes that checks every step.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(crate) fn int(&mut self) -> Result<i64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            // `put_int` writes no more bytes than it must.
            if shift == 63 && byte > 1 || shift > 0 && byte == 0 {
                return Err(DecodeError::Range);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        Err(DecodeError::Range)
    }

    fn narrow<T: TryFrom<i64>>(&mut self) -> Result<T, DecodeError> {
        T::try_from(self.int()?).map_err(|_| DecodeError::Range)
    }

    fn text(&mut self) -> Result<Box<str>, DecodeError> {
        let length: usize = self.narrow()?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(std::str::from_utf8(text).map_err(|_| DecodeError::Utf8)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identities() -> impl Strategy<Value = Option<Identity>> {
        prop_oneof![
            Just(None),
            (any::<[u8; 16]>(), any::<u32>(), any::<i64>())
                .prop_map(|(id, number, first_at_ms)| Some(Identity::Attempt { id, number, first_at_ms })),
            "\\PC{0,30}".prop_map(|id| Some(Identity::Request(id.into()))),
        ]
    }

    prop_compose! {
        fn envelopes()(
            due_ms: i64, scheduled_at_us: i64, origin: u32, hops: u32,
            topic in "[a-z.]{1,30}", partition: Option<i32>, not_before_ms: Option<i64>,
            identity in identities(), stamps: bool, trace: Option<([u8; 16], [u8; 8], u8)>,
        ) -> Envelope {
            let trace = trace.map(|(trace_id, span_id, flags)| TraceContext { trace_id, span_id, flags });
            Envelope {
                due_ms, scheduled_at_us, origin, hops,
                target: Target { topic: topic.into(), partition },
                not_before_ms, identity, stamps, trace,
            }
        }
    }

    proptest! {
        #[test]
        fn round_trips(envelope in envelopes()) {
            prop_assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
        }

        #[test]
        fn cut_short_or_lengthened_is_refused(envelope in envelopes(), extra: u8) {
            let mut bytes = envelope.encode();
            for end in 0..bytes.len() {
                prop_assert!(Envelope::decode(&bytes[..end]).is_err());
            }
            bytes.push(extra);
            prop_assert_eq!(Envelope::decode(&bytes), Err(DecodeError::Trailing));
        }

    }

    #[test]
    fn is_small() {
        let envelope = Envelope {
            due_ms: 1_795_000_000_000,
            scheduled_at_us: 1_795_000_000_000_000,
            origin: u32::MAX,
            hops: 0,
            target: Target { topic: "orders.retries".into(), partition: None },
            not_before_ms: None,
            identity: Some(Identity::Attempt { id: [7; 16], number: 1, first_at_ms: 1_795_000_000_000 }),
            stamps: false,
            trace: None,
        };
        // bench.md allows 64 bytes for our headers inside.
        assert!(NAME.len() + envelope.encode().len() <= 64, "{}", envelope.encode().len());
    }

    #[test]
    fn a_trace_is_added_behind_and_without_one_nothing_changes() {
        let target = Target { topic: "t".into(), partition: None };
        let plain = Envelope {
            due_ms: 1,
            scheduled_at_us: 2,
            origin: 7,
            hops: 0,
            target,
            not_before_ms: None,
            identity: None,
            stamps: false,
            trace: None,
        };
        // As it was written before there were traces.
        let bytes = [1, 0, 2, 4, 0, 0, 0, 7, 0, 2, b't'];
        assert_eq!(plain.encode(), bytes);
        let context = TraceContext { trace_id: [0xaa; 16], span_id: [0xbb; 8], flags: 1 };
        let traced = Envelope { trace: Some(context), ..plain };
        let mut expected = bytes.to_vec();
        expected[1] = TRACE;
        expected.extend([[0xaa; 8], [0xaa; 8], [0xbb; 8]].concat());
        expected.push(1);
        assert_eq!(traced.encode(), expected);
    }
}
