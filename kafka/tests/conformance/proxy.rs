//! A TCP proxy between a client and an embedded broker, which can break connections
//! and change bytes on their way to the client.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use noida::kafka::{connection::handle_connection, engine::Engine};

/// Same length, so that lengths in the protocol stay right.
pub(crate) type Replace = (&'static [u8], &'static [u8]);

pub(crate) struct Proxy {
    pub(crate) address: String,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// A broker of its own behind it, which advertises the proxy's address.
    pub(crate) fn to_embedded(replace: Option<Replace>) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = server.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let engine = Engine::new("127.0.0.1".to_owned(), i32::from(address.port()));
        thread::spawn(move || {
            for stream in server.incoming().flatten() {
                let engine = engine.clone();
                thread::spawn(move || handle_connection(stream, engine));
            }
        });
        Self::forward(listener, upstream.to_string(), replace)
    }

    /// In front of a broker that advertises the listener's address.
    pub(crate) fn forward(listener: TcpListener, upstream: String, replace: Option<Replace>) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(broker) = TcpStream::connect(&upstream) else { continue };
                for stream in [&client, &broker] {
                    stream.set_nodelay(true).unwrap();
                }
                all.lock().unwrap().push(client.try_clone().unwrap());
                let (client_in, broker_in) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
                thread::spawn(move || copy(client_in, broker, None));
                thread::spawn(move || copy(broker_in, client, replace));
            }
        });
        Self { address, connections }
    }

    /// Breaks every connection there is; new ones are let through.
    pub(crate) fn break_connections(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, replace: Option<Replace>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if let Some((old, new)) = replace {
            for start in 0..count.saturating_sub(old.len() - 1) {
                if buffer[start..].starts_with(old) {
                    buffer[start..start + new.len()].copy_from_slice(new);
                }
            }
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}
