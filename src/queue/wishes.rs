//! What a message asks for itself, beside its text: MailerQ's per-mail properties.
//!
//! Owns the values, their bounds and the form in which they are kept. Never decides what they
//! mean for a delivery, and never reads a header: that is done where mail comes in.
//!
//! Diagnostics: none; whoever makes wishes keeps their bounds, and the log refuses what exceeds
//! [`Wishes::BYTES_MAX`].

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// What a message asks for itself. Everything absent means: as the settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Seconds to wait after the first failed attempt, the second, and so on; the last repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries_s: Option<Box<[u32]>>,
    /// Attempts in all; 0 for no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// The unix time in milliseconds after which nothing is tried any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_until_ms: Option<u64>,
    /// The unix time in milliseconds before which nothing is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before_ms: Option<u64>,
    /// Where results go.
    #[serde(skip_serializing_if = "QueueWishes::is_default")]
    pub queues: QueueWishes,
    /// Results carry the text.
    #[serde(skip_serializing_if = "is_false")]
    pub keepmime: bool,
    /// Names by which whoever sends groups its mail.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub tags: Box<[Box<str>]>,
    /// The host that this mail goes to instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smarthost: Option<Box<Smarthost>>,
    /// Properties that mean nothing to us and come back in results: the text of one JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Box<str>>,
    /// How much of the text a notice is to bring back (RFC 3461 section 4.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dsn_ret: Option<Ret>,
    /// The sender's own name of the message, decoded (RFC 3461 section 4.4): at most 100 octets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dsn_envid: Option<Box<str>>,
}

impl Wishes {
    /// Most bytes of all wishes of a message, written down as JSON.
    pub const BYTES_MAX: usize = 64 << 10;

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The form in which they are kept: one JSON object.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of numbers and texts is JSON")
    }

    /// The reverse of [`Wishes::to_json`]; `None` for anything else, or for more than
    /// [`Wishes::BYTES_MAX`].
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > Self::BYTES_MAX {
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// Where the results of one message go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueWishes {
    /// All final results.
    #[serde(skip_serializing_if = "QueueWish::is_setting")]
    pub results: QueueWish,
    /// Final results of mail that arrived.
    #[serde(skip_serializing_if = "QueueWish::is_setting")]
    pub success: QueueWish,
    /// Final results of mail that did not.
    #[serde(skip_serializing_if = "QueueWish::is_setting")]
    pub failure: QueueWish,
    /// Attempts that another one follows.
    #[serde(skip_serializing_if = "QueueWish::is_setting")]
    pub retry: QueueWish,
}

impl QueueWishes {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One named queue, as a message asks for it: absent, `null` or a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Box<str>>", into = "Option<Box<str>>")]
pub enum QueueWish {
    /// As the settings say.
    #[default]
    Setting,
    /// None, whatever the settings say.
    Off,
    /// This one.
    Named(Box<str>),
}

impl QueueWish {
    /// Most bytes of a name.
    pub const NAME_BYTES_MAX: usize = 128;

    /// Whether a queue can have this name: 1 to [`Self::NAME_BYTES_MAX`] octets, none of them a
    /// control character or blank.
    pub fn is_name(name: &str) -> bool {
        let plain = |c: char| !c.is_control() && !c.is_whitespace();
        !name.is_empty() && name.len() <= Self::NAME_BYTES_MAX && name.chars().all(plain)
    }

    /// The queue that is meant where the settings name `setting`.
    pub fn or<'a>(&'a self, setting: Option<&'a str>) -> Option<&'a str> {
        match self {
            Self::Setting => setting,
            Self::Off => None,
            Self::Named(name) => Some(name),
        }
    }

    fn is_setting(&self) -> bool {
        *self == Self::Setting
    }
}

impl From<Option<Box<str>>> for QueueWish {
    fn from(name: Option<Box<str>>) -> Self {
        match name {
            Some(name) if !name.is_empty() => Self::Named(name),
            Some(_) | None => Self::Off,
        }
    }
}

impl From<QueueWish> for Option<Box<str>> {
    fn from(wish: QueueWish) -> Self {
        match wish {
            QueueWish::Named(name) => Some(name),
            QueueWish::Setting | QueueWish::Off => None,
        }
    }
}

/// A host that one message is sent to, instead of where its recipient's domain or the settings
/// lead.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Smarthost {
    /// A name or an address.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
    /// Whom to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<Box<str>>,
    /// With what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
}

