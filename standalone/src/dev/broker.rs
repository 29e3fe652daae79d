//! The broker in memory (crate `noida-db`), at a pace. By itself it answers a fetch at once, also with nothing, so that
//! readers who ask again keep two cores busy for ever.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    thread,
    time::Duration,
};

use noida::kafka::{connection::handle_connection, engine::Engine};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
    time::sleep,
};

/// How long a fetch waits before the broker sees it; what comes is late by so much at most.
const PACE: Duration = Duration::from_millis(10);
/// The API key of Fetch.
const FETCH: u16 = 1;
/// After a connection that could not be taken, or there would be no end of them.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// Listens on `address`; where that is, and what keeps it there.
pub(super) async fn start(address: SocketAddr) -> io::Result<(SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let engine = Engine::new(address.ip().to_string(), i32::from(address.port()));
    engine.spawn_log_cleaner();
    let behind = StdListener::bind((address.ip(), 0))?;
    let upstream = behind.local_addr()?;
    // Its threads end with the process, as the crate's own do.
    thread::spawn(move || {
        for stream in behind.incoming().flatten() {
            let engine = engine.clone();
            thread::spawn(move || handle_connection(stream, engine));
        }
    });
    let mut serving = JoinSet::new();
    serving.spawn(serve(listener, upstream));
    Ok((address, serving))
}

async fn serve(listener: TcpListener, upstream: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                // However it ends: whoever is connected sees it.
                Ok((client, _)) => _ = connections.spawn(async move { _ = relay(client, upstream).await }),
                Err(_) => sleep(AFTER_ERROR).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let broker = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let (requests, mut answers) = client.into_split();
    let (mut answered, asked) = broker.into_split();
    tokio::select! {
        ended = pace(requests, asked) => ended,
        ended = copy(&mut answered, &mut answers) => ended.map(drop),
    }
}

/// Each request as it comes: its length, the API's key, and the rest.
async fn pace(requests: OwnedReadHalf, broker: OwnedWriteHalf) -> io::Result<()> {
    let (mut requests, mut broker) = (BufReader::new(requests), BufWriter::new(broker));
    loop {
        let (length, api) = (requests.read_u32().await?, requests.read_u16().await?);
        if api == FETCH {
            sleep(PACE).await;
        }
        broker.write_u32(length).await?;
        broker.write_u16(api).await?;
        copy(&mut (&mut requests).take(u64::from(length.saturating_sub(2))), &mut broker).await?;
        broker.flush().await?;
    }
}
