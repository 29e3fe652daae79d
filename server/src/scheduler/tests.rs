use std::time::Duration;

use futures::StreamExt as _;
use ksched_core::{cluster::Cluster, delivered};
use ksched_kafka::{
    Librdkafka, Settings,
    append::{Append, Appended, Appender, Appending, Appends, Limits, Room},
};
use ksched_proto::v1::scheduler_server::Scheduler as _;
use ksched_telemetry::metrics::{CoordinatorMetrics, Metrics};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::host::Machine;

/// A service whose Kafka is away; nothing that is refused at the door needs it.
fn service(metrics: &Metrics) -> (Scheduler, Arc<Placer>) {
    let settings = Settings {
        bootstrap: "127.0.0.1:1".to_owned(),
        group: "g".to_owned(),
        client_id: "c".to_owned(),
        ..Settings::default()
    };
    let appender =
        Appender::new(&Librdkafka::new(settings).unwrap(), Limits::default(), "due".into()).unwrap();
    service_on(Arc::new(appender), metrics)
}

fn service_on(appender: Arc<dyn Appends>, metrics: &Metrics) -> (Scheduler, Arc<Placer>) {
    let counters = CoordinatorMetrics::register(metrics);
    let placer = Arc::new(Placer::new(
        Cluster::default(),
        appender,
        Arc::new(Machine),
        7,
        counters,
        mpsc::channel(1).0,
    ));
    (Scheduler::new(Arc::clone(&placer), CancellationToken::new()), placer)
}

/// Takes everything.
#[derive(Debug, Default)]
struct Taken(Mutex<Vec<Append>>);

impl Appends for Taken {
    fn append_all(&self, records: Vec<Append>, _: Option<Room>) -> Appending {
        let all = vec![Ok(Appended { offset: 0, append_time_ms: None }); records.len()];
        self.0.lock().extend(records);
        Box::pin(std::future::ready(all))
    }
}

fn fine() -> v1::ScheduleRequest {
    let delay = prost_types::Duration { seconds: 60, nanos: 0 };
    let when = Some(v1::schedule_request::When::Delay(delay));
    v1::ScheduleRequest { topic: "orders".to_owned(), when, ..Default::default() }
}

#[tokio::test]
async fn overload_is_refused_with_a_time_to_come_back_and_counted() {
    let metrics = Metrics::new("c", "0");
    let (service, placer) = service(&metrics);
    let everything = placer.try_reserve(1, usize::MAX).unwrap();
    let batch = v1::BatchScheduleRequest { requests: vec![fine(); 3] };
    for status in [
        service.schedule(Request::new(fine())).await.unwrap_err(),
        service.batch_schedule(Request::new(batch)).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
        assert_eq!(status.get_details_error_info().unwrap().reason, "OVERLOADED");
    }
    assert!(metrics.encode().unwrap().contains("ksched_refused_total{reason=\"OVERLOADED\"} 4\n"));
    drop(everything);
    // With room again a faulty one is judged by its fault.
    let status = service.schedule(Request::new(v1::ScheduleRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn kafka_being_away_is_not_told_as_scheduled() {
    let metrics = Metrics::new("c", "0");
    let (service, _) = service(&metrics);
    let status = service.schedule(Request::new(fine())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let reason = status.get_details_error_info().unwrap().reason;
    assert_eq!(reason, "OUTCOME_UNKNOWN", "librdkafka had taken it");
    assert!(metrics.encode().unwrap().contains("ksched_outcome_unknown_total 1\n"));
}

#[tokio::test]
async fn what_is_in_flight_takes_its_room_though_its_caller_has_gone() {
    let (service, placer) = service(&Metrics::new("c", "0"));
    let call = service.schedule(Request::new(fine()));
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err(), "Kafka is away");
    assert!(placer.try_reserve(1, usize::MAX).is_err(), "it may still be appended");
    // Until it is given up.
    let everything = tokio::time::timeout(Duration::from_secs(60), placer.reserve(usize::MAX)).await;
    assert!(everything.is_ok_and(|room| room.is_some()));
}

/// Never settles what it takes, and knows how many records came by each call.
#[derive(Debug, Default)]
struct Holding(Mutex<Vec<usize>>);

impl Appends for Holding {
    fn append_all(&self, records: Vec<Append>, _: Option<Room>) -> Appending {
        self.0.lock().push(records.len());
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_behind_an_answer_waits_for_no_other() {
    let (_, placer) = service_on(Arc::new(Taken::default()), &Metrics::new("c", "0"));
    let (requests, received) = mpsc::channel(10);
    let received = tokio_stream::wrappers::ReceiverStream::new(received);
    let mut answers = Box::pin(stream::answers(placer, received, CancellationToken::new()));
    for sequence in 1..4 {
        let request = v1::ScheduleStreamRequest { sequence, request: Some(fine()), ..Default::default() };
        let sent_at = tokio::time::Instant::now();
        requests.send(Ok(request)).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().all_up_to, sequence);
        assert_eq!(sent_at.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_request_of_a_stream_goes_at_once_and_those_behind_it_together() {
    let held = Arc::new(Holding::default());
    let (_, placer) = service_on(held.clone(), &Metrics::new("c", "0"));
    let (requests, received) = mpsc::channel(10);
    let received = tokio_stream::wrappers::ReceiverStream::new(received);
    let _answers = stream::answers(placer, received, CancellationToken::new());
    let send = async |sequence| {
        let request = v1::ScheduleStreamRequest { sequence, request: Some(fine()), ..Default::default() };
        requests.send(Ok(request)).await.unwrap();
    };
    send(1).await;
    tokio::time::sleep(Duration::from_nanos(1)).await;
    assert_eq!(*held.0.lock(), [1], "at once");
    for sequence in 2..5 {
        send(sequence).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(*held.0.lock(), [1, 3]);
}

#[tokio::test]
async fn a_callers_span_goes_along_with_traces_off_unless_the_message_brings_one() {
    let taken = Arc::new(Taken::default());
    let (service, _) = service_on(taken.clone(), &Metrics::new("c", "0"));
    let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let called = |request: v1::ScheduleRequest| {
        let mut request = Request::new(request);
        request.metadata_mut().insert(trace::HEADER, caller.parse().unwrap());
        request
    };
    let own = v1::header::HeaderValue::ValueText(caller.replace("-00f0", "-10f0"));
    let headers = vec![v1::Header { name: trace::HEADER.to_owned(), header_value: Some(own) }];
    service.schedule(called(fine())).await.unwrap();
    service.schedule(called(v1::ScheduleRequest { headers, ..fine() })).await.unwrap();
    service.schedule(Request::new(fine())).await.unwrap();
    let of = |record: &Append| delivered::read_envelope(&record.content).unwrap().trace;
    let carried: Vec<_> = taken.0.lock().iter().map(of).collect();
    assert_eq!(carried, [TraceContext::parse(caller.as_bytes()), None, None]);
}
