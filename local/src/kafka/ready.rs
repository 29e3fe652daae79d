//! Asks a node the one question that says it serves: which brokers do you see?

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

const WITHIN: Duration = Duration::from_secs(5);
/// An answer without topics is a few hundred bytes.
const LONGEST: usize = 64 * 1024;

/// Whether the node that listens on `port` sees itself, as `id`, among the live brokers. A node listens before it
/// is registered; only then is it part of this answer.
pub(super) fn serves(port: u16, id: u16) -> bool {
    brokers(port).is_ok_and(|brokers| brokers.contains(&i32::from(id)))
}

/// Ids of the brokers in an answer to Metadata version 4 that names no topic.
fn brokers(port: u16) -> io::Result<Vec<i32>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    // Size, api key 3, version 4, correlation id, client id null, no topics, no creation of topics.
    stream.write_all(b"\0\0\0\x0f\0\x03\0\x04\0\0\0\0\xff\xff\0\0\0\0\0")?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
    if size > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    // After correlation id and throttle time: an array of (id, host, port, rack).
    let mut rest = answer.get(8..).unwrap_or_default();
    let count = take_i32(&mut rest)?;
    (0..count)
        .map(|_| {
            let id = take_i32(&mut rest)?;
            skip_string(&mut rest)?;
            take_i32(&mut rest)?;
            skip_string(&mut rest)?;
            Ok(id)
        })
        .collect()
}

fn take_i32(bytes: &mut &[u8]) -> io::Result<i32> {
    let mut number = [0; 4];
    bytes.read_exact(&mut number)?;
    Ok(i32::from_be_bytes(number))
}

/// A string with a two-byte length; a negative one stands for null.
fn skip_string(bytes: &mut &[u8]) -> io::Result<()> {
    let mut length = [0; 2];
    bytes.read_exact(&mut length)?;
    let length = usize::try_from(i16::from_be_bytes(length)).unwrap_or(0);
    *bytes = bytes.get(length..).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(())
}
