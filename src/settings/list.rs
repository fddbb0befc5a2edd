//! Lists: addresses and ports to listen on, retry intervals, numbers, log targets.
//!
//! Owns their separators and how long they may grow. Never opens what they name.
//!
//! Diagnostics: refusals name the item that is wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::kind::{AbsolutePath, Kind, Reason, Time, digits};
use crate::log::Target;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenIp {
    /// On all addresses; a system without IPv6 is then content with IPv4.
    All,
    /// On these, and each of them must work.
    Only(Vec<IpAddr>),
}

impl ListenIp {
    /// The addresses to bind: for [`ListenIp::All`] `0.0.0.0` and `::`.
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::All => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            Self::Only(addresses) => addresses.clone(),
        }
    }
}

/// Addresses, separated by `,` or `;`, or `all`.
pub(super) struct Addresses;

impl Kind for Addresses {
    type Value = ListenIp;

    fn parse(&self, text: &str) -> Result<ListenIp, Reason> {
        if text.eq_ignore_ascii_case("all") {
            return Ok(ListenIp::All);
        }
        let addresses = items(text, ADDRESSES_MAX, |word| {
            bare(word)
                .parse()
                .map_err(|_| format!("names `{word}`, which is not an address").into())
        })?;
        Ok(ListenIp::Only(addresses))
    }

    fn allowed(&self) -> String {
        "`all`, or addresses separated by `,`".into()
    }
}

/// One address or none, which the unspecified one stands for too.
pub(super) struct Address;

impl Kind for Address {
    type Value = Option<IpAddr>;

    fn parse(&self, text: &str) -> Result<Option<IpAddr>, Reason> {
        if text.is_empty() {
            return Ok(None);
        }
        let address: IpAddr = bare(text).parse().map_err(|_| "is not an address")?;
        Ok((!address.is_unspecified()).then_some(address))
    }

    fn allowed(&self) -> String {
        "an address, or empty".into()
    }
}

/// An address with its port.
pub(super) struct SocketAddress;

impl Kind for SocketAddress {
    type Value = SocketAddr;

    fn parse(&self, text: &str) -> Result<SocketAddr, Reason> {
        text.parse().map_err(|_| "is not an address with a port".into())
    }

    fn allowed(&self) -> String {
        "an address and a port, such as `127.0.0.1:9187` or `[::1]:9187`".into()
    }
}

/// Addresses of name servers, each with a port or not, separated by `,`; may be empty.
pub(super) struct NameServers;

impl Kind for NameServers {
    type Value = Vec<SocketAddr>;

    fn parse(&self, text: &str) -> Result<Vec<SocketAddr>, Reason> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        items(text, NAME_SERVERS_MAX, |word| {
            let whole = word.parse::<SocketAddr>();
            whole
                .or_else(|_| bare(word).parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT)))
                .map_err(|_| format!("names `{word}`, which is not an address").into())
        })
    }

    fn allowed(&self) -> String {
        "addresses such as `192.0.2.1` or `[2001:db8::1]:53` separated by `,`, or empty".into()
    }
}

fn bare(word: &str) -> &str {
    word.strip_prefix('[').and_then(|word| word.strip_suffix(']')).unwrap_or(word)
}

/// Ports and ranges of ports, separated by `,`; 0 lets the system choose.
pub(super) struct Ports;

impl Kind for Ports {
    type Value = Vec<u16>;

    fn parse(&self, text: &str) -> Result<Vec<u16>, Reason> {
        let mut ports = Vec::new();
        for range in items(text, PORTS_MAX, port_range)? {
            // One port of 0 is a wish, two of them are two ports: only others may not repeat.
            for port in range {
                if port != 0 && ports.contains(&port) {
                    return Err(format!("names port {port} twice").into());
                }
                ports.push(port);
                if ports.len() > PORTS_MAX {
                    return Err(format!("names more than {PORTS_MAX} ports").into());
                }
            }
        }
        Ok(ports)
    }

