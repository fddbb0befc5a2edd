//! Message text: its one owned form, and the scanner that takes it off the wire.
//!
//! Owns line-end checks, dot-unstuffing and the end of DATA (RFC 5321 4.5.2, 2.3.8). Text is looked at
//! in whole runs, never octet by octet, and never copied where nothing has to move. It never
//! normalises: text with a bare CR or LF is told of, and the session refuses it.
//!
//! Diagnostics: none here. A text with a bare CR or LF is what the session answers `554 5.6.0` to.

use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr, memmem};

/// Octets at the front of a message that are searched for Received fields. Those of a loop stand at the
/// very top: 50 hops with 5 KiB of signatures each fit. A text that is all header costs no more.
const HEADER_BYTES_MAX: usize = 256 * 1024;

/// A complete message text that always keeps one zero octet past its end (D-41).
#[derive(Clone, PartialEq, Eq)]
pub struct Body(Vec<u8>);

impl Body {
    /// Takes text and puts the zero octet behind it; reuses the allocation if it has room.
    pub fn new(mut text: Vec<u8>) -> Self {
        text.push(0);
        Self(text)
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..self.len()]
    }

    /// The text and the zero octet. The text may hold NULs of its own (D-66).
    pub fn as_bytes_with_nul(&self) -> &[u8] {
        &self.0
    }

    /// Octets of text, without the zero one.
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vector, zero octet included.
    pub fn into_vec_with_nul(self) -> Vec<u8> {
        self.0
    }

    /// Octets allocated.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl fmt::Debug for Body {
    /// The length alone: logs hold no message text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} octets)", self.len())
    }
}

/// Whether CR and LF stand in `text` only as CRLF, so that it may go out as it is.
pub fn is_crlf_only(text: &[u8]) -> bool {
    let mut ends = LineEnds::new();
    ends.check(text);
    !ends.is_stray()
}

/// Received fields in the header of `text` (RFC 5321 6.3), looked for in the first 256 KiB.
pub fn received_fields(text: &[u8]) -> usize {
    const NAME: &[u8] = b"received:";
    let mut rest = &text[..text.len().min(HEADER_BYTES_MAX)];
    let mut count = 0;
    while !rest.is_empty() && !rest.starts_with(b"\r\n") {
        let named = rest.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME));
        count += usize::from(named);
        rest = memchr(b'\n', rest).map_or(&[], |index| &rest[index + 1..]);
    }
    count
}

/// Watches text for a CR or LF that stands alone, across any border between reads.
#[derive(Debug, Clone)]
pub(super) struct LineEnds {
    last: Last,
    stray: bool,
}

/// How the text so far ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// In CR: whether it is bare, the next octet tells.
    Cr,
    /// In CRLF, or there is no text yet.
    CrLf,
    Other,
}

impl LineEnds {
    pub(super) fn new() -> Self {
        Self { last: Last::CrLf, stray: false }
    }

    /// Looks at the next piece of text.
    pub(super) fn check(&mut self, text: &[u8]) {
        let Some(&first) = text.first() else {
            return;
        };
        self.stray |= (self.last == Last::Cr) != (first == b'\n') || has_stray(text);
        self.last = match text {
            [.., b'\r', b'\n'] => Last::CrLf,
            [b'\n'] if self.last == Last::Cr => Last::CrLf,
            [.., b'\r'] => Last::Cr,
            _ => Last::Other,
        };
    }

    /// Whether a CR or LF stood alone so far; the text ends here if it is asked for the last time.
    pub(super) fn is_stray(&self) -> bool {
        self.stray || self.last == Last::Cr
    }

    /// Whether one stood alone, whatever follows.
    pub(super) fn is_stray_for_good(&self) -> bool {
        self.stray
    }
}

/// CR and LF are fine exactly if each CR is followed by LF and each LF preceded by CR: one comparison
/// for each pair of neighbours, without a branch, which the compiler turns into vector code.
fn has_stray(text: &[u8]) -> bool {
    let pairs = text.iter().zip(&text[1..]);
    pairs.fold(0, |stray, (a, b)| stray | (u8::from(*a == b'\r') ^ u8::from(*b == b'\n'))) != 0
}

/// Where the scanner stands within a line of DATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    LineStart,
    /// Behind the first dot of a line. It is never text: either stuffing, or the end.
    Dot,
    /// Behind `.CR` at the start of a line. Not text either: if no LF follows, the CR was bare, and the
    /// message is refused.
    DotCr,
    Inside,
}

/// What the scanner found next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// These octets are text.
    Text(Range<usize>),
    /// The text is complete; commands go on at this index.
    End(usize),
    /// All octets are used up.
    More,
}

/// Takes the text of DATA apart: what is text, and where it ends.
///
/// Only CRLF.CRLF ends it, and the CRLF may be that of the DATA command itself (RFC 5321 4.1.1.4).
#[derive(Debug, Clone)]
pub(super) struct TextScanner {
    place: Place,
    ends: LineEnds,
}

impl TextScanner {
    pub(super) fn new() -> Self {
        Self { place: Place::LineStart, ends: LineEnds::new() }
    }

    /// Finds the next piece of `raw` at index `at` or after. All octets before `at` were pieces or
    /// dots already; `raw` may be another slice at each call.
    pub(super) fn next(&mut self, raw: &[u8], mut at: usize) -> Piece {
        while let Some(&byte) = raw.get(at) {
            self.place = match (self.place, byte) {
                (Place::LineStart, b'.') => Place::Dot,
                (Place::Dot, b'\r') => Place::DotCr,
                (Place::DotCr, b'\n') => return Piece::End(at + 1),
                (Place::DotCr, _) => {
                    self.ends.stray = true;
                    self.place = Place::Inside;
                    continue;
                }
                (Place::LineStart | Place::Dot | Place::Inside, _) => {
                    return Piece::Text(self.text(raw, at));
                }
            };
            at += 1;
        }
        Piece::More
    }

    /// The run of text from `at` to the next dot that begins a line.
    fn text(&mut self, raw: &[u8], at: usize) -> Range<usize> {
        let end = LINE_DOTS.find(&raw[at..]).map_or(raw.len(), |index| at + index + 1);
        self.ends.check(&raw[at..end]);
        self.place = if self.ends.last == Last::CrLf { Place::LineStart } else { Place::Inside };
        at..end
    }

    /// Whether a CR or LF stands alone in the text so far.
    pub(super) fn is_stray(&self) -> bool {
        self.ends.is_stray_for_good()
    }
}

/// Finds the LF before a dot that may begin a line. Made once: that costs more than most lines.
static LINE_DOTS: LazyLock<Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\n."));

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
