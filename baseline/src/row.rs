//! A message as the table keeps it.

use bytes::{Buf as _, BufMut as _, Bytes};
use ksched_core::message::{Content, Header};

/// Length of a null value.
const NULL: u32 = u32::MAX;

/// A message to be delivered at its due time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Milliseconds since the epoch.
    pub due_ms: i64,
    pub topic: String,
    /// `None`: by the key.
    pub partition: Option<i32>,
    pub content: Content,
}

/// All headers in one column: in order, doubles and nulls included. Each is the length of its name
/// and the name, the length of its value and the value; lengths in four bytes.
pub(crate) fn encode_headers(headers: &[Header]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(NULL);
    let mut bytes = Vec::new();
    for header in headers {
        bytes.put_u32(length(header.name.as_bytes()));
        bytes.put_slice(header.name.as_bytes());
        bytes.put_u32(header.value.as_deref().map_or(NULL, length));
        bytes.put_slice(header.value.as_deref().unwrap_or_default());
    }
    bytes
}

/// `None` if that is not what was written.
pub(crate) fn decode_headers(mut bytes: Bytes) -> Option<Vec<Header>> {
    let mut headers = Vec::new();
    while bytes.has_remaining() {
        let length = bytes.try_get_u32().ok()?;
        let name = std::str::from_utf8(&take(&mut bytes, length)?).ok()?.into();
        let value = match bytes.try_get_u32().ok()? {
            NULL => None,
            length => Some(take(&mut bytes, length)?),
        };
        headers.push(Header { name, value });
    }
    Some(headers)
}

fn take(bytes: &mut Bytes, length: u32) -> Option<Bytes> {
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
    Some(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        let headers = vec![
            Header::new("a", "1"),
            Header { name: "a".into(), value: None },
            Header::new("", ""),
            Header::new("ü", vec![0, 255]),
        ];
        let bytes = encode_headers(&headers);
        assert_eq!(decode_headers(bytes.clone().into()), Some(headers));
        assert_eq!(decode_headers(Bytes::new()), Some(Vec::new()));
        let whole = [9, 16, 24];
        for cut in (1..bytes.len()).filter(|cut| !whole.contains(cut)) {
            // Either the cut shows, or it is between two headers.
            let read = decode_headers(bytes[..cut].to_vec().into());
            assert!(read.is_none_or(|read| encode_headers(&read).len() == cut), "cut at {cut}");
        }
    }
}
