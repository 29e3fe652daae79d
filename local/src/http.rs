//! Just enough HTTP to ask a process on loopback whether it is ready.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// A process that does not answer within this is asked again.
const WITHIN: Duration = Duration::from_secs(2);
/// No readiness answer is longer.
const LONGEST: u64 = 16 * 1024;

/// `GET path` on a loopback port: true if the answer is 200.
pub(crate) fn is_ok(port: u16, path: &str) -> bool {
    get(port, path).is_ok_and(|answer| answer.split_ascii_whitespace().nth(1) == Some("200"))
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    fetch(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), path, LONGEST)
}

/// The whole answer to `GET path`, its head included, or as much of it as is allowed.
pub(crate) fn fetch(address: SocketAddr, path: &str, longest: u64) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(longest).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
