//! How messages are read off the wire: as prost does, with two differences for what
//! users send.
//!
//! prost makes a structure of some hundred bytes of every two bytes that stand for an
//! empty item, so that one call of 16 MiB would take gigabytes. What holds too many
//! parts is refused unread. And what cannot be read is the caller's fault
//! (`INVALID_ARGUMENT`), not the server's (`INTERNAL`).

use std::{any::TypeId, collections::HashMap, marker::PhantomData};

use prost::{
    Message,
    bytes::Buf,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tonic::{
    Code, Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};
use tonic_types::{ErrorDetails, StatusExt};

use crate::v1::{BatchScheduleRequest, ScheduleRequest, ScheduleStreamRequest};

/// Most messages and headers in one message: a full batch with 19 headers each.
const MAX_PARTS: usize = 200_000;

/// Writes `T`, reads `U`.
#[derive(Debug)]
pub(crate) struct Bounded<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Bounded<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Bounded<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(PhantomData)
    }
}

/// Reads `U`.
#[derive(Debug)]
pub(crate) struct Reader<U>(PhantomData<U>);

impl<U: Message + Default + 'static> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let path = path_of_parts::<U>();
        // A part takes two bytes at least.
        if bytes.remaining() / 2 > MAX_PARTS && count_parts(bytes.chunk(), path) > MAX_PARTS {
            let text = format!("the message has more than {MAX_PARTS} items and headers");
            return Err(refusal("TOO_MANY_PARTS", text));
        }
        U::decode(bytes).map(Some).map_err(|error| match path {
            [] => Status::internal(error.to_string()),
            _ => refusal("MALFORMED", error.to_string()),
        })
    }
}

fn refusal(reason: &str, text: String) -> Status {
    let details = ErrorDetails::with_error_info(reason, "ksched", HashMap::new());
    Status::with_error_details(Code::InvalidArgument, text, details)
}

/// The fields that lead to what users may repeat; empty for all but their requests.
fn path_of_parts<U: 'static>() -> &'static [u32] {
    let is = |other: TypeId| TypeId::of::<U>() == other;
    if is(TypeId::of::<BatchScheduleRequest>()) {
        &[1, 7]
    } else if is(TypeId::of::<ScheduleStreamRequest>()) {
        &[2, 7]
    } else if is(TypeId::of::<ScheduleRequest>()) {
        &[7]
    } else {
        &[]
    }
}

/// Counts messages within a message as far as the path leads. Ends at what is
/// malformed, which is for prost to tell.
fn count_parts(mut bytes: &[u8], path: &[u32]) -> usize {
    let Some((field, deeper)) = path.split_first() else { return 0 };
    let mut count = 0;
    while let Ok((tag, wire_type)) = decode_key(&mut bytes) {
        if tag != *field || wire_type != WireType::LengthDelimited {
            match skip_field(wire_type, tag, &mut bytes, DecodeContext::default()) {
                Ok(()) => continue,
                Err(_) => break,
            }
        }
        let length = decode_varint(&mut bytes).ok().and_then(|length| usize::try_from(length).ok());
        let Some((part, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else { break };
        count += 1 + count_parts(part, deeper);
        bytes = rest;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Header, schedule_request::RecordValue};

    #[test]
    fn the_paths_lead_to_items_and_headers() {
        let headers = vec![Header { name: "h".to_owned(), header_value: None }; 3];
        let request =
            || ScheduleRequest { topic: "t".to_owned(), headers: headers.clone(), ..Default::default() };
        let count = |bytes: Vec<u8>, path| count_parts(&bytes, path);
        assert_eq!(count(request().encode_to_vec(), path_of_parts::<ScheduleRequest>()), 3);
        let batch = BatchScheduleRequest { requests: vec![request(), ScheduleRequest::default(), request()] };
        assert_eq!(count(batch.encode_to_vec(), path_of_parts::<BatchScheduleRequest>()), 9);
        let item = ScheduleStreamRequest { sequence: 7, request: Some(request()), answers: 1 };
        assert_eq!(count(item.encode_to_vec(), path_of_parts::<ScheduleStreamRequest>()), 4);
        let record_value = Some(RecordValue::Value(batch.encode_to_vec().into()));
        let nested = ScheduleRequest { record_value, ..Default::default() };
        assert_eq!(count(nested.encode_to_vec(), path_of_parts::<ScheduleRequest>()), 0, "a payload");
    }

    #[test]
    fn what_is_malformed_is_counted_as_far_as_it_goes() {
        assert_eq!(count_parts(b"\x0a\x00\x0a\x7f", &[1]), 1);
        assert_eq!(count_parts(b"\x0a\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", &[1]), 1);
        assert_eq!(count_parts(b"\x0b\x0a\x00", &[1]), 0, "a group that never ends");
    }
}
