//! The threads of a proxy: one that accepts, two for each connection.

use std::{
    collections::HashSet,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

use super::{Action, Cut, Shared, Speech, close};
use crate::wire::Frame;

/// Correlation ids of a connection's requests whose answers are to be lost.
type Lost = Arc<Mutex<HashSet<i32>>>;

pub(super) fn accept(listener: &TcpListener, speech: Speech, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.state.lock().is_over {
            return;
        }
        // A client that is gone already, or an upstream that does not listen: the client sees a closed connection.
        let _ = client.and_then(|client| connect(client, speech, shared));
    }
}

fn connect(client: TcpStream, speech: Speech, shared: &Arc<Shared>) -> io::Result<()> {
    let upstream = TcpStream::connect(("127.0.0.1", shared.upstream))?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let ends = [client.try_clone()?, upstream.try_clone()?];
    let mut state = shared.state.lock();
    // Those that ended by themselves.
    state.streams.retain(|stream| stream.peer_addr().is_ok());
    state.streams.extend(ends);
    drop(state);
    let lost = Lost::default();
    let (from, to) = (client.try_clone()?, upstream.try_clone()?);
    spawn(shared, from, to, {
        let lost = Arc::clone(&lost);
        move |shared, from, to| match speech {
            Speech::Kafka => requests(shared, from, to, &lost),
            Speech::Any => bytes(shared, from, to, blocks_requests),
        }
    });
    spawn(shared, upstream, client, move |shared, from, to| match speech {
        Speech::Kafka => answers(shared, from, to, &lost),
        Speech::Any => bytes(shared, from, to, blocks_answers),
    });
    Ok(())
}

/// One direction of a connection; when it ends, the connection does.
fn spawn(
    shared: &Arc<Shared>,
    mut from: TcpStream,
    mut to: TcpStream,
    pump: impl FnOnce(&Shared, &mut TcpStream, &mut TcpStream) -> io::Result<()> + Send + 'static,
) {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        // Its end is all there is to know.
        let _ = pump(&shared, &mut from, &mut to);
        close(&from);
        close(&to);
    });
}

fn requests(shared: &Shared, from: &mut TcpStream, to: &mut TcpStream, lost: &Lost) -> io::Result<()> {
    loop {
        let frame = Frame::read(from)?;
        shared.wait_open(blocks_requests)?;
        match shared.judge(&frame) {
            None => {}
            Some(Action::Hold) => shared.hold(),
            Some(Action::Delay(time)) => thread::sleep(time),
            Some(Action::Swallow) => return Ok(()),
            Some(Action::Keep) => {
                shared.keep(frame);
                return Ok(());
            }
            Some(Action::LoseAnswer) => {
                lost.lock().insert(frame.request_correlation());
            }
        }
        to.write_all(&frame.0)?;
    }
}

fn answers(shared: &Shared, from: &mut TcpStream, to: &mut TcpStream, lost: &Lost) -> io::Result<()> {
    loop {
        let frame = Frame::read(from)?;
        if lost.lock().contains(&frame.answer_correlation()) {
            return Ok(());
        }
        shared.wait_open(blocks_answers)?;
        to.write_all(&frame.0)?;
    }
}

fn bytes(
    shared: &Shared,
    from: &mut TcpStream,
    to: &mut TcpStream,
    blocks: fn(Cut) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        shared.wait_open(blocks)?;
        to.write_all(&buffer[..count])?;
    }
}

fn blocks_requests(cut: Cut) -> bool {
    cut != Cut::Answers
}

fn blocks_answers(cut: Cut) -> bool {
    cut != Cut::Requests
}
