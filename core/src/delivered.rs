//! Records on their way: how a message is stored inside ksched, and the readable
//! headers it is delivered with.
//!
//! | added header | value (UTF-8) | with |
//! | --- | --- | --- |
//! | `ksched-id` | the id that Schedule returned | `all`, `id` |
//! | `ksched-due` | due time, epoch ms | `all` |
//! | `ksched-scheduled-at` | when it was scheduled, epoch ms | `all` |
//! | `ksched-hops` | promotions through the wheel | `all` |
//! | `__sm_mh_timestamp` | when it was scheduled, epoch ms | stamps |
//! | `__sm_job_id` | name of the lane job that fired it, `lane/0` | stamps |
//! | `__sm_worker_timestamp` | when it was fired, epoch ms | stamps |
//! | `__sm_message_hopcount` | promotions through the wheel | stamps |
//! | `traceparent` | the span of its scheduling, or its caller's, [W3C](trace) | `all`, `id`: if one of them is known, and the user's headers hold none |
//!
//! The stamps are the earlier system's. They are added when the cluster says so
//! and to messages that came in with that system's headers.

use std::fmt::Write as _;

use bytes::BytesMut;
use bytestring::ByteString;

use crate::{
    cluster::{Cluster, DeliveredHeaders},
    envelope::{self, DecodeError, Envelope},
    message::{Content, Header},
    trace,
};

/// Of all values that a delivered message has added, about; a `traceparent` is extra.
const VALUES_BYTES: usize = 160;

/// Why a record on one of our topics is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    #[error("first header is not {}", envelope::NAME)]
    NoEnvelope,
    #[error("{0}")]
    Envelope(#[from] DecodeError),
}

/// The record that stands for a message inside ksched: the user's content with
/// the envelope as its first header.
pub fn store(envelope: &Envelope, user: Content) -> Content {
    let mut stored = user;
    stored.headers.insert(0, Header::new(ByteString::from_static(envelope::NAME), envelope.encode()));
    stored
}

/// Reads the envelope of a stored record.
///
/// # Errors
/// The record was not made by [`store`], or by a newer ksched.
pub fn read_envelope(stored: &Content) -> Result<Envelope, NotStored> {
    let first = stored.headers.first().filter(|header| &*header.name == envelope::NAME);
    let bytes = first.and_then(|header| header.value.as_ref()).ok_or(NotStored::NoEnvelope)?;
    Ok(Envelope::decode(bytes)?)
}

/// Splits a stored record into its envelope and the user's content. No payload
/// is copied.
///
/// # Errors
/// As [`read_envelope`].
pub fn split(stored: Content) -> Result<(Envelope, Content), NotStored> {
    let envelope = read_envelope(&stored)?;
    let mut user = stored;
    user.headers.remove(0);
    Ok((envelope, user))
}

/// The record that reaches the target: the user's content, with our headers
/// behind the user's own. `fired_at_ms` is the fire time.
pub fn deliver(
    cluster: &Cluster,
    envelope: &Envelope,
    lane: u16,
    user: Content,
    fired_at_ms: i64,
) -> Content {
    let mut delivered = user;
    let headers = &mut delivered.headers;
    let scheduled_at_ms = envelope.scheduled_at_us.div_euclid(1_000);
    let added = envelope.trace.filter(|_| cluster.delivered_headers != DeliveredHeaders::None);
    // The user's own stays what it is: by it a consumer joins the trace that the schedule span is in.
    let traceparent = added.filter(|_| trace::header_of(headers).is_none());
    headers.reserve(8 + usize::from(traceparent.is_some()));
    // All values in one buffer.
    let values_bytes = VALUES_BYTES + traceparent.map_or(0, |_| trace::TEXT_BYTES);
    let mut values = BytesMut::new();
    let mut add = |name: &'static str, value: std::fmt::Arguments<'_>| {
        if values.capacity() == 0 {
            values.reserve(values_bytes);
        }
        // Into memory: it cannot fail.
        let _ = values.write_fmt(value);
        headers.push(Header::new(ByteString::from_static(name), values.split().freeze()));
    };
    match cluster.delivered_headers {
        DeliveredHeaders::All => {
            add("ksched-id", format_args!("{}", envelope.id(lane)));
            add("ksched-due", format_args!("{}", envelope.due_ms));
            add("ksched-scheduled-at", format_args!("{scheduled_at_ms}"));
            add("ksched-hops", format_args!("{}", envelope.hops));
        }
        DeliveredHeaders::Id => add("ksched-id", format_args!("{}", envelope.id(lane))),
        DeliveredHeaders::None => {}
    }
    if let Some(context) = traceparent {
        add(trace::HEADER, format_args!("{context}"));
    }
    if cluster.compat_stamps || envelope.stamps {
        add("__sm_mh_timestamp", format_args!("{scheduled_at_ms}"));
        add("__sm_job_id", format_args!("lane/{lane}"));
        add("__sm_worker_timestamp", format_args!("{fired_at_ms}"));
        add("__sm_message_hopcount", format_args!("{}", envelope.hops));
    }
    delivered
}

#[cfg(test)]
mod tests;
