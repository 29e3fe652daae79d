//! How a process is told to stop: SIGTERM, or Ctrl-C at a terminal.

use tokio::signal::unix::{SignalKind, signal as listen};

/// Resolves at the first SIGTERM or SIGINT; never, where signals cannot be heard.
pub async fn signal() {
    match (listen(SignalKind::terminate()), listen(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}
