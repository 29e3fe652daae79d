//! Markers of handled messages, as they stand in the lane's control partition.
//!
//! ```text
//! key    version u8 = 1 | kind u8: 1 attempt, 2 request | attempt id 16, or request id UTF-8
//! value  version u8 = 1 | body hash u64; null once the marker is forgotten
//! ```

use crate::message::Identity;

const VERSION: u8 = 1;
const ATTEMPT: u8 = 1;
const REQUEST: u8 = 2;

/// Says that a message with this identity was handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    pub id: MarkerId,
    /// Hash of the body that was handled; of no meaning for attempts.
    pub body_hash: u64,
}

/// What the copies of a message have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MarkerId {
    Attempt([u8; 16]),
    Request(Box<str>),
}

/// Why bytes are not a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("marker ends early or late")]
    Length,
    #[error("marker version {0} is not known")]
    Version(u8),
    /// The control record is of another kind.
    #[error("control record kind {0} is not a marker's")]
    Kind(u8),
    #[error("marker's request id is not UTF-8")]
    Utf8,
}

impl MarkerId {
    pub(super) fn of(identity: &Identity) -> Self {
        match identity {
            Identity::Attempt { id, .. } => Self::Attempt(*id),
            Identity::Request(id) => Self::Request(id.clone()),
        }
    }

    /// The control record's key. With a null value it deletes the marker.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, id) = match self {
            Self::Attempt(id) => (ATTEMPT, id.as_slice()),
            Self::Request(id) => (REQUEST, id.as_bytes()),
        };
        let mut out = Vec::with_capacity(2 + id.len());
        out.extend_from_slice(&[VERSION, kind]);
        out.extend_from_slice(id);
        out
    }

    /// Reads a control record's key.
    ///
    /// # Errors
    /// Any bytes that [`encode`](Self::encode) does not write.
    pub fn decode(key: &[u8]) -> Result<Self, DecodeError> {
        let [version, kind, id @ ..] = key else { return Err(DecodeError::Length) };
        match (*version, *kind) {
            (VERSION, ATTEMPT) => Ok(Self::Attempt(id.try_into().map_err(|_| DecodeError::Length)?)),
            (VERSION, REQUEST) => {
                Ok(Self::Request(std::str::from_utf8(id).map_err(|_| DecodeError::Utf8)?.into()))
            }
            (VERSION, kind) => Err(DecodeError::Kind(kind)),
            (version, _) => Err(DecodeError::Version(version)),
        }
    }
}

impl Marker {
    /// The control record's value.
    pub fn value(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.body_hash.to_be_bytes());
        out
    }

    /// Reads a control record.
    ///
    /// # Errors
    /// Any bytes that [`MarkerId::encode`] and [`value`](Self::value) do not write.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let id = MarkerId::decode(key)?;
        match value {
            [VERSION, hash @ ..] => {
                let hash = hash.try_into().map_err(|_| DecodeError::Length)?;
                Ok(Self { id, body_hash: u64::from_be_bytes(hash) })
            }
            [version, ..] => Err(DecodeError::Version(*version)),
            [] => Err(DecodeError::Length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn markers() -> impl Strategy<Value = Marker> {
        let ids = prop_oneof![
            any::<[u8; 16]>().prop_map(MarkerId::Attempt),
            "\\PC{0,40}".prop_map(|id| MarkerId::Request(id.into())),
        ];
        (ids, any::<u64>()).prop_map(|(id, body_hash)| Marker { id, body_hash })
    }

    proptest! {
        #[test]
        fn round_trips(marker in markers()) {
            prop_assert_eq!(Marker::decode(&marker.id.encode(), &marker.value()), Ok(marker));
        }

        #[test]
        fn any_bytes_are_refused_or_round_trip(
            key in prop_oneof![any::<Vec<u8>>(), any::<Vec<u8>>().prop_map(|v| [&[1, 2], &v[..]].concat())],
            value in prop_oneof![any::<Vec<u8>>(), any::<[u8; 8]>().prop_map(|v| [&[1], &v[..]].concat())],
        ) {
            if let Ok(marker) = Marker::decode(&key, &value) {
                prop_assert_eq!((marker.id.encode(), marker.value()), (key, value));
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(MarkerId::decode(&[1]), Err(DecodeError::Length));
        assert_eq!(MarkerId::decode(&[1, 1, 0]), Err(DecodeError::Length));
        assert_eq!(MarkerId::decode(&[2, 1]), Err(DecodeError::Version(2)));
        assert_eq!(MarkerId::decode(&[1, 3]), Err(DecodeError::Kind(3)));
        assert_eq!(MarkerId::decode(&[1, 2, 0xff]), Err(DecodeError::Utf8));
        assert_eq!(Marker::decode(&[1, 2], &[]), Err(DecodeError::Length));
        assert_eq!(Marker::decode(&[1, 2], &[7]), Err(DecodeError::Version(7)));
    }
}
