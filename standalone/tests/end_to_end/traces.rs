//! The trace of a message from its caller's span to what its consumer reads, as the collector
//! has it: the processes are real, and send their spans by OTLP.

use std::time::Duration;

use ksched_core::trace::{self, TraceContext};
use ksched_proto::v1;
use ksched_telemetry::traces::receiver::Received;
use tonic::Request;

use crate::{
    bed::{Bed, block_on, eventually, now_ms},
    catch::{Catch, Caught},
    intake::kcat,
    table,
};

/// Spans are sent each 200 ms.
const WITHIN: Duration = Duration::from_secs(10);
/// Far enough ahead that each message is promoted.
const AHEAD: Duration = Duration::from_secs(20);

/// `Schedule`, with the caller's span in gRPC's metadata.
pub(crate) fn of_a_call(bed: &Bed) {
    let scenario = "traces::of_a_call";
    let topic = bed.target(scenario);
    let catch = Catch::start(bed, &topic);
    let (caller, begun_ms) = (sampled(1), now_ms());
    let schedule = |value: &str, caller: Option<TraceContext>| {
        let delay = prost_types::Duration { seconds: AHEAD.as_secs() as i64, nanos: 0 };
        let mut request = Request::new(v1::ScheduleRequest {
            topic: topic.clone(),
            record_value: Some(v1::schedule_request::RecordValue::ValueText(value.to_owned())),
            when: Some(v1::schedule_request::When::Delay(delay)),
            ..Default::default()
        });
        if let Some(caller) = caller {
            request.metadata_mut().insert(trace::HEADER, caller.to_string().parse().unwrap());
        }
        block_on(bed.scheduler(0).schedule(request)).unwrap().into_inner().id
    };
    let id = schedule("recorded", Some(caller));
    let unrecorded = TraceContext { flags: 0, ..sampled(2) };
    schedule("of a caller who records nothing", Some(unrecorded));
    schedule("of a caller without a span", None);
    let called_ms = now_ms();
    let caught = catch.wait_for(3, AHEAD + WITHIN, |_| true);
    assert_eq!(caught.len(), 3);
    let of = |value: &str| caught.iter().find(|caught| caught.value() == value).expect(value);
    assert_eq!(traceparent(of("of a caller who records nothing")), unrecorded, "as it came");
    assert_eq!(of("of a caller without a span").header(trace::HEADER), None);
    let recorded = of("recorded");
    let joined = traceparent(recorded);
    assert_eq!(joined.trace_id, caller.trace_id, "a consumer joins the caller's trace");

    let call = span(bed, "the call", |span| span.parent == Some(caller.span_id));
    assert_eq!((call.name.as_str(), call.kind.as_str()), ("ksched.v1.Scheduler/Schedule", "server"));
    assert_eq!((call.context.trace_id, call.service.as_str()), (caller.trace_id, "ksched-server"));
    assert_eq!(call.attribute("rpc.grpc.status_code"), "0");
    assert_eq!(call.attribute("service.instance.id"), "coordinator-1");
    let schedule = span(bed, "its scheduling", |span| span.context == joined);
    assert_eq!(schedule.name, format!("schedule {topic}"));
    assert_eq!((schedule.parent, schedule.kind.as_str()), (Some(call.context.span_id), "producer"));
    assert_eq!(schedule.attribute("messaging.message.id"), id);
    assert_eq!(schedule.attribute("messaging.destination.name"), topic);
    let is_append = |span: &Received| span.name == "append" && span.parent == Some(call.context.span_id);
    let append = span(bed, "the append", is_append);
    let (drains, fire) = moves(bed, joined, recorded);
    assert!(spans(bed).iter().all(|span| span.context.trace_id != unrecorded.trace_id));
    for span in [&call, &schedule, &append].into_iter().chain(&drains).chain([&fire]) {
        table::note(scenario, span.to_string());
    }

    // A drain's lease has ended with it, and began with its take-over.
    let drain = drains.first().expect("a drain");
    let is_its = |span: &Received| span.attribute("ksched.job") == drain.attribute("ksched.job");
    let lease = span(bed, "the drain's lease", |span| {
        span.name == "lease" && is_its(span) && (span.began_ns..=span.ended_ns).contains(&drain.began_ns)
    });
    assert_eq!((lease.attribute("ksched.outcome"), lease.service.as_str()), ("done", "ksched-worker"));
    let is_take_over =
        |span: &Received| span.name == "take over" && span.parent == Some(lease.context.span_id);
    let take_over = span(bed, "its take-over", is_take_over);
    assert!(take_over.ended_ns <= drain.ended_ns, "{take_over} and {drain}");

    let Some(file) = std::env::var_os("KSCHED_SPANS") else { return };
    // What the two ends would have recorded: the caller's span, and a consumer's that joins.
    let end = |name: &str, context: TraceContext, parent: Option<[u8; 8]>, from_ms: i64, to_ms: i64| {
        let [began_ns, ended_ns] = [from_ms, to_ms].map(|ms| ms.unsigned_abs() * 1_000_000);
        let (service, name) = ("this test".to_owned(), name.to_owned());
        let kind = if parent.is_some() { "consumer" } else { "client" }.to_owned();
        let (attributes, links) = (Default::default(), Vec::new());
        Received {
            service,
            name,
            kind,
            context,
            parent,
            began_ns,
            ended_ns,
            attributes,
            links,
            ..call.clone()
        }
    };
    let consumer = TraceContext { span_id: [9; 8], ..joined };
    let ends = [
        end("caller", caller, None, begun_ms, called_ms),
        end("consumer", consumer, Some(joined.span_id), recorded.at_ms, recorded.at_ms + 1),
    ];
    let ours = [&call, &schedule, &append, &lease, &take_over, &fire].into_iter().chain(&drains);
    let all: Vec<_> = ends.iter().chain(ours).map(json).collect();
    std::fs::write(file, serde_json::to_string_pretty(&all).unwrap()).unwrap();
}

