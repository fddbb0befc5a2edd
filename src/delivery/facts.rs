//! What is known of the connection that an attempt used: the part of a result object that is about
//! the far end and not about the mail (MailerQ's result objects, `cipher`, `certificate` and so on).
//!
//! Must never: be made for mail of which nobody wants to know it; of one that was not taken, for its notice,
//! only the far end's name is.
//!
//! **Diagnostics**: none; what could not be found out is `None` or empty.

use std::sync::Arc;

/// The connection of one attempt, as it was when the attempt ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The name that the far end's banner began with: `mta`.
    pub mta: Option<Arc<str>>,
    /// The SASL mechanism that we logged in with, `PLAIN` or `LOGIN`: `authentication`.
    pub authentication: Option<&'static str>,
    /// How the connection is encrypted; `None` where it is not: `cipher`.
    pub cipher: Option<Cipher>,
    /// The far end's certificate: `certificate`.
    pub certificate: Option<Arc<Certificate>>,
    /// Mails that the connection has carried, this one included: `messages`.
    pub messages: u32,
    /// Octets sent on the connection so far, before encryption: `sent.connection`.
    pub sent_connection_bytes: u64,
    /// Octets of this mail's text that were sent, before dot-stuffing: `sent.data`.
    pub sent_data_bytes: u64,
    /// Whether the far end offers DSN (RFC 3461): `dsn`.
    pub dsn: bool,
    /// The file of the plugin that decided what became of the mail, and what: `plugin`.
    pub plugin: Option<(Box<str>, &'static str)>,
}

/// A cipher suite and the protocol that it is used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cipher {
    /// IANA's name of the suite.
    pub name: &'static str,
    /// `TLSv1.2` or `TLSv1.3`: `version`.
    pub version: &'static str,
    /// Bits of the key: `bits`, and `algbits`, which differs only in suites of the last century.
    pub bits: u16,
    /// IANA's number of the suite: `id`.
    pub id: u16,
}

/// A certificate, as far as result objects show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Unix time in seconds from which it is valid: `notbefore`.
    pub not_before_s: i64,
    /// Unix time in seconds to which it is valid: `notafter`.
    pub not_after_s: i64,
    /// The version of X.509, 1 to 3: `version`.
    pub version: u32,
    /// Whether it stands for the host that was asked for, by an authority that this system trusts.
    pub verified: bool,
    /// `ok`, or why it is not verified: `result`.
    pub result: Box<str>,
    /// Uses of the key, in the words of RFC 5280 4.2.1.3: `keyusage`.
    pub key_usage: Vec<&'static str>,
    /// Whether it is signed with its own name: `self-signed`.
    pub self_signed: bool,
    /// Whom it is for: `subject`.
    pub subject: Name,
    /// Who signed it: `issuer`.
    pub issuer: Name,
    /// Host names and addresses that it is for: `altnames`.
    pub alt_names: Vec<Box<str>>,
}

/// The name of a subject or issuer; parts that it lacks are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// `CN`: `common`.
    pub common: Option<Box<str>>,
    /// `C`: `country`.
    pub country: Option<Box<str>>,
    /// `L`: `locality`.
    pub locality: Option<Box<str>>,
    /// `ST`: `state`.
    pub state: Option<Box<str>>,
    /// `O`: `organization`.
    pub organization: Option<Box<str>>,
}
