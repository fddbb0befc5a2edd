//! What MX records mean (RFC 5321 5.1, RFC 7505): which hosts take a domain's mail, or why none does.
//!
//! Two steps, with the look-up of addresses between them: [`exchanges`] makes hosts of the answer to
//! MX, [`route`] a route of hosts and their addresses.
//!
//! Must never: ask DNS.
//!
//! **Diagnostics**: [`Unroutable`], which becomes the outcome of an attempt.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::finish::{Fate, Finish};
use super::route::{Route, RouteHost, own_listener};
use super::special::is_special;

/// Hosts of a domain whose addresses are looked up: the best ones; the rest is never reached anyway.
pub const HOSTS_MAX: usize = 10;
/// Addresses that count of each family of one host.
pub const ADDRESSES_MAX: usize = 4;

/// A name server's answer to MX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MxAnswer {
    /// Preferences and names, in any order.
    Records(Vec<(u16, String)>),
    /// The domain exists and has no such record.
    NoRecords,
    /// The domain does not exist.
    NoDomain,
}

/// A host that takes mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Hosts of a lower number are tried first.
    pub preference: u16,
    /// Its name, in lower case and without a dot at the end.
    pub name: Arc<str>,
}

/// What looking for a host's addresses brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// These, or none for a name that has none.
    Found(Vec<IpAddr>),
    /// No name server gave an answer.
    Failed(NoAnswer),
}

/// Why there was no answer to a question; another time there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// None came in time.
    pub timed_out: bool,
    /// What was asked and what went wrong.
    pub text: String,
}

/// Why a domain's mail cannot be sent anywhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// The recipient has no domain, or something that is none.
    #[error("{0:?} is not a domain that mail can be sent to")]
    NotADomain(String),
    /// The domain does not exist.
    #[error("the domain {0} does not exist")]
    NoDomain(String),
    /// RFC 7505: its one MX record is a dot.
    #[error("the domain {0} takes no mail (null MX)")]
    NullMx(String),
    /// Neither an MX record that helps nor an address.
    #[error("no host that takes mail for {0} has an address")]
    NoAddress(String),
    /// All of its addresses are private or special, and not allowed.
    #[error("mail for {domain} would go to {address}, which dns-private-targets does not allow")]
    Forbidden {
        /// The domain.
        domain: String,
        /// One of the addresses.
        address: IpAddr,
    },
    /// The best of its hosts is this server, which does not keep its mail.
    #[error("mail for {0} would come back: its best MX is this server itself")]
    Loop(String),
    /// No name server answered.
    #[error("{}", .0.text)]
    NoAnswer(NoAnswer),
}

impl Unroutable {
    /// The outcome of the attempts that end with it.
    pub fn finish(&self) -> Finish {
        let (fate, code, status) = match self {
            Unroutable::NotADomain(_) => (Fate::Permanent, 0, "5.1.3"),
            Unroutable::NoDomain(_) => (Fate::Permanent, 0, "5.1.2"),
            // RFC 7505 4.2.
            Unroutable::NullMx(_) => (Fate::Permanent, 556, "5.1.10"),
            Unroutable::NoAddress(_) => (Fate::Permanent, 0, "5.4.4"),
            Unroutable::Forbidden { .. } => (Fate::Permanent, 0, "5.7.1"),
            Unroutable::Loop(_) => (Fate::Permanent, 0, "5.4.6"),
            Unroutable::NoAnswer(_) => (Fate::Temporary, 0, "4.4.3"),
        };
        let timed_out = matches!(self, Unroutable::NoAnswer(no) if no.timed_out);
        let result = if timed_out { "timeout" } else { "error" };
        let mut finish = Finish::without_reply(fate, "dns", result, self.to_string());
        finish.code = code;
        finish.status = status.to_owned();
        finish
    }
}

/// The hosts that take a domain's mail, best first, at most [`HOSTS_MAX`]. `own_name` is how this
/// server is called.
///
/// # Errors
/// The domain takes none, or none that is not for us.
pub fn exchanges(
    domain: &str,
    answer: MxAnswer,
    own_name: &str,
) -> Result<Vec<Exchange>, Unroutable> {
    let records = match answer {
        MxAnswer::NoDomain => return Err(Unroutable::NoDomain(domain.to_owned())),
        MxAnswer::NoRecords => Vec::new(),
        MxAnswer::Records(records) => records,
    };
    let mut hosts: Vec<Exchange> = records
        .iter()
        .map(|(preference, name)| {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            Exchange { preference: *preference, name: name.into() }
        })
        .collect();
    if hosts.is_empty() {
        // RFC 5321 5.1: the implicit MX.
        return Ok(vec![Exchange { preference: 0, name: domain.into() }]);
    }
    // RFC 7505 3: alone it is a null MX; among others it is a mistake, which the others bear.
    hosts.retain(|host| !host.name.is_empty());
    if hosts.is_empty() {
        return Err(Unroutable::NullMx(domain.to_owned()));
    }
    hosts.sort_by(|a, b| (a.preference, &a.name).cmp(&(b.preference, &b.name)));
    let mut seen = std::collections::HashSet::new();
    hosts.retain(|host| seen.insert(host.name.clone()));
    let own = hosts.iter().find(|host| host.name.eq_ignore_ascii_case(own_name));
    if let Some(own) = own.map(|own| own.preference) {
        drop_from(&mut hosts, own);
    }
    if hosts.is_empty() {
        return Err(Unroutable::Loop(domain.to_owned()));
    }
    hosts.truncate(HOSTS_MAX);
    Ok(hosts)
}

