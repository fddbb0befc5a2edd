//! The hosts that take a target's mail, in which order they are tried, and never ourselves.
//!
//! Must never: ask DNS; what it found comes in as values (`mx.rs` makes a route of it).
//!
//! **Diagnostics**: [`OwnListener`] names what to mend.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::chance::Chance;
use super::mx::Unroutable;
use super::special::is_special;
use super::target::{Account, NextHop};

/// The hosts of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    hosts: Vec<RouteHost>,
}

/// One host of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteHost {
    /// Its name, for TLS and logs; an address literal has its address here.
    pub name: Arc<str>,
    /// Hosts of a lower number are tried first.
    pub preference: u16,
    /// Its addresses, never empty.
    pub addresses: Vec<SocketAddr>,
}

/// One address to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The name of the host.
    pub host: Arc<str>,
    /// Its preference.
    pub preference: u16,
    /// Where it is.
    pub address: SocketAddr,
}

/// Addresses that one connection tries before it counts as failed.
pub const STOPS_MAX: usize = 20;

impl Route {
    /// A route over these hosts.
    pub fn new(mut hosts: Vec<RouteHost>) -> Route {
        hosts.retain(|host| !host.addresses.is_empty());
        hosts.sort_by_key(|host| host.preference);
        Route { hosts }
    }

    /// The way to one address.
    pub fn to(name: &str, address: SocketAddr) -> Route {
        let addresses = vec![address];
        Route { hosts: vec![RouteHost { name: name.into(), preference: 0, addresses }] }
    }

    /// The hosts, best first.
    pub fn hosts(&self) -> &[RouteHost] {
        &self.hosts
    }

    /// The addresses in the order in which one connection tries them: hosts by preference, equal ones
    /// in any order (RFC 5321 5.1), the families of a host in turn, so that one which this machine has
    /// no way to costs one step. `is_avoided` ones come last, whatever their preference.
    pub fn stops(
        &self,
        chance: &mut Chance,
        is_wanted: impl Fn(&RouteHost) -> bool,
        is_avoided: impl Fn(SocketAddr) -> bool,
    ) -> Vec<Stop> {
        let mut hosts: Vec<&RouteHost> = self.hosts.iter().filter(|host| is_wanted(host)).collect();
        for equal in hosts.chunk_by_mut(|a, b| a.preference == b.preference) {
            chance.shuffle(equal);
        }
        let mut stops = Vec::new();
        for host in hosts {
            let stop =
                |address| Stop { host: host.name.clone(), preference: host.preference, address };
            stops.extend(in_turn(&host.addresses, chance).into_iter().map(stop));
        }
        // The sort is stable: but for this the order stays.
        stops.sort_by_key(|stop| is_avoided(stop.address));
        stops.truncate(STOPS_MAX);
        stops
    }
}

/// IPv6 and IPv4 in turn, the addresses of each in any order.
fn in_turn(addresses: &[SocketAddr], chance: &mut Chance) -> Vec<SocketAddr> {
    let (mut v6, mut v4): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| address.is_ipv6());
    chance.shuffle(&mut v6);
    chance.shuffle(&mut v4);
    let mut mixed = Vec::with_capacity(addresses.len());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    while mixed.len() < addresses.len() {
        mixed.extend(v6.next());
        mixed.extend(v4.next());
    }
    mixed
}

/// What [`route_to_hop`] goes by.
pub struct HopRules<'a> {
    /// Whether a hop that a message names may be at a private or special address all the same.
    pub is_allowed: &'a dyn Fn(IpAddr) -> bool,
    /// The host and port of the settings' own smarthost, which may be anywhere.
    pub smarthost: Option<(&'a str, u16)>,
}

impl HopRules<'_> {
    /// Whoever may send may name a hop, and hears how it answered: without a rule, that is a way to
    /// everything that listens inside.
    fn admits(&self, hop: &NextHop, ip: IpAddr) -> bool {
        let is_own = || {
            let own = |(host, port)| hop.port == port && hop.host.eq_ignore_ascii_case(host);
            self.smarthost.is_some_and(own)
        };
        match hop.account {
            Account::OfSettings => true,
            Account::OfMessage(_) => !is_special(ip) || (self.is_allowed)(ip) || is_own(),
        }
    }
}

/// The route to a hop whose addresses are known.
///
/// # Errors
/// [`Unroutable::Forbidden`] for a hop of a message that has no address which it may be at.
pub fn route_to_hop(
    hop: &NextHop,
    addresses: &[IpAddr],
    rules: &HopRules<'_>,
) -> Result<Route, Unroutable> {
    let (admitted, other): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|&&ip| rules.admits(hop, ip));
    match other.first() {
        Some(&address) if admitted.is_empty() => {
            Err(Unroutable::Forbidden { domain: hop.host.clone(), address })
        }
        _ => {
            let addresses = admitted.iter().map(|&ip| SocketAddr::new(ip, hop.port)).collect();
            let name = hop.host.as_str().into();
            Ok(Route::new(vec![RouteHost { name, preference: 0, addresses }]))
        }
    }
}

/// The next hop is one of our own listeners: the mail would come back for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the next hop {0} is this server itself")]
pub struct OwnListener(pub SocketAddr);

