//! Message text onto the wire: dot-stuffed and ended, without a copy (RFC 5321 4.5.2).
//!
//! Owns what the far end will see of a text. It yields slices of what it was given and of constants, so
//! that a driver can hand them to one `writev`. It never emits a bare CR or LF when asked to repair;
//! text that was received over SMTP has none.
//!
//! Diagnostics: none; any octets can be sent.

use memchr::memmem::Finder;
use memchr::{memchr2, memmem};

/// What is done about a CR or LF that stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineRepair {
    /// Nothing: the text came through the server session, or passed [`is_crlf_only`](super::is_crlf_only).
    Trust,
    /// Each becomes CRLF (D-6B: text made by plugins).
    ToCrlf,
}

/// The slices that, one after the other, are a message as DATA carries it.
///
/// The parts are one text: usually our Received field and the body. Between them and at the end nothing
/// is assumed; a missing final CRLF is added, then the line with the dot.
#[derive(Debug, Clone)]
pub struct Stuffer<'a> {
    part: &'a [u8],
    next_part: Option<&'a [u8]>,
    repair: LineRepair,
    last: Last,
    /// The text is out, and the end too.
    ended: bool,
    finder: Finder<'static>,
}

/// Where a text was left off, so that another [`Stuffer`] over the same parts goes on there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    in_body: bool,
    left: usize,
    last: Last,
    ended: bool,
}

impl Place {
    /// Nothing is out yet.
    pub const START: Place =
        Place { in_body: false, left: usize::MAX, last: Last::CrLf, ended: false };

    /// Whether the text and its end are out.
    pub const fn is_end(self) -> bool {
        self.ended
    }
}

/// How the text sent so far ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    CrLf,
    Cr,
    /// An LF that is not of a CRLF: trusted text may have one against the promise.
    Lf,
    Other,
}

impl<'a> Stuffer<'a> {
    /// A message made of `prefix` and `body`.
    pub fn new(prefix: &'a [u8], body: &'a [u8], repair: LineRepair) -> Self {
        Self {
            part: prefix,
            next_part: Some(body),
            repair,
            last: Last::CrLf,
            ended: false,
            finder: memmem::Finder::new(b"\n."),
        }
    }

    /// The message from `place` on; the parts are those of the stuffer that gave the place.
    pub fn resume(prefix: &'a [u8], body: &'a [u8], repair: LineRepair, place: Place) -> Self {
        let rest = |part: &'a [u8]| &part[part.len() - place.left.min(part.len())..];
        let (part, next_part) =
            if place.in_body { (rest(body), None) } else { (rest(prefix), Some(body)) };
        Self {
            part,
            next_part,
            last: place.last,
            ended: place.ended,
            ..Self::new(prefix, body, repair)
        }
    }

    /// How far the slices handed out so far reach.
    pub fn place(&self) -> Place {
        Place {
            in_body: self.next_part.is_none(),
            left: self.part.len(),
            last: self.last,
            ended: self.ended,
        }
    }

    /// Appends the whole message to `out`.
    pub fn write_to(self, out: &mut Vec<u8>) {
        self.for_each(|slice| out.extend_from_slice(slice));
    }

    /// Text up to the next dot that needs another; the dot itself is not eaten but comes again, so
    /// that it doubles without a slice of its own.
    fn trusted(&mut self) -> &'a [u8] {
        let stuffs = self.part[0] == b'.' && matches!(self.last, Last::CrLf | Last::Lf);
        if stuffs {
            self.last = Last::Other;
            return &self.part[..1];
        }
        let count = self.finder.find(self.part).map_or(self.part.len(), |index| index + 1);
        self.eat(count)
    }

    /// One line, or its end.
    fn repaired(&mut self) -> &'a [u8] {
        match memchr2(b'\r', b'\n', self.part) {
            // The LF of a CRLF whose CR is out as CRLF already.
            Some(0) if self.part[0] == b'\n' && self.last == Last::Cr => {
                self.part = &self.part[1..];
                self.last = Last::CrLf;
                b""
            }
            Some(0) => {
                self.last = if self.part[0] == b'\r' { Last::Cr } else { Last::CrLf };
                self.part = &self.part[1..];
                b"\r\n"
            }
            found => {
                let at_line_start = self.last != Last::Other;
                self.last = Last::Other;
                if at_line_start && self.part[0] == b'.' {
                    return b".";
                }
                let (line, rest) = self.part.split_at(found.unwrap_or(self.part.len()));
                self.part = rest;
                line
            }
        }
    }

    fn eat(&mut self, count: usize) -> &'a [u8] {
        let (slice, rest) = self.part.split_at(count);
        self.part = rest;
        self.last = match slice {
            [.., b'\r', b'\n'] => Last::CrLf,
            [b'\n'] if self.last == Last::Cr => Last::CrLf,
            [.., b'\n'] => Last::Lf,
            [.., b'\r'] => Last::Cr,
            _ => Last::Other,
        };
        slice
    }

    fn end(&mut self) -> &'static [u8] {
        self.ended = true;
        match (self.last, self.repair) {
            (Last::CrLf, _) | (Last::Cr, LineRepair::ToCrlf) => b".\r\n",
            (Last::Lf | Last::Other, _) | (Last::Cr, LineRepair::Trust) => b"\r\n.\r\n",
        }
    }
}

