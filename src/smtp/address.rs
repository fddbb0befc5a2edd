//! Mail addresses and the paths of MAIL and RCPT (RFC 5321 4.1.2, 4.1.3, 4.5.3.1; RFC 6531 3.3).
//!
//! Owns the grammar and the one type that says "this went through it". It never resolves, folds or
//! rewrites an address: what the client wrote is kept, without brackets and source route.
//!
//! Lenient in two places where the world is: dots may stand anywhere in an unquoted local part (mobile
//! carriers have issued such mailboxes for decades), and labels may hold `_`. Strict where it guards
//! others: no control character, no invisible or direction-changing one, no full stop in disguise.
//!
//! Diagnostics: [`AddressError`], all of them the client's.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// RFC 5321 4.5.3.1.1, in octets.
pub const LOCAL_BYTES_MAX: usize = 64;
/// RFC 5321 4.5.3.1.2, in octets.
pub const DOMAIN_BYTES_MAX: usize = 255;
/// RFC 5321 4.5.3.1.3, in octets, with brackets and source route.
pub const PATH_BYTES_MAX: usize = 256;
/// RFC 1035 2.3.4, in octets; not applied to labels in UTF-8, whose wire form has another length.
const LABEL_BYTES_MAX: usize = 63;

/// What is wrong with an address.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum AddressError {
    /// No `<`, or no `>` that closes it.
    #[error("the path is not in angle brackets")]
    Brackets,
    /// `<>` where only a recipient makes sense.
    #[error("the path is empty")]
    Empty,
    /// More than [`PATH_BYTES_MAX`].
    #[error("the path is longer than 256 octets")]
    PathTooLong,
    /// Not UTF-8 (RFC 6531 3.3).
    #[error("the address is not UTF-8")]
    NotUtf8,
    /// A control character, or a Unicode character that hides or reorders others.
    #[error("the address holds a character that cannot be shown")]
    Character,
    /// The local part does not follow the grammar.
    #[error("the local part is malformed")]
    Local,
    /// More than [`LOCAL_BYTES_MAX`].
    #[error("the local part is longer than 64 octets")]
    LocalTooLong,
    /// The domain or address literal does not follow the grammar.
    #[error("the domain is malformed")]
    Domain,
    /// More than [`DOMAIN_BYTES_MAX`].
    #[error("the domain is longer than 255 octets")]
    DomainTooLong,
}

/// Whose path it is: decides what stands in for a full address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Of MAIL: `<>` is the null sender.
    Reverse,
    /// Of RCPT: `<postmaster>` needs no domain.
    Forward,
}

/// An address that follows the grammar: UTF-8, without brackets, in the client's spelling.
///
/// Empty for the null sender; without a domain only for `postmaster`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    text: Box<str>,
    /// Octets before the `@`. At most 64, or 10 for `postmaster`.
    local_bytes: u8,
}

impl Address {
    /// The null sender, `<>`.
    pub fn null() -> Self {
        Self { text: Box::default(), local_bytes: 0 }
    }

    /// Reads `local@domain`, without brackets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        check_characters(text)?;
        let local_bytes = local_bytes(text.as_bytes())?;
        let domain = text[local_bytes..].strip_prefix('@').ok_or(AddressError::Local)?;
        check_domain(domain)?;
        // Both brackets count as part of the path.
        if text.len() > PATH_BYTES_MAX - 2 {
            return Err(AddressError::PathTooLong);
        }
        Ok(Self::of(text, local_bytes))
    }

    /// Reads what may stand between the brackets of `path`, without a source route.
    pub fn parse_for(path: Path, text: &str) -> Result<Self, AddressError> {
        match path {
            Path::Reverse if text.is_empty() => Ok(Self::null()),
            Path::Forward if text.is_empty() => Err(AddressError::Empty),
            Path::Forward if text.eq_ignore_ascii_case("postmaster") => {
                // RFC 5321 4.1.1.3: in any case of letters, and without a domain.
                Ok(Self::of(text, text.len()))
            }
            Path::Reverse | Path::Forward => Self::parse(text),
        }
    }

    /// Reads a path at the front of `bytes`; returns what follows its `>` too.
    pub fn split_path(path: Path, bytes: &[u8]) -> Result<(Self, &[u8]), AddressError> {
        let end = path_bytes(bytes)?;
        if end > PATH_BYTES_MAX {
            return Err(AddressError::PathTooLong);
        }
        let inner = str::from_utf8(&bytes[1..end - 1]).map_err(|_| AddressError::NotUtf8)?;
        let address = Self::parse_for(path, without_route(inner)?)?;
        Ok((address, &bytes[end..]))
    }

    fn of(text: &str, local_bytes: usize) -> Self {
        let local_bytes = u8::try_from(local_bytes).expect("a local part has at most 64 octets");
        Self { text: text.into(), local_bytes }
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole address, without its parts.
    pub fn into_text(self) -> Box<str> {
        self.text
    }

    /// The local part as written, with its quotes if it has any.
    pub fn local(&self) -> &str {
        &self.text[..usize::from(self.local_bytes)]
    }

    /// The domain or address literal; empty for the null sender and bare `postmaster`.
    pub fn domain(&self) -> &str {
        self.text.get(usize::from(self.local_bytes) + 1..).unwrap_or("")
    }

    /// Whether this is the null sender.
    pub fn is_null(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether it can be sent without SMTPUTF8 (RFC 6531 3.3).
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }
}

