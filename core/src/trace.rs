//! W3C trace context: which span stands for the scheduling of a message.
//!
//! <https://www.w3.org/TR/trace-context/#traceparent-header>

use std::fmt;

use crate::message::Header;

/// Name of the header that carries it, in gRPC metadata and in Kafka records.
pub const HEADER: &str = "traceparent";

/// Of the header's value.
pub(crate) const TEXT_BYTES: usize = 55;

const SAMPLED: u8 = 1;

/// A span, as others refer to it. `tracestate` is not carried: it is a vendor's, and would
/// cost each message up to half a kilobyte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub flags: u8,
}

impl TraceContext {
    /// Reads a header's value. What is malformed is nothing, as the standard wants it:
    /// nobody's message fails for it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let [v0, v1, b'-', rest @ ..] = text else { return None };
        let version = byte(*v0, *v1)?;
        // Later versions may add parts behind; 255 is no version.
        let (known, more) = rest.split_at_checked(52)?;
        let is_whole = if version == 0 { more.is_empty() } else { more.first().is_none_or(|b| *b == b'-') };
        if version == 255 || !is_whole || known[32] != b'-' || known[49] != b'-' {
            return None;
        }
        let context = Self {
            trace_id: hex(&known[..32])?,
            span_id: hex(&known[33..49])?,
            // Flags that are not known are not handed on, as W3C wants it.
            flags: byte(known[50], known[51])? & SAMPLED,
        };
        (context.trace_id != [0; 16] && context.span_id != [0; 8]).then_some(context)
    }

    /// The trace that it is in, as log lines and backends write it.
    pub fn trace_id_hex(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace_id))
    }

    /// Whether who made the span records it.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// A message's own header of that name, the first if there are several.
pub fn header_of(headers: &[Header]) -> Option<&Header> {
    headers.iter().find(|header| &*header.name == HEADER)
}

/// The span that a message's own header names.
pub fn of(headers: &[Header]) -> Option<TraceContext> {
    header_of(headers)?.value.as_deref().and_then(TraceContext::parse)
}

/// As the header's value.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", self.flags)
    }
}

fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte_of, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte_of = byte(pair[0], pair[1])?;
    }
    Some(bytes)
}

fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_standard_allows_is_read_and_nothing_else() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let parse = |text: &str| TraceContext::parse(text.as_bytes());
        let context = parse(&format!("00-{trace}-{span}-01")).unwrap();
        assert_eq!(context.to_string(), format!("00-{trace}-{span}-01"));
        assert_eq!(context.trace_id_hex(), trace);
        assert!(context.is_sampled());
        assert!(!parse(&format!("00-{trace}-{span}-00")).unwrap().is_sampled());
        assert!(parse(&format!("01-{trace}-{span}-01-more")).is_some());
        assert_eq!(parse(&format!("01-{trace}-{span}-ff")).unwrap(), context, "flags of later versions");
        let zeros = "0".repeat(32);
        for wrong in [
            String::new(),
            format!("00-{trace}-{span}-01-more"),
            format!("01-{trace}-{span}-01more"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{zeros}-{span}-01"),
            format!("00-{trace}-{}-01", &zeros[..16]),
            format!("00-{trace}-{span}"),
            format!("00_{trace}-{span}-01"),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            let _ = TraceContext::parse(&bytes);
        }
    }
}