impl<'a> Iterator for Stuffer<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if !self.part.is_empty() {
                let slice = match self.repair {
                    LineRepair::Trust => self.trusted(),
                    LineRepair::ToCrlf => self.repaired(),
                };
                if !slice.is_empty() {
                    return Some(slice);
                }
            } else if let Some(part) = self.next_part.take() {
                self.part = part;
            } else {
                return if self.ended { None } else { Some(self.end()) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(prefix: &[u8], body: &[u8], repair: LineRepair) -> String {
        let mut out = Vec::new();
        Stuffer::new(prefix, body, repair).write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// RFC 5321 4.5.2.
    #[test]
    fn dots_double_at_the_start_of_lines_alone() {
        let rows: &[(&[u8], &str)] = &[
            (b"", ".\r\n"),
            (b"a", "a\r\n.\r\n"),
            (b"a\r\n", "a\r\n.\r\n"),
            (b".", "..\r\n.\r\n"),
            (b".\r\n", "..\r\n.\r\n"),
            (b"..\r\n..\r\n", "...\r\n...\r\n.\r\n"),
            (b"a.b\r\n.c.\r\n", "a.b\r\n..c.\r\n.\r\n"),
            (b"a\r\n.\r\n.\r\n", "a\r\n..\r\n..\r\n.\r\n"),
        ];
        for (body, expected) in rows {
            for repair in [LineRepair::Trust, LineRepair::ToCrlf] {
                assert_eq!(sent(b"", body, repair), *expected, "{}", body.escape_ascii());
                for split in 0..=body.len() {
                    let (prefix, body) = body.split_at(split);
                    assert_eq!(sent(prefix, body, repair), *expected, "split at {split}");
                }
            }
        }
    }

    /// D-6B, and nothing that could smuggle a mail gets out.
    #[test]
    fn d_6b_bare_line_ends_are_repaired_when_asked() {
        let rows: &[(&[u8], &str)] = &[
            (b"a\nb", "a\r\nb\r\n.\r\n"),
            (b"a\rb\r", "a\r\nb\r\n.\r\n"),
            (b"a\n.\nb", "a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r.\rb", "a\r\n..\r\nb\r\n.\r\n"),
            (b"a\r\r\n.\r\n", "a\r\n\r\n..\r\n.\r\n"),
            (b"\n\r", "\r\n\r\n.\r\n"),
            (b"\r\n\n", "\r\n\r\n.\r\n"),
        ];
        for (body, expected) in rows {
            for split in 0..=body.len() {
                let (prefix, rest) = body.split_at(split);
                let out = sent(prefix, rest, LineRepair::ToCrlf);
                assert_eq!(out, *expected, "{} at {split}", body.escape_ascii());
            }
        }
    }

    #[test]
    fn trusted_text_that_breaks_the_promise_still_cannot_end_early() {
        assert_eq!(sent(b"", b"a\n.\r\nb", LineRepair::Trust), "a\n..\r\nb\r\n.\r\n");
    }

    #[test]
    fn a_message_goes_on_where_it_was_left_off() {
        let (prefix, body) = (&b".R: x\r\n"[..], &b".a\r\n..b\r\n.\r\nc"[..]);
        let whole = sent(prefix, body, LineRepair::Trust);
        let (mut out, mut place) = (Vec::new(), Place::START);
        while !place.is_end() {
            let mut stuffer = Stuffer::resume(prefix, body, LineRepair::Trust, place);
            out.extend_from_slice(stuffer.next().expect("a slice until the end"));
            place = stuffer.place();
        }
        assert_eq!(String::from_utf8(out).unwrap(), whole);
    }

    #[test]
    fn ordinary_text_is_one_slice() {
        let slices: Vec<_> = Stuffer::new(b"R: x\r\n", b"a\r\nb.\r\n", LineRepair::Trust).collect();
        assert_eq!(slices, [&b"R: x\r\n"[..], b"a\r\nb.\r\n", b".\r\n"]);
    }
}
