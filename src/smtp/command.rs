//! Command lines into commands (RFC 5321 4.1).
//!
//! Owns verbs, arguments and the parameters of MAIL and RCPT. It knows no state: whether a command may
//! come now is the session's question. Lines arrive without CRLF, and without CR, LF or NUL inside.
//!
//! Diagnostics: [`CommandError`], all of them the client's.

use thiserror::Error;

use super::address::{Address, Path};
use super::dsn::{Notify, Ret, is_xtext, parse_envid, parse_orcpt};

/// RFC 5321 4.5.3.1.2: the longest name that EHLO may carry, in octets.
pub const HELLO_BYTES_MAX: usize = 255;

/// Longest decimal number that fits 64 bits.
const NUMBER_DIGITS_MAX: usize = 20;

/// Which greeting the client used: parameters exist only after EHLO (RFC 5321 2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// HELO.
    Smtp,
    /// EHLO.
    Esmtp,
}

/// What MAIL said the text is made of (RFC 6152).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// `BODY=7BIT`, or nothing.
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBit,
}

/// The sender, and what MAIL said about the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailFrom {
    /// The reverse path; null for `<>`.
    pub address: Address,
    /// `SIZE=` in octets (RFC 1870), if given.
    pub size: Option<u64>,
    /// `BODY=`.
    pub body: BodyKind,
    /// Whether `SMTPUTF8` was given (RFC 6531).
    pub smtputf8: bool,
    /// `RET=` (RFC 3461 4.3), if given.
    pub ret: Option<Ret>,
    /// `ENVID=` (RFC 3461 4.4), decoded, if given.
    pub envid: Option<Box<str>>,
    /// Whether `AUTH=` was given (RFC 4954 5). Whom it names nobody believes.
    pub submitter: bool,
}

impl MailFrom {
    /// Whether a parameter of RFC 3461 was given.
    pub fn asks_for_notices(&self) -> bool {
        self.ret.is_some() || self.envid.is_some()
    }
}

/// A recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptTo {
    /// The forward path.
    pub address: Address,
    /// `NOTIFY=` (RFC 3461 4.1), if given.
    pub notify: Option<Notify>,
    /// `ORCPT=` (RFC 3461 4.2) with its type, decoded, if given.
    pub orcpt: Option<Box<str>>,
    /// Whether the path or ORCPT came in UTF-8, so that the transaction must have SMTPUTF8 (RFC 6531 3.4,
    /// RFC 6533 3).
    pub utf8: bool,
}

impl RcptTo {
    /// Whether a parameter of RFC 3461 was given.
    pub fn asks_for_notices(&self) -> bool {
        self.notify.is_some() || self.orcpt.is_some()
    }
}

/// A command with its arguments checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// EHLO with the client's name.
    Ehlo(&'a str),
    /// HELO with the client's name.
    Helo(&'a str),
    /// MAIL.
    Mail(MailFrom),
    /// RCPT.
    Rcpt(RcptTo),
    /// DATA.
    Data,
    /// BDAT (RFC 3030 2).
    Bdat {
        /// Octets that follow the line.
        size: u64,
        /// Whether the chunk ends the message.
        last: bool,
    },
    /// RSET.
    Rset,
    /// NOOP; an argument is ignored.
    Noop,
    /// HELP; an argument is ignored.
    Help,
    /// VRFY; the argument is ignored.
    Vrfy,
    /// EXPN; the argument is ignored.
    Expn,
    /// AUTH (RFC 4954 4).
    Auth {
        /// The name of the mechanism.
        mechanism: &'a [u8],
        /// The initial response, `=` for an empty one.
        initial: Option<&'a [u8]>,
    },
    /// STARTTLS (RFC 3207).
    StartTls,
    /// QUIT.
    Quit,
}

/// Why a line is no command.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum CommandError {
    /// No such verb.
    #[error("the command is not known")]
    Unknown,
    /// EHLO or HELO without a printable name of up to 255 octets.
    #[error("the greeting has no usable name")]
    Hello,
    /// An argument where none may be.
    #[error("the command takes no argument")]
    Argument,
    /// MAIL without a valid reverse path.
    #[error("the sender cannot be read")]
    Sender,
    /// RCPT without a valid forward path.
    #[error("the recipient cannot be read")]
    Recipient,
    /// A known parameter with a bad value, a malformed one, or one that comes twice.
    #[error("a parameter cannot be read")]
    ParameterSyntax,
    /// A parameter that was not offered.
    #[error("a parameter is not known")]
    ParameterUnknown,
    /// AUTH without a mechanism, or with more than a response behind it.
    #[error("AUTH is not followed by a mechanism and at most one response")]
    Login,
    /// A non-ASCII sender without SMTPUTF8.
    #[error("the address needs SMTPUTF8")]
    NeedsSmtpUtf8,
    /// BDAT without a readable size: nobody knows where the next command begins.
    #[error("the size of the chunk cannot be read")]
    ChunkSize,
    /// BDAT with a good size and a bad word after it: `size` octets must be skipped.
    #[error("the chunk's size is followed by something else than LAST")]
    ChunkArgument {
        /// Octets that follow the line.
        size: u64,
    },
}

