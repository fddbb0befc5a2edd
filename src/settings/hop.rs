//! The settings of how next hops are met: TLS, the login to a smarthost, ways of sending.
//!
//! Owns names and meanings, and the secret that is among them. Never opens a connection.
//!
//! Diagnostics: errors for what cannot work together, warnings for what gives a password away.

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use super::key::{Key, Preset, change, section};
use super::kind::{Choice, Kind, Reason, Time};
use super::load::Values;
use super::model::Delivery;

section! {
    /// How next hops are met.
    Hop, "Next hops" {
        /// How connections to next hops are secured: `opportunistic` (or `optional`, which is the
        /// same) uses STARTTLS where it is offered, verifies nothing, and falls back to an unencrypted
        /// connection where the handshake fails; `required` sends nothing unencrypted; `verified`
        /// wants a certificate for the host's name besides, by an authority that is trusted (of an MX
        /// that name comes out of DNS, unsigned: whoever forges DNS answers chooses it); `off` never
        /// asks for TLS.
        "smtp-out-security" security: Security = Preset::Text("opportunistic"), Choice(&[
            ("opportunistic", Security::Opportunistic),
            ("optional", Security::Opportunistic),
            ("required", Security::Required),
            ("verified", Security::Verified),
            ("off", Security::Off),
        ]), live;

        /// How long a next hop may take for the TLS handshake, however fast it drips.
        "smtp-out-tls-timeout" handshake_timeout: Duration = Preset::Text("60"),
            Time::seconds(1, 3600), live;

        /// Whether texts of up to 64 KiB go out together with their envelope (BDAT) where a next hop
        /// offers CHUNKING and PIPELINING: `auto`, or `off` for a hop that does that wrong.
        "smtp-out-chunking" chunking: bool = Preset::Text("auto"),
            Choice(&[("auto", true), ("off", false)]), live;

        /// Whether the smarthost begins TLS when it is asked to (`starttls`, as smtp-out-security
        /// says) or with the first octet (`implicit`, usually on port 465).
        "smarthost-tls" smarthost_tls: TlsStart = Preset::Text("starttls"),
            Choice(&[("starttls", TlsStart::StartTls), ("implicit", TlsStart::Implicit)]), live;

        /// The name to log in to the smarthost with; empty for no login.
        "smarthost-username" username: String = Preset::Text(""), Word, live;

        /// The password to log in to the smarthost with. Everybody on this machine can read a command
        /// line: put it into a file, or into the environment.
        "smarthost-password" password: Secret = Preset::Text(""), Password, live;

        /// Where the password may go: only to a smarthost whose certificate is `verified`, `encrypted`
        /// to any, or in `clear`. A smarthost on this machine may always have it. Passwords that messages
        /// bring along are bound by the same rule, but never go in clear.
        "smarthost-auth" auth: AuthRule = Preset::Text("verified"), Choice(&[
            ("verified", AuthRule::Verified),
            ("encrypted", AuthRule::Encrypted),
            ("clear", AuthRule::Clear),
        ]), live;
    }
}

/// How connections to next hops are secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Security {
    /// Not at all.
    Off,
    /// Where that is to be had.
    Opportunistic,
    /// Always.
    Required,
    /// Always, and the other side is known.
    Verified,
}

/// When a smarthost begins TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsStart {
    /// After STARTTLS.
    StartTls,
    /// With the first octet (RFC 8314 3.3).
    Implicit,
}

/// Where a password may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuthRule {
    /// Anywhere.
    Clear,
    /// To whoever answers under TLS.
    Encrypted,
    /// To a host that proved its name.
    Verified,
}

/// A text that is wiped when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text, for whoever needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    /// Whether there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(empty)" } else { "(secret)" })
    }
}

/// A password: any text, so that no complaint ever repeats one.
struct Password;

impl Kind for Password {
    type Value = Secret;

    fn parse(&self, text: &str) -> Result<Secret, Reason> {
        Ok(Secret(Zeroizing::new(text.to_owned())))
    }

    fn allowed(&self) -> String {
        "any text".into()
    }
}

/// A name without control characters, or nothing.
struct Word;

impl Kind for Word {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, Reason> {
        match text {
            _ if text.len() > USERNAME_BYTES_MAX => Err("is too long".into()),
            _ if text.contains(char::is_control) => Err("has control characters".into()),
            _ => Ok(text.to_owned()),
        }
    }

    fn allowed(&self) -> String {
        format!("up to {USERNAME_BYTES_MAX} bytes without control characters, or empty")
    }
}

/// RFC 4616 2 asks that at least 255 be taken.
const USERNAME_BYTES_MAX: usize = 255;
/// RFC 4954 4: a line of an exchange has 12,288 octets, and base64 makes four of three.
const PASSWORD_BYTES_MAX: usize = 8 * 1024;

impl Hop {
    /// What cannot work, and what will surprise.
    pub(super) fn faults(&self, delivery: &Delivery) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        let password = self.password.expose();
        if self.username.is_empty() != password.is_empty() {
            errors.push("smarthost-username and smarthost-password go together: set both or none");
        }
        if password.contains(char::is_control) || password.len() > PASSWORD_BYTES_MAX {
            errors.push("smarthost-password is too long or has control characters");
        }
        if !self.username.is_empty() && delivery.smarthost.is_none() {
            warnings.push("smarthost-username is set and smarthost is not: nobody is logged in to");
        }
        if !self.username.is_empty() && self.auth == AuthRule::Clear {
            warnings.push("smarthost-auth is `clear`: the password may go out unencrypted");
        }
        (errors, warnings)
    }
}
