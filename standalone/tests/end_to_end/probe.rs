use crate::{
    bed::Bed,
    run::{Load, Run},
};
use ksched_client::bench::Door;
use ksched_kafka::{Librdkafka, Log as _, Settings, TopicPartition};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
pub(crate) fn committed(bed: &Bed) {
    let log = Librdkafka::new(Settings {
        bootstrap: bed.cluster.kafka().address(),
        group: "ksched.ksched".into(),
        client_id: "probe".into(),
        properties: Default::default(),
    })
    .unwrap();
    let due: Arc<str> = "ksched.due".into();
    let mut all: Vec<_> = (0..12).map(|partition| TopicPartition { topic: due.clone(), partition }).collect();
    let wheel: Arc<str> = "ksched.wheel.1".into();
    all.extend((0..60).map(|partition| TopicPartition { topic: wheel.clone(), partition }));
    let run = Run::start(
        bed,
        "probe::committed",
        Load { door: Door::Stream, rate: 2_000, seconds: 20, delays_ms: (0, 3_000), ..Load::default() },
    );
    thread::sleep(Duration::from_secs(3));
    for (name, which) in [("all", &all[..]), ("wheel only", &all[12..]), ("inlets of lane 0", &all[..3])] {
        let mut took: Vec<_> = (0..30)
            .map(|_| {
                let at = Instant::now();
                let r = log.committed_before_pending(which);
                if r.is_err() {
                    println!("{r:?}");
                }
                thread::sleep(Duration::from_millis(10));
                at.elapsed().as_millis()
            })
            .collect();
        took.sort();
        println!("committed({name}): p50 {} p90 {} max {} ms", took[15], took[27], took[29]);
        if run.delivered() > 38_000 {
            break;
        }
    }
    run.finish(None);
}
