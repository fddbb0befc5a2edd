//! What a client may ask to be told of its mail (RFC 3461 4; RFC 6533 3 for addresses in UTF-8).
//!
//! Owns the parameters RET and ENVID of MAIL, NOTIFY and ORCPT of RCPT, and xtext. Values are checked
//! and decoded: what comes out is printable ASCII. It decides nothing about notices.
//!
//! Diagnostics: `None` for a value that cannot be read; the command that holds it is refused.

use std::fmt::Write;

/// RFC 3461 4.4: the longest ENVID, encoded, in octets.
pub const ENVID_BYTES_MAX: usize = 100;
/// RFC 3461 4.2: the longest ORCPT, encoded, in octets.
pub const ORCPT_BYTES_MAX: usize = 500;

/// How much of the mail a notice of its failure is to hold (RFC 3461 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// `RET=FULL`: all of it.
    Full,
    /// `RET=HDRS`: its header.
    Headers,
}

impl Ret {
    /// Reads the value of RET.
    pub fn parse(value: &[u8]) -> Option<Self> {
        match value {
            v if v.eq_ignore_ascii_case(b"FULL") => Some(Self::Full),
            v if v.eq_ignore_ascii_case(b"HDRS") => Some(Self::Headers),
            _ => None,
        }
    }

    /// The value as it is sent.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

/// What a sender wants to hear about a recipient (RFC 3461 4.1). Without any of them: nothing,
/// which is `NEVER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notify {
    /// `SUCCESS`: that the mail arrived, or went where nobody will tell.
    pub success: bool,
    /// `FAILURE`: that it will not arrive.
    pub failure: bool,
    /// `DELAY`: that it takes longer than usual.
    pub delay: bool,
}

impl Notify {
    /// `NEVER`.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };

    /// Reads the value of NOTIFY: `NEVER`, or a list of the others.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.eq_ignore_ascii_case(b"NEVER") {
            return Some(Self::NEVER);
        }
        let mut notify = Self::NEVER;
        for word in value.split(|byte| *byte == b',') {
            match word {
                w if w.eq_ignore_ascii_case(b"SUCCESS") => notify.success = true,
                w if w.eq_ignore_ascii_case(b"FAILURE") => notify.failure = true,
                w if w.eq_ignore_ascii_case(b"DELAY") => notify.delay = true,
                _ => return None,
            }
        }
        Some(notify)
    }

    /// Appends the value as it is sent.
    pub fn write_to(self, out: &mut Vec<u8>) {
        let words = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let start = out.len();
        for (_, word) in words.iter().filter(|(wanted, _)| *wanted) {
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(word.as_bytes());
        }
        if out.len() == start {
            out.extend_from_slice(b"NEVER");
        }
    }
}

/// Reads the value of ENVID: the sender's own name of the message, decoded.
pub fn parse_envid(value: &[u8]) -> Option<Box<str>> {
    let fits = (1..=ENVID_BYTES_MAX).contains(&value.len());
    decode_xtext(value).filter(|_| fits).map(String::into_boxed_str)
}

/// Reads the value of ORCPT: `type;address` with the address decoded. An address in UTF-8, which a
/// client may send as it is in a mail with SMTPUTF8, comes out in the form for those who cannot (RFC
/// 6533 3, `utf-8-addr-unitext` without what is not ASCII).
pub fn parse_orcpt(value: &[u8]) -> Option<Box<str>> {
    let text = str::from_utf8(value).ok()?;
    let (kind, address) = text.split_once(';')?;
    if !is_type(kind) || address.is_empty() || value.len() > ORCPT_BYTES_MAX {
        return None;
    }
    let address = if address.is_ascii() {
        decode_xtext(address.as_bytes())?
    } else {
        kind.eq_ignore_ascii_case("utf-8").then_some(())?;
        decode_xtext(escaped(address)?.as_bytes())?
    };
    let orcpt = format!("{kind};{address}");
    (orcpt.len() <= ORCPT_BYTES_MAX).then(|| orcpt.into_boxed_str())
}

