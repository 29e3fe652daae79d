use super::*;

/// Each metric that there is, with something in it.
fn everything() -> Metrics {
    let metrics = Metrics::new("worker-1", "0.1.0");
    let readiness = Readiness::waiting_for(&["kafka", "store"]);
    readiness.fine("kafka");
    metrics.show(&readiness);
    let coordinator = CoordinatorMetrics::register(&metrics);
    coordinator.set_pending([(2, 7, 40)].into_iter());
    coordinator.set_without_holder(Kind::Lane, 2);
    coordinator.set_intake_backlog(Some(7));
    metrics.show_kafka_producers(|| KafkaProducers {
        queued: 3,
        retries: 2,
        timeouts: 0,
        round_trip: Duration::from_millis(4),
    });
    coordinator.calls.ended(&Arc::new("other".to_owned()), "UNIMPLEMENTED", Duration::from_millis(3));
    let worker = WorkerMetrics::register(&metrics);
    let fired_in = TraceContext { trace_id: [0x5a; 16], span_id: [1; 8], flags: 1 };
    worker.lateness.observe_ms(12.0, Some(fired_in));
    worker.lateness.observe_ms(120.0, None);
    worker.refused("unparsable-time");
    worker.dead_lettered.add("UNKNOWN_TOPIC");
    worker.producers_recycled.inc();
    worker.lanes_held.set(3);
    worker.clock_skew.set(-0.25);
    worker.committed(Kind::Drain, Duration::from_millis(20), 700);
    worker.lanes.ask(|| {
        let lane = |lane, next_due_in_ms| LaneNow { lane, held: 5, next_due_in_ms };
        vec![lane(0, Some(-1_500)), lane(1, None)]
    });
    metrics
}

#[test]
fn names_and_units_are_as_prometheus_wants_them() {
    let text = everything().encode().unwrap();
    for line in [
        "ksched_build_info{name=\"worker-1\",version=\"0.1.0\"} 1",
        "# UNIT ksched_lateness_seconds seconds",
        "ksched_lateness_seconds_bucket{le=\"0.01\"} 0",
        "ksched_refused_total{reason=\"unparsable-time\"} 1",
        "ksched_dead_lettered_total 1",
        "ksched_dead_lettered_by_reason_total{reason=\"UNKNOWN_TOPIC\"} 1",
        "ksched_intake_backlog_messages 7.0",
        "# UNIT ksched_kafka_producer_round_trip_seconds seconds",
        "ksched_kafka_producer_round_trip_seconds 0.004",
        "ksched_kafka_producer_queue 3.0",
        "ksched_kafka_producer_retries_total 2.0",
        "ksched_producers_recycled_total 1",
        "ksched_lanes_held 3",
        "ksched_pending_messages{level=\"2\",lane=\"7\"} 40",
        "ksched_jobs_without_holder{kind=\"lane\"} 2",
        "ksched_ready{part=\"kafka\"} 1.0",
        "ksched_ready{part=\"store\"} 0.0",
        "ksched_grpc_calls_total{method=\"other\",code=\"UNIMPLEMENTED\"} 1",
        "ksched_grpc_call_seconds_count{method=\"other\"} 1",
        "ksched_clock_skew_seconds -0.25",
        "ksched_transaction_seconds_bucket{le=\"0.025\",kind=\"drain\"} 1",
        "ksched_transaction_messages_sum{kind=\"drain\"} 700.0",
        "ksched_transaction_seconds_count{kind=\"lane\"} 0",
        "ksched_held_messages{lane=\"1\"} 5.0",
        "ksched_next_due_seconds{lane=\"0\"} -1.5",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("ksched_next_due_seconds{lane=\"1\"}"));
    // And then when.
    let exemplar = format!(
        "ksched_lateness_seconds_bucket{{le=\"0.025\"}} 1 # {{trace_id=\"{}\"}} 0.012 ",
        "5a".repeat(16)
    );
    assert!(text.lines().any(|line| line.starts_with(&exemplar)), "{exemplar} is missing in\n{text}");
}

#[test]
fn operators_are_told_of_each() {
    let page = include_str!("../../../docs/OPERATIONS.md");
    let text = everything().encode_plain().unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let untold: Vec<_> = names.filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(untold.is_empty(), "docs/OPERATIONS.md does not name {untold:?}");
}

#[test]
fn the_process_is_told_of() {
    let text = everything().encode_plain().unwrap();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse::<f64>().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_max_fds") > value("process_open_fds"));
    // 2020 or later.
    assert!(value("process_start_time_seconds") > 1.577e9);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_as_old_as_its_last_confirmation() {
    let age = WorkerMetrics::register(&Metrics::new("w", "0")).lease;
    let asked_at = Instant::now();
    tokio::time::advance(Duration::from_secs(3)).await;
    age.confirmed(asked_at + Duration::from_secs(2));
    assert_eq!(age.age(), Duration::from_secs(1));
    age.confirmed(asked_at);
    assert_eq!(age.age(), Duration::from_secs(1));
}
