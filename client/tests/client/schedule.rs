//! Unary calls and batches: what is retried, where, and as what.

use std::time::Duration;

use ksched_client::Message;
use tonic::Status;

use crate::stub::{Stub, away, client};

fn message() -> Message {
    Message::new("orders").key("k").value("v").delay(Duration::from_secs(60))
}

#[tokio::test]
async fn an_unavailable_attempt_is_repeated_as_the_same_message() {
    let server = Stub::new(|n, _| if n < 2 { Err(away()) } else { Ok(()) }).start().await;
    let scheduled = client(&[server.address()]).schedule(message()).await.expect("accepted at last");
    let seen = server.seen.lock();
    let attempts: Vec<_> = seen.iter().map(|r| r.attempt.clone().expect("an attempt")).collect();
    assert_eq!(attempts.iter().map(|a| a.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(attempts[0].id.len(), 16);
    assert!(attempts.iter().all(|a| a.id == attempts[0].id && a.first_at == attempts[0].first_at));
    assert!(seen.iter().all(|r| r.when == seen[0].when), "the due time is made once");
    assert_eq!(scheduled.id, "id-2");
}

#[tokio::test]
async fn different_messages_are_different_attempts() {
    let server = Stub::new(|_, _| Ok(())).start().await;
    let client = client(&[server.address()]);
    for _ in 0..2 {
        client.schedule(message()).await.expect("accepted");
    }
    let seen = server.seen.lock();
    let ids: Vec<_> = seen.iter().map(|r| r.attempt.clone().expect("an attempt").id).collect();
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn refusals_are_not_repeated() {
    let server = Stub::new(|_, _| Err(Status::invalid_argument("no"))).start().await;
    let error = client(&[server.address()]).schedule(message()).await.unwrap_err();
    assert!(error.is_refusal() && !error.is_retryable() && !error.may_have_happened());
    assert_eq!(server.seen.lock().len(), 1);
}

#[tokio::test]
async fn only_unavailable_is_repeated() {
    let server = Stub::new(|_, _| Err(Status::internal("who knows"))).start().await;
    let error = client(&[server.address()]).schedule(message()).await.unwrap_err();
    assert!(!error.is_retryable() && error.may_have_happened());
    assert_eq!(server.seen.lock().len(), 1);
}

#[tokio::test]
async fn a_dead_coordinator_is_left_for_another() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let dead = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let server = Stub::new(|_, _| Ok(())).start().await;
    let client = client(&[dead, server.address()]);
    client.schedule(message()).await.expect("accepted by the other");
    client.schedule(message()).await.expect("accepted by the other");
    let numbers: Vec<_> =
        server.seen.lock().iter().map(|r| r.attempt.clone().expect("an attempt").number).collect();
    assert_eq!(numbers, [2, 1], "the second call starts at the one that is alive");
}

#[tokio::test]
async fn a_coordinator_that_was_never_reached_scheduled_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let dead = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let settings = ksched_client::Settings { deadline: Duration::from_millis(300), ..Default::default() };
    let client = ksched_client::Client::connect(&[dead], settings).expect("an address");
    let error = client.schedule(message()).await.unwrap_err();
    assert!(error.is_retryable() && !error.may_have_happened(), "{error}");
}

#[tokio::test]
async fn one_bad_item_of_a_batch_spoils_no_other_and_only_what_failed_is_repeated() {
    let server = Stub::new(|n, request| match request.topic.as_str() {
        "bad" => Err(Status::invalid_argument("no")),
        "slow" if n < 3 => Err(away()),
        _ => Ok(()),
    });
    let server = server.start().await;
    let batch = ["good", "bad", "slow"].map(|topic| Message::new(topic).delay(Duration::from_secs(1)));
    let results = client(&[server.address()]).batch(batch.to_vec()).await;
    assert!(results[0].is_ok() && results[2].is_ok());
    assert!(results[1].as_ref().unwrap_err().is_refusal());
    let topics: Vec<_> = server.seen.lock().iter().map(|r| r.topic.clone()).collect();
    assert_eq!(topics, ["good", "bad", "slow", "slow"]);
}
