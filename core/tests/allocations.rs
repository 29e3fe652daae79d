//! What one message costs in allocations on its way through a lane, counted exactly: a guard, as
//! time is none (docs/PERFORMANCE.md).

use ksched_core::{
    cluster::Cluster,
    delivered::{deliver, read_envelope, split, store},
    envelope::Envelope,
    message::{Content, Header, Target},
    packed::Packed,
    trace::TraceContext,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const MESSAGES: u64 = 1_000;

/// Blocks allocated by one call of `step` for each message, and what the steps made.
fn blocks<T, U>(all: Vec<T>, step: impl FnMut(T) -> U) -> (u64, Vec<U>) {
    let mut made = Vec::with_capacity(all.len());
    let before = dhat::HeapStats::get().total_blocks;
    made.extend(all.into_iter().map(step));
    ((dhat::HeapStats::get().total_blocks - before) / MESSAGES, made)
}

fn stored(n: u64, trace: Option<TraceContext>) -> Content {
    let envelope = Envelope {
        due_ms: 1_795_000_000_123,
        scheduled_at_us: 1_794_000_000_000_999 + n.cast_signed(),
        origin: 7,
        hops: 0,
        target: Target { topic: "orders".into(), partition: None },
        not_before_ms: None,
        identity: None,
        stamps: false,
        trace,
    };
    let headers = vec![Header::new("trace", "1"), Header::new("kind", "order")];
    store(&envelope, Content { key: Some("key".into()), value: Some(vec![b'x'; 200].into()), headers })
}

/// One test, for the counts are the whole process'.
#[test]
fn of_a_message_through_a_lane() {
    let _profiler = dhat::Profiler::builder().testing().build();
    through_a_lane(None);
    // Recorded in a trace: no more.
    through_a_lane(Some(TraceContext { trace_id: [1; 16], span_id: [2; 8], flags: 1 }));
}

fn through_a_lane(trace: Option<TraceContext>) {
    let cluster = Cluster::default();
    let contents: Vec<_> = (0..MESSAGES).map(|n| stored(n, trace)).collect();
    // Read, as it arrives: the name of the target.
    let (read, contents) = blocks(contents, |content| {
        let envelope = read_envelope(&content);
        (envelope.is_ok(), content)
    });
    assert!(contents.iter().all(|(is_ok, _)| *is_ok));
    // Held: one block for all of it.
    let (held, packed) = blocks(contents, |(_, content)| Packed::pack(&content));
    // Fired: a handle that the parts share, the headers' vector; the envelope's topic.
    let (unpacked, parts) = blocks(packed, |packed| split(packed.unpack()));
    // Our headers: room for them, a buffer of all their values and its handle.
    let (headers, delivered) = blocks(parts, |parts| {
        parts.map(|(envelope, user)| deliver(&cluster, &envelope, 2, user, 1_795_000_000_130))
    });
    let count = 6 + usize::from(trace.is_some());
    assert!(delivered.iter().all(|delivered| delivered.as_ref().is_ok_and(|d| d.headers.len() == count)));
    println!("allocations a message: read {read}, held {held}, unpacked {unpacked}, headers {headers}");
    assert!(read <= 1, "{read} to read");
    assert!(held <= 1, "{held} to hold");
    assert!(unpacked <= 3, "{unpacked} to unpack");
    assert!(headers <= 3, "{headers} to deliver");
}
