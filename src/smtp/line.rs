//! What counts as a command line.
//!
//! Owns the rules for line ends, length and octets that no command may hold (RFC 5321 2.3.8, 4.1.1,
//! 4.5.3.1.4). It never looks at the verb.
//!
//! Diagnostics: [`LineError`], each answered by `500` and counted as an error of the client.

use memchr::{memchr, memchr2};
use thiserror::Error;

/// What the client got wrong about the line itself.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub(super) enum LineError {
    #[error("the line is longer than the limit")]
    TooLong,
    #[error("the line does not end in CRLF, or holds a CR of its own")]
    LineEnd,
    #[error("the line holds a NUL")]
    Nul,
}

/// Length of the first line of `bytes` with its LF, if it is all there.
///
/// A lone LF ends a line too: not because that would be a line of SMTP, but so that the client that
/// sent it gets its `500` at once instead of waiting for a CRLF that never comes.
pub(super) fn complete(bytes: &[u8]) -> Option<usize> {
    memchr(b'\n', bytes).map(|index| index + 1)
}

/// The line without its CRLF. `line` ends in LF; `bytes_max` counts the CRLF.
pub(super) fn content(line: &[u8], bytes_max: usize) -> Result<&[u8], LineError> {
    if line.len() > bytes_max {
        return Err(LineError::TooLong);
    }
    let content = line.strip_suffix(b"\r\n").ok_or(LineError::LineEnd)?;
    match memchr2(b'\r', b'\0', content) {
        None => Ok(content),
        Some(index) if content[index] == b'\r' => Err(LineError::LineEnd),
        Some(_) => Err(LineError::Nul),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sorted_by_what_is_wrong_with_them() {
        type Row = (&'static [u8], Result<&'static [u8], LineError>);
        let rows: &[Row] = &[
            (b"NOOP\r\n", Ok(b"NOOP")),
            (b"\r\n", Ok(b"")),
            (b"NOOP\n", Err(LineError::LineEnd)),
            (b"\n", Err(LineError::LineEnd)),
            (b"NO\rOP\r\n", Err(LineError::LineEnd)),
            (b"NOOP\r\r\n", Err(LineError::LineEnd)),
            (b"NO\0OP\r\n", Err(LineError::Nul)),
            (b"NOOP 789\r\n", Ok(b"NOOP 789")),
            (b"NOOP 7890\r\n", Err(LineError::TooLong)),
        ];
        for (line, expected) in rows {
            assert_eq!(content(line, 10), *expected, "{:?}", line.escape_ascii().to_string());
        }
    }
}
