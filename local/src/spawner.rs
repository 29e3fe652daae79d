//! The thread that starts every child.
//!
//! `PR_SET_PDEATHSIG` fires when the *thread* that made the child ends, not the process. A child started from a
//! test's thread or from a runtime's blocking pool (whose threads end after ten idle seconds) would be killed with
//! it. So one thread, which lives as long as the process, starts them all.

use std::{
    io,
    path::Path,
    process::{Child, Command},
    sync::{OnceLock, mpsc},
    thread,
};

struct Request {
    command: Command,
    answer: mpsc::SyncSender<io::Result<Child>>,
}

/// A command for `program` that the kernel kills when the thread that starts it ends: util-linux's setpriv sets
/// the signal, then becomes the program.
pub(crate) fn guarded(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// As [`guarded`], as another user: in one step, for the kernel forgets the signal when a process changes its user.
pub(crate) fn guarded_as(user: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Starts `command` from the thread that never ends before the process does.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::SyncSender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = mpsc::sync_channel::<Request>(16);
        // The static sender is never dropped, so this thread ends with the process only. If it cannot be made,
        // the receiver is gone and every caller gets an error below.
        let _ = thread::Builder::new().name("ksched-spawner".to_owned()).spawn(move || {
            for mut request in inbox {
                let _ = request.answer.send(request.command.spawn());
            }
        });
        requests
    });
    let gone = || io::Error::other("the thread that starts processes could not be made");
    let (answer, outcome) = mpsc::sync_channel(1);
    spawner.send(Request { command, answer }).map_err(|_| gone())?;
    outcome.recv().map_err(|_| gone())?
}
