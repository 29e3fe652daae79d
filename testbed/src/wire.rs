//! The few things of Kafka's wire protocol that tests need and no client library offers: which request a frame
//! is, and requests in versions without tagged fields, written by hand.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// No request or answer that tests have to do with is longer.
const LONGEST: usize = 64 << 20;
const WITHIN: Duration = Duration::from_secs(20);

/// A request's kind, by Kafka's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Api(pub i16);

impl Api {
    pub const PRODUCE: Self = Self(0);
    pub const FETCH: Self = Self(1);
    pub const DELETE_TOPICS: Self = Self(20);
    pub const INIT_PRODUCER_ID: Self = Self(22);
    pub const ADD_OFFSETS_TO_TXN: Self = Self(25);
    pub const END_TXN: Self = Self(26);
    pub const TXN_OFFSET_COMMIT: Self = Self(28);
    pub const CREATE_ACLS: Self = Self(30);
    pub const DELETE_ACLS: Self = Self(31);
    pub const CREATE_PARTITIONS: Self = Self(37);
    pub const INCREMENTAL_ALTER_CONFIGS: Self = Self(44);
    pub const OFFSET_DELETE: Self = Self(47);
}

/// A request or an answer with the four bytes of its length before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

impl Frame {
    /// # Errors
    /// The connection's; `InvalidData` for what is no frame.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let size = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(4..=LONGEST).contains(&size) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; 4 + size];
        bytes[..4].copy_from_slice(&length);
        from.read_exact(&mut bytes[4..])?;
        Ok(Self(bytes))
    }

    /// Of a request.
    pub fn api(&self) -> Api {
        Api(self.i16_at(4))
    }

    /// Of a request.
    pub fn version(&self) -> i16 {
        self.i16_at(6)
    }

    /// What a request's answer will begin with.
    pub fn request_correlation(&self) -> i32 {
        self.i32_at(8)
    }

    pub fn answer_correlation(&self) -> i32 {
        self.i32_at(4)
    }

    /// Whose producer it is: of a request to InitProducerId.
    pub fn transactional_id(&self) -> Option<&str> {
        /// From this version on texts are preceded by their length and one in a byte, headers followed by tags.
        const FLEXIBLE: i16 = 2;
        // Length, kind, version, correlation id, the client's name.
        let name = usize::try_from(self.i16_at(12)).unwrap_or(0);
        let (from, length) = if self.version() < FLEXIBLE {
            (14 + name + 2, usize::try_from(self.i16_at(14 + name)).ok()?)
        } else {
            (14 + name + 2, usize::from(*self.0.get(14 + name + 1)?).checked_sub(1)?)
        };
        std::str::from_utf8(self.0.get(from..from + length)?).ok()
    }

    /// The error in an answer to EndTxn, versions 0 to 2.
    pub fn end_txn_error(&self) -> i16 {
        self.i16_at(12)
    }

    /// The first error in an answer to Produce, from version 9 on.
    pub fn produce_error(&self) -> i16 {
        // Length, correlation id, no tags, topics (each count one too many), name, partitions, its number.
        let name = self.0.get(10).map_or(0, |length| usize::from(*length).saturating_sub(1));
        self.i16_at(11 + name + 1 + 4)
    }

    fn i16_at(&self, at: usize) -> i16 {
        self.0.get(at..at + 2).map_or(-1, |two| i16::from_be_bytes([two[0], two[1]]))
    }

    fn i32_at(&self, at: usize) -> i32 {
        self.0.get(at..at + 4).map_or(-1, |four| i32::from_be_bytes([four[0], four[1], four[2], four[3]]))
    }
}

/// Deletes a topic; it is gone from the brokers' metadata a moment later.
pub fn delete_topic(bootstrap: &str, topic: &str) {
    delete_topics(bootstrap, &[topic]);
}

/// The same for many.
pub fn delete_topics(bootstrap: &str, topics: &[impl AsRef<str>]) {
    let count = i32::try_from(topics.len()).expect("few topics");
    let names = topics.iter().fold(Body::default().i32(count), |body, topic| body.string(topic.as_ref()));
    let answer = ask(bootstrap, Api::DELETE_TOPICS, 1, names.i32(10_000));
    // Throttle time, results: name, error.
    let mut at = 8 + 4 + 4;
    for _ in topics {
        let error_at = at + 2 + usize::try_from(answer.i16_at(at)).unwrap_or_default();
        assert_eq!(answer.i16_at(error_at), 0, "a topic is not deleted");
        at = error_at + 2;
    }
}

/// Gives a topic so many partitions in all.
pub fn grow_topic(bootstrap: &str, topic: &str, partitions: i32) {
    let body = Body::default().i32(1).string(topic).i32(partitions).i32(-1).i32(10_000).byte(0);
    let answer = ask(bootstrap, Api::CREATE_PARTITIONS, 0, body);
    assert_eq!(answer.i16_at(8 + 4 + 4 + 2 + topic.len()), 0, "{topic} did not get more partitions");
}