/// RFC 5321 5.1: hosts that are no better than we are would send the mail to us.
fn drop_from(hosts: &mut Vec<Exchange>, preference: u16) {
    hosts.retain(|host| host.preference < preference);
}

/// What [`route`] goes by.
pub struct RouteRules<'a> {
    /// The port of hosts that MX records name.
    pub port: u16,
    /// Whether a private or special address may be used all the same.
    pub is_allowed: &'a dyn Fn(IpAddr) -> bool,
    /// Our own listeners.
    pub listeners: &'a [SocketAddr],
}

/// The route over `hosts`, with what was found for each.
///
/// # Errors
/// Nothing is left that could be connected to.
pub fn route(
    domain: &str,
    hosts: Vec<(Exchange, Addresses)>,
    rules: &RouteRules<'_>,
) -> Result<Route, Unroutable> {
    let (mut forbidden, mut failed, mut own) = (None, None, None::<u16>);
    let mut routed = Vec::new();
    for (host, addresses) in hosts {
        let found = match addresses {
            Addresses::Found(found) => found,
            Addresses::Failed(why) => {
                failed.get_or_insert(why);
                continue;
            }
        };
        let found = few(found);
        let is_own = |ip: &IpAddr| {
            let address = SocketAddr::new(*ip, rules.port);
            own_listener(rules.listeners, address, None).is_some()
        };
        if found.iter().any(is_own) {
            own = Some(own.map_or(host.preference, |own| own.min(host.preference)));
            continue;
        }
        let (allowed, other): (Vec<IpAddr>, Vec<IpAddr>) =
            found.into_iter().partition(|&ip| !is_special(ip) || (rules.is_allowed)(ip));
        forbidden = forbidden.or_else(|| other.first().copied());
        let addresses = allowed.iter().map(|&ip| SocketAddr::new(ip, rules.port)).collect();
        routed.push(RouteHost { name: host.name, preference: host.preference, addresses });
    }
    routed.retain(|host| own.is_none_or(|own| host.preference < own));
    let route = Route::new(routed);
    if !route.hosts().is_empty() {
        return Ok(route);
    }
    let domain = domain.to_owned();
    Err(match (failed, own, forbidden) {
        (Some(why), _, _) => Unroutable::NoAnswer(why),
        (None, Some(_), _) => Unroutable::Loop(domain),
        (None, None, Some(address)) => Unroutable::Forbidden { domain, address },
        (None, None, None) => Unroutable::NoAddress(domain),
    })
}

