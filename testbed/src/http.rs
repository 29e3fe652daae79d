//! One request to what speaks HTTP on this machine.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

const WITHIN: Duration = Duration::from_secs(10);

/// The whole answer to `GET path`, its head included.
pub fn get(address: &str, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"))
}

/// The whole answer to `POST path`, its head included.
pub fn post(address: &str, path: &str, content_type: &str, body: &str) -> String {
    let head = format!("POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: {content_type}");
    exchange(address, &format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// An answer to HTTP/1.0 comes in one piece.
fn exchange(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody who listens");
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