/// A password: wiped when it is dropped, and never shown.
///
/// It is kept on disk as it is, with the mail that it belongs to; the queue directory is for its
/// owner alone.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Takes the only copy.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// What is sent to the host.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// How much of a text a notice brings back (RFC 3461 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ret {
    /// All of it.
    #[serde(rename = "FULL")]
    Full,
    /// Its header.
    #[serde(rename = "HDRS")]
    Headers,
}

/// What a sender asked for of notices about one recipient (RFC 3461 sections 4.1 and 4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailDsn {
    /// When to send one.
    pub notify: DsnNotify,
    /// The recipient as it was named at first, `type;address` with the address decoded: at most
    /// [`MailDsn::ORCPT_BYTES_MAX`] octets.
    pub orcpt: Option<Box<str>>,
}

impl MailDsn {
    /// Most octets of [`MailDsn::orcpt`] (RFC 3461 section 4.2).
    pub const ORCPT_BYTES_MAX: usize = 500;
}

/// When a sender wants notices (RFC 3461 section 4.1): nothing was said, never, or any of three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DsnNotify(u8);

impl DsnNotify {
    /// Nothing was said: as the settings say.
    pub const UNSAID: Self = Self(0);
    /// Never.
    pub const NEVER: Self = Self(1);
    /// When it arrived.
    pub const SUCCESS: Self = Self(2);
    /// When it failed for good.
    pub const FAILURE: Self = Self(4);
    /// When it takes long.
    pub const DELAY: Self = Self(8);

    /// Both together. The caller sees to it that NEVER stands alone.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is among it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits, as they are kept.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The reverse of [`DsnNotify::bits`]; `None` where NEVER does not stand alone, or a bit has no
    /// meaning.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 | 1 | 2 | 4 | 6 | 8 | 10 | 12 | 14 => Some(Self(bits)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything is asked for.
    pub(crate) fn all() -> Wishes {
        Wishes {
            retries_s: Some([60, 300].into()),
            attempts_max: Some(7),
            deliver_until_ms: Some(1_800_000_000_000),
            not_before_ms: Some(1_700_000_000_000),
            queues: QueueWishes {
                results: QueueWish::Named("results-a".into()),
                success: QueueWish::Off,
                ..QueueWishes::default()
            },
            keepmime: true,
            tags: ["a".into(), "ü \"b\"".into()].into(),
            smarthost: Some(Box::new(Smarthost {
                host: "relay.example".into(),
                port: 587,
                username: Some("user".into()),
                password: Some(Password::new("pass".into())),
            })),
            properties: Some(r#"{"customer":12}"#.into()),
            dsn_ret: Some(Ret::Full),
            dsn_envid: Some("QQ314159".into()),
        }
    }

    #[test]
    fn wishes_read_back_as_kept() {
        for wishes in [Wishes::default(), all()] {
            assert_eq!(Wishes::from_json(&wishes.to_json()), Some(wishes));
        }
        assert_eq!(Wishes::default().to_json(), b"{}");
        assert!(Wishes::default().is_empty() && !all().is_empty());
    }

    /// MailerQ: a key that is missing is as the settings say, `null` or empty is none.
    #[test]
    fn a_queue_is_as_set_or_off_or_named() {
        let wishes = br#"{"queues":{"success":null,"failure":"","retry":"r"}}"#;
        let queues = Wishes::from_json(wishes).unwrap().queues;
        assert_eq!(queues.results.or(Some("set")), Some("set"));
        assert_eq!(queues.success.or(Some("set")), None);
        assert_eq!(queues.failure.or(Some("set")), None);
        assert_eq!(queues.retry.or(None), Some("r"));
    }

    #[test]
    fn what_is_no_wishes_is_refused() {
        for bytes in [&b""[..], b"{\"attempts_max\":-1}", b"{\"dsn_ret\":\"ALL\"}"] {
            assert_eq!(Wishes::from_json(bytes), None, "{}", bytes.escape_ascii());
        }
        let long = format!("{{\"dsn_envid\":\"{}\"}}", "x".repeat(Wishes::BYTES_MAX));
        assert_eq!(Wishes::from_json(long.as_bytes()), None);
    }

    #[test]
    fn a_password_is_not_shown() {
        assert!(!format!("{:?}", all()).contains("pass\""));
    }

    #[test]
    fn never_stands_alone() {
        let valid: Vec<u8> = (0..=u8::MAX).filter(|&b| DsnNotify::from_bits(b).is_some()).collect();
        assert_eq!(valid, [0, 1, 2, 4, 6, 8, 10, 12, 14]);
        assert!(DsnNotify::SUCCESS.with(DsnNotify::DELAY).has(DsnNotify::DELAY));
        assert!(!DsnNotify::SUCCESS.has(DsnNotify::FAILURE));
    }
}
