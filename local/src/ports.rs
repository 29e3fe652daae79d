//! Loopback ports, chosen once and kept in the directory, so that a process comes back where it was.

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    net::TcpListener,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Below this other services of a developer's machine are likely.
const LOWEST: u16 = 15_000;

/// The ports of one directory by purpose (`kafka-1`, `coordinator-1-http`, …).
#[derive(Debug)]
pub struct Ports {
    file: PathBuf,
    chosen: BTreeMap<String, u16>,
}

impl Ports {
    /// Reads what an earlier start chose in `dir`; empty if there was none.
    pub fn open(dir: &Path) -> Result<Self> {
        let file = dir.join("ports.json");
        let chosen = match fs::read(&file) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| Error::io(read(&file))(error.into()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Error::io(read(&file))(error)),
        };
        Ok(Self { file, chosen })
    }

    /// The port for `name`: `fixed` if given, else the one kept, else a free one, kept from now on.
    ///
    /// # Errors
    /// [`Error::PortTaken`] if another program listens there now.
    pub fn of(&mut self, name: &str, fixed: Option<u16>) -> Result<u16> {
        if let Some(port) = fixed.or_else(|| self.chosen.get(name).copied()) {
            if !is_free(port) {
                return Err(Error::PortTaken { name: name.to_owned(), port, file: self.file.clone() });
            }
            self.chosen.insert(name.to_owned(), port);
        } else {
            let port = self.choose().map_err(Error::io("find a free port"))?;
            self.chosen.insert(name.to_owned(), port);
        }
        self.save()?;
        Ok(self.chosen[name])
    }

    /// A free port outside the range the kernel gives to outgoing connections: inside it, a client that keeps
    /// trying a killed process's port can be given that very port as its own and so connect to itself.
    fn choose(&self) -> std::io::Result<u16> {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let ephemeral =
            range.split_ascii_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
        if ephemeral > LOWEST {
            let span = u64::from(ephemeral - LOWEST);
            for _ in 0..1_000 {
                // The standard library's hash seed is the randomness at hand.
                let draw = RandomState::new().build_hasher().finish() % span;
                let port = LOWEST + u16::try_from(draw).unwrap_or_default();
                if !self.chosen.values().any(|taken| *taken == port) && is_free(port) {
                    return Ok(port);
                }
            }
        }
        Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
    }

    fn save(&self) -> Result<()> {
        let json = serde_json::to_vec_pretty(&self.chosen)
            .map_err(|error| Error::io(format!("write {}", self.file.display()))(error.into()))?;
        fs::write(&self.file, json).map_err(Error::io(format!("write {}", self.file.display())))
    }
}

fn read(file: &Path) -> String {
    format!("read {}", file.display())
}

/// Whether a server could listen there now. (The standard library binds with `SO_REUSEADDR`, so connections that
/// linger from an earlier server do not count.)
fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
