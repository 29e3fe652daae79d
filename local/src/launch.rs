//! Starting a cluster that outlives the program that asks for it: a copy of that program in the background owns it.

use std::{
    env, fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{
    Error, Result,
    cluster::{Description, Options, Record},
};

/// An owner in the background that may still be starting.
#[derive(Debug)]
pub struct Launch {
    dir: PathBuf,
    owner: Child,
    log: PathBuf,
    /// How much of the log has been handed out.
    read: u64,
}

impl Launch {
    /// Keeps `options` in `dir` and starts this program with `args`, which must end in [`detach`] and
    /// [`load_options`] with the same `dir`.
    ///
    /// # Errors
    /// [`Error::Taken`] if a cluster is running there.
    pub fn begin(dir: &Path, options: &Options, args: &[&str]) -> Result<Self> {
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).map_err(Error::io(format!("make {}", logs.display())))?;
        let dir = dir.canonicalize().map_err(Error::io(format!("find {}", dir.display())))?;
        if Record::read(&dir).is_ok() {
            return Err(Error::Taken { dir });
        }
        let json = serde_json::to_vec_pretty(options)
            .map_err(|error| Error::io("write options.json")(error.into()))?;
        fs::write(dir.join("options.json"), json).map_err(Error::io("write options.json"))?;

        let log = dir.join("logs/supervisor.log");
        let file = fs::File::create(&log).map_err(Error::io(format!("open {}", log.display())))?;
        let program = env::current_exe().map_err(Error::io("find the running program"))?;
        let mut command = Command::new(program);
        command.args(args).arg("--dir").arg(&dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let owner = command.spawn().map_err(Error::io("start the cluster's owner"))?;
        Ok(Self { dir, owner, log, read: 0 })
    }

    /// The cluster once it is ready; call again while it is not.
    ///
    /// # Errors
    /// [`Error::Refused`] if it did not become ready; [`Launch::said`] has the reason.
    pub fn poll(&mut self) -> Result<Option<Description>> {
        let ended = self.owner.try_wait().map_err(Error::io("look after the cluster's owner"))?;
        if ended.is_some() {
            return Err(Error::Refused(format!(
                "the cluster did not start; its logs are in {}",
                self.logs().display()
            )));
        }
        // Written when all is ready, and by this owner only: it holds the directory's lock.
        match Record::read(&self.dir) {
            Ok(record) if record.owner.pid == self.owner.id() => Ok(Some(record.description)),
            _ => Ok(None),
        }
    }

    fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// What the owner has said since the last call.
    pub fn said(&mut self) -> String {
        let mut text = String::new();
        if let Ok(mut log) = fs::File::open(&self.log)
            && log.seek(SeekFrom::Start(self.read)).is_ok()
            && let Ok(bytes) = log.read_to_string(&mut text)
        {
            self.read += bytes as u64;
        }
        text
    }

    /// Ends what is not wanted any more, and with it all it has started.
    pub fn abort(mut self) {
        // Both fail only if it has ended already.
        let _ = self.owner.kill();
        let _ = self.owner.wait();
    }
}

/// Leaves the terminal and the session of whoever started this process.
pub fn detach() -> Result<()> {
    rustix::process::setsid()
        .map(drop)
        .map_err(|errno| Error::Io { doing: "leave the session".to_owned(), source: errno.into() })
}

/// What [`Launch::begin`] kept.
pub fn load_options(dir: &Path) -> Result<Options> {
    let json = fs::read(dir.join("options.json")).map_err(Error::io("read options.json"))?;
    serde_json::from_slice(&json).map_err(|error| Error::io("read options.json")(error.into()))
}
