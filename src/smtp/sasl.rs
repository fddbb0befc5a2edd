//! SASL as SMTP carries it (RFC 4954): what a client says in AUTH becomes credentials.
//!
//! Owns PLAIN (RFC 4616) and LOGIN, base64 included. It judges no password: that is the driver's.
//!
//! Must never: keep a secret in memory that is not wiped when it is dropped, or show one.
//!
//! Diagnostics: [`Failure`], each with its reply.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize as _, Zeroizing};

use super::answer::{self, Fixed};

/// Octets that a line of the exchange may have with its CRLF (RFC 4954 4).
pub const LINE_BYTES_MAX: usize = 12_288;

/// Octets of the longest login that is taken. RFC 4616 2 asks for at least 255.
pub const LOGIN_BYTES_MAX: usize = 255;

/// Octets of the longest password that is taken: room for the tokens that some services use as one.
pub const PASSWORD_BYTES_MAX: usize = 8 * 1024;

/// How a client may say who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The older one, of which there is only a draft.
    Login,
}

impl Mechanism {
    /// The mechanism of that name, in any case (RFC 4422 3.1).
    pub fn named(name: &[u8]) -> Option<Mechanism> {
        match name {
            name if name.eq_ignore_ascii_case(b"PLAIN") => Some(Mechanism::Plain),
            name if name.eq_ignore_ascii_case(b"LOGIN") => Some(Mechanism::Login),
            _ => None,
        }
    }

    /// Its name in AUTH.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// A string that is wiped when it is dropped, with one zero past its end for whoever wants a C string.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// A copy of `bytes`.
    pub fn copy_from(bytes: &[u8]) -> Secret {
        // One allocation of the right size: growing would leave a copy behind.
        let mut copy = Vec::with_capacity(bytes.len() + 1);
        copy.extend_from_slice(bytes);
        copy.push(0);
        Secret(Zeroizing::new(copy))
    }

    /// The string.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..self.0.len() - 1]
    }

    /// The string and the zero past its end.
    pub fn as_bytes_with_nul(&self) -> &[u8] {
        &self.0
    }
}

/// Not even its length is shown.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a client gave to prove who it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// How they came.
    pub mechanism: Mechanism,
    /// The name: 1 to [`LOGIN_BYTES_MAX`] octets of UTF-8 without control characters.
    pub login: Secret,
    /// The password: 1 to [`PASSWORD_BYTES_MAX`] octets, in LOGIN perhaps with zeros inside.
    pub password: Secret,
}

impl Credentials {
    /// Checks what was given.
    fn new(mechanism: Mechanism, login: Secret, password: Secret) -> Result<Self, Failure> {
        // An empty password is refused here and shown to nobody: more than one directory takes it for
        // an anonymous login and says yes (RFC 4513 5.1.2).
        if login.as_bytes().is_empty() || password.as_bytes().is_empty() {
            return Err(Failure::Refused);
        }
        let fits = login.as_bytes().len() <= LOGIN_BYTES_MAX
            && password.as_bytes().len() <= PASSWORD_BYTES_MAX;
        // It will stand in records and logs.
        let name = str::from_utf8(login.as_bytes());
        let readable = name.is_ok_and(|name| !name.contains(char::is_control));
        if fits && readable {
            Ok(Self { mechanism, login, password })
        } else {
            Err(Failure::Refused)
        }
    }

    /// The name as text.
    pub fn name(&self) -> &str {
        str::from_utf8(self.login.as_bytes()).expect("a login was checked to be UTF-8")
    }
}

/// The name alone.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?} {:?})", self.mechanism, self.name())
    }
}

/// What comes next in an exchange.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Say this, and give the answer to [`Exchange::respond`].
    Ask(Exchange, Fixed),
    /// The exchange is over: judge them.
    Done(Credentials),
    /// The exchange is over without.
    Failed(Failure),
}

/// Why an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The client said `*` (RFC 4954 4).
    Cancelled,
    /// Not base64, or not what the mechanism sends.
    Malformed,
    /// What was sent can be no login: nothing where something must be, or somebody else's name.
    Refused,
}

