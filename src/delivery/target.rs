//! What mails are grouped by on their way out: the domain of their recipient, or a host by its name.
//!
//! Must never: ask DNS.
//!
//! **Diagnostics**: none; a domain that is none is a target like others, whose route then says so.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::proto::rr::Name;

use crate::queue::{Password, Smarthost};

/// A host that mail is handed to without a look at MX records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Host name or address literal.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whom to log in as there.
    pub account: Account,
}

/// Whose account is used with a host: what the settings have is for their own smarthost and nobody else's,
/// or whoever may send could have it sent to a host of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Account {
    /// That of the settings.
    #[default]
    OfSettings,
    /// What a message brought along, if it did: a name and a password.
    OfMessage(Option<(Box<str>, Password)>),
}

impl NextHop {
    /// The host that a message asks for.
    pub fn of_message(smarthost: &Smarthost) -> NextHop {
        let Smarthost { host, port, username, password } = smarthost;
        let account = username.clone().zip(password.clone());
        NextHop { host: host.to_string(), port: *port, account: Account::OfMessage(account) }
    }

    /// The address, when the host is one already.
    pub fn literal(&self) -> Option<SocketAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where mails go, as their envelope or the settings have it: what they share connections by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The mail of one domain goes where its MX records say (RFC 5321 5.1). In lower case and ASCII;
    /// or an address literal in its brackets; empty for a recipient without a domain.
    Domain(Arc<str>),
    /// A smarthost.
    Host(Arc<NextHop>),
}

impl Target {
    /// Whether its mails wait for it without an attempt while it is down: the operator's own smarthost, whose
    /// trouble is our own. A domain is the other side's, and so is a host that a message brought along.
    pub fn is_waited_for(&self) -> bool {
        match self {
            Target::Domain(_) => false,
            Target::Host(hop) => hop.account == Account::OfSettings,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Domain(domain) if domain.is_empty() => f.write_str("(no domain)"),
            Target::Domain(domain) => f.write_str(domain),
            Target::Host(hop) => hop.fmt(f),
        }
    }
}

/// The domain of a recipient as [`Target::Domain`] has it. Allocates only if it is not so already.
pub fn domain_of(recipient: &str) -> Cow<'_, str> {
    // A quoted local part may hold an @, a domain may not.
    let domain = recipient.rsplit_once('@').map_or("", |(_, domain)| domain);
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(domain);
    }
    if domain.is_ascii() {
        return Cow::Owned(domain.to_ascii_lowercase());
    }
    // RFC 5891: DNS is asked for the A-labels. A text that has none stays, and no look-up finds it.
    let name = Name::from_utf8(domain).map(|name| name.to_lowercase().to_ascii());
    Cow::Owned(name.unwrap_or_else(|_| domain.to_lowercase()))
}

/// The address of a domain that is an address literal (RFC 5321 4.1.3).
pub fn literal_of(domain: &str) -> Option<IpAddr> {
    let inner = domain.strip_prefix('[')?.strip_suffix(']')?;
    match inner.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:")) {
        Some(_) => inner[5..].parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => inner.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mails_are_grouped_by_the_domain_in_lower_case_and_ascii() {
        let rows = [
            ("a@example.org", "example.org"),
            ("a@EXAMPLE.Org", "example.org"),
            ("\"a@b\"@example.org", "example.org"),
            ("a@example.org.", "example.org"),
            ("a@bücher.example", "xn--bcher-kva.example"),
            ("a@BÜCHER.example", "xn--bcher-kva.example"),
            ("用户@例子.广告", "xn--fsqu00a.xn--4rr70v"),
            ("a@[192.0.2.1]", "[192.0.2.1]"),
            ("a@[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
            ("postmaster", ""),
        ];
        for (recipient, expected) in rows {
            assert_eq!(domain_of(recipient), expected, "{recipient}");
        }
        assert!(matches!(domain_of("a@example.org"), Cow::Borrowed(_)), "the usual one is free");
    }

    #[test]
    fn address_literals_name_their_address() {
        let rows = [
            ("[192.0.2.1]", Some("192.0.2.1")),
            ("[ipv6:2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]", None),
            ("[ipv6:192.0.2.1]", None),
            ("[nonsense]", None),
            ("[]", None),
            ("192.0.2.1", None),
            ("example.org", None),
        ];
        for (domain, expected) in rows {
            let expected = expected.map(|ip| ip.parse::<IpAddr>().unwrap());
            assert_eq!(literal_of(domain), expected, "{domain}");
        }
    }

    #[test]
    fn literals_need_no_resolver() {
        let hop =
            |host: &str| NextHop { host: host.into(), port: 25, account: Account::OfSettings };
        assert_eq!(hop("127.0.0.1").literal(), Some("127.0.0.1:25".parse().unwrap()));
        assert_eq!(hop("[::1]").literal(), Some("[::1]:25".parse().unwrap()));
        assert_eq!(hop("relay.example").literal(), None);
    }
}
