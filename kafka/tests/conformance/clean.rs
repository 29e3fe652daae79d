//! What a broken connection means (design §4.2), and bytes no client of ours would send.

use std::net::TcpListener;

use ksched_core::message::{Content, Header};
use ksched_kafka::{
    Error, Log as _, Producer as _, Reader as _, TransactionError, TransactionalProducer as _,
    wait_for_disposals,
};

use ksched_local::kafka as local;

use crate::{
    bed::{PATIENCE, append, at, create, eventually, log_at, text, to, unique},
    proxy::Proxy,
};

/// librdkafka connects again and commits, and says that all is well. It is not: what was
/// sent on the broken connection may still arrive.
#[test]
fn a_transaction_whose_connection_broke_is_unclean() {
    connection_breaks_before_commit(&Proxy::to_embedded(None));
}

#[test]
fn a_transaction_whose_connection_broke_is_unclean_on_real_kafka() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let advertised = format!("PLAINTEXT://{}", listener.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let options = local::Options {
        heap: "256m".to_owned(),
        properties: vec![("advertised.listeners".to_owned(), advertised)],
        ..local::Options::default()
    };
    let kafka = local::Kafka::start(directory.path(), &options).unwrap();
    connection_breaks_before_commit(&Proxy::forward(listener, kafka.address(), None));
}

fn connection_breaks_before_commit(proxy: &Proxy) {
    create(&proxy.address, "target", 1, &[]);
    let log = log_at(&proxy.address, "broken");
    let mut holder = log.transactional("broken").unwrap();
    holder.init().unwrap();
    holder.begin().unwrap();
    holder.send(0, to("target", 0, &text("first"))).unwrap();
    holder.commit(&[]).unwrap();

    holder.begin().unwrap();
    holder.send(0, to("target", 0, &text("second"))).unwrap();
    holder.flush().unwrap();
    proxy.break_connections();
    // Only the note stands in the way of a clean return.
    let commit = holder.commit(&[]);
    assert!(matches!(&commit, Err(TransactionError::Unclean(why)) if why.starts_with("noted")), "{commit:?}");
}

#[test]
fn a_connection_that_breaks_between_transactions_is_noted_at_the_next_begin() {
    let proxy = Proxy::to_embedded(None);
    create(&proxy.address, "target", 1, &[]);
    let mut holder = log_at(&proxy.address, "between").transactional("between").unwrap();
    holder.init().unwrap();
    holder.begin().unwrap();
    holder.send(0, to("target", 0, &text("first"))).unwrap();
    holder.commit(&[]).unwrap();
    proxy.break_connections();
    // Log lines take a moment; a holder that is quicker meets the note at its commit.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let begin = holder.begin();
    assert!(matches!(begin, Err(TransactionError::Unclean(_))), "{begin:?}");
}

#[test]
fn a_header_name_that_is_not_utf_8_is_handed_over_as_unreadable() {
    let proxy = Proxy::to_embedded(Some((b"HOSTILE", b"HOST\xffLE")));
    create(&proxy.address, "intake", 1, &[]);
    let log = log_at(&proxy.address, "hostile");
    append(&log, "intake", 0, &["before"]);
    let header = |name: &str| Header::new(name, "v");
    let content = Content {
        key: Some("key".into()),
        value: Some("value".into()),
        headers: vec![header("good"), header("HOSTILE"), header("after")],
    };
    let mut producer = log.producer().unwrap();
    producer.send(0, to("intake", 0, &content)).unwrap();
    assert!(producer.flush().unwrap().is_empty());
    append(&log, "intake", 0, &["after"]);

    let topic = "intake".into();
    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&[(at(&topic, 0), 0)]).unwrap();
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    eventually("all three are read", || {
        match reader.poll(std::time::Duration::from_millis(100)) {
            Ok(record) => good.extend(record.map(|record| record.offset)),
            Err(Error::Unreadable(record)) => bad.push(record),
            Err(other) => panic!("{other}"),
        }
        reader.position(&at(&topic, 0)).unwrap() == 3
    });
    assert_eq!(good, [0, 2]);
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].offset, 1);
    assert_eq!(bad[0].content.value, content.value);
    assert_eq!(bad[0].content.headers, [header("good")]);
}

#[test]
fn clients_come_to_an_end_off_the_caller_s_thread() {
    let proxy = Proxy::to_embedded(None);
    create(&proxy.address, "target", 1, &[]);
    let log = log_at(&proxy.address, &unique("ends"));
    append(&log, "target", 0, &["x"]);
    let mut reader = log.reader(1 << 20).unwrap();
    reader.assign(&[(at(&"target".into(), 0), 0)]).unwrap();
    let mut holder = log.transactional("ends").unwrap();
    holder.init().unwrap();
    holder.begin().unwrap();
    // The broker is out of reach for good: the worst time to end.
    proxy.break_connections();
    let started_at = std::time::Instant::now();
    drop((reader, holder, log));
    assert!(started_at.elapsed() < std::time::Duration::from_millis(500));
    let deadline = std::time::Instant::now() + PATIENCE;
    while wait_for_disposals(PATIENCE) > 0 {
        assert!(std::time::Instant::now() < deadline, "clients did not end");
    }
}
