//! Decisions: what a plugin has become of an outgoing message, in place of what the host would do.
//!
//! Owns the vocabulary, when a message takes one, and its bounds. What a decision means for the queue is
//! the host's. Must never take one of a message that may have arrived. Diagnostics: [`Misuse`] for a
//! decision where there is nothing to decide, and for values that mean nothing.

use std::num::NonZeroU16;

use crate::answer::Words;
use crate::misuse::Misuse;
use crate::plugin::PluginIndex;

/// How much of the text of a bounce is taken; the rest is cut off, as in the record of an attempt.
pub(crate) const TEXT_BYTES_MAX: usize = 1024;
/// The longest host that can be named: a domain name, or an address (RFC 1035 2.3.4).
pub(crate) const HOST_BYTES_MAX: usize = 255;

/// What is to become of an outgoing message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It fails for good, for this reason.
    Bounce(Words),
    /// It is tried again then, and not before.
    RetryAt {
        /// Unix time in milliseconds; any.
        unix_ms: u64,
    },
    /// It goes to this host, within the same attempt.
    Route {
        /// A name, or an address without brackets.
        host: Box<str>,
        /// `None`: the port of mail.
        port: Option<NonZeroU16>,
    },
}

/// A decision, and who took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Whose it is.
    pub plugin: PluginIndex,
    /// What it is.
    pub decision: Decision,
}

/// What plugins may decide of an outgoing message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admitted {
    /// Nothing.
    #[default]
    Nothing,
    /// When it is tried again: it may have arrived, so that it must not be said to have failed, nor be sent
    /// again at once.
    RetryAt,
    /// Everything.
    All,
}

/// What was decided of one message, and whether anything may be.
#[derive(Debug, Default)]
pub(crate) struct Docket {
    admitted: Admitted,
    decided: Option<Decided>,
    /// What another plugin had decided before.
    before: Option<Box<Decided>>,
}

impl Docket {
    /// The last decision counts, as with all that plugins set (D-69).
    pub(crate) fn decide(&mut self, decided: Decided) -> Result<(), Misuse> {
        let admitted = match (self.admitted, &decided.decision) {
            (Admitted::All, _) | (Admitted::RetryAt, Decision::RetryAt { .. }) => true,
            (Admitted::RetryAt, Decision::Bounce(_) | Decision::Route { .. })
            | (Admitted::Nothing, _) => false,
        };
        if !admitted {
            return Err(Misuse::Undecidable);
        }
        let replaced = self.decided.replace(decided);
        let is_others = |other: &Decided| Some(other.plugin) != self.decided_by();
        if let Some(other) = replaced.filter(is_others) {
            self.before = Some(Box::new(other));
        }
        Ok(())
    }

    /// What a step may decide from now on.
    pub(crate) fn admit(&mut self, admitted: Admitted) {
        self.admitted = admitted;
    }

    /// Nothing was decided, and nothing may be.
    pub(crate) fn clear(&mut self) {
        self.admitted = Admitted::Nothing;
        if self.decided.is_some() {
            self.decided = None;
        }
        self.before = None;
    }

    pub(crate) fn is_decided(&self) -> bool {
        self.decided.is_some()
    }

    pub(crate) fn take(&mut self) -> Option<Decided> {
        self.before = None;
        self.decided.take()
    }

    /// `plugin` has failed: what it decided counts no longer, and what another had decided before does again.
    pub(crate) fn forget(&mut self, plugin: PluginIndex) {
        self.before = self.before.take().filter(|before| before.plugin != plugin);
        if self.decided_by() == Some(plugin) {
            self.decided = self.before.take().map(|before| *before);
        }
    }

    fn decided_by(&self) -> Option<PluginIndex> {
        self.decided.as_ref().map(|decided| decided.plugin)
    }
}

/// Whole milliseconds of a unix time in seconds, never early; the past is the past.
pub(crate) fn unix_ms(seconds: f64) -> Result<u64, Misuse> {
    if seconds.is_nan() {
        return Err(Misuse::Argument("unix_seconds is not a number"));
    }
    // From float to integer, `as` saturates: what is negative is 0.
    Ok((seconds * 1000.0).ceil() as u64)
}

/// A host name or an address, which may stand in brackets; it comes without them.
pub(crate) fn host(text: &[u8]) -> Result<Box<str>, Misuse> {
    let refused = Misuse::Argument("host is neither a name nor an address");
    let text = std::str::from_utf8(text).map_err(|_| refused)?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = !bare.is_empty() && bare.len() <= HOST_BYTES_MAX && bare.bytes().all(plain);
    match is_name || bare.parse::<std::net::IpAddr>().is_ok() {
        true => Ok(bare.into()),
        false => Err(refused),
    }
}

