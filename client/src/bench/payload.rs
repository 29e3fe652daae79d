//! What a message of a run carries: who it is, and a checksum of all of it.
//!
//! The value is text, `<run> <number> <checksum> <padding>`, padded to the size
//! asked for. The checksum is over seed, number, key, headers and padding, so
//! one changed byte anywhere is noticed.

use std::io::Write as _;

use bytes::Bytes;
use ksched_core::{
    message::{Content, Header},
    trace,
};

use super::plan::{Plan, Random, Shape};

/// Headers with these beginnings are ksched's: a run's messages bring no `traceparent`, so one
/// that is there was added.
const RESERVED: [&str; 3] = ["ksched-", "__sm_", trace::HEADER];

/// Bytes before the padding: run 28, number 16, checksum 16 and three spaces.
pub const SMALLEST: usize = RunId::LEN + 1 + 16 + 1 + 16 + 1;

/// One run of a plan: its seed and its start in ms, so that the runs of one topic
/// are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    pub start_ms: i64,
    pub seed: u64,
}

impl RunId {
    const LEN: usize = 28;

    fn parse(text: &[u8]) -> Option<Self> {
        let (seed, start) = (text.get(..16)?, text.get(17..)?);
        if text.len() != Self::LEN || text.get(16) != Some(&b'-') {
            return None;
        }
        Some(Self { seed: parse_hex(seed)?, start_ms: i64::try_from(parse_hex(start)?).ok()? })
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:011x}", self.seed, self.start_ms)
    }
}

impl std::str::FromStr for RunId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes()).ok_or("is not a run: expected it as bench prints it")
    }
}

/// What a received record says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub run: RunId,
    pub number: u64,
    /// Of what was received.
    pub checksum: u64,
}

/// The message of a plan as it is scheduled.
pub fn content(plan: &Plan, run: RunId, number: u64) -> Content {
    let shape = plan.shape();
    let mut value = Vec::with_capacity(shape.size.max(SMALLEST));
    // Writing to a Vec cannot fail.
    let _ = write!(value, "{run} {number:016x} {:016x} ", plan.checksum(number));
    pad(&mut value, shape, number);
    let key = plan.key(number).map(|key| Bytes::from(key_text(key)));
    let headers = (0..shape.headers)
        .map(|index| Header::new(header_name(index), header_value(shape.seed, number, index)))
        .collect();
    Content { key, value: Some(value.into()), headers }
}

/// Reads a received record; `None` if it is of no run at all.
pub fn read(content: &Content) -> Option<Mark> {
    let value = content.value.as_ref()?;
    let run = RunId::parse(value.get(..RunId::LEN)?)?;
    let number = parse_hex(value.get(RunId::LEN + 1..RunId::LEN + 17)?)?;
    let own = parse_hex(value.get(RunId::LEN + 18..RunId::LEN + 34)?);
    let mut sum = Checksum::new(run.seed, number);
    sum.add(content.key.as_deref());
    sum.add(value.get(SMALLEST..));
    for header in &content.headers {
        if !RESERVED.iter().any(|reserved| header.name.starts_with(reserved)) {
            sum.add(Some(header.name.as_bytes()));
            sum.add(header.value.as_deref());
        }
    }
    // The sum in the value and the bytes between the parts count as well.
    let spaces = [RunId::LEN, RunId::LEN + 17, RunId::LEN + 34];
    let whole = own == Some(sum.0) && spaces.iter().all(|at| value.get(*at) == Some(&b' '));
    let checksum = if whole { sum.0 } else { !sum.0 };
    Some(Mark { run, number, checksum })
}

/// What one of ksched's own headers says, in digits.
pub(super) fn told<T: std::str::FromStr>(content: &Content, name: &str) -> Option<T> {
    let header = content.headers.iter().find(|header| &*header.name == name)?;
    std::str::from_utf8(header.value.as_deref()?).ok()?.parse().ok()
}

/// Buffers for making a plan's checksums.
#[derive(Debug, Default)]
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    pub(super) fn planned_checksum(&mut self, shape: &Shape, number: u64, key: u32) -> u64 {
        self.0.clear();
        self.0.resize(SMALLEST, 0);
        pad(&mut self.0, shape, number);
        let mut sum = Checksum::new(shape.seed, number);
        let key = (shape.keys > 0).then(|| key_text(key));
        sum.add(key.as_deref().map(str::as_bytes));
        sum.add(self.0.get(SMALLEST..));
        for index in 0..shape.headers {
            sum.add(Some(header_name(index).as_bytes()));
            sum.add(Some(&header_value(shape.seed, number, index)));
        }
        sum.0
    }
}

