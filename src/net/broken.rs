//! Hosts that offer TLS and cannot do it, for a while: so that not every mail pays for a handshake that
//! fails.
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

/// Hosts whose handshake failed.
#[derive(Debug, Default)]
pub struct BrokenTls(HashMap<SocketAddr, u64>);

impl BrokenTls {
    /// A handshake failed now.
    pub fn on_failed(&mut self, host: SocketAddr, now_ms: u64) {
        if self.0.len() >= HOSTS_MAX && !self.0.contains_key(&host) {
            self.0.retain(|_, until_ms| *until_ms > now_ms);
        }
        if self.0.len() >= HOSTS_MAX
            && !self.0.contains_key(&host)
            && let Some(first) =
                self.0.iter().min_by_key(|(_, until)| **until).map(|(host, _)| *host)
        {
            self.0.remove(&first);
        }
        self.0.insert(host, now_ms.saturating_add(SPARED_MS));
    }

    /// Whether to spare the host another one now.
    pub fn spares(&self, host: SocketAddr, now_ms: u64) -> bool {
        self.0.get(&host).is_some_and(|until_ms| now_ms < *until_ms)
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
        broken.on_failed(host(1), 1_000);
        assert!(broken.spares(host(1), 1_000) && broken.spares(host(1), SPARED_MS));
        assert!(!broken.spares(host(1), 1_000 + SPARED_MS) && !broken.spares(host(2), 1_000));
    }

    #[test]
    fn the_memory_is_bounded_and_the_newest_is_always_in_it() {
        let mut broken = BrokenTls::default();
        for number in 0..2 * HOSTS_MAX as u16 {
            broken.on_failed(host(number), u64::from(number));
            assert!(broken.spares(host(number), u64::from(number)));
        }
        assert_eq!(broken.0.len(), HOSTS_MAX);
        assert!(!broken.spares(host(0), 0));
    }
}
