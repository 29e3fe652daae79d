//! The coordinators behind one client: any of them can serve any call.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tonic::transport::{Channel, Endpoint};

use super::Settings;
use crate::Error;

/// Lets a dead peer be noticed on a connection that is waiting for answers.
/// Not below etcd's and nginx' usual floor of 5 s between pings.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Larger than HTTP/2's 64 KiB, which throttles a stream of small messages.
const WINDOW_BYTES: u32 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Coordinators {
    /// `HOST:PORT` and the connection to it.
    channels: Vec<(String, Channel)>,
    /// Goes up at each fail-over; the one in use is this modulo their number.
    turn: AtomicUsize,
}

impl Coordinators {
    /// Connections are made when first used.
    pub(crate) fn new(addresses: &[String], settings: &Settings) -> Result<Self, Error> {
        let channels = addresses.iter().map(|a| Ok((a.clone(), channel(a, settings)?)));
        let channels = channels.collect::<Result<Vec<_>, Error>>()?;
        if channels.is_empty() {
            return Err(Error::Address(String::new()));
        }
        Ok(Self { channels, turn: AtomicUsize::new(0) })
    }

    /// The coordinator to use now, and the turn to name when it fails.
    pub(crate) fn current(&self) -> (usize, Channel) {
        let turn = self.turn.load(Ordering::Relaxed);
        (turn, self.channels[turn % self.channels.len()].1.clone())
    }

    /// Where the coordinator of that turn is, `HOST:PORT`.
    pub(crate) fn address(&self, turn: usize) -> &str {
        &self.channels[turn % self.channels.len()].0
    }

    /// Goes on to the next one, unless another call has already.
    pub(crate) fn failed(&self, turn: usize) {
        let _ = self.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn channel(address: &str, settings: &Settings) -> Result<Channel, Error> {
    let bad = || Error::Address(address.to_owned());
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    if host.is_empty() || host.contains("://") || port.parse::<u16>().is_err() {
        return Err(bad());
    }
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| bad())?;
    Ok(endpoint
        .connect_timeout(settings.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .connect_lazy())
}
