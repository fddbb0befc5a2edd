//! Logging in to the far end: SASL with PLAIN (RFC 4616) or LOGIN, within AUTH (RFC 4954).
//!
//! Owns the choice of the mechanism and the lines of each. Passwords are wiped when they are not needed
//! any more, in the form that goes out as well, and are never shown.
//!
//! Diagnostics: none; what the far end says to a login is the session's business.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::sasl::Mechanism;

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: Zeroizing<String>,
    password: Zeroizing<String>,
}

impl Credentials {
    /// Keeps both; neither may hold a NUL, which PLAIN cannot carry.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: Zeroizing::new(username.into()),
            password: Zeroizing::new(password.into()),
        }
    }
}

impl fmt::Debug for Credentials {
    /// Nothing of what they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// How to log in, and where that may be done.
#[derive(Debug, Clone)]
pub struct Login {
    /// Who we are.
    pub credentials: Arc<Credentials>,
    /// Whether it may be said on a connection that is not encrypted.
    pub in_clear: bool,
}

/// The mechanisms that the far end offers and that are known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mechanisms {
    /// PLAIN (RFC 4616).
    pub plain: bool,
    /// LOGIN, which no RFC describes.
    pub login: bool,
}

impl Mechanisms {
    pub(super) fn add<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        for word in words {
            self.plain |= word.eq_ignore_ascii_case("PLAIN");
            self.login |= word.eq_ignore_ascii_case("LOGIN");
        }
    }

    /// The one to use: PLAIN takes one round trip, LOGIN three.
    pub(super) fn preferred(self) -> Option<Mechanism> {
        match self {
            Self { plain: true, .. } => Some(Mechanism::Plain),
            Self { login: true, .. } => Some(Mechanism::Login),
            Self { plain: false, login: false } => None,
        }
    }
}

/// What was sent last, and so what the next reply is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exchange {
    /// `AUTH PLAIN` alone: the credentials are too long to stand in the command.
    Plain,
    /// The credentials.
    PlainResponse,
    /// `AUTH LOGIN`.
    Login,
    /// The user name.
    LoginUsername,
    /// The password.
    LoginPassword,
}

impl Exchange {
    /// The mechanism that it belongs to.
    pub const fn mechanism(self) -> Mechanism {
        match self {
            Self::Plain | Self::PlainResponse => Mechanism::Plain,
            Self::Login | Self::LoginUsername | Self::LoginPassword => Mechanism::Login,
        }
    }

    /// The first exchange of a mechanism, and the line that makes it.
    pub(super) fn begin(mechanism: Mechanism, who: &Credentials) -> (Self, Zeroizing<String>) {
        match mechanism {
            Mechanism::Login => (Self::Login, line("AUTH LOGIN", "")),
            Mechanism::Plain => {
                let command = line("AUTH PLAIN ", &plain(who));
                // RFC 4954 4: what does not fit a command line comes after a 334.
                if command.len() <= COMMAND_BYTES_MAX {
                    (Self::PlainResponse, command)
                } else {
                    (Self::Plain, line("AUTH PLAIN", ""))
                }
            }
        }
    }

    /// What follows a 334, if the mechanism has more to say.
    pub(super) fn next(self, who: &Credentials) -> Option<(Self, Zeroizing<String>)> {
        let encoded = |text: &str| line("", &encoded(text.as_bytes()));
        match self {
            Self::Plain => Some((Self::PlainResponse, line("", &plain(who)))),
            Self::Login => Some((Self::LoginUsername, encoded(&who.username))),
            Self::LoginUsername => Some((Self::LoginPassword, encoded(&who.password))),
            Self::PlainResponse | Self::LoginPassword => None,
        }
    }
}

/// Octets of a command line with its end (RFC 5321 4.5.3.1.4).
const COMMAND_BYTES_MAX: usize = 512;

/// RFC 4616 2: no identity but our own, the name, the password.
fn plain(who: &Credentials) -> Zeroizing<String> {
    let (username, password) = (who.username.as_bytes(), who.password.as_bytes());
    let mut message = Zeroizing::new(Vec::with_capacity(username.len() + password.len() + 2));
    message.push(0);
    message.extend_from_slice(username);
    message.push(0);
    message.extend_from_slice(password);
    encoded(&message)
}

fn encoded(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

/// Made at its full length at once: a string that grows leaves copies of itself behind.
fn line(command: &str, secret: &str) -> Zeroizing<String> {
    let mut line = Zeroizing::new(String::with_capacity(command.len() + secret.len() + 2));
    line.push_str(command);
    line.push_str(secret);
    line.push_str("\r\n");
    line
}