impl<'a> Command<'a> {
    /// Reads one line.
    pub fn parse(line: &'a [u8], dialect: Dialect) -> Result<Self, CommandError> {
        if let Some((verb, rest)) = line.split_first_chunk::<8>()
            && verb.eq_ignore_ascii_case(b"STARTTLS")
            && matches!(rest.first(), None | Some(b' '))
        {
            // RFC 3207 4: no parameters.
            return bare(rest.trim_ascii(), Command::StartTls);
        }
        let (verb, rest) = line.split_first_chunk::<4>().ok_or(CommandError::Unknown)?;
        if !matches!(rest.first(), None | Some(b' ')) {
            return Err(CommandError::Unknown);
        }
        let argument = rest.trim_ascii();
        match &verb.map(|byte| byte.to_ascii_uppercase()) {
            b"MAIL" => parse_mail(argument, dialect).map(Command::Mail),
            b"RCPT" => parse_rcpt(argument, dialect).map(Command::Rcpt),
            b"DATA" => bare(argument, Command::Data),
            b"BDAT" => parse_bdat(argument),
            b"EHLO" => parse_hello(argument).map(Command::Ehlo),
            b"HELO" => parse_hello(argument).map(Command::Helo),
            b"RSET" => bare(argument, Command::Rset),
            b"QUIT" => bare(argument, Command::Quit),
            b"AUTH" => parse_auth(argument),
            b"NOOP" => Ok(Command::Noop),
            b"HELP" => Ok(Command::Help),
            b"VRFY" => Ok(Command::Vrfy),
            b"EXPN" => Ok(Command::Expn),
            _ => Err(CommandError::Unknown),
        }
    }
}

fn bare<'a>(argument: &[u8], command: Command<'a>) -> Result<Command<'a>, CommandError> {
    if argument.is_empty() { Ok(command) } else { Err(CommandError::Argument) }
}

/// Lenient about what a name is (RFC 5321 4.1.4: a wrong one is no reason to refuse mail), strict
/// about what could forge a log line or a Received field.
fn parse_hello(argument: &[u8]) -> Result<&str, CommandError> {
    let printable = argument.iter().all(u8::is_ascii_graphic);
    if argument.is_empty() || argument.len() > HELLO_BYTES_MAX || !printable {
        return Err(CommandError::Hello);
    }
    str::from_utf8(argument).map_err(|_| CommandError::Hello)
}

/// Cuts `FROM:` or `TO:` off; spaces behind the colon are common and harmless.
fn path_after<'a>(argument: &'a [u8], keyword: &str) -> Option<&'a [u8]> {
    let (head, rest) = argument.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword.as_bytes()).then(|| rest.trim_ascii_start())
}

fn parse_mail(argument: &[u8], dialect: Dialect) -> Result<MailFrom, CommandError> {
    let path = path_after(argument, "FROM:").ok_or(CommandError::Sender)?;
    let (address, rest) =
        Address::split_path(Path::Reverse, path).map_err(|_| CommandError::Sender)?;
    let body = BodyKind::SevenBit;
    let mut mail = MailFrom {
        address,
        size: None,
        body,
        smtputf8: false,
        ret: None,
        envid: None,
        submitter: false,
    };
    let (mut body, mut submitter) = (None, None);
    for parameter in parameters(rest).ok_or(CommandError::Sender)? {
        if dialect == Dialect::Smtp {
            return Err(CommandError::ParameterUnknown);
        }
        let (keyword, value) = split_parameter(parameter)?;
        match (keyword, value) {
            (k, Some(v)) if k.eq_ignore_ascii_case(b"SIZE") => set(&mut mail.size, number(v))?,
            (k, Some(v)) if k.eq_ignore_ascii_case(b"BODY") => set(&mut body, body_kind(v))?,
            // RFC 4954 5: read, and trusted no further than that: it may be ignored.
            (k, Some(v)) if k.eq_ignore_ascii_case(b"AUTH") => {
                set(&mut submitter, is_xtext(v).then_some(()))?;
            }
            (k, Some(v)) if k.eq_ignore_ascii_case(b"RET") => set(&mut mail.ret, Ret::parse(v))?,
            (k, Some(v)) if k.eq_ignore_ascii_case(b"ENVID") => {
                set(&mut mail.envid, parse_envid(v))?;
            }
            (k, None) if k.eq_ignore_ascii_case(b"SMTPUTF8") && !mail.smtputf8 => {
                mail.smtputf8 = true;
            }
            (k, _) if is_offered(k) => return Err(CommandError::ParameterSyntax),
            (_, _) => return Err(CommandError::ParameterUnknown),
        }
    }
    mail.body = body.unwrap_or(BodyKind::SevenBit);
    mail.submitter = submitter.is_some();
    // RFC 6531 3.4: without the parameter, an address is ASCII.
    if !mail.smtputf8 && !mail.address.is_ascii() {
        return Err(CommandError::NeedsSmtpUtf8);
    }
    Ok(mail)
}

