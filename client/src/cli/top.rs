//! `top`: the cluster, live, on the whole terminal. One thread draws and reads keys; a task asks.

mod draw;

use std::{
    env,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use clap::Args;
use ksched_client::Settings;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::{self, error::TryRecvError},
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use self::draw::Ink;
use crate::{
    connection::ServerArguments,
    onlooker::{self, Onlooker},
    output::Failure,
    plan::span,
    view::{Shown, View},
};

/// Somebody looks on: a look that takes longer has seen nothing.
const PATIENCE: Settings = Settings {
    connect_timeout: Duration::from_secs(1),
    attempt_timeout: Duration::from_secs(2),
    deadline: Duration::from_secs(3),
};
/// How soon an answer is shown; keys are heard at once.
const TICK: Duration = Duration::from_millis(100);
/// Of a terminal that is gone crossterm reads for ever; then there is nothing to give back.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);
const NO_TERMINAL: &str = "top draws on a terminal, and stdout is none: `workers`, `jobs` and `lanes` print the \
                           same once, with `--output json` for programs";

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ksched-client top --server 10.0.0.1:50051,10.0.0.2:50051 --interval 2s")]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    /// From one look to the next.
    #[arg(long, default_value = "1s", value_parser = between_looks)]
    interval: Duration,
}

/// What came of a look, or why nothing did.
type Look = Result<View, String>;

/// The terminal, given back as it was however this ends; a panic gives it back before it is told.
struct Screen(DefaultTerminal);

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::Refused(NO_TERMINAL.to_owned()));
    }
    let (server, every) = (arguments.server, arguments.interval);
    let onlooker = Onlooker::new(server.client_with(PATIENCE)?, server.addresses().to_vec());
    let (tell, told) = mpsc::channel(1);
    // Whoever still waits for an answer ends with this.
    let mut asking = JoinSet::new();
    asking.spawn(ask(onlooker, every, tell));
    let stop = CancellationToken::new();
    let mut showing = spawn_blocking({
        let stop = stop.clone();
        move || show(told, &stop, every)
    });
    let shown = tokio::select! {
        shown = &mut showing => shown,
        ended = told_to_end() => {
            stop.cancel();
            let shown = timeout(LEAVE_WITHIN, &mut showing).await;
            ended?;
            shown.unwrap_or(Ok(Ok(())))
        }
    };
    Ok(shown.map_err(|error| Failure::MayPass(error.to_string()))??)
}

async fn ask(mut onlooker: Onlooker, every: Duration, tell: mpsc::Sender<Look>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let look = onlooker.look().await.map_err(|error| onlooker::reason(&error));
        if tell.send(look).await.is_err() {
            return;
        }
    }
}

/// Until a key or `stop` ends it. Blocking.
fn show(mut told: mpsc::Receiver<Look>, stop: &CancellationToken, every: Duration) -> io::Result<()> {
    let mut screen = Screen::open()?;
    let (mut shown, ink) = (Shown::new(Instant::now()), Ink::wanted(env::var_os("NO_COLOR").as_deref()));
    while !stop.is_cancelled() {
        match told.try_recv() {
            Ok(look) => shown.note(look, Instant::now()),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Err(io::Error::other("nobody asks any more")),
        }
        screen.0.draw(|frame| draw::draw(frame, &shown, Instant::now(), every, ink))?;
        if event::poll(TICK)? && is_end(&event::read()?) {
            break;
        }
    }
    Ok(())
}

fn is_end(event: &Event) -> bool {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return false };
    let is_key = match code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    };
    is_key && *kind != KeyEventKind::Release
}

/// By a signal. The keyboard sends none while keys are read one by one.
async fn told_to_end() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

fn between_looks(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(100)..=Duration::from_secs(3_600);
    let every = span(text)?;
    bounds.contains(&every).then_some(every).ok_or_else(|| "must be from 100ms to 1h".to_owned())
}

impl Screen {
    fn open() -> io::Result<Self> {
        // Half opened is to be closed too.
        ratatui::try_init().map(Self).inspect_err(|_| ratatui::restore())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A panic has done it, and what it told must stay.
        if !std::thread::panicking() {
            ratatui::restore();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_control_c_end_it() {
        let ends = |code, modifiers| is_end(&Event::Key(KeyEvent::new(code, modifiers)));
        assert!(ends(KeyCode::Char('q'), KeyModifiers::NONE) && ends(KeyCode::Esc, KeyModifiers::NONE));
        assert!(ends(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!ends(KeyCode::Char('c'), KeyModifiers::NONE) && !is_end(&Event::Resize(1, 1)));
    }
}
