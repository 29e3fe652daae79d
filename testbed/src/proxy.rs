//! A TCP proxy for one link, which can be cut in either direction, and which understands Kafka frames well enough
//! to single out requests by their kind: hold them, delay them, swallow them, lose their answers, or keep them and
//! send them again when their client has long gone on.
//!
//! Kafka's clients keep coming through it without any answer being rewritten, because the broker has a listener of
//! its own for it and advertises the proxy's port there (`ksched_local::kafka::Listener`).

mod pump;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use crate::wire::{self, Api, Frame};

/// Runs until it is dropped; then all its connections are gone.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

/// What passes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// Frames, one by one.
    Kafka,
    /// Bytes.
    Any,
}

/// Which way nothing passes. Connections stay open, and new ones are accepted: packets vanish, nobody says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Requests,
    Answers,
    Both,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is passed on when [`Proxy::release`] says so, and what comes behind it on its connection as well.
    Hold,
    /// It is passed on after this time.
    Delay(Duration),
    /// It vanishes, and its connection is closed.
    Swallow,
    /// It vanishes, its connection is closed, and [`Proxy::replay`] sends it when nobody reckons with it any more.
    Keep,
    /// It is passed on, and its connection is closed instead of answering.
    LoseAnswer,
}

/// The next so many requests of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub api: Api,
    /// Only those whose transactional id ends so (InitProducerId).
    pub id_ending: Option<&'static str>,
    pub times: u32,
    pub action: Action,
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_over: bool,
    cut: Option<Cut>,
    rules: Vec<Rule>,
    /// How often requests on hold have been let go.
    releases: u64,
    on_hold: u32,
    kept: Vec<Frame>,
    /// Both ends of each connection.
    streams: Vec<TcpStream>,
}

impl Proxy {
    /// Listens on a port of its own and passes on to `upstream`, which need not listen yet.
    pub fn start(speech: Speech, upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port for a proxy");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared { upstream, state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        let accept = move || pump::accept(&listener, speech, &accepting);
        thread::Builder::new().name(format!("proxy-{port}")).spawn(accept).expect("a thread");
        Self { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `HOST:PORT` for those who shall come through here.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on nothing passes that way.
    pub fn cut(&self, cut: Cut) {
        self.change(|state| state.cut = Some(cut));
    }

    /// Everything passes again, what was stuck included; no rule holds any more.
    pub fn heal(&self) {
        self.change(|state| {
            state.cut = None;
            state.rules.clear();
            state.releases += 1;
        });
    }

    /// Adds a rule.
    pub fn on(&self, api: Api, times: u32, action: Action) {
        self.change(|state| state.rules.push(Rule { api, id_ending: None, times, action }));
    }

    /// Adds a rule for inits of producers whose transactional id ends so.
    pub fn on_init(&self, id_ending: &'static str, times: u32, action: Action) {
        let rule = Rule { api: Api::INIT_PRODUCER_ID, id_ending: Some(id_ending), times, action };
        self.change(|state| state.rules.push(rule));
    }

    /// What the rules are still waiting for.
    pub fn rules(&self) -> Vec<Rule> {
        self.shared.state.lock().rules.clone()
    }

    /// Lets go what is on hold.
    pub fn release(&self) {
        self.change(|state| state.releases += 1);
    }

    /// Closes every connection; new ones are accepted.
    pub fn close_all(&self) {
        self.change(|state| state.streams.drain(..).for_each(|stream| close(&stream)));
    }

    /// Waits for so many requests to be on hold or kept.
    pub fn wait_caught(&self, count: usize, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut state = self.shared.state.lock();
        while state.kept.len() + (state.on_hold as usize) < count {
            if self.shared.changed.wait_until(&mut state, deadline).timed_out() {
                return false;
            }
        }
        true
    }

    /// Sends each request that was kept on a connection of its own, and tells what came back, if anything did.
    pub fn replay(&self) -> Vec<(Frame, io::Result<Frame>)> {
        let kept = std::mem::take(&mut self.shared.state.lock().kept);
        let send = |frame: Frame| {
            let answer = TcpStream::connect(("127.0.0.1", self.shared.upstream))
                .and_then(|stream| wire::exchange(stream, &frame));
            (frame, answer)
        };
        kept.into_iter().map(send).collect()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|state| state.is_over = true);
        self.close_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Rule {
    fn is_about(&self, request: &Frame) -> bool {
        let is_its = |ending| request.transactional_id().is_some_and(|id| id.ends_with(ending));
        self.api == request.api() && self.id_ending.is_none_or(is_its)
    }
}

impl Shared {
    /// Waits while nothing may pass that way.
    fn wait_open(&self, blocks: fn(Cut) -> bool) -> io::Result<()> {
        let mut state = self.state.lock();
        while !state.is_over && state.cut.is_some_and(blocks) {
            self.changed.wait(&mut state);
        }
        if state.is_over { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// What is to be done with a request; uses up its rule.
    fn judge(&self, request: &Frame) -> Option<Action> {
        let mut state = self.state.lock();
        let rule = state.rules.iter_mut().find(|rule| rule.times > 0 && rule.is_about(request))?;
        rule.times -= 1;
        Some(rule.action)
    }

    fn hold(&self) {
        let mut state = self.state.lock();
        state.on_hold += 1;
        self.changed.notify_all();
        let before = state.releases;
        while !state.is_over && state.releases == before {
            self.changed.wait(&mut state);
        }
        state.on_hold -= 1;
    }

    fn keep(&self, frame: Frame) {
        self.state.lock().kept.push(frame);
        self.changed.notify_all();
    }
}

fn close(stream: &TcpStream) {
    // Closed already is as good.
    let _ = stream.shutdown(Shutdown::Both);
}
