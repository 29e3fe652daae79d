use ksched_core::trace::TraceContext;
use opentelemetry::trace::{Span as _, Tracer};
use tokio::time::{Instant, sleep};

use super::{
    receiver::{Received, Receiver},
    *,
};
use crate::metrics::{Kind, Metrics};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn settings(variables: &[(String, String)], more: &[(&str, &str)]) -> Settings {
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let all: Vec<_> = variables.iter().cloned().chain(more).collect();
    let value = |name: &str| all.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    Settings::read(value).unwrap().unwrap()
}

fn resource() -> Resource {
    Resource::builder_empty().with_attribute(KeyValue::new(key::SERVICE_NAME, "ksched-test")).build()
}

async fn received(receiver: &Receiver, count: usize) -> Vec<Received> {
    let begun = Instant::now();
    while receiver.spans().len() < count {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", receiver.spans());
        sleep(Duration::from_millis(10)).await;
    }
    receiver.spans()
}

/// The only test that sets the process's tracer.
#[tokio::test(flavor = "multi_thread")]
async fn every_span_has_its_parent_links_and_attributes() {
    let receiver = Receiver::start().await.unwrap();
    let settings = settings(&receiver.by_grpc(), &[("OTEL_TRACES_SAMPLER", "parentbased_always_off")]);
    let running = Running::start(settings, resource()).unwrap();
    RECORDER.set(Recorder { tracer: running.provider.tracer("ksched"), obeys_parents: true }).unwrap();

    let caller = TraceContext::parse(CALLER.as_bytes());
    let id = "the id";
    let mut call = call("ksched.v1.Scheduler/Schedule", caller);
    call.about_many(1);
    let mut append = append(call.context(), 1);
    append.fail("OUTCOME_UNKNOWN", &"no answer");
    let theirs = TraceContext { trace_id: [7; 16], span_id: [8; 8], flags: 1 };
    let mut schedule = schedule("orders", Some(theirs), call.context());
    schedule.about(&id, 42);
    let mut links = Links::default();
    let unsampled = TraceContext { flags: 0, ..theirs };
    for scheduled in [call.context(), None, Some(unsampled), schedule.context(), call.context()] {
        links.add(scheduled);
    }
    let fired = batch(Kind::Lane, "lane/0", None, 30, Duration::from_millis(250), &links);
    let source = Some(Source { group: "ksched.c", topic: "ksched.wheel.1", partition: 17 });
    let drained = batch(Kind::Drain, "drain/ksched.wheel.1/17", source, 30, Duration::ZERO, &links);
    let taken_over = take_over(call.context(), "lane/0", Duration::from_secs(1));
    call.answered(14, "Kafka is away");
    let contexts = [&call, &append, &schedule, &fired].map(|span| span.context().unwrap());
    let [call_is, append_is, schedule_is, fired_is] = contexts;
    super::schedule("orders", Some(theirs), None).forget();
    drop((append, schedule, call, fired, drained, taken_over));

    // What the sampler leaves out, and what has no parent to be part of.
    assert!(lease("lane/0", 7).context().is_none());
    assert!(super::call("ksched.v1.Scheduler/Schedule", Some(unsampled)).context().is_none());
    assert!(super::schedule("orders", None, None).context().is_none());
    assert!(super::append(None, 1).context().is_none());
    assert!(super::take_over(None, "lane/0", Duration::ZERO).context().is_none());
    assert!(batch(Kind::Lane, "lane/0", None, 30, Duration::ZERO, &Links::default()).context().is_none());

    let spans = received(&receiver, 6).await;
    let of = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"));
    let told = |span: &Received, wanted: &[(&str, &str)]| {
        for (name, value) in wanted {
            assert_eq!(span.attribute(name), *value, "{name} of {span:?}");
        }
    };
    let kafka = ("messaging.system", "kafka");

    let call = of("ksched.v1.Scheduler/Schedule");
    assert_eq!((call.context, call.kind.as_str(), call.service.as_str()), (call_is, "server", "ksched-test"));
    assert_eq!((call.parent, call.context.trace_id), (caller.map(|c| c.span_id), caller.unwrap().trace_id));
    assert_eq!(call.failed.as_deref(), Some("Kafka is away"));
    told(call, &[("rpc.system", "grpc"), ("rpc.service", "ksched.v1.Scheduler"), ("rpc.method", "Schedule")]);
    told(call, &[("rpc.grpc.status_code", "14"), ("error.type", "14"), kafka]);

    let append = of("append");
    assert_eq!((append.context, append.parent), (append_is, Some(call_is.span_id)));
    assert_eq!((append.kind.as_str(), append.failed.as_deref()), ("client", Some("no answer")));
    told(append, &[("messaging.operation.type", "send"), ("error.type", "OUTCOME_UNKNOWN"), kafka]);

    let schedule = of("schedule orders");
    assert_eq!((schedule.context, schedule.parent), (schedule_is, Some(theirs.span_id)));
    assert_eq!((schedule.context.trace_id, schedule.kind.as_str()), (theirs.trace_id, "producer"));
    told(
        schedule,
        &[("messaging.operation.name", "schedule"), ("messaging.operation.type", "create"), kafka],
    );
    told(
        schedule,
        &[("messaging.message.id", id), ("messaging.destination.name", "orders"), ("ksched.due_ms", "42")],
    );

    let ids = |links: &[TraceContext]| links.iter().map(|l| (l.trace_id, l.span_id)).collect::<Vec<_>>();
    assert_eq!(ids(&schedule.links), ids(&[call_is]));
    let fire = of("fire");
    assert_eq!((fire.context, fire.parent, fire.kind.as_str()), (fired_is, None, "client"));
    assert_eq!(ids(&fire.links), ids(&[call_is, schedule_is]), "each once, in order");
    assert!(![call_is.trace_id, schedule_is.trace_id].contains(&fire.context.trace_id), "a trace of its own");
    assert!(fire.ended_ns - fire.began_ns >= 250_000_000, "{fire}");
    told(fire, &[("messaging.batch.message_count", "30"), ("ksched.job", "lane/0"), kafka]);
    let drain = of("drain ksched.wheel.1");
    assert_eq!((ids(&drain.links), drain.kind.as_str()), (ids(&fire.links), "consumer"));
    told(
        drain,
        &[("messaging.destination.name", "ksched.wheel.1"), ("messaging.destination.partition.id", "17")],
    );
    told(drain, &[("messaging.operation.name", "drain"), ("messaging.consumer.group.name", "ksched.c")]);
    told(drain, &[("messaging.operation.type", "process"), ("ksched.job", "drain/ksched.wheel.1/17")]);
    assert_eq!(of("take over").parent, Some(call_is.span_id));

    let mut many = Links::default();
    (0..1_000).for_each(|n: u64| many.add(Some(TraceContext { span_id: (n + 1).to_be_bytes(), ..theirs })));
    let large = batch(Kind::Lane, "lane/1", None, 1_000, Duration::ZERO, &many).context().unwrap();
    running.stop().await;
    let spans = receiver.spans();
    let large = spans.iter().find(|span| span.context == large).expect("what ended before the stop is sent");
    assert_eq!(large.links.len(), 128);
    assert_eq!(
        spans.iter().filter(|span| span.context.trace_id == theirs.trace_id).count(),
        1,
        "one is forgotten"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http_reaches_a_collector_too() {
    let receiver = Receiver::start().await.unwrap();
    let running = Running::start(settings(&receiver.by_http(), &[]), resource()).unwrap();
    let tracer = running.provider.tracer("ksched");
    let mut span = tracer.start("by HTTP");
    span.set_attribute(KeyValue::new("n", 3_i64));
    let context = span.span_context().clone();
    drop(span);
    running.stop().await;
    let spans = receiver.spans();
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(
        (span.name.as_str(), span.service.as_str(), span.attribute("n")),
        ("by HTTP", "ksched-test", "3")
    );
    assert_eq!(span.context.trace_id, context.trace_id().to_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_what_has_no_room_is_dropped_and_counted() {
    // Takes connections and answers nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = silent.local_addr().unwrap().to_string();
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "200"),
    ];
    let running = Running::start(settings(&[], &variables), resource()).unwrap();
    let tracer = running.provider.tracer("ksched");
    let begun = Instant::now();
    for _ in 0..100_000 {
        drop(tracer.start("lost"));
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "nothing waits for the collector");
    // Of this test alone: no other fails or drops any.
    let count = |fate: &str| {
        let text = Metrics::new("c", "0").encode().unwrap();
        let name = format!("ksched_spans_total{{fate=\"{fate}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap()
    };
    let dropped = count("dropped");
    assert!((90_000..100_000).contains(&dropped), "{dropped}");
    while count("failed") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "a batch is given up after its time");
        sleep(Duration::from_millis(10)).await;
    }
    let stopping = Instant::now();
    running.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(4), "{:?}", stopping.elapsed());
}
