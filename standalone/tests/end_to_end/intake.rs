//! Plain Kafka records that schedule themselves by their headers.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use jiff::{Timestamp, tz::TimeZone};
use ksched_core::message::{Content, Header};
use ksched_kafka::{Log as _, Outgoing, Producer as _, TransactionalProducer as _};

use crate::{
    bed::{Bed, ZONE, now_ms},
    catch::{Catch, Caught},
};

const INTAKE: &str = "SCHEDULED_MESSAGES";
const WITHIN: Duration = Duration::from_secs(20);

/// The earlier system's headers, ksched's own, and what neither understands.
pub(crate) fn dialects(bed: &Bed) {
    let topic = bed.target("intake::dialects");
    let (catch, dead) = (Catch::start(bed, &topic), Catch::start(bed, "ksched.dlq"));
    let to = format!("topic={topic}");
    let own = format!("ksched-topic={topic}");
    // Whole seconds, in the zone that workers assume and in one that is named.
    let due_s = now_ms() / 1_000 + 4;
    let zoned = |zone: &str, form: &str| {
        let zone = TimeZone::get(zone).expect("a zone");
        Timestamp::from_second(due_s).unwrap().to_zoned(zone).strftime(form).to_string()
    };
    let local = format!("time={}", zoned(ZONE, "%Y-%m-%d %H:%M:%S"));
    let named = format!("time={}", zoned("UTC", "%d %b %Y %H:%M:%S UTC"));
    let at = format!("ksched-deliver-at={}", due_s * 1_000);
    let rfc = format!("ksched-deliver-at={}", zoned(ZONE, "%Y-%m-%dT%H:%M:%S%:z"));
    kcat(bed, &["-H", &local, "-H", &to, "-H", "a=b", "-k", "k"], "local");
    kcat(bed, &["-H", &named, "-H", &to], "named");
    kcat(bed, &["-H", &to], "at once");
    kcat(bed, &["-H", &at, "-H", &own, "-H", "topic=the user's"], "epoch");
    kcat(bed, &["-H", &rfc, "-H", &own], "rfc");
    kcat(bed, &["-H", "ksched-delay=3s", "-H", &own, "-H", "ksched-partition=2"], "delay");

    let caught = catch.wait_for(6, WITHIN, |_| true);
    assert_eq!(caught.len(), 6, "{caught:?}");
    let of = |value: &str| caught.iter().find(|c| c.value() == value).unwrap_or_else(|| panic!("no {value}"));
    for value in ["local", "named", "epoch", "rfc"] {
        assert_eq!(of(value).due_ms(), due_s * 1_000, "{value}");
    }
    for one in &caught {
        assert!((0..3_000).contains(&one.late_ms()), "{} is {} ms late", one.value(), one.late_ms());
    }
    let user = |one: &Caught| one.user_headers().iter().map(|h| h.name.to_string()).collect::<Vec<_>>();
    assert_eq!(user(of("local")), ["a"], "headers of the dialect are taken off");
    assert_eq!(user(of("epoch")), ["topic"], "the other dialect's are the user's own");
    assert_eq!(of("local").content.key.as_deref(), Some(b"k".as_slice()));
    assert!(of("local").header("__sm_message_hopcount").is_some(), "its users get its stamps");
    assert!(of("epoch").header("__sm_message_hopcount").is_none());

    kcat(bed, &["-H", "time=2023-02-30 12:00:00", "-H", &to], "no such day");
    kcat(bed, &["-H", &local], "no topic");
    kcat(bed, &["-H", "ksched-delay=soon", "-H", &own], "no delay");
    kcat(bed, &["-H", &own, "-H", "ksched-delay=-3s"], "negative");
    kcat(bed, &["-H", &local, "-H", "topic=ksched.due"], "a loop");
    for (value, code) in [
        ("no such day", Some("DUE_TIME_UNREADABLE")),
        ("no topic", Some("TOPIC_MISSING")),
        ("no delay", Some("DELAY_UNREADABLE")),
        ("negative", None),
        ("a loop", Some("TOPIC_INTERNAL")),
    ] {
        let letters = dead.wait_for(1, WITHIN, |c| c.value() == value);
        assert_eq!(letters.len(), 1, "dead letters of {value:?}: {letters:?}");
        let letter = &letters[0];
        let given = letter.header("ksched-error-code").expect("a code");
        assert!(code.is_none_or(|code| code == given), "{value:?} was refused with {given}");
        assert_eq!(letter.header("ksched-origin-topic").as_deref(), Some(INTAKE));
        for number in ["ksched-origin-partition", "ksched-origin-offset"] {
            let number = letter.header(number).expect("an origin");
            assert!(number.parse::<i64>().is_ok(), "{number}");
        }
    }
    assert_eq!(catch.all().len(), 6, "none of those is delivered");
}