/// Letters and digits from the seed and the number, up to the size asked for.
fn pad(value: &mut Vec<u8>, shape: &Shape, number: u64) {
    let mut random = Random::new(shape.seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
    while value.len() < shape.size {
        let room = shape.size - value.len();
        // Six bits a letter, from '0' up: printable.
        let bits = random.next();
        let letters: [u8; 8] = std::array::from_fn(|place| b'0' + (bits >> (6 * place) & 63) as u8);
        value.extend_from_slice(&letters[..room.min(8)]);
    }
}

fn key_text(key: u32) -> String {
    format!("key-{key}")
}

fn header_name(index: u32) -> String {
    format!("bench-{index}")
}

fn header_value(seed: u64, number: u64, index: u32) -> Vec<u8> {
    let mut random = Random::new(seed.rotate_left(32) ^ number ^ u64::from(index) << 48);
    random.next().to_be_bytes().to_vec()
}

fn parse_hex(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

/// A 64-bit checksum over parts, each with its length (a null is not an empty
/// part), eight bytes at a time. Not against an adversary.
struct Checksum(u64);

impl Checksum {
    fn new(seed: u64, number: u64) -> Self {
        let mut sum = Self(0x5bd1_e995_1234_5678);
        sum.mix(seed);
        sum.mix(number);
        sum
    }

    fn add(&mut self, part: Option<&[u8]>) {
        let Some(part) = part else { return self.mix(u64::MAX) };
        self.mix(part.len() as u64);
        for chunk in part.chunks(8) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(eight));
        }
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
        self.0 ^= self.0 >> 29;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::new(Shape {
            seed: 3,
            count: 10,
            rate: 10.0,
            delays_ms: 0..=1_000,
            due: super::super::plan::Due::Uniform,
            size: 200,
            keys: 4,
            headers: 2,
        })
    }

    const RUN: RunId = RunId { start_ms: 1_795_000_000_000, seed: 3 };

    #[test]
    fn is_read_as_it_was_planned() {
        let plan = plan();
        for number in 0..10 {
            let content = content(&plan, RUN, number);
            assert_eq!(content.value.as_ref().map(Bytes::len), Some(200));
            let mark = read(&content).expect("a mark");
            assert_eq!(mark, Mark { run: RUN, number, checksum: plan.checksum(number) });
        }
        assert_eq!(RUN.to_string().parse(), Ok(RUN));
    }

    #[test]
    fn our_own_headers_do_not_matter_and_the_users_do() {
        let plan = plan();
        let sent = content(&plan, RUN, 5);
        let mut with_ours = sent.clone();
        with_ours.headers.push(Header::new("ksched-id", "x"));
        with_ours.headers.push(Header::new("traceparent", "of its scheduling"));
        assert_eq!(read(&with_ours), read(&sent));
        let mut swapped = sent.clone();
        swapped.headers.swap(0, 1);
        let mut nulled = sent.clone();
        nulled.headers[0].value = None;
        let mut unkeyed = sent.clone();
        unkeyed.key = None;
        for broken in [swapped, nulled, unkeyed] {
            assert_ne!(read(&broken).expect("a mark").checksum, plan.checksum(5));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let plan = plan();
        let sent = content(&plan, RUN, 5);
        let value = sent.value.clone().expect("a value");
        for place in 0..value.len() {
            let mut changed = value.to_vec();
            changed[place] ^= 1;
            let mark = read(&Content { value: Some(changed.into()), ..sent.clone() });
            let fine = Some(Mark { run: RUN, number: 5, checksum: plan.checksum(5) });
            assert_ne!(mark, fine, "byte {place}");
        }
    }

    #[test]
    fn foreign_values_are_of_no_run() {
        for value in ["", "hello", "0123456789abcdef-0123456789a", &"é".repeat(40)] {
            let value = Some(Bytes::from(value.to_owned()));
            assert_eq!(read(&Content { value, ..Content::default() }), None);
        }
    }
}