/// 0 is the port of mail.
pub(crate) fn port(port: i32) -> Result<Option<NonZeroU16>, Misuse> {
    let port = u16::try_from(port).map_err(|_| Misuse::Argument("port is not 0 to 65535"))?;
    Ok(NonZeroU16::new(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_milliseconds_of_any_age() {
        for (given, expected) in [
            (0.0, Some(0)),
            (-5.0, Some(0)),
            (1.0001, Some(1_001)),
            (1_700_000_000.5, Some(1_700_000_000_500)),
            (f64::INFINITY, Some(u64::MAX)),
            (f64::NEG_INFINITY, Some(0)),
            (f64::NAN, None),
        ] {
            assert_eq!(unix_ms(given).ok(), expected, "{given}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for (given, expected) in [
            ("relay.example", Some("relay.example")),
            ("127.0.0.1", Some("127.0.0.1")),
            ("[::1]", Some("::1")),
            ("::1", Some("::1")),
            ("", None),
            ("[]", None),
            ("a b", None),
            ("relay.example:25", None),
            ("a\r\nb", None),
            ("b\u{fc}cher.example", None),
        ] {
            assert_eq!(host(given.as_bytes()).ok().as_deref(), expected, "{given}");
        }
        assert!(host(&[b'x'; HOST_BYTES_MAX + 1]).is_err() && host(b"\xff").is_err());
        let ports = [(0, Some(None)), (25, Some(NonZeroU16::new(25))), (65_536, None), (-1, None)];
        for (given, expected) in ports {
            assert_eq!(port(given).ok(), expected, "{given}");
        }
    }

    #[test]
    fn nothing_is_decided_but_within_a_step_that_may_and_the_last_counts() {
        let by = |plugin, unix_ms| Decided {
            plugin: PluginIndex::from_bits(plugin),
            decision: Decision::RetryAt { unix_ms },
        };
        let mut docket = Docket::default();
        assert_eq!(docket.decide(by(0, 1)), Err(Misuse::Undecidable));
        docket.admit(Admitted::All);
        assert_eq!(docket.decide(by(0, 1)), Ok(()));
        assert_eq!(docket.decide(by(1, 2)), Ok(()));
        assert!(docket.is_decided());
        assert_eq!(docket.take(), Some(by(1, 2)));
        docket.admit(Admitted::Nothing);
        assert_eq!(docket.decide(by(0, 3)), Err(Misuse::Undecidable));
        assert!(!docket.is_decided());
    }

    #[test]
    fn of_a_message_that_may_have_arrived_its_time_alone_is_decided() {
        let host = Decision::Route { host: "a.example".into(), port: None };
        for (decision, expected) in [
            (Decision::RetryAt { unix_ms: 1 }, Ok(())),
            (Decision::Bounce(Words::default()), Err(Misuse::Undecidable)),
            (host, Err(Misuse::Undecidable)),
        ] {
            let mut docket = Docket::default();
            docket.admit(Admitted::RetryAt);
            let decided = Decided { plugin: PluginIndex::from_bits(0), decision };
            assert_eq!(docket.decide(decided), expected);
            assert_eq!(docket.is_decided(), expected.is_ok());
        }
    }

    #[test]
    fn what_one_that_fails_has_decided_counts_no_longer_and_that_of_others_does() {
        let by = |plugin, unix_ms| Decided {
            plugin: PluginIndex::from_bits(plugin),
            decision: Decision::RetryAt { unix_ms },
        };
        for (said, failed, expected) in [
            (&[by(0, 1)][..], 0, None),
            (&[by(0, 1)], 1, Some(by(0, 1))),
            (&[by(0, 1), by(1, 2)], 1, Some(by(0, 1))),
            (&[by(0, 1), by(1, 2), by(1, 3)], 1, Some(by(0, 1))),
            (&[by(0, 1), by(1, 2)], 0, Some(by(1, 2))),
        ] {
            let mut docket = Docket::default();
            docket.admit(Admitted::All);
            for decided in said {
                assert_eq!(docket.decide(decided.clone()), Ok(()));
            }
            docket.forget(PluginIndex::from_bits(failed));
            assert_eq!(docket.take(), expected, "{said:?} {failed}");
            docket.forget(PluginIndex::from_bits(0));
            assert!(!docket.is_decided());
        }
    }
}
