//! Against an upstream that answers each request with its own body, and remembers what came.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use super::*;
use crate::wire::request;

const SOON: Duration = Duration::from_millis(300);
const WITHIN: Duration = Duration::from_secs(10);

struct Upstream {
    port: u16,
    came: Arc<Mutex<Vec<Api>>>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let came: Arc<Mutex<Vec<Api>>> = Arc::default();
        let into = Arc::clone(&came);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, into) = (stream.unwrap(), Arc::clone(&into));
                thread::spawn(move || {
                    while let Ok(frame) = Frame::read(&mut stream) {
                        into.lock().push(frame.api());
                        let _ = stream.write_all(&[&8_u32.to_be_bytes()[..], &frame.0[8..16]].concat());
                    }
                });
            }
        });
        Self { port, came }
    }

    fn came(&self) -> Vec<Api> {
        self.came.lock().clone()
    }
}

struct Client(TcpStream);

impl Client {
    fn connect(proxy: &Proxy) -> Self {
        Self(TcpStream::connect(proxy.address()).unwrap())
    }

    fn send(&mut self, api: Api, correlation: i32) {
        self.0.write_all(&request(api, 0, correlation, b"body").0).unwrap();
    }

    /// The correlation id of the next answer; `None` if the connection is closed.
    fn answer(&mut self) -> Option<i32> {
        self.0.set_read_timeout(Some(WITHIN)).unwrap();
        Frame::read(&mut self.0).ok().map(|frame| frame.answer_correlation())
    }

    fn is_silent(&mut self) -> bool {
        self.0.set_read_timeout(Some(SOON)).unwrap();
        self.0
            .read(&mut [0])
            .is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

#[test]
fn passes_what_no_rule_is_for() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Speech::Kafka, upstream.port);
    proxy.on(Api::END_TXN, 1, Action::Swallow);
    let mut client = Client::connect(&proxy);
    client.send(Api::PRODUCE, 7);
    assert_eq!(client.answer(), Some(7));
    client.send(Api::FETCH, 8);
    assert_eq!(client.answer(), Some(8));
}

#[test]
fn a_swallowed_request_never_comes_and_closes_its_connection() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Speech::Kafka, upstream.port);
    proxy.on(Api::END_TXN, 1, Action::Swallow);
    let mut client = Client::connect(&proxy);
    client.send(Api::END_TXN, 1);
    assert_eq!(client.answer(), None);
    assert!(upstream.came().is_empty());
    let mut again = Client::connect(&proxy);
    again.send(Api::END_TXN, 2);
    assert_eq!(again.answer(), Some(2), "the rule was for one");
}

#[test]
fn a_kept_request_comes_when_it_is_replayed() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Speech::Kafka, upstream.port);
    proxy.on(Api::END_TXN, 1, Action::Keep);
    let mut client = Client::connect(&proxy);
    client.send(Api::END_TXN, 5);
    assert_eq!(client.answer(), None);
    assert!(proxy.wait_caught(1, WITHIN));
    assert!(upstream.came().is_empty());
    let replayed = proxy.replay();
    assert_eq!(replayed.len(), 1);
    assert_eq!(replayed[0].1.as_ref().unwrap().answer_correlation(), 5);
    assert_eq!(upstream.came(), [Api::END_TXN]);
    assert!(proxy.replay().is_empty(), "once");
}

#[test]
fn a_lost_answer_closes_the_connection_after_the_request_came() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Speech::Kafka, upstream.port);
    proxy.on(Api::PRODUCE, 1, Action::LoseAnswer);
    let mut client = Client::connect(&proxy);
    client.send(Api::PRODUCE, 1);
    assert_eq!(client.answer(), None);
    assert_eq!(upstream.came(), [Api::PRODUCE]);
}

#[test]
fn what_is_on_hold_waits_for_its_release() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Speech::Kafka, upstream.port);
    proxy.on(Api::PRODUCE, 1, Action::Hold);
    let mut client = Client::connect(&proxy);
    client.send(Api::PRODUCE, 1);
    client.send(Api::FETCH, 2);
    assert!(proxy.wait_caught(1, WITHIN));
    assert!(client.is_silent());
    assert!(upstream.came().is_empty());
    proxy.release();
    assert_eq!((client.answer(), client.answer()), (Some(1), Some(2)), "in order");
}

#[test]
fn a_delayed_request_comes_later() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Speech::Kafka, upstream.port);
    proxy.on(Api::PRODUCE, 1, Action::Delay(SOON));
    let mut client = Client::connect(&proxy);
    let began_at = Instant::now();
    client.send(Api::PRODUCE, 1);
    assert_eq!(client.answer(), Some(1));
    assert!(began_at.elapsed() >= SOON);
}

#[test]
fn each_direction_is_cut_by_itself() {
    for (speech, cut) in
        [(Speech::Kafka, Cut::Requests), (Speech::Any, Cut::Answers), (Speech::Any, Cut::Both)]
    {
        let upstream = Upstream::start();
        let proxy = Proxy::start(speech, upstream.port);
        proxy.cut(cut);
        let mut client = Client::connect(&proxy);
        client.send(Api::FETCH, 3);
        assert!(client.is_silent(), "{cut:?}");
        assert_eq!(upstream.came().len(), usize::from(cut == Cut::Answers), "{cut:?}");
        proxy.heal();
        assert_eq!(client.answer(), Some(3), "{cut:?}");
    }
}

#[test]
fn dropping_it_closes_everything() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Speech::Any, upstream.port);
    let mut client = Client::connect(&proxy);
    client.send(Api::FETCH, 1);
    assert_eq!(client.answer(), Some(1));
    let address = proxy.address();
    drop(proxy);
    assert_eq!(client.answer(), None);
    // The thread that accepts ends on its own.
    let began_at = Instant::now();
    while TcpStream::connect(&address).is_ok() {
        assert!(began_at.elapsed() < WITHIN);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_init_is_told_by_its_producer() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(Speech::Kafka, upstream.port);
    proxy.on_init(".b", 1, Action::Swallow);
    // Version 4 as librdkafka sends it: no tags, then a text's length and one.
    let init = |id: &str| [&[0, id.len() as u8 + 1], id.as_bytes()].concat();
    let answered = |id: &str| {
        let mut client = Client::connect(&proxy);
        let mut frame = request(Api::INIT_PRODUCER_ID, 4, 1, &init(id));
        // A client without a name is one of no bytes here.
        frame.0[12..14].fill(0);
        client.0.write_all(&frame.0).unwrap();
        client.answer().is_some()
    };
    assert_eq!(["lane.a", "lane.b", "lane.b"].map(answered), [true, false, true]);
    let old = request(Api::INIT_PRODUCER_ID, 1, 1, b"\0\x06lane.b");
    assert_eq!(old.transactional_id(), Some("lane.b"));
}
