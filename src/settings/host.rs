//! Names: of hosts, domains and users.
//!
//! Owns the syntax of names in settings. Never resolves one.
//!
//! Diagnostics: refusals name the part of the list that is wrong.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

use super::kind::{Kind, Reason};

/// A host that we connect to: a name to be resolved, or an address that needs no resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A domain name in ASCII, lower case.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl super::Delivery {
    /// The host and the port of the smarthost, if there is one.
    pub fn smarthost_place(&self) -> Option<(String, u16)> {
        self.smarthost.as_ref().map(|host| (host.to_string(), self.smarthost_port))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A set of domains, compared without regard to ASCII case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Domains(Box<[Box<str>]>);

impl Domains {
    /// Whether the domain is in the set; allocates nothing.
    pub fn contains(&self, domain: &str) -> bool {
        self.0.binary_search_by(|own| caseless(own, domain)).is_ok()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The domains in lower case, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|domain| &**domain)
    }
}

/// A domain name that stands in our greeting.
pub(super) struct DomainName;

impl Kind for DomainName {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, Reason> {
        let name = text.to_ascii_lowercase();
        if is_domain(&name) { Ok(name) } else { Err("is not a domain name".into()) }
    }

    fn allowed(&self) -> String {
        "a domain name".into()
    }
}

/// A domain name or an address, IPv6 with or without brackets.
pub(super) struct HostName;

impl Kind for HostName {
    type Value = Host;

    fn parse(&self, text: &str) -> Result<Host, Reason> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        match bare.parse() {
            Ok(address) => Ok(Host::Address(address)),
            Err(_) => DomainName.parse(text).map(Host::Name),
        }
    }

    fn allowed(&self) -> String {
        "a domain name or an address".into()
    }
}

/// Domains, separated by `,` or `;`.
pub(super) struct DomainSet;

impl Kind for DomainSet {
    type Value = Domains;

    fn parse(&self, text: &str) -> Result<Domains, Reason> {
        let mut domains = Vec::new();
        for word in text.split([',', ';']).map(str::trim).filter(|word| !word.is_empty()) {
            let domain = word.to_ascii_lowercase();
            if !is_domain(&domain) {
                return Err(format!("names `{word}`, which is not a domain").into());
            }
            domains.push(domain.into_boxed_str());
        }
        domains.sort_unstable_by(|a, b| caseless(a, b));
        domains.dedup();
        Ok(Domains(domains.into()))
    }

    fn allowed(&self) -> String {
        "domains separated by `,`, or empty; international names in their `xn--` form".into()
    }
}

/// The name of a user of the system; whether there is one is looked at elsewhere.
pub(super) struct UserName;

impl Kind for UserName {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, Reason> {
        // What /etc/passwd cannot hold in its first column; systems differ in the rest.
        let strange =
            |char: char| char.is_whitespace() || char.is_control() || ":/,".contains(char);
        match text.len() {
            1..=USER_BYTES_MAX if !text.contains(strange) && !text.starts_with('-') => {
                Ok(text.to_owned())
            }
            _ => Err("is not a user's name".into()),
        }
    }

    fn allowed(&self) -> String {
        "the name of a user of this system".into()
    }
}

/// Whether a text is a domain name of letters, digits and hyphens (RFC 5321 2.3.5, RFC 1035 2.3.4);
/// underscores are let through because networks inside use them.
pub(super) fn is_domain(text: &str) -> bool {
    text.len() <= DOMAIN_BYTES_MAX && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The longest domain name in bytes (RFC 5321 4.5.3.1.2).
const DOMAIN_BYTES_MAX: usize = 255;
/// The longest name of a user in bytes (Linux, `LOGIN_NAME_MAX` without its zero).
const USER_BYTES_MAX: usize = 255;
/// The longest label of a domain name in bytes (RFC 1035 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

fn caseless(a: &str, b: &str) -> Ordering {
    let a = a.bytes().map(|byte| byte.to_ascii_lowercase());
    a.cmp(b.bytes().map(|byte| byte.to_ascii_lowercase()))
}