fn parse_rcpt(argument: &[u8], dialect: Dialect) -> Result<RcptTo, CommandError> {
    let path = path_after(argument, "TO:").ok_or(CommandError::Recipient)?;
    let (address, rest) =
        Address::split_path(Path::Forward, path).map_err(|_| CommandError::Recipient)?;
    let utf8 = !address.is_ascii();
    let mut rcpt = RcptTo { address, notify: None, orcpt: None, utf8 };
    for parameter in parameters(rest).ok_or(CommandError::Recipient)? {
        if dialect == Dialect::Smtp {
            return Err(CommandError::ParameterUnknown);
        }
        let (keyword, value) = split_parameter(parameter)?;
        match (keyword, value) {
            (k, Some(v)) if k.eq_ignore_ascii_case(b"NOTIFY") => {
                set(&mut rcpt.notify, Notify::parse(v))?;
            }
            (k, Some(v)) if k.eq_ignore_ascii_case(b"ORCPT") => {
                set(&mut rcpt.orcpt, parse_orcpt(v))?;
                rcpt.utf8 |= !v.is_ascii();
            }
            (k, None) if k.eq_ignore_ascii_case(b"NOTIFY") || k.eq_ignore_ascii_case(b"ORCPT") => {
                return Err(CommandError::ParameterSyntax);
            }
            (_, _) => return Err(CommandError::ParameterUnknown),
        }
    }
    Ok(rcpt)
}

fn parse_bdat<'a>(argument: &[u8]) -> Result<Command<'a>, CommandError> {
    let mut words = argument.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let size = words.next().and_then(number).ok_or(CommandError::ChunkSize)?;
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::Bdat { size, last: false }),
        (Some(word), None) if word.eq_ignore_ascii_case(b"LAST") => {
            Ok(Command::Bdat { size, last: true })
        }
        (Some(_), _) => Err(CommandError::ChunkArgument { size }),
    }
}

fn parse_auth(argument: &[u8]) -> Result<Command<'_>, CommandError> {
    let mut words = argument.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth { mechanism, initial }),
        (None | Some(_), _, _) => Err(CommandError::Login),
    }
}

/// The words after a path; `None` if it is not followed by a space.
fn parameters(rest: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let separated = matches!(rest.first(), None | Some(b' '));
    separated.then(|| rest.split(|byte| *byte == b' ').filter(|word| !word.is_empty()))
}

/// RFC 5321 4.1.2 `esmtp-param`.
fn split_parameter(parameter: &[u8]) -> Result<(&[u8], Option<&[u8]>), CommandError> {
    let (keyword, value) = match parameter.iter().position(|byte| *byte == b'=') {
        Some(index) => (&parameter[..index], Some(&parameter[index + 1..])),
        None => (parameter, None),
    };
    let named = keyword.first().is_some_and(u8::is_ascii_alphanumeric)
        && keyword.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    // RFC 6531 3.4: a value may hold UTF-8; whoever reads it decides.
    let valued = value.is_none_or(|value| {
        let allowed = |byte: &u8| (byte.is_ascii_graphic() || !byte.is_ascii()) && *byte != b'=';
        !value.is_empty() && value.iter().all(allowed)
    });
    if named && valued { Ok((keyword, value)) } else { Err(CommandError::ParameterSyntax) }
}

fn is_offered(keyword: &[u8]) -> bool {
    [&b"SIZE"[..], b"BODY", b"AUTH", b"SMTPUTF8", b"RET", b"ENVID"]
        .iter()
        .any(|known| keyword.eq_ignore_ascii_case(known))
}

/// Fills a parameter once, with a value that could be read.
fn set<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), CommandError> {
    match (&slot, value) {
        (None, Some(value)) => {
            *slot = Some(value);
            Ok(())
        }
        (Some(_), _) | (None, None) => Err(CommandError::ParameterSyntax),
    }
}

fn body_kind(value: &[u8]) -> Option<BodyKind> {
    match value {
        v if v.eq_ignore_ascii_case(b"7BIT") => Some(BodyKind::SevenBit),
        v if v.eq_ignore_ascii_case(b"8BITMIME") => Some(BodyKind::EightBit),
        // BINARYMIME is not offered (RFC 3030 3).
        _ => None,
    }
}

/// Digits alone, no sign, no more than 64 bits.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let plain = (1..=NUMBER_DIGITS_MAX).contains(&digits.len());
    if !plain || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