/// The value of ENVID for a name; `None` for one that no ENVID can say.
pub fn envid_value(envid: &str) -> Option<String> {
    let value = encode_xtext(envid)?;
    (1..=ENVID_BYTES_MAX).contains(&value.len()).then_some(value)
}

/// The value of ORCPT for `type;address`; `None` for what no ORCPT can say.
pub fn orcpt_value(orcpt: &str) -> Option<String> {
    let (kind, address) = orcpt.split_once(';').filter(|(kind, _)| is_type(kind))?;
    let value = format!("{kind};{}", encode_xtext(address)?);
    (!address.is_empty() && value.len() <= ORCPT_BYTES_MAX).then_some(value)
}

/// The type of an address: an atom (RFC 3461 4.2), without what MIME would quote.
pub fn is_type(kind: &str) -> bool {
    !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// RFC 6533 3: what is not ASCII becomes `\x{10FFFF}`. What is may not look like such an escape.
fn escaped(address: &str) -> Option<String> {
    let mut out = String::with_capacity(2 * address.len());
    for char in address.chars() {
        match char {
            '\\' => return None,
            c if c.is_ascii() => out.push(c),
            c if c.is_control() => return None,
            c => write!(out, "\\x{{{:X}}}", u32::from(c)).ok()?,
        }
    }
    Some(out)
}

/// What an xtext says, octet by octet; `None` where it is none. RFC 3461 4: printable ASCII without `+`
/// and `=`, or `+` with two digits of base 16, those beyond 9 in upper case.
fn octets(value: &[u8]) -> impl Iterator<Item = Option<u8>> {
    let mut rest = value.iter();
    std::iter::from_fn(move || {
        let octet = match rest.next()? {
            b'+' => {
                digit(rest.next()).and_then(|high| digit(rest.next()).map(|low| high << 4 | low))
            }
            b'=' => None,
            other => other.is_ascii_graphic().then_some(*other),
        };
        Some(octet)
    })
}

/// Whether a value is an xtext, whatever it says.
pub fn is_xtext(value: &[u8]) -> bool {
    octets(value).all(|octet| octet.is_some())
}

/// What an xtext says must be printable ASCII here (RFC 3461 4.2 and 4.4): it ends up in header fields.
fn decode_xtext(value: &[u8]) -> Option<String> {
    octets(value).map(|octet| octet.filter(|octet| is_printable(*octet)).map(char::from)).collect()
}

/// Writes a text as xtext; `None` if it is not printable ASCII.
fn encode_xtext(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'+' | b'=' | b' ' => write!(out, "+{byte:02X}").ok()?,
            other => out.push(is_printable(other).then(|| char::from(other))?),
        }
    }
    Some(out)
}

fn is_printable(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte)
}

fn digit(byte: Option<&u8>) -> Option<u8> {
    match byte? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// What a mail passes on to a hop that offers DSN; all absent where nothing was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID, decoded.
    pub envid: Option<&'a str>,
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT, decoded.
    pub orcpt: Option<&'a str>,
}

impl Request<'_> {
    /// Appends the parameters of MAIL, each with a blank before it. A value that no parameter can say is
    /// left out: it may have come another way than by a parameter.
    pub fn write_mail(&self, out: &mut Vec<u8>) {
        if let Some(ret) = self.ret {
            out.extend_from_slice(b" RET=");
            out.extend_from_slice(ret.keyword().as_bytes());
        }
        if let Some(value) = self.envid.and_then(envid_value) {
            out.extend_from_slice(b" ENVID=");
            out.extend_from_slice(value.as_bytes());
        }
    }

    /// Appends the parameters of RCPT in the same way.
    pub fn write_rcpt(&self, out: &mut Vec<u8>) {
        if let Some(notify) = self.notify {
            out.extend_from_slice(b" NOTIFY=");
            notify.write_to(out);
        }
        if let Some(value) = self.orcpt.and_then(orcpt_value) {
            out.extend_from_slice(b" ORCPT=");
            out.extend_from_slice(value.as_bytes());
        }
    }
}

#[cfg(test)]
#[path = "dsn_tests.rs"]
mod tests;
