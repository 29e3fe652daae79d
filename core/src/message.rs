//! What a user schedules, and its parts.

use bytes::Bytes;
use bytestring::ByteString;

/// A record header: name and value as bytes on the wire; `None` is a null value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Mostly a slice of the buffer that the value is in: no allocation of its own.
    pub name: ByteString,
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(name: impl Into<ByteString>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

/// What is delivered byte for byte: key, value and the user's headers in order.
///
/// `None` is Kafka's null, which differs from empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Content {
    /// Bytes of key, value, header names and header values.
    pub fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Bytes::len)).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers
    }
}

/// Where a message goes when it is due.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub topic: Box<str>,
    /// `None`: by the key's murmur2 hash, or at random without a key.
    pub partition: Option<i32>,
}

/// What tells two copies of one message from two messages (design §4.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// One of several tries of a client library; judged only when `number > 1`
    /// or when a marker with its id is remembered.
    Attempt { id: [u8; 16], number: u32, first_at_ms: i64 },
    /// Set by the user; judged always.
    Request(Box<str>),
}
