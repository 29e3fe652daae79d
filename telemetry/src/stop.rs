//! How a process is told to stop: SIGTERM, or Ctrl-C at a terminal.

use std::{io, process};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels the token at the first SIGTERM or SIGINT; the second one ends the process
/// at once, with exit code 1.
///
/// # Errors
/// The signals cannot be listened to.
pub fn on_signal(token: CancellationToken) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Ends with the process, which it is there to end.
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if token.is_cancelled() {
                process::exit(1);
            }
            tracing::info!("stopping");
            token.cancel();
        }
    });
    Ok(())
}