impl Failure {
    /// What the client hears.
    pub const fn reply(self) -> Fixed {
        match self {
            Failure::Cancelled => answer::LOGIN_CANCELLED,
            Failure::Malformed => answer::LOGIN_SYNTAX,
            Failure::Refused => answer::LOGIN_REFUSED,
        }
    }
}

/// An AUTH command that waits for the client's answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Exchange(Await);

#[derive(Debug, PartialEq, Eq)]
enum Await {
    Plain,
    LoginName,
    LoginPassword(Secret),
}

impl Exchange {
    /// Begins. `initial` is what stands behind the mechanism: base64, or `=` for an empty string.
    pub fn begin(mechanism: Mechanism, initial: Option<&[u8]>) -> Next {
        let exchange = match mechanism {
            Mechanism::Plain => Exchange(Await::Plain),
            Mechanism::Login => Exchange(Await::LoginName),
        };
        match initial {
            Some(b"=") => exchange.take(Secret::copy_from(b"")),
            Some(initial) => exchange.decode(initial),
            None => {
                let question = exchange.question();
                Next::Ask(exchange, question)
            }
        }
    }

    /// Takes the client's line, without its CRLF.
    pub fn respond(self, line: &[u8]) -> Next {
        match line {
            b"*" => Next::Failed(Failure::Cancelled),
            line => self.decode(line),
        }
    }

    fn question(&self) -> Fixed {
        match self.0 {
            Await::Plain => answer::CHALLENGE,
            Await::LoginName => answer::ASK_LOGIN,
            Await::LoginPassword(_) => answer::ASK_PASSWORD,
        }
    }

    fn decode(self, text: &[u8]) -> Next {
        let message = decoded(text);
        bleach_stack::<DECODER_STACK_BYTES>();
        match message {
            Some(message) => self.take(message),
            None => Next::Failed(Failure::Malformed),
        }
    }

    fn take(self, message: Secret) -> Next {
        match self.0 {
            Await::Plain => done(plain(&message)),
            Await::LoginName => {
                let next = Exchange(Await::LoginPassword(message));
                let question = next.question();
                Next::Ask(next, question)
            }
            Await::LoginPassword(login) => done(Credentials::new(Mechanism::Login, login, message)),
        }
    }
}

fn done(credentials: Result<Credentials, Failure>) -> Next {
    match credentials {
        Ok(credentials) => Next::Done(credentials),
        Err(failure) => Next::Failed(failure),
    }
}

/// RFC 4616 2: `[authzid] NUL authcid NUL passwd`, none of which holds a NUL.
fn plain(message: &Secret) -> Result<Credentials, Failure> {
    let mut parts = message.as_bytes().split(|byte| *byte == 0);
    let parts = [parts.next(), parts.next(), parts.next(), parts.next()];
    let [Some(authorized), Some(login), Some(password), None] = parts else {
        return Err(Failure::Malformed);
    };
    // Nobody acts for somebody else here.
    if !authorized.is_empty() && authorized != login {
        return Err(Failure::Refused);
    }
    let (login, password) = (Secret::copy_from(login), Secret::copy_from(password));
    Credentials::new(Mechanism::Plain, login, password)
}

/// Octets of the stack that decoding may touch.
const DECODER_STACK_BYTES: usize = 4 * 1024;

/// Overwrites what calls that have returned have left on the stack, as far as `BYTES` below the caller:
/// code that works on secrets, and is not ours, copies parts of them there.
#[inline(never)]
pub fn bleach_stack<const BYTES: usize>() {
    let mut room = [0u8; BYTES];
    room.zeroize();
    std::hint::black_box(&room);
}

/// RFC 4648 4, and nothing that is almost that.
#[inline(never)]
fn decoded(text: &[u8]) -> Option<Secret> {
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len()) + 1]);
    let count = STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes[count..].zeroize();
    bytes.truncate(count + 1);
    Some(Secret(bytes))
}

#[cfg(test)]
#[path = "sasl_tests.rs"]
mod tests;
