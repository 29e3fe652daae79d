//! A record's content in one allocation, for the many that wait in memory at once.
//!
//! As a [`Content`] a message costs its bytes, the handle that its parts share, and 32 bytes
//! and more for each part: for messages of some hundred bytes more than the
//! message itself, and that is what bounds how many a worker can hold.

use bytes::{Buf as _, Bytes};
use bytestring::ByteString;

use crate::message::{Content, Header};

/// Length of a part that is null, not empty.
const NULL: u32 = u32::MAX;
/// Of the length in front of each part.
const LENGTH: usize = size_of::<u32>();

/// What [`pack`](Self::pack) made of a content: key, value, then name and value of each
/// header, each behind its length.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed(Bytes);

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Packed").field(&self.0.len()).finish()
    }
}

impl Packed {
    /// Copies a content. Parts are shorter than 4 GiB: Kafka's own limit is half of that.
    pub fn pack(content: &Content) -> Self {
        let parts = 2 + 2 * content.headers.len();
        let mut bytes = Vec::with_capacity(content.size() + LENGTH * parts);
        let mut add = |part: Option<&[u8]>| {
            let length = part.map_or(NULL, |part| u32::try_from(part.len()).unwrap_or(NULL - 1));
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(part.unwrap_or_default());
        };
        add(content.key.as_deref());
        add(content.value.as_deref());
        for Header { name, value } in &content.headers {
            add(Some(name.as_bytes()));
            add(value.as_deref());
        }
        Self(bytes.into())
    }

    /// Bytes it takes in memory, besides itself and its allocation.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// The content that was packed; its parts share the buffer.
    pub fn unpack(&self) -> Content {
        let mut rest = self.0.clone();
        let mut take = || {
            let length = u32::from_le_bytes(*rest.first_chunk::<LENGTH>()?);
            rest.advance(LENGTH);
            Some((length != NULL).then(|| rest.split_to(rest.len().min(length as usize))))
        };
        let (key, value) = (take().flatten(), take().flatten());
        let mut headers = Vec::new();
        while let Some(name) = take() {
            let name = name.and_then(|name| ByteString::try_from(name).ok()).unwrap_or_default();
            headers.push(Header { name, value: take().flatten() });
        }
        Content { key, value, headers }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        option::of(vec(any::<u8>(), 0..20).prop_map(Bytes::from))
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out_again(
            key in bytes(),
            value in bytes(),
            headers in vec((".{0,5}", bytes()), 0..5),
        ) {
            let header = |(name, value): (String, _)| Header { name: name.into(), value };
            let content = Content { key, value, headers: headers.into_iter().map(header).collect() };
            let packed = Packed::pack(&content);
            prop_assert_eq!(packed.size(), content.size() + LENGTH * (2 + 2 * content.headers.len()));
            prop_assert_eq!(packed.unpack(), content);
        }
    }
}