/// Batches in each compression; transactions, of which the aborted one does not count.
pub(crate) fn compressions_and_transactions(bed: &Bed) {
    let topic = bed.target("intake::compressions_and_transactions");
    let catch = Catch::start(bed, &topic);
    let own = format!("ksched-topic={topic}");
    let codecs = ["gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let lines: Vec<_> = (0..50).map(|n| format!("{codec} {n} {}", "compressible ".repeat(20))).collect();
        kcat(bed, &["-z", codec, "-H", "ksched-delay=2s", "-H", &own], &lines.join("\n"));
    }

    let headers = vec![
        Header::new("ksched-topic", topic.clone()),
        Header::new("dup", "1"),
        Header::new("ksched-delay", "2s"),
        Header::new("dup", "2"),
        Header { name: "null".into(), value: None },
        Header::new("bytes", vec![0, 255, 128]),
    ];
    let content = |key: &'static [u8], value: Option<&'static [u8]>| Content {
        key: Some(Bytes::from_static(key)),
        value: value.map(Bytes::from_static),
        headers: headers.clone(),
    };
    let out = |content| Outgoing { topic: INTAKE, partition: Some(3), timestamp_ms: None, content };
    let transactional = || bed.log.transactional("e2e-intake").unwrap();

    let (aborted, committed) = (content(b"aborted", Some(b"aborted")), content(b"committed", None));
    let mut producer = transactional();
    producer.init().unwrap();
    producer.begin().unwrap();
    producer.send(0, out(&aborted)).unwrap();
    producer.flush().unwrap();
    drop(producer);
    // Taking over the id aborts what is open.
    let mut producer = transactional();
    producer.init().unwrap();
    producer.begin().unwrap();
    producer.send(0, out(&committed)).unwrap();
    producer.commit(&[]).unwrap();
    let mut plain = bed.log.producer().unwrap();
    let after = content(b"after", Some(b""));
    plain.send(0, out(&after)).unwrap();
    assert!(plain.flush().unwrap().is_empty());

    let expected = 50 * codecs.len() + 2;
    let caught = catch.wait_for(expected, WITHIN, |_| true);
    assert_eq!(caught.len(), expected);
    for codec in codecs {
        let count = caught.iter().filter(|c| c.value().starts_with(codec)).count();
        assert_eq!(count, 50, "{codec}");
    }
    let of = |key: &[u8]| caught.iter().find(|c| c.content.key.as_deref() == Some(key));
    assert!(of(b"aborted").is_none(), "an aborted record was scheduled");
    let (committed, after) = (of(b"committed").expect("committed"), of(b"after").expect("plain"));
    assert_eq!(committed.content.value, None, "null stays null");
    assert_eq!(after.content.value.as_deref(), Some(b"".as_slice()), "empty stays empty");
    let ours = |name: &str| name == "ksched-topic" || name == "ksched-delay";
    let users: Vec<_> = headers.iter().filter(|h| !ours(&h.name)).cloned().collect();
    assert_eq!(after.user_headers(), users, "every header as it was, in order");
}

/// One message a line.
pub(crate) fn kcat(bed: &Bed, args: &[&str], lines: &str) {
    let mut child = Command::new("kcat")
        .args(["-P", "-b", &bed.cluster.kafka().address(), "-t", INTAKE])
        .args(args)
        .stdin(Stdio::piped())
        .spawn()
        .expect("kcat is needed here: scripts/install-parts test installs it");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success(), "kcat {args:?}");
}
