use std::time::{Duration, Instant};
use ksched_kafka::{Log as _, TransactionalProducer as _};
use crate::bed::{real, unique};
#[test]
fn zz_init_times() {
    let log = real().log();
    for pause in [0, 0, 0, 100, 100, 300, 300] {
        let mut p = log.transactional(&unique("init")).unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        let t = Instant::now();
        p.init().unwrap();
        println!("pause {pause}: init {:?}", t.elapsed());
    }
    let id = unique("init");
    for _ in 0..4 {
        let mut p = log.transactional(&id).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let t = Instant::now();
        p.init().unwrap();
        println!("same id: init {:?}", t.elapsed());
    }
}
#[test]
fn zz_appender() {
    use ksched_kafka::append::*;
    let bed = real();
    let log = bed.log();
    let topic = bed.topic_with("appspeed", 4, &[("message.timestamp.type","LogAppendTime")]);
    let app = Appender::new(&log, Limits::default()).unwrap();
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let rec = |i: usize| Append { topic: topic.clone(), partition: (i % 4) as i32, content: crate::bed::text(&"x".repeat(200)), timestamp_ms: None };
    rt.block_on(async {
        app.append_all(vec![rec(0)]).await;
        let mut took = vec![];
        for i in 0..300 { let t = Instant::now(); app.append_all(vec![rec(i)]).await; took.push(t.elapsed()); }
        took.sort(); println!("lone: p50 {:?} p99 {:?}", took[150], took[296]);
        for callers in [16, 128] {
            let t = Instant::now();
            let mut set = tokio::task::JoinSet::new();
            for _ in 0..callers { let app = app.clone(); let topic = topic.clone(); set.spawn(async move {
                let mut took = vec![];
                for i in 0..4000/callers*4 { let t = Instant::now(); let r = app.append_all(vec![Append { topic: topic.clone(), partition: (i % 4) as i32, content: crate::bed::text("x"), timestamp_ms: None }]).await; assert!(r[0].is_ok()); took.push(t.elapsed()); } took }); }
            let mut all = vec![]; while let Some(x) = set.join_next().await { all.extend(x.unwrap()); }
            all.sort(); println!("{callers} callers: {:.0}/s p50 {:?} p99 {:?}", all.len() as f64 / t.elapsed().as_secs_f64(), all[all.len()/2], all[all.len()*99/100]);
        }
        let t = Instant::now(); let mut n = 0;
        let mut set = tokio::task::JoinSet::new();
        for _ in 0..200 { let recs: Vec<_> = (0..1000).map(rec).collect(); n += 1000; set.spawn(app.append_all(recs)); if set.len() > 8 { assert!(set.join_next().await.unwrap().unwrap().iter().all(|r| r.is_ok())); } }
        while let Some(r) = set.join_next().await { assert!(r.unwrap().iter().all(|r| r.is_ok())); }
        println!("batches of 1000: {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
    });
}
#[test]
fn zz_idle_cpu() {
    let bed = real(); let log = bed.log();
    let mut holders: Vec<_> = (0..8).map(|_| log.transactional(&unique("idle")).unwrap()).collect();
    for h in &mut holders { h.init().unwrap(); }
    let cpu = || { let s = std::fs::read_to_string("/proc/self/stat").unwrap(); let f: Vec<_> = s.rsplit(')').next().unwrap().split_whitespace().map(str::to_owned).collect(); f[11].parse::<u64>().unwrap() + f[12].parse::<u64>().unwrap() };
    let a = cpu(); std::thread::sleep(Duration::from_secs(5)); let b = cpu();
    println!("8 idle transactional producers: {} ticks of 500", b - a);
    use ksched_kafka::Reader as _;
    drop(holders);
    std::thread::sleep(Duration::from_secs(2));
    let topic = bed.topic("idle", 4);
    let mut rs: Vec<_> = (0..4).map(|i| { let mut r = log.reader(4 << 20).unwrap(); r.assign(&[(crate::bed::at(&topic, i), 0)]).unwrap(); r }).collect();
    let a = cpu();
    std::thread::scope(|s| { for r in &mut rs { s.spawn(move || { let t = Instant::now(); while t.elapsed() < Duration::from_secs(5) { r.poll(Duration::from_millis(1000)).unwrap(); } }); } });
    println!("4 idle readers: {} ticks of 500", cpu() - a);
}
