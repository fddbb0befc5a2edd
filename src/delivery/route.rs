//! Where a mail goes: to the smarthost, and never to ourselves.
//!
//! Must never: ask DNS; names are resolved elsewhere and come in as addresses.
//!
//! **Diagnostics**: [`RouteError`] is permanent for the mail and names the setting to mend.

use std::net::{IpAddr, SocketAddr};

/// The next hop as configured: one internal destination for all mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Host name or address literal.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl NextHop {
    /// The address, when the host is one already.
    pub fn literal(&self) -> Option<SocketAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl std::fmt::Display for NextHop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a mail has no way out, ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The next hop is one of our own listeners: the mail would come back for ever.
    #[error("the next hop {0} is this server itself; mend smarthost or smarthost-port")]
    OwnListener(SocketAddr),
}

/// Whether `target` is one of `listeners`. A listener on all addresses is met by any address of
/// this machine: `local`, our end of the established connection, equals the far end exactly then,
/// or both are loopback.
pub fn own_listener(
    listeners: &[SocketAddr],
    target: SocketAddr,
    local: Option<IpAddr>,
) -> Option<RouteError> {
    let here = local == Some(target.ip())
        || (target.ip().is_loopback() && local.is_none_or(|ip| ip.is_loopback()))
        || target.ip().is_unspecified();
    let ours = |listener: &SocketAddr| {
        listener.port() == target.port()
            && (listener.ip() == target.ip()
                || (listener.ip().is_unspecified()
                    && listener.is_ipv4() == target.is_ipv4()
                    && here)
                || (target.ip().is_unspecified() && listener.is_ipv4() == target.is_ipv4()))
    };
    listeners.iter().any(ours).then_some(RouteError::OwnListener(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_listeners_are_recognised() {
        let rows: &[(&str, &str, &str, Option<&str>, bool)] = &[
            ("same address", "127.0.0.1:25", "127.0.0.1:25", None, true),
            ("other port", "127.0.0.1:25", "127.0.0.1:26", None, false),
            ("other loopback address", "127.0.0.1:25", "127.0.0.2:25", None, false),
            ("all addresses, loopback", "0.0.0.0:25", "127.0.0.1:25", None, true),
            ("all addresses, ours", "0.0.0.0:25", "192.0.2.1:25", Some("192.0.2.1"), true),
            ("all addresses, a neighbour", "0.0.0.0:25", "192.0.2.2:25", Some("192.0.2.1"), false),
            ("all v6 addresses do not take v4", "[::]:25", "127.0.0.1:25", None, false),
            ("v6 loopback", "[::]:25", "[::1]:25", None, true),
            ("the unspecified address is this machine", "127.0.0.1:25", "0.0.0.0:25", None, true),
        ];
        for &(name, listener, target, local, expected) in rows {
            let local = local.map(|ip| ip.parse().unwrap());
            let found = own_listener(&[listener.parse().unwrap()], target.parse().unwrap(), local);
            assert_eq!(found.is_some(), expected, "{name}");
        }
    }

    #[test]
    fn literals_need_no_resolver() {
        let hop = |host: &str| NextHop { host: host.into(), port: 25 };
        assert_eq!(hop("127.0.0.1").literal(), Some("127.0.0.1:25".parse().unwrap()));
        assert_eq!(hop("[::1]").literal(), Some("[::1]:25".parse().unwrap()));
        assert_eq!(hop("relay.example").literal(), None);
    }
}
