//! Sets of addresses, written as networks (CIDR).
//!
//! Owns their parsing and the test for membership, which every new connection pays. Never
//! resolves a name.
//!
//! Diagnostics: a network with bits set after its prefix is refused, because such a line means
//! something else than it says, and a relay range decides who may send through us.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::kind::{Kind, Reason, digits};

/// A set of addresses. IPv4 addresses that arrive mapped into IPv6 count as IPv4.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    v4: Box<[RangeInclusive<u32>]>,
    v6: Box<[RangeInclusive<u128>]>,
}

impl Networks {
    /// Whether the address is in the set; takes time in the logarithm of the set's size.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, address.to_bits()),
            IpAddr::V6(address) => holds(&self.v6, address.to_bits()),
        }
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn collect(networks: impl Iterator<Item = Result<Network, Reason>>) -> Result<Self, Reason> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network? {
                Network::V4(range) => v4.push(range),
                Network::V6(range) => v6.push(range),
            }
        }
        Ok(Self { v4: merged(v4), v6: merged(v6) })
    }
}

/// A set of networks, separated by `;` or `,`.
pub(super) struct NetworkSet;

impl Kind for NetworkSet {
    type Value = Networks;

    fn parse(&self, text: &str) -> Result<Networks, Reason> {
        let all = ["0.0.0.0/0", "::/0"];
        if text.eq_ignore_ascii_case("all") {
            return Networks::collect(all.into_iter().map(network));
        }
        let words = text.split([';', ',']).map(str::trim).filter(|word| !word.is_empty());
        if words.clone().count() > NETWORKS_MAX {
            return Err(format!("names more than {NETWORKS_MAX} networks").into());
        }
        Networks::collect(words.map(network))
    }

    fn allowed(&self) -> String {
        "networks such as `192.0.2.0/24` or `2001:db8::/32` separated by `;`, `all`, or empty"
            .into()
    }
}

/// How many networks one setting may name: far more than anybody writes by hand.
const NETWORKS_MAX: usize = 4096;

enum Network {
    V4(RangeInclusive<u32>),
    V6(RangeInclusive<u128>),
}

fn network(word: &str) -> Result<Network, Reason> {
    let (address, prefix) = match word.split_once('/') {
        Some((address, prefix)) => (address.trim(), Some(prefix.trim())),
        None => (word, None),
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr =
        address.parse().map_err(|_| format!("names `{word}`, which is not a network"))?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => width,
        Some(text) => digits(text)
            .and_then(|bits| u32::try_from(bits).ok())
            .filter(|bits| *bits <= width)
            .ok_or_else(|| format!("names `{word}`, whose prefix is not from 0 to {width}"))?,
    };
    range(address, prefix).ok_or_else(|| {
        format!("names `{word}`, which has bits set after its prefix of {prefix}").into()
    })
}

/// The addresses of a network; `None` where bits are set after the prefix.
fn range(address: IpAddr, prefix: u32) -> Option<Network> {
    match address {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(prefix).unwrap_or(0);
            let first = address.to_bits();
            (first & host == 0).then_some(Network::V4(first..=first | host))
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) if prefix >= 96 => range(IpAddr::V4(mapped), prefix - 96),
            _ => {
                let host = u128::MAX.checked_shr(prefix).unwrap_or(0);
                let first = address.to_bits();
                (first & host == 0).then_some(Network::V6(first..=first | host))
            }
        },
    }
}

/// Sorts ranges and joins those that overlap.
fn merged<T>(mut ranges: Vec<RangeInclusive<T>>) -> Box<[RangeInclusive<T>]>
where
    T: Copy + Ord,
{
    ranges.sort_by_key(|range| (*range.start(), *range.end()));
    let mut joined: Vec<RangeInclusive<T>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start() <= last.end() => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => joined.push(range),
        }
    }
    joined.into()
}

/// Whether sorted ranges that do not overlap hold a value.
fn holds<T: Ord>(ranges: &[RangeInclusive<T>], value: T) -> bool {
    let next = ranges.partition_point(|range| *range.start() <= value);
    next > 0 && ranges[next - 1].contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::lookup;

    fn set(text: &str) -> Networks {
        NetworkSet.parse(text).unwrap()
    }

    #[test]
    fn networks_hold_what_they_say_and_nothing_else() {
        let networks = "10.0.0.0/8;192.0.2.7;10.1.0.0/16;2001:db8::/32;::ffff:203.0.113.0/120";
        let own = set(networks);
        let cases = [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("10.200.0.1", true),
            ("9.255.255.255", false),
            ("11.0.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.2.3", true),
            ("203.0.113.200", true),
            ("2001:db8::1", true),
            ("2001:db9::", false),
            ("::1", false),
        ];
        for (address, inside) in cases {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(own.contains(address), inside, "{address}");
        }
    }

    #[test]
    fn all_of_ipv6_is_not_all_of_ipv4() {
        let own = set("::/0");
        assert!(own.contains("2001:db8::1".parse().unwrap()));
        assert!(!own.contains("192.0.2.1".parse().unwrap()));
        assert!(!own.contains("::ffff:192.0.2.1".parse().unwrap()));
        let own = set("all");
        assert!(own.contains("::ffff:192.0.2.1".parse().unwrap()));
        assert!(set("").is_empty());
    }

    #[test]
    fn only_this_machine_may_relay_by_default() {
        let own = set(lookup("smtp-relay-range").unwrap().default_text());
        for (address, inside) in
            [("127.9.9.9", true), ("::1", true), ("::2", false), ("10.0.0.1", false)]
        {
            assert_eq!(own.contains(address.parse().unwrap()), inside, "{address}");
        }
    }
}
