//! What a notice brings back of the mail it tells of (RFC 3461 4.3, RFC 6522 3).
//!
//! Owns the bounds. Never holds more than [`FULL_BYTES_MAX`], however large the mail is.
//!
//! Diagnostics: none; what is too large to come back whole comes back as its header.

use crate::queue::{Mail, Transaction};
use crate::smtp::dsn::Ret;

/// Octets of a mail that comes back whole; of a larger one the header does.
pub(super) const FULL_BYTES_MAX: usize = 256 * 1024;
/// Octets of a text that are needed to know what of it comes back.
pub const TEXT_BYTES_NEEDED: usize = FULL_BYTES_MAX + 1;
/// Octets of a header that come back, to the end of a line.
pub(super) const HEADER_BYTES_MAX: usize = 32 * 1024;

/// A part of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Which part.
    pub ret: Ret,
    /// Its octets, lines with CRLF, without a NUL.
    pub text: Vec<u8>,
}

impl Excerpt {
    /// What comes back of `mail`, of which `ret` is wished; `None` for one without a text.
    pub fn of(transaction: &Transaction, mail: &Mail, ret: Ret) -> Option<Self> {
        let body = transaction.body(mail)?.as_bytes();
        let trace = &transaction.trace;
        let whole = trace.len() + body.len() <= FULL_BYTES_MAX && !body.is_empty();
        let (ret, body) = match ret {
            Ret::Full if whole => (Ret::Full, body),
            Ret::Full | Ret::Headers => (Ret::Headers, header_of(body)),
        };
        let text = trace.iter().chain(body).map(|byte| if *byte == 0 { b' ' } else { *byte });
        Some(Self { ret, text: text.collect() })
    }
}

/// The fields at the front of a text, without the empty line behind them.
fn header_of(body: &[u8]) -> &[u8] {
    if body.starts_with(b"\r\n") {
        return b"";
    }
    let seen = &body[..body.len().min(HEADER_BYTES_MAX)];
    if let Some(end) = memchr::memmem::find(seen, b"\r\n\r\n") {
        return &seen[..end + 2];
    }
    // No end in sight: it is cut behind a line.
    let end = memchr::memmem::rfind(seen, b"\r\n").map_or(0, |end| end + 2);
    &seen[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_at_the_empty_line_or_behind_the_last_line_that_fits() {
        let long = b"A: b\r\n".repeat(HEADER_BYTES_MAX);
        let rows: [(&[u8], usize); 6] = [
            (b"A: b\r\nC: d\r\n\r\ntext\r\n", 12),
            (b"A: b\r\n\r\n", 6),
            (b"\r\ntext\r\n", 0),
            (b"A: b\r\n", 6),
            (b"no line end", 0),
            (&long, HEADER_BYTES_MAX / 6 * 6),
        ];
        for (text, length) in rows {
            assert_eq!(
                header_of(text).len(),
                length,
                "{}",
                text[..11.min(text.len())].escape_ascii()
            );
        }
    }
}
