//! Users' requests as they come off the wire, turned into the core's.

use ksched_core::{
    message::{Content, Header},
    validate::{self, Attempt, Reason, Request, Violation, When},
};
use ksched_proto::v1;
use prost_types::Timestamp;
use v1::{
    header::HeaderValue,
    schedule_request::{self, RecordKey, RecordValue},
};

use super::Error;

/// Takes a request over, bytes uncopied, together with what is wrong with it so far:
/// wire forms that the core's types cannot even express.
///
/// # Errors
/// A field is set that is not built yet (design §8: refused, never ignored).
pub(super) fn convert(request: v1::ScheduleRequest, now_ms: i64) -> Result<(Request, Vec<Violation>), Error> {
    refuse_what_is_not_built(&request)?;
    let mut faults = Vec::new();
    let mut note = |field: &'static str, result: Result<i64, Reason>| {
        result.map_err(|reason| faults.push(Violation { field: field.into(), reason })).ok()
    };
    // Now stands in for what is faulty, so that the rest is checked too.
    let when = request.when.map(|when| match when {
        schedule_request::When::DueTime(at) => {
            When::Due(note("due_time", timestamp_ms(&at)).unwrap_or(now_ms))
        }
        schedule_request::When::Delay(span) => {
            When::Delay(note("delay", validate::duration_ms(span.seconds, span.nanos)).unwrap_or(0))
        }
    });
    let attempt = request.attempt.map(|attempt| Attempt {
        id: attempt.id,
        number: attempt.number,
        first_at_ms: note("attempt.first_at", first_at_ms(attempt.first_at.as_ref())).unwrap_or(now_ms),
    });
    let converted = Request {
        topic: request.topic.into(),
        partition: request.partition,
        content: Content {
            key: request.record_key.map(|key| match key {
                RecordKey::Key(bytes) => bytes,
                RecordKey::KeyText(text) => text.into(),
            }),
            value: request.record_value.map(|value| match value {
                RecordValue::Value(bytes) => bytes,
                RecordValue::ValueText(text) => text.into(),
            }),
            headers: request.headers.into_iter().map(header).collect(),
        },
        when,
        request_id: Some(request.request_id).filter(|id| !id.is_empty()).map(Into::into),
        attempt,
    };
    Ok((converted, faults))
}

fn refuse_what_is_not_built(request: &v1::ScheduleRequest) -> Result<(), Error> {
    let field = if !request.id.is_empty() {
        "id"
    } else if request.max_lateness.is_some() {
        "max_lateness"
    } else if request.late_policy != v1::LatePolicy::Unspecified as i32 {
        "late_policy"
    } else {
        return Ok(());
    };
    Err(Error::NotBuilt { field })
}

fn header(header: v1::Header) -> Header {
    Header {
        name: header.name.into(),
        value: header.header_value.map(|value| match value {
            HeaderValue::Value(bytes) => bytes,
            HeaderValue::ValueText(text) => text.into(),
        }),
    }
}

fn timestamp_ms(at: &Timestamp) -> Result<i64, Reason> {
    validate::timestamp_ms(at.seconds, at.nanos)
}

/// When the first try was sent. How far off it is, is judged with the window of tries.
fn first_at_ms(at: Option<&Timestamp>) -> Result<i64, Reason> {
    let at = at.ok_or(Reason::AttemptFirstAtMissing)?;
    match timestamp_ms(at) {
        Err(Reason::DueOutOfRange) => Ok(at.seconds.saturating_mul(1_000)),
        judged => judged,
    }
}

/// Whole milliseconds as the wire's timestamp.
pub(super) fn timestamp(ms: i64) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1_000), nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32 }
}

/// About what a request holds of memory and of the way to Kafka, in bytes.
pub(super) fn weight(request: &v1::ScheduleRequest) -> usize {
    /// Structures around a message, here and in librdkafka.
    const OVERHEAD: usize = 512;
    let key = match &request.record_key {
        Some(RecordKey::Key(bytes)) => bytes.len(),
        Some(RecordKey::KeyText(text)) => text.len(),
        None => 0,
    };
    let value = match &request.record_value {
        Some(RecordValue::Value(bytes)) => bytes.len(),
        Some(RecordValue::ValueText(text)) => text.len(),
        None => 0,
    };
    let headers = request.headers.iter().map(|h| {
        let value = match &h.header_value {
            Some(HeaderValue::Value(bytes)) => bytes.len(),
            Some(HeaderValue::ValueText(text)) => text.len(),
            None => 0,
        };
        h.name.len() + value + 64
    });
    OVERHEAD + key + value + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use ksched_core::{
        cluster::Cluster,
        validate::{Door, Limits, Stamp},
    };
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    const NOW_MS: i64 = 1_795_000_000_000;

    /// Decodes, converts and checks as the placer does.
    fn judge(bytes: &[u8]) -> Result<(), TestCaseError> {
        let Ok(request) = v1::ScheduleRequest::decode(bytes) else { return Ok(()) };
        let key = request.record_key.clone();
        prop_assert!(weight(&request) >= 512);
        let Ok((request, faults)) = convert(request, NOW_MS) else { return Ok(()) };
        let (cluster, limits) = (Cluster::default(), Limits::default());
        let stamp = Stamp { scheduled_at_us: 1, origin: 7 };
        let asked = request.content.clone();
        if let Ok(accepted) = (Door { cluster: &cluster, limits: &limits }).accept(request, NOW_MS, stamp)
            && faults.is_empty()
        {
            prop_assert_eq!(&accepted.content, &asked);
            prop_assert_eq!(accepted.content.key.is_some(), key.is_some());
            let at = timestamp(accepted.envelope.due_ms);
            prop_assert_eq!(timestamp_ms(&at), Ok(accepted.envelope.due_ms));
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_bytes_are_refused_or_taken_as_they_are(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            judge(&bytes)?;
        }

        #[test]
        fn a_damaged_request_is_refused_or_taken_as_it_is(
            seconds: i64, nanos: i32, delay: bool, number: u32, first_at: Option<i64>, partition: Option<i32>,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let when = if delay {
                schedule_request::When::Delay(prost_types::Duration { seconds, nanos })
            } else {
                schedule_request::When::DueTime(Timestamp { seconds, nanos })
            };
            let first_at = first_at.map(|seconds| Timestamp { seconds, nanos: 0 });
            let request = v1::ScheduleRequest {
                topic: "orders".to_owned(),
                partition,
                record_key: Some(RecordKey::KeyText("k".to_owned())),
                headers: vec![v1::Header { name: "h".to_owned(), header_value: None }],
                when: Some(when),
                attempt: Some(v1::Attempt { id: vec![3; 16].into(), number, first_at }),
                ..Default::default()
            };
            let mut bytes = request.encode_to_vec();
            for (at, by) in damage {
                let at = at.index(bytes.len());
                bytes[at] ^= by;
            }
            judge(&bytes)?;
        }
    }
}
