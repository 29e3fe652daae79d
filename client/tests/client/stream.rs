//! The stream: order, refusals, and what happens when it breaks.

use std::{collections::BTreeMap, time::Duration};

use ksched_client::{Message, client::stream::Answers};
use tonic::Status;

use crate::stub::{Stub, away, client};

fn message(n: usize) -> Message {
    Message::new("orders").value(n.to_string()).delay(Duration::from_secs(60))
}

#[tokio::test]
async fn everything_is_settled_once() {
    for answers in [Answers::Each, Answers::Coalesced] {
        let server = Stub::new(|n, _| if n % 10 == 3 { Err(Status::invalid_argument("no")) } else { Ok(()) });
        let server = server.start().await;
        let (mut sender, mut outcomes) = client(&[server.address()]).stream(answers, 64);
        let send = async move {
            for n in 0..1_000 {
                assert_eq!(sender.send(message(n)).await.expect("sent"), n as u64);
            }
        };
        let read = async move {
            let mut read = BTreeMap::new();
            while let Some(outcome) = outcomes.next().await {
                assert!(read.insert(outcome.sequence, outcome.result).is_none(), "settled twice");
            }
            read
        };
        let ((), read) = tokio::join!(send, read);
        assert_eq!(read.len(), 1_000);
        assert_eq!(read.values().filter(|result| result.is_err()).count(), 100);
        let with_id = read.values().filter(|result| matches!(result, Ok(Some(_)))).count();
        assert_eq!(with_id, if answers == Answers::Each { 900 } else { 0 });
    }
}

#[tokio::test]
async fn a_broken_stream_is_resumed_with_what_is_not_settled() {
    // Each connection ends after seven requests; the last of them stays unanswered
    // now and then, as the connection goes.
    let mut server = Stub::new(|_, _| Ok(()));
    server.cut_after = Some(7);
    let server = server.start().await;
    let (mut sender, mut outcomes) = client(&[server.address()]).stream(Answers::Each, 5);
    let send = async move {
        for n in 0..40 {
            sender.send(message(n)).await.expect("sent");
        }
    };
    let read = async move {
        let mut settled = 0;
        while let Some(outcome) = outcomes.next().await {
            outcome.result.expect("accepted");
            settled += 1;
        }
        settled
    };
    let ((), settled) = tokio::join!(send, read);
    assert_eq!(settled, 40);
    // Whatever was sent again was sent as the same message, one attempt on.
    let mut last: BTreeMap<Vec<u8>, (u32, _)> = BTreeMap::new();
    for request in server.seen.lock().iter() {
        let attempt = request.attempt.clone().expect("an attempt");
        if let Some((number, when)) = last.get(attempt.id.as_ref()) {
            assert!(attempt.number > *number);
            assert_eq!(&request.when, when);
        }
        last.insert(attempt.id.to_vec(), (attempt.number, request.when));
    }
    assert_eq!(last.len(), 40, "as many messages as were sent");
}

#[tokio::test]
async fn an_unavailable_item_is_sent_again() {
    let server = Stub::new(|n, _| if n == 1 { Err(away()) } else { Ok(()) }).start().await;
    let (mut sender, mut outcomes) = client(&[server.address()]).stream(Answers::Coalesced, 16);
    for n in 0..3 {
        sender.send(message(n)).await.expect("sent");
    }
    drop(sender);
    let mut settled = Vec::new();
    while let Some(outcome) = outcomes.next().await {
        outcome.result.expect("accepted");
        settled.push(outcome.sequence);
    }
    settled.sort_unstable();
    assert_eq!(settled, [0, 1, 2]);
    let again = server.seen.lock().last().and_then(|r| r.attempt.clone()).expect("an attempt");
    assert_eq!(again.number, 2);
}

#[tokio::test]
async fn without_a_coordinator_messages_fail_at_their_deadline() {
    let settings = ksched_client::Settings { deadline: Duration::from_millis(300), ..Default::default() };
    let client = ksched_client::Client::connect(&["127.0.0.1:1".to_owned()], settings).expect("an address");
    let (mut sender, mut outcomes) = client.stream(Answers::Each, 16);
    sender.send(message(0)).await.expect("taken");
    let outcome = outcomes.next().await.expect("an outcome");
    let error = outcome.result.unwrap_err();
    assert!(error.is_retryable() && !error.may_have_happened(), "{error}");
    drop(sender);
    assert!(outcomes.next().await.is_none());
}