/// The first of each family, each once.
fn few(found: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut kept: Vec<IpAddr> = Vec::new();
    for ip in found {
        let alike = kept.iter().filter(|other| other.is_ipv4() == ip.is_ipv4()).count();
        if alike < ADDRESSES_MAX && !kept.contains(&ip) {
            kept.push(ip);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(records: &[(u16, &str)]) -> MxAnswer {
        MxAnswer::Records(records.iter().map(|(number, name)| (*number, (*name).into())).collect())
    }

    fn told(result: Result<Vec<Exchange>, Unroutable>) -> String {
        match result {
            Ok(hosts) => {
                let told: Vec<String> =
                    hosts.iter().map(|host| format!("{} {}", host.preference, host.name)).collect();
                told.join(", ")
            }
            Err(error) => error.finish().status,
        }
    }

    #[test]
    fn rfc_5321_5_1_and_rfc_7505_say_who_takes_a_domains_mail() {
        let rows: &[(&str, MxAnswer, &str)] = &[
            (
                "by preference",
                records(&[(20, "b.example."), (10, "A.Example.")]),
                "10 a.example, 20 b.example",
            ),
            ("implicit", MxAnswer::NoRecords, "0 example.org"),
            ("implicit for an empty answer", records(&[]), "0 example.org"),
            ("no domain", MxAnswer::NoDomain, "5.1.2"),
            ("null MX", records(&[(0, ".")]), "5.1.10"),
            ("null MX of another preference", records(&[(10, ".")]), "5.1.10"),
            ("a null MX among others", records(&[(0, "."), (10, "a.example.")]), "10 a.example"),
            ("twice the same", records(&[(20, "a."), (10, "a.")]), "10 a"),
            (
                "ours is the second",
                records(&[(10, "a."), (20, "us.example."), (20, "b."), (30, "c.")]),
                "10 a",
            ),
            ("ours is the best", records(&[(10, "US.example."), (20, "b.")]), "5.4.6"),
            ("ours shares the best place", records(&[(10, "us.example."), (10, "b.")]), "5.4.6"),
        ];
        for (name, answer, expected) in rows {
            let found = exchanges("example.org", answer.clone(), "us.example");
            assert_eq!(told(found), *expected, "{name}");
        }
        let many: Vec<(u16, String)> =
            (0..50).map(|number| (100 - number, format!("mx{number}."))).collect();
        let found = exchanges("example.org", MxAnswer::Records(many), "us.example").unwrap();
        assert_eq!(found.len(), HOSTS_MAX);
        assert_eq!(found[0].preference, 51, "the best are kept");
    }

    fn found(addresses: &[&str]) -> Addresses {
        Addresses::Found(addresses.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    fn failed(timed_out: bool) -> Addresses {
        Addresses::Failed(NoAnswer { timed_out, text: "no answer".into() })
    }

    fn told_route(hosts: &[(u16, &str, Addresses)], allowed: bool) -> String {
        let hosts = hosts
            .iter()
            .map(|(preference, name, addresses)| {
                let host = Exchange { preference: *preference, name: (*name).into() };
                (host, addresses.clone())
            })
            .collect();
        let rules = RouteRules {
            port: 25,
            is_allowed: &|_| allowed,
            listeners: &["9.9.9.9:25".parse().unwrap(), "127.0.0.9:25".parse().unwrap()],
        };
        match route("example.org", hosts, &rules) {
            Ok(route) => {
                let told = |host: &RouteHost| {
                    let ips: Vec<String> =
                        host.addresses.iter().map(|address| address.ip().to_string()).collect();
                    format!("{} {}", host.name, ips.join(" "))
                };
                route.hosts().iter().map(told).collect::<Vec<_>>().join(", ")
            }
            Err(error) => {
                let finish = error.finish();
                format!("{} {}", finish.status, finish.result)
            }
        }
    }

    type Row<'a> = (&'a str, Vec<(u16, &'a str, Addresses)>, &'a str);

    #[test]
    fn addresses_make_a_route_or_say_why_there_is_none() {
        let rows: Vec<Row<'_>> = vec![
            (
                "both families",
                vec![(10, "a", found(&["1.1.1.1", "2606:4700::1"]))],
                "a 1.1.1.1 2606:4700::1",
            ),
            ("no address", vec![(10, "a", found(&[])), (20, "b", found(&[]))], "5.4.4 error"),
            (
                "one host has none",
                vec![(10, "a", found(&[])), (20, "b", found(&["1.1.1.1"]))],
                "b 1.1.1.1",
            ),
            (
                "one host has no answer",
                vec![(10, "a", failed(false)), (20, "b", found(&["1.1.1.1"]))],
                "b 1.1.1.1",
            ),
            ("no answer", vec![(10, "a", failed(false))], "4.4.3 error"),
            ("no answer in time", vec![(10, "a", failed(true))], "4.4.3 timeout"),
            (
                "another time the other may have one",
                vec![(10, "a", found(&[])), (20, "b", failed(false))],
                "4.4.3 error",
            ),
            (
                "private ones are left out",
                vec![(10, "a", found(&["127.0.0.1", "10.0.0.1", "1.1.1.1"]))],
                "a 1.1.1.1",
            ),
            ("only private ones", vec![(10, "a", found(&["127.0.0.1"]))], "5.7.1 error"),
            (
                "ours and better ones",
                vec![(10, "a", found(&["1.1.1.1"])), (20, "b", found(&["9.9.9.9"]))],
                "a 1.1.1.1",
            ),
            (
                "ours and worse ones",
                vec![(10, "a", found(&["9.9.9.9"])), (20, "b", found(&["1.1.1.1"]))],
                "5.4.6 error",
            ),
        ];
        for (name, hosts, expected) in rows {
            assert_eq!(told_route(&hosts, false), expected, "{name}");
        }
        let here = [(10, "a", found(&["127.0.0.1"]))];
        assert_eq!(told_route(&here, true), "a 127.0.0.1", "where it is allowed");
        let ours = [(10, "a", found(&["127.0.0.9"]))];
        assert_eq!(told_route(&ours, true), "5.4.6 error", "ours is never allowed");
        let many: Vec<String> = (1..=30).map(|last| format!("1.1.1.{last}")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.push("1.1.1.1");
        let many = [(10, "a", found(&many))];
        assert_eq!(told_route(&many, false), "a 1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4");
    }
}
