//! The stream: answered in order, coalesced if asked, each stream for itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use ksched_proto::v1::{
    ScheduleRequest, ScheduleStreamRequest, ScheduleStreamResponse, StreamAnswers, schedule_result,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Knocked, LONG, request, start};

fn item(sequence: u64, answers: StreamAnswers) -> ScheduleStreamRequest {
    // Every hundredth is refused.
    let topic = if sequence.is_multiple_of(100) { "" } else { "orders" };
    let request = ScheduleRequest { topic: topic.to_owned(), ..request(&sequence.to_string()) };
    ScheduleStreamRequest { sequence, request: Some(request), answers: answers as i32 }
}

async fn exchange(
    door: &Knocked,
    items: Vec<ScheduleStreamRequest>,
) -> Vec<Result<ScheduleStreamResponse, Status>> {
    let answers = door.scheduler().schedule_stream(futures::stream::iter(items)).await.unwrap();
    timeout(LONG, answers.into_inner().collect()).await.unwrap()
}

#[tokio::test]
async fn each_request_has_its_answer_in_order() {
    let door = start().await;
    let items = (1..=3_000).map(|n| item(n, StreamAnswers::Unspecified)).collect();
    let answers: Vec<_> = exchange(&door, items).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.last().unwrap().all_up_to, 3_000);
    // Requests that came together are answered together.
    assert!(answers.len() < 1_000, "{} answers", answers.len());
    let results: Vec<_> = answers.iter().flat_map(|a| &a.results).collect();
    let sequences: Vec<_> = results.iter().map(|r| r.sequence).collect();
    assert_eq!(sequences, (1..=3_000).collect::<Vec<_>>());
    for result in results {
        let accepted = matches!(
            result.result.as_ref().unwrap().result.as_ref().unwrap(),
            schedule_result::Result::Response(_)
        );
        assert_eq!(accepted, result.sequence % 100 != 0);
    }
    assert_eq!(door.appended().await.len(), 2_970);
}

#[tokio::test]
async fn coalesced_answers_tell_only_errors_and_how_far() {
    let door = start().await;
    let items = (1..=1_000).map(|n| item(n * 2, StreamAnswers::Coalesced)).collect();
    let answers: Vec<_> = exchange(&door, items).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.last().unwrap().all_up_to, 2_000);
    assert!(answers.windows(2).all(|two| two[0].all_up_to < two[1].all_up_to));
    let told: Vec<_> = answers.iter().flat_map(|a| &a.results).map(|r| r.sequence).collect();
    assert_eq!(told, (1..=20).map(|n| n * 100).collect::<Vec<_>>());
    assert_eq!(door.appended().await.len(), 980);
}

#[tokio::test]
async fn a_sequence_that_does_not_increase_ends_the_stream_after_its_answers() {
    let door = start().await;
    let items = [1, 2, 2, 3].map(|n| item(n, StreamAnswers::Each)).into();
    let mut answers = exchange(&door, items).await;
    let status = answers.pop().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "sequence");
    let up_to = answers.into_iter().map(|a| a.unwrap().all_up_to).max();
    assert_eq!(up_to, Some(2));
    assert_eq!(door.appended().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_answers_stops_only_itself() {
    const MANY: u64 = 400_000;
    let door = start().await;
    let (sender, receiver) = mpsc::channel(1);
    let unread = door.scheduler().schedule_stream(ReceiverStream::new(receiver)).await.unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        for n in 1..=MANY {
            if sender.send(item(n, StreamAnswers::Each)).await.is_err() {
                return;
            }
            counter.store(n, Ordering::Relaxed);
        }
    });
    // It comes to a standstill.
    let standstill = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = sent.load(Ordering::Relaxed);
            if now == before && now > 0 {
                return now;
            }
            before = now;
        }
    };
    let stuck_at = timeout(LONG, standstill).await.unwrap();
    assert!(stuck_at < MANY, "the stream was never held back");
    // Others are served.
    let other = timeout(Duration::from_secs(10), door.scheduler().schedule(request("other"))).await;
    other.unwrap().unwrap();
    // Once answers are read, it goes on.
    let mut answers = unread.into_inner();
    let mut up_to = 0;
    while up_to <= stuck_at {
        up_to = timeout(LONG, answers.message()).await.unwrap().unwrap().unwrap().all_up_to;
    }
    sending.abort();
}

#[tokio::test]
async fn a_stop_ends_streams_and_says_so() {
    let door = start().await;
    let (sender, receiver) = mpsc::channel(8);
    let answers = door.scheduler().schedule_stream(ReceiverStream::new(receiver)).await.unwrap();
    let mut answers = answers.into_inner();
    sender.send(item(1, StreamAnswers::Each)).await.unwrap();
    let first = timeout(LONG, answers.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.all_up_to, 1);
    door.shutdown.cancel();
    let status = timeout(LONG, answers.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "STOPPING");
    door.stop().await.unwrap();
}