    fn allowed(&self) -> String {
        "ports and ranges such as `25,587,1024-1026`; 0 lets the system choose".into()
    }
}

/// Times in seconds, separated by `,`.
pub(super) struct Times(pub(super) Time);

impl Kind for Times {
    type Value = Vec<Duration>;

    fn parse(&self, text: &str) -> Result<Vec<Duration>, Reason> {
        items(text, TIMES_MAX, |word| {
            self.0.parse(word).map_err(|reason| format!("names `{word}`, which {reason}").into())
        })
    }

    fn allowed(&self) -> String {
        format!("a list separated by `,`, each {}", self.0.allowed())
    }
}

/// Whole numbers, separated by `,`; may be empty.
pub(super) struct Numbers;

impl Kind for Numbers {
    type Value = Vec<i32>;

    fn parse(&self, text: &str) -> Result<Vec<i32>, Reason> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        items(text, NUMBERS_MAX, |word| {
            word.parse().map_err(|_| format!("names `{word}`, which is not a number").into())
        })
    }

    fn allowed(&self) -> String {
        "whole numbers separated by `,`, or empty".into()
    }
}

/// Places to log to, separated by `,`; may be empty.
pub(super) struct LogTargets;

impl Kind for LogTargets {
    type Value = Vec<Target>;

    fn parse(&self, text: &str) -> Result<Vec<Target>, Reason> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        items(text, LOG_TARGETS_MAX, |word| match word {
            "stdout" => Ok(Target::Stdout),
            "stderr" => Ok(Target::Stderr),
            "syslog" => Ok(Target::Syslog),
            path => AbsolutePath
                .parse(path)
                .map(Target::File)
                .map_err(|reason| format!("names `{path}`, which {reason}").into()),
        })
    }

    fn allowed(&self) -> String {
        "`stdout`, `stderr`, `syslog` or absolute paths, separated by `,`, or empty for none".into()
    }
}

/// Absolute paths, separated by `,`; may be empty.
pub(super) struct Paths;

impl Kind for Paths {
    type Value = Vec<PathBuf>;

    fn parse(&self, text: &str) -> Result<Vec<PathBuf>, Reason> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        items(text, PATHS_MAX, |word| {
            AbsolutePath
                .parse(word)
                .map_err(|reason| format!("names `{word}`, which {reason}").into())
        })
    }

    fn allowed(&self) -> String {
        "absolute paths separated by `,`, or empty".into()
    }
}

/// How many addresses one setting may name.
const ADDRESSES_MAX: usize = 64;
/// How many name servers one setting may name.
const NAME_SERVERS_MAX: usize = 16;
/// The port of DNS (RFC 1035 4.2).
const DNS_PORT: u16 = 53;
/// How many ports one setting may name: each costs one socket a worker.
const PORTS_MAX: usize = 64;
/// How many retry intervals one setting may name; the last one repeats.
const TIMES_MAX: usize = 64;
/// How many numbers one setting may name.
const NUMBERS_MAX: usize = 64;
/// How many files one setting may name.
const PATHS_MAX: usize = 100;
/// How many places the log may go to.
const LOG_TARGETS_MAX: usize = 8;

/// Reads each item of a list that must not be empty, nor have empty items.
fn items<T>(
    text: &str,
    count_max: usize,
    read: impl Fn(&str) -> Result<T, Reason>,
) -> Result<Vec<T>, Reason> {
    let words = text.split([',', ';']).map(str::trim);
    if words.clone().count() > count_max {
        return Err(format!("has more than {count_max} items").into());
    }
    words
        .map(|word| if word.is_empty() { Err("has an empty item".into()) } else { read(word) })
        .collect()
}

fn port_range(word: &str) -> Result<std::ops::RangeInclusive<u16>, Reason> {
    let port = |text: &str| digits(text.trim()).and_then(|port| u16::try_from(port).ok());
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first == last || (0 < first && first < last) => {
            Ok(first..=last)
        }
        _ => Err(format!("names `{word}`, which is neither a port nor a range of ports").into()),
    }
}
