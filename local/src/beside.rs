//! A server beside the rest, which nothing of ksched waits for: Prometheus, Jaeger.

use std::{path::Path, time::Duration};

use crate::{
    Result, http,
    process::{Process, Spec},
};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// Running or not. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Beside {
    process: Process,
    /// Of its page and of its API.
    port: u16,
    /// The path that answers when it is ready.
    ready: &'static str,
}

impl Beside {
    /// Not started yet.
    pub(crate) fn new(name: &'static str, dir: &Path, spec: Spec, port: u16, ready: &'static str) -> Self {
        Self { process: Process::new(name, dir, spec), port, ready }
    }

    /// `HOST:PORT` of its page and of its API.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Starts it on the same ports and data if it does not run, and returns when it answers.
    pub(crate) fn start_again(&self) -> Result<()> {
        if self.process.pid().is_none() {
            self.process.start()?;
        }
        self.process.wait_ready(READY_WITHIN, || http::is_ok(self.port, self.ready))
    }
}
