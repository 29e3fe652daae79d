//! Bytes through TCP sockets by process, loopback included, from the kernel's own counters.
//!
//! `ss` (iproute2) tells them with the processes that have a socket open. A socket that is closed keeps in the sums
//! what it had at the last look; what went through it after that is missed.

use std::{collections::HashMap, process::Command};

/// Sums since they were first looked at.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// Of each socket that was open at the last look.
    open: HashMap<u64, [u64; 2]>,
    /// Received and sent, by process.
    sums: HashMap<u32, [u64; 2]>,
}

/// One socket now.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    /// The kernel's number for it, never used again.
    cookie: u64,
    pids: Vec<u32>,
    /// Received and sent.
    bytes: [u64; 2],
}

impl Sockets {
    /// Received and sent bytes of each process that ever had a socket; none if the kernel cannot be asked.
    pub(super) fn look(&mut self) -> Option<&HashMap<u32, [u64; 2]>> {
        // A second is a hundred times what it takes.
        let told = Command::new("timeout").args(["1", "ss", "-tinepHO"]).output().ok()?;
        if !told.status.success() {
            return None;
        }
        Some(self.take_in(&String::from_utf8_lossy(&told.stdout)))
    }

    fn take_in(&mut self, told: &str) -> &HashMap<u32, [u64; 2]> {
        let mut open = HashMap::new();
        for socket in told.lines().filter_map(Socket::parse) {
            let before = self.open.get(&socket.cookie).copied().unwrap_or_default();
            for pid in socket.pids {
                let sums = self.sums.entry(pid).or_default();
                for ((sum, now), before) in sums.iter_mut().zip(socket.bytes).zip(before) {
                    *sum += now.saturating_sub(before);
                }
            }
            open.insert(socket.cookie, socket.bytes);
        }
        self.open = open;
        &self.sums
    }
}

impl Socket {
    /// A line such as `ESTAB 0 0 127.0.0.1:1 127.0.0.1:2 users:(("java",pid=7,fd=5)) ino:9 sk:1a … bytes_sent:3 …`;
    /// a counter that is 0 is left out.
    fn parse(line: &str) -> Option<Self> {
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        let count = |name| field(name).and_then(|count| count.parse().ok()).unwrap_or(0);
        let (_, users) = line.split_once("users:(")?;
        let pids = users.split("pid=").skip(1).filter_map(|rest| rest.split(',').next()?.parse().ok());
        let mut pids: Vec<u32> = pids.collect();
        // A process may have it open several times.
        pids.sort_unstable();
        pids.dedup();
        Some(Self {
            cookie: u64::from_str_radix(field("sk:")?, 16).ok()?,
            pids,
            bytes: [count("bytes_received:"), count("bytes_sent:")],
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn line(cookie: u64, users: &str, received: u64, sent: u64) -> String {
        format!(
            "ESTAB 0 416 127.0.0.1:43818 127.0.0.1:41493 users:({users}) timer:(on,204ms,0) ino:5 sk:{cookie:x} cgroup:/ \
             <-> ts sack bytes_sent:{sent} bytes_acked:1 bytes_received:{received} segs_out:2300\n"
        )
    }

    #[test]
    fn closed_sockets_keep_what_they_had() {
        let mut sockets = Sockets::default();
        let (mine, shared) =
            ("(\"java\",pid=7,fd=51)", "(\"a\",pid=7,fd=1),(\"a\",pid=7,fd=2),(\"b\",pid=8,fd=1)");
        sockets.take_in(&(line(0x1a, mine, 100, 10) + &line(2, shared, 5, 1)));
        sockets.take_in(&line(0x1a, mine, 130, 10));
        // One that is new, and one that nobody has any more.
        let told =
            line(3, mine, 7, 7) + "FIN-WAIT-2 0 0 127.0.0.1:1 127.0.0.1:2 ino:0 sk:9 <-> bytes_sent:50\n";
        let sums = sockets.take_in(&told);
        assert_eq!((sums[&7], sums[&8], sums.len()), ([142, 18], [5, 1], 2));
    }

    #[test]
    fn the_kernel_tells_of_our_own_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (mut far, _) = listener.accept().expect("accepts");
        near.write_all(&[7; 5_000]).expect("sends");
        far.read_exact(&mut [0; 5_000]).expect("arrives");
        let mut sockets = Sockets::default();
        // Where there is no `ss` nothing is measured.
        let Some(sums) = sockets.look() else { return };
        let [received, sent] = sums[&std::process::id()];
        assert!(received >= 5_000 && sent >= 5_000, "{received} {sent}");
    }
}