/// Whether `target` is one of `listeners`. A listener on all addresses is met by any address of
/// this machine: `local`, our end of the established connection, equals the far end exactly then,
/// or both are loopback.
pub fn own_listener(
    listeners: &[SocketAddr],
    target: SocketAddr,
    local: Option<IpAddr>,
) -> Option<OwnListener> {
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
    listeners.iter().any(ours).then_some(OwnListener(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any account could else reach what listens inside, and be told its answers.
    #[test]
    fn a_message_leads_inside_only_where_the_settings_do() {
        let named = |host: &str, port| NextHop {
            host: host.into(),
            port,
            account: Account::OfMessage(None),
        };
        let ours = NextHop { account: Account::OfSettings, ..named("127.0.0.1", 25) };
        let rows: &[(&str, NextHop, &[&str], &str)] = &[
            ("public", named("relay.example", 25), &["1.1.1.1"], "1.1.1.1:25"),
            ("loopback", named("127.0.0.1", 25), &["127.0.0.1"], "5.7.1"),
            ("mapped", named("::ffff:10.0.0.1", 25), &["::ffff:10.0.0.1"], "5.7.1"),
            ("names too", named("inside.example", 25), &["::1", "10.0.0.1"], "5.7.1"),
            ("what is left", named("relay.example", 25), &["::1", "1.1.1.1"], "1.1.1.1:25"),
            ("allowed", named("inside.example", 25), &["10.9.0.1", "10.0.0.1"], "10.9.0.1:25"),
            ("the smarthost", named("Smart.example", 587), &["10.0.0.1"], "10.0.0.1:587"),
            ("its other ports", named("smart.example", 25), &["10.0.0.1"], "5.7.1"),
            ("of the settings", ours, &["127.0.0.1"], "127.0.0.1:25"),
        ];
        let is_allowed = |ip: IpAddr| ip == IpAddr::from([10, 9, 0, 1]);
        let smarthost = Some(("smart.example", 587));
        let rules = HopRules { is_allowed: &is_allowed, smarthost };
        for (name, hop, addresses, expected) in rows {
            let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            let told = match route_to_hop(hop, &addresses, &rules) {
                Ok(route) => {
                    let told = route.hosts()[0].addresses.iter().map(SocketAddr::to_string);
                    told.collect::<Vec<_>>().join(" ")
                }
                Err(error) => {
                    let finish = error.finish();
                    assert!(finish.description.contains("dns-private-targets"), "{finish:?}");
                    assert_eq!(finish.fate, crate::delivery::Fate::Permanent);
                    finish.status
                }
            };
            assert_eq!(told, *expected, "{name}");
        }
    }

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

    fn host(name: &str, preference: u16, addresses: &[&str]) -> RouteHost {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        RouteHost { name: name.into(), preference, addresses }
    }

    fn order(stops: &[Stop]) -> String {
        let names: Vec<String> =
            stops.iter().map(|stop| format!("{} {}", stop.host, stop.address.ip())).collect();
        names.join(", ")
    }

    /// RFC 5321 5.1: by preference, whatever the chance.
    #[test]
    fn hosts_are_tried_by_preference_and_families_in_turn() {
        let route = Route::new(vec![
            host("second", 20, &["192.0.2.2:25"]),
            host("empty", 5, &[]),
            host("first", 10, &["192.0.2.1:25", "[2001:db8::1]:25", "[2001:db8::1]:25"]),
        ]);
        for seed in 0..20 {
            let stops = route.stops(&mut Chance::new(seed), |_| true, |_| false);
            let expected =
                "first 2001:db8::1, first 192.0.2.1, first 2001:db8::1, second 192.0.2.2";
            assert_eq!(order(&stops), expected);
        }
        let only = |host: &RouteHost| &*host.name != "first";
        let stops = route.stops(&mut Chance::new(0), only, |_| false);
        assert_eq!(order(&stops), "second 192.0.2.2");
    }

    #[test]
    fn equal_hosts_come_first_equally_often() {
        let hosts = ["a", "b", "c"].map(|name| host(name, 10, &["192.0.2.1:25"]));
        let route = Route::new(hosts.to_vec());
        let mut chance = Chance::new(7);
        let mut first = std::collections::BTreeMap::new();
        for _ in 0..900 {
            let stops = route.stops(&mut chance, |_| true, |_| false);
            assert_eq!(stops.len(), 3);
            *first.entry(stops[0].host.clone()).or_insert(0) += 1;
        }
        assert!(first.len() == 3 && first.values().all(|&count| count > 200), "{first:?}");
    }

    #[test]
    fn an_address_that_failed_lately_is_tried_last_and_no_more_than_allowed_are() {
        let many: Vec<String> = (1..=30).map(|last| format!("192.0.2.{last}:25")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let route =
            Route::new(vec![host("first", 10, &["192.0.2.99:25"]), host("many", 20, &many)]);
        let bad: SocketAddr = "192.0.2.99:25".parse().unwrap();
        let stops = route.stops(&mut Chance::new(0), |_| true, |address| address == bad);
        assert_eq!(stops.len(), STOPS_MAX);
        assert!(stops.iter().all(|stop| stop.address != bad), "beyond the limit");
        let route = Route::new(vec![
            host("first", 10, &["192.0.2.99:25"]),
            host("next", 20, &["192.0.2.1:25"]),
        ]);
        let stops = route.stops(&mut Chance::new(0), |_| true, |address| address == bad);
        assert_eq!(order(&stops), "next 192.0.2.1, first 192.0.2.99");
    }
}