/// For `scripts/trace-picture`.
fn json(span: &Received) -> serde_json::Value {
    let id = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    serde_json::json!({
        "service": span.service,
        "name": span.name,
        "kind": span.kind,
        "trace_id": span.context.trace_id_hex(),
        "span_id": id(&span.context.span_id),
        "parent_span_id": span.parent.map(|parent| id(&parent)),
        "links": span.links.iter().map(|link| id(&link.span_id)).collect::<Vec<_>>(),
        "start_unix_nano": span.began_ns,
        "end_unix_nano": span.ended_ns,
        "attributes": span.attributes,
    })
}

/// Messages with a `traceparent` among their headers, by both doors: it is part of what is
/// delivered, byte for byte.
pub(crate) fn of_records_that_bring_one(bed: &Bed) {
    let topic = bed.target("traces::of_records_that_bring_one");
    let catch = Catch::start(bed, &topic);
    let (by_intake, by_call) = (sampled(3), sampled(4));
    let (to, delay) = (format!("ksched-topic={topic}"), format!("ksched-delay={}s", AHEAD.as_secs()));
    let header = format!("{}={by_intake}", trace::HEADER);
    kcat(bed, &["-H", &to, "-H", &delay, "-H", &header, "-H", "after=1"], "by a record");
    let message = ksched_client::Message::new(topic.clone())
        .value("by a call")
        .header(trace::HEADER, by_call.to_string())
        .due_ms(now_ms() + AHEAD.as_millis() as i64);
    block_on(bed.client().schedule(message)).unwrap();

    let caught = catch.wait_for(2, AHEAD + WITHIN, |_| true);
    assert_eq!(caught.len(), 2);
    for (value, brought) in [("by a record", by_intake), ("by a call", by_call)] {
        let caught = caught.iter().find(|caught| caught.value() == value).expect(value);
        let all = caught.content.headers.iter().filter(|header| &*header.name == trace::HEADER).count();
        assert_eq!((traceparent(caught), all), (brought, 1), "{value}");
        assert_eq!(&*caught.user_headers()[0].name, trace::HEADER, "where it was");
        let schedule = span(bed, "the scheduling", |span| span.parent == Some(brought.span_id));
        assert_eq!(schedule.name, format!("schedule {topic}"));
        assert_eq!(schedule.context.trace_id, brought.trace_id);
        moves(bed, schedule.context, caught);
        if value == "by a record" {
            assert_eq!(schedule.service, "ksched-worker");
            let is_intake = |span: &Received| {
                span.name == "intake SCHEDULED_MESSAGES" && span.links.contains(&schedule.context)
            };
            let intake = span(bed, "the intake", is_intake);
            assert_eq!(intake.attribute("messaging.destination.name"), "SCHEDULED_MESSAGES");
        }
    }
}

/// The drains and the batch that moved a message, by their links to its scheduling.
fn moves(bed: &Bed, scheduled: TraceContext, caught: &Caught) -> (Vec<Received>, Received) {
    let is_linked = |span: &Received| span.links.contains(&scheduled);
    let fire = span(bed, "the batch", |span| span.name == "fire" && is_linked(span));
    assert_eq!((fire.kind.as_str(), fire.parent), ("client", None));
    assert_ne!(fire.context.trace_id, scheduled.trace_id, "linked, no child");
    assert_eq!(fire.attribute("ksched.job"), format!("lane/{}", caught.lane()));
    assert_eq!(fire.attribute("messaging.system"), "kafka");
    let hops = caught.hops() as usize;
    assert!(hops > 0, "it was to be promoted");
    let drains = eventually("a drain for each hop", WITHIN, || {
        let all = spans(bed);
        let drains: Vec<_> = all
            .into_iter()
            .filter(|span| span.name.starts_with("drain ksched.wheel.") && is_linked(span))
            .collect();
        (drains.len() >= hops).then_some(drains)
    });
    for drain in &drains {
        let (topic, job) = (drain.attribute("messaging.destination.name"), drain.attribute("ksched.job"));
        let partition = drain.attribute("messaging.destination.partition.id");
        assert_eq!(job, format!("drain/{topic}/{partition}"));
    }
    (drains, fire)
}

fn traceparent(caught: &Caught) -> TraceContext {
    let header = caught.header(trace::HEADER).expect("a traceparent");
    TraceContext::parse(header.as_bytes()).expect("W3C's form")
}

pub(crate) fn spans(bed: &Bed) -> Vec<Received> {
    bed.spans.as_ref().expect("a cluster with traces").spans()
}

fn span(bed: &Bed, what: &str, is_it: impl Fn(&Received) -> bool) -> Received {
    eventually(what, WITHIN, || spans(bed).into_iter().find(&is_it))
}

/// A caller's span of this run.
pub(crate) fn sampled(number: u8) -> TraceContext {
    let mut trace_id = (now_ms() as u128).to_be_bytes();
    trace_id[0] = number;
    TraceContext { trace_id, span_id: [number; 8], flags: 1 }
}
