//! Where a database keeps its data, and who owns it.
//!
//! PostgreSQL refuses to run as root, and root's own folders are closed to others. So where we are root, the data is
//! in `/var/tmp`, in a folder of the server's own user that belongs to the cluster's folder by its name; a link in
//! the cluster's folder shows where.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
};

use super::Kind;
use crate::{Error, Result, parts};

/// Beside the data: what the server is told when it starts, and the sign that the data is complete.
const FIRST_WORDS: &str = "first.sql";

#[derive(Debug)]
pub(super) struct Place {
    /// Holds `data` and the first words.
    home: PathBuf,
    data: PathBuf,
    user: Option<&'static str>,
}

impl Place {
    pub(super) fn of(dir: &Path, kind: Kind) -> Result<Self> {
        let user = is_root().then(|| kind.user());
        let home = if user.is_some() { elsewhere(dir, kind) } else { dir.join(kind.name()) };
        if user.is_some() {
            let link = dir.join(kind.name());
            match symlink(&home, &link) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io(format!("make {}", link.display()))(error));
                }
                _ => {}
            }
        }
        Ok(Self { data: home.join("data"), home, user })
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn user(&self) -> Option<&'static str> {
        self.user
    }

    pub(super) fn first_words(&self) -> PathBuf {
        self.home.join(FIRST_WORDS)
    }

    pub(super) fn is_made(&self) -> bool {
        self.first_words().exists()
    }

    /// Makes the data folder anew, owned by whom the server runs as.
    pub(super) fn empty(&self) -> Result<&Path> {
        if self.home.exists() {
            fs::remove_dir_all(&self.home).map_err(Error::io(format!("remove {}", self.home.display())))?;
        }
        fs::create_dir_all(&self.data).map_err(Error::io(format!("make {}", self.data.display())))?;
        if let Some(user) = self.user {
            let mut command = crate::spawner::guarded(Path::new("chown"));
            command.args(["-R", &format!("{user}:")]).arg(&self.home);
            parts::run(command)?;
        }
        Ok(&self.data)
    }

    pub(super) fn finish(&self, first_words: &str) -> Result<()> {
        let file = self.first_words();
        fs::write(&file, first_words).map_err(Error::io(format!("write {}", file.display())))
    }
}

/// Removes what was made for `dir` outside it.
pub(super) fn remove(dir: &Path, kind: Kind) -> Result<()> {
    let Ok(dir) = dir.canonicalize() else { return Ok(()) };
    let home = elsewhere(&dir, kind);
    match fs::remove_dir_all(&home) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", home.display()))(error))
        }
        _ => Ok(()),
    }
}

fn elsewhere(dir: &Path, kind: Kind) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    dir.as_os_str().as_bytes().hash(&mut hasher);
    PathBuf::from(format!("/var/tmp/ksched-{}-{:016x}", kind.name(), hasher.finish()))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
