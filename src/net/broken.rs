//! Hosts that offer TLS and cannot do it, for a while: so that not every mail pays for a handshake that
//! fails.
//!
//! TLS' own words are enough to remember a host. A connection that was lost or grew silent may be any
//! network's fault: that counts only when it happens twice with no handshake between that succeeded.
//!
//! Only connections that need no TLS look here; whoever listens in could as well have answered that there
//! is none (RFC 7435 3).
//!
//! Must never: grow without bound.
//!
//! **Diagnostics**: none; the driver logs what it remembers here.

use std::collections::HashMap;
use std::net::SocketAddr;

/// How long a host is spared: long enough to save most handshakes, short enough that one which is mended
/// is encrypted to again within the hour.
const SPARED_MS: u64 = 30 * 60 * 1000;
/// Hosts that are remembered; the one that ends first makes room.
const HOSTS_MAX: usize = 1_024;

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host said what is no TLS, or not ours.
    Tls,
    /// The connection was lost, or silent for too long.
    Lost,
}

/// Hosts whose handshake failed.
#[derive(Debug, Default)]
pub struct BrokenTls(HashMap<SocketAddr, Remembered>);

#[derive(Clone, Copy, Debug)]
struct Remembered {
    until_ms: u64,
    /// Else the next connection that is lost decides.
    spared: bool,
}

impl BrokenTls {
    /// A handshake failed now. Whether the host is spared others from now on.
    pub fn on_failed(&mut self, host: SocketAddr, failure: Failure, now_ms: u64) -> bool {
        if self.0.len() >= HOSTS_MAX && !self.0.contains_key(&host) {
            self.0.retain(|_, known| known.until_ms > now_ms);
        }
        if self.0.len() >= HOSTS_MAX
            && !self.0.contains_key(&host)
            && let Some(first) =
                self.0.iter().min_by_key(|(_, known)| known.until_ms).map(|(host, _)| *host)
        {
            self.0.remove(&first);
        }
        let again = self.0.get(&host).is_some_and(|known| now_ms < known.until_ms);
        let spared = again || failure == Failure::Tls;
        self.0.insert(host, Remembered { until_ms: now_ms.saturating_add(SPARED_MS), spared });
        spared
    }

    /// A handshake succeeded.
    pub fn on_secured(&mut self, host: SocketAddr) {
        self.0.remove(&host);
    }

    /// Whether to spare the host another one now.
    pub fn spares(&self, host: SocketAddr, now_ms: u64) -> bool {
        self.0.get(&host).is_some_and(|known| known.spared && now_ms < known.until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], number))
    }

    #[test]
    fn a_host_is_spared_for_a_while() {
        let mut broken = BrokenTls::default();
        assert!(broken.on_failed(host(1), Failure::Tls, 1_000));
        assert!(broken.spares(host(1), 1_000) && broken.spares(host(1), SPARED_MS));
        assert!(!broken.spares(host(1), 1_000 + SPARED_MS) && !broken.spares(host(2), 1_000));
    }

    /// A lost packet is no reason to send half an hour's mail in clear.
    #[test]
    fn a_connection_that_was_lost_counts_only_twice_in_a_row() {
        let mut broken = BrokenTls::default();
        assert!(!broken.on_failed(host(1), Failure::Lost, 0) && !broken.spares(host(1), 0));
        broken.on_secured(host(1));
        assert!(!broken.on_failed(host(1), Failure::Lost, 1), "a handshake succeeded between");
        assert!(!broken.on_failed(host(1), Failure::Lost, 1 + SPARED_MS), "long ago");
        assert!(!broken.on_failed(host(2), Failure::Lost, 2 + SPARED_MS), "another host");
        assert!(broken.on_failed(host(1), Failure::Lost, 2 + SPARED_MS));
        assert!(broken.spares(host(1), 2 + SPARED_MS) && !broken.spares(host(2), 2 + SPARED_MS));
    }

    #[test]
    fn the_memory_is_bounded_and_the_newest_is_always_in_it() {
        let mut broken = BrokenTls::default();
        for number in 0..2 * HOSTS_MAX as u16 {
            broken.on_failed(host(number), Failure::Tls, u64::from(number));
            assert!(broken.spares(host(number), u64::from(number)));
        }
        assert_eq!(broken.0.len(), HOSTS_MAX);
        assert!(!broken.spares(host(0), 0));
    }
}