impl AsRef<str> for Address {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

/// Octets from `<` to the `>` that closes it; one inside a quoted string closes nothing.
fn path_bytes(bytes: &[u8]) -> Result<usize, AddressError> {
    if bytes.first() != Some(&b'<') {
        return Err(AddressError::Brackets);
    }
    let mut quoted = false;
    let mut index = 1;
    while let Some(&byte) = bytes.get(index) {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => index += 1,
            b'>' if !quoted => return Ok(index + 1),
            _ => {}
        }
        index += 1;
    }
    Err(AddressError::Brackets)
}

/// RFC 5321 4.1.1.3, appendix C: a source route is read and ignored.
fn without_route(inner: &str) -> Result<&str, AddressError> {
    if !inner.starts_with('@') {
        return Ok(inner);
    }
    // Cut at the last hop's colon. IPv6 literals hold colons, so hops are taken one by one.
    let mut rest = inner;
    loop {
        let hop = rest.strip_prefix('@').ok_or(AddressError::Domain)?;
        let literal = if hop.starts_with('[') { hop.find(']').unwrap_or(0) } else { 0 };
        let end = hop[literal..].find([',', ':']).ok_or(AddressError::Domain)? + literal;
        check_characters(&hop[..end])?;
        check_domain(&hop[..end])?;
        rest = &hop[end + 1..];
        if hop.as_bytes()[end] == b':' {
            return if rest.is_empty() { Err(AddressError::Local) } else { Ok(rest) };
        }
    }
}

/// Refuses what cannot be shown: such characters forge log lines and look-alike addresses.
fn check_characters(text: &str) -> Result<(), AddressError> {
    let shown = if text.is_ascii() {
        text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    } else {
        text.chars().all(is_shown)
    };
    if shown { Ok(()) } else { Err(AddressError::Character) }
}

fn is_shown(c: char) -> bool {
    let hides = matches!(c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}');
    !(c.is_control() || hides || (!c.is_ascii() && c.is_whitespace()))
}

/// Octets of the local part at the front of `bytes`.
fn local_bytes(bytes: &[u8]) -> Result<usize, AddressError> {
    let count = match bytes.first() {
        Some(b'"') => quoted_bytes(bytes)?,
        _ => bytes.iter().take_while(|byte| is_atom_or_dot(**byte)).count(),
    };
    match count {
        0 => Err(AddressError::Local),
        1..=LOCAL_BYTES_MAX => Ok(count),
        _ => Err(AddressError::LocalTooLong),
    }
}

/// Octets of a quoted string, quotes included (RFC 5321 4.1.2; control octets are excluded already).
fn quoted_bytes(bytes: &[u8]) -> Result<usize, AddressError> {
    let mut index = 1;
    loop {
        match bytes.get(index) {
            Some(b'"') => return Ok(index + 1),
            // RFC 5321 4.1.2: a quoted pair escapes printable ASCII alone.
            Some(b'\\') if bytes.get(index + 1).is_some_and(u8::is_ascii) => index += 2,
            Some(b'\\') | None => return Err(AddressError::Local),
            Some(_) => index += 1,
        }
    }
}

/// RFC 5322 3.2.3 `atext`, the dot, and every octet of UTF-8 beyond ASCII (RFC 6531 3.3).
fn is_atom_or_dot(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | 0x80..=0xff
        | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'/' | b'=' | b'?'
        | b'^' | b'_' | b'`' | b'{' | b'|' | b'}' | b'~')
}

fn check_domain(domain: &str) -> Result<(), AddressError> {
    if domain.len() > DOMAIN_BYTES_MAX {
        return Err(AddressError::DomainTooLong);
    }
    let valid = match domain.strip_prefix('[') {
        Some(literal) => literal.strip_suffix(']').is_some_and(is_address_literal),
        None if domain.is_ascii() => {
            domain.as_bytes().split(|byte| *byte == b'.').all(is_ascii_label)
        }
        None => domain.split('.').all(is_label),
    };
    if valid { Ok(()) } else { Err(AddressError::Domain) }
}

/// RFC 5321 4.1.3. No tag but IPv6 was ever registered, so no other can be meant.
fn is_address_literal(literal: &str) -> bool {
    match literal.split_at_checked("IPv6:".len()) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => {
            address.parse::<Ipv6Addr>().is_ok()
        }
        _ => literal.parse::<Ipv4Addr>().is_ok(),
    }
}

/// As [`is_label`], for each domain of each mail: octet by octet, and each looked at once.
fn is_ascii_label(label: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let ([first, ..], [.., last]) = (label, label) else { return false };
    label.len() <= LABEL_BYTES_MAX && label.iter().all(allowed) && *first != b'-' && *last != b'-'
}

fn is_label(label: &str) -> bool {
    // Full stops that IDNA maps to the ASCII one would move the border between labels.
    let disguised = |c| matches!(c, '\u{3002}' | '\u{ff0e}' | '\u{ff61}');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || !b.is_ascii();
    let short = !label.is_ascii() || label.len() <= LABEL_BYTES_MAX;
    !label.is_empty()
        && short
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
        && (label.is_ascii() || !label.contains(disguised))
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