/// Changes one setting of a topic.
pub fn set_topic(bootstrap: &str, topic: &str, name: &str, value: &str) {
    const TOPIC: u8 = 2;
    const SET: u8 = 0;
    let resource = Body::default().i32(1).byte(TOPIC).string(topic);
    let body = resource.i32(1).string(name).byte(SET).string(value).byte(0);
    let answer = ask(bootstrap, Api::INCREMENTAL_ALTER_CONFIGS, 0, body);
    assert_eq!(answer.i16_at(8 + 4 + 4), 0, "{name} of {topic} is not set");
}

/// Deletes what a group has committed for one partition, on a cluster of one broker.
pub fn delete_position(bootstrap: &str, group: &str, topic: &str, partition: i32) {
    let body = Body::default().string(group).i32(1).string(topic).i32(1).i32(partition);
    let answer = ask(bootstrap, Api::OFFSET_DELETE, 0, body);
    // Error, throttle time, one topic with one partition: its error.
    let own = answer.i16_at(8 + 2 + 4 + 4 + 2 + topic.len() + 4 + 4);
    assert_eq!([answer.i16_at(8), own], [0; 2], "{group} keeps its position of {topic}/{partition}");
}

/// Which topics a rule is about: the one of its name, or all whose names begin so.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Pattern {
    Literal = 3,
    Prefixed = 4,
}

/// Of a rule: about topics, what may or may not be done.
const TOPIC: u8 = 2;
const ALL: u8 = 2;
const WRITE: u8 = 4;
const DESCRIBE_CONFIGS: u8 = 10;
const DENY: u8 = 2;
const ALLOW: u8 = 3;
/// In a filter: whatever it is.
const ANY: u8 = 1;

/// Nobody may write to these topics any more; all else is as allowed as before. For a broker with an authorizer.
pub fn forbid_writes(bootstrap: &str, pattern: Pattern, name: &str) {
    forbid(bootstrap, pattern, name, WRITE);
}

/// Nobody may read this topic's settings any more.
pub fn forbid_settings(bootstrap: &str, name: &str) {
    forbid(bootstrap, Pattern::Literal, name, DESCRIBE_CONFIGS);
}

fn forbid(bootstrap: &str, pattern: Pattern, name: &str, operation: u8) {
    let rule = |body: Body, operation: u8, permission: u8| {
        let body = body.byte(TOPIC).string(name).byte(pattern as u8).string("User:*").string("*");
        body.byte(operation).byte(permission)
    };
    let body = rule(Body::default().i32(2), ALL, ALLOW);
    let answer = ask(bootstrap, Api::CREATE_ACLS, 1, rule(body, operation, DENY));
    // Throttle time, two results: error, no text.
    assert_eq!([answer.i16_at(8 + 4 + 4), answer.i16_at(8 + 4 + 4 + 4)], [0; 2], "{name} has no rules");
}

/// Takes back what was forbidden.
pub fn allow(bootstrap: &str, pattern: Pattern, name: &str) {
    let body = Body::default().i32(1).byte(TOPIC).string(name).byte(pattern as u8).null().null();
    let answer = ask(bootstrap, Api::DELETE_ACLS, 1, body.byte(ANY).byte(ANY));
    // Throttle time, one result: error, no text, the rules that matched.
    assert_eq!(answer.i16_at(8 + 4 + 4), 0, "{name} keeps its rules");
    assert_eq!(answer.i32_at(8 + 4 + 4 + 2 + 2), 2, "rules of {name} taken back");
}

fn ask(bootstrap: &str, api: Api, version: i16, body: Body) -> Frame {
    let first = bootstrap.split(',').next().expect("a broker");
    let stream = TcpStream::connect(first).expect("a broker that listens");
    exchange(stream, &request(api, version, 1, &body.0)).expect("an answer")
}

/// Sends a request on a connection and waits for one answer.
///
/// # Errors
/// The connection's, or that nothing came.
pub fn exchange(mut stream: TcpStream, request: &Frame) -> io::Result<Frame> {
    stream.set_read_timeout(Some(WITHIN))?;
    stream.write_all(&request.0)?;
    Frame::read(&mut stream)
}

/// A request with the older header, by a client without a name.
pub fn request(api: Api, version: i16, correlation: i32, body: &[u8]) -> Frame {
    let size = 10 + u32::try_from(body.len()).expect("a short body");
    let head = [
        &size.to_be_bytes()[..],
        &api.0.to_be_bytes(),
        &version.to_be_bytes(),
        &correlation.to_be_bytes(),
        &(-1_i16).to_be_bytes(),
    ];
    Frame([&head.concat(), body].concat())
}

/// A request's fields, one after the other.
#[derive(Debug, Default)]
struct Body(Vec<u8>);

impl Body {
    fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Instead of a string.
    fn null(mut self) -> Self {
        self.0.extend((-1_i16).to_be_bytes());
        self
    }

    fn string(mut self, text: &str) -> Self {
        self.0.extend(i16::try_from(text.len()).expect("a short text").to_be_bytes());
        self.0.extend(text.as_bytes());
        self
    }
}
