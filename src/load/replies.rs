//! Codes out of what a server says: nothing else of a reply matters to a load.
//!
//! Lenient about a lone LF, as the client session is. What is kept of an incomplete line is bounded.
//!
//! **Diagnostics**: [`Garbled`], after which nothing more can be read.

use memchr::memchr;

/// Octets that a line of a reply may have; RFC 5321 4.5.3.1.5 allows 512.
const LINE_BYTES_MAX: usize = 4096;
/// Lines that a reply may have.
const LINES_MAX: u32 = 256;

/// It is no reply of SMTP, or one without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reply that cannot be read, or is longer than any reply")]
pub(super) struct Garbled;

/// Reads replies out of pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// Lines of a reply whose last has not come.
    lines: u32,
}

impl Replies {
    /// The code of the next reply in `input`, which is moved behind it; what is no whole line is taken.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<u16>, Garbled> {
        while let Some(index) = memchr(b'\n', input) {
            let (line, rest) = input.split_at(index + 1);
            *input = rest;
            let (code, last) = if self.partial.is_empty() {
                parse(line)?
            } else {
                self.keep(line)?;
                let parsed = parse(&self.partial)?;
                self.partial.clear();
                parsed
            };
            self.lines += 1;
            if last {
                self.lines = 0;
                return Ok(Some(code));
            }
            if self.lines == LINES_MAX {
                return Err(Garbled);
            }
        }
        self.keep(input)?;
        *input = &[];
        Ok(None)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Garbled> {
        if self.partial.len() + bytes.len() > LINE_BYTES_MAX {
            return Err(Garbled);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

/// The code of a line, and whether it is the last of its reply.
fn parse(line: &[u8]) -> Result<(u16, bool), Garbled> {
    let [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', next, ..] = line else {
        return Err(Garbled);
    };
    let digit = |octet: &u8| u16::from(octet - b'0');
    let code = digit(a) * 100 + digit(b) * 10 + digit(c);
    match next {
        b' ' | b'\r' | b'\n' => Ok((code, true)),
        b'-' => Ok((code, false)),
        _ => Err(Garbled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All codes of `text`, given in pieces of so many octets.
    fn codes(text: &str, piece: usize) -> Result<Vec<u16>, Garbled> {
        let mut replies = Replies::default();
        let mut found = Vec::new();
        for mut piece in text.as_bytes().chunks(piece) {
            while let Some(code) = replies.next(&mut piece)? {
                found.push(code);
            }
        }
        Ok(found)
    }

    #[test]
    fn codes_are_found_however_replies_are_cut() {
        let text = "250-first\r\n250 2.0.0 ok\r\n354\r\n421 bye\n550-\r\n550-x\r\n550 \r\n250 part";
        for piece in 1..=text.len() {
            assert_eq!(codes(text, piece), Ok(vec![250, 354, 421, 550]), "pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_reply_or_has_no_end_is_refused() {
        let endless = "x".repeat(LINE_BYTES_MAX + 1);
        let lines = "250-more\r\n".repeat(LINES_MAX as usize);
        for text in ["\r\n", "25\r\n", "150 x\r\n", "600 x\r\n", "250_x\r\n", &endless, &lines] {
            assert_eq!(codes(text, 100), Err(Garbled), "{text:.20}");
        }
    }
}
