//! Received replies (RFC 5321 4.2), bounded in lines and octets.
//!
//! Owns the way from octets to [`Reply`]. Lenient about a lone LF at the end of a line: replies carry no
//! mail, and refusing them helps nobody. Text that is not printable is kept with `?` in its place, as it
//! ends up in logs and reports.
//!
//! Diagnostics: [`Problem::ReplyTooLong`] and [`Problem::BadReply`], after which nothing is read.

use std::borrow::Cow;

use memchr::memchr;

use super::super::buffer::Buffer;
use super::super::reply::{EnhancedStatus, Reply};
use super::event::Problem;
use super::session::Options;

/// Bounds of one reply; one line may go beyond that of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::smtp) struct Bounds {
    line_bytes_max: usize,
    lines_max: usize,
    bytes_max: usize,
}

impl Bounds {
    pub(in crate::smtp) fn of(options: &Options) -> Self {
        Self {
            line_bytes_max: options.reply_line_bytes_max,
            lines_max: options.reply_lines_max,
            bytes_max: options.reply_bytes_max,
        }
    }
}

/// Collects lines until a reply is complete.
#[derive(Debug)]
pub(in crate::smtp) struct ReplyParser {
    bounds: Bounds,
    input: Buffer,
    /// Octets of `input` that are known to hold no LF.
    searched: usize,
    partial: Option<Partial>,
}

/// The lines of an incomplete reply.
#[derive(Debug)]
struct Partial {
    code: u16,
    status: Option<EnhancedStatus>,
    text: String,
    lines: usize,
}

impl ReplyParser {
    pub(in crate::smtp) fn new(bounds: Bounds) -> Self {
        Self { bounds, input: Buffer::default(), searched: 0, partial: None }
    }

    pub(in crate::smtp) fn push(&mut self, bytes: &[u8]) {
        self.input.push(bytes);
    }

    /// Whether nothing is left over: the far end said no more than it was asked.
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty() && self.partial.is_none()
    }

    pub(super) fn clear(&mut self) {
        self.input.clear();
        self.searched = 0;
        self.partial = None;
    }

    /// The next complete reply.
    pub(in crate::smtp) fn next(&mut self) -> Result<Option<Reply>, Problem> {
        loop {
            let bytes = self.input.as_slice();
            let Some(index) = memchr(b'\n', &bytes[self.searched..]) else {
                self.searched = bytes.len();
                let fits = bytes.len() < self.bounds.line_bytes_max;
                return if fits { Ok(None) } else { Err(Problem::ReplyTooLong) };
            };
            let count = self.searched + index + 1;
            if count > self.bounds.line_bytes_max {
                return Err(Problem::ReplyTooLong);
            }
            let line = Line::parse(&bytes[..count])?;
            let complete = line.last;
            let partial = Self::joined(self.partial.take(), line)?;
            self.input.consume(count);
            self.searched = 0;
            if complete {
                let Partial { code, status, text, .. } = partial;
                // Checked line by line: the code is 200 to 599, the status of its class.
                return Reply::new(code, status, text).map(Some).ok_or(Problem::BadReply);
            }
            let bounds = self.bounds;
            if partial.lines >= bounds.lines_max || partial.text.len() > bounds.bytes_max {
                return Err(Problem::ReplyTooLong);
            }
            self.partial = Some(partial);
        }
    }

    fn joined(partial: Option<Partial>, line: Line<'_>) -> Result<Partial, Problem> {
        let Some(mut partial) = partial else {
            let Line { code, status, text, .. } = line;
            return Ok(Partial { code, status, text: text.into_owned(), lines: 1 });
        };
        // RFC 5321 4.2.1: the code is the same on each line.
        if partial.code != line.code {
            return Err(Problem::BadReply);
        }
        partial.text.push('\n');
        partial.text.push_str(&line.text);
        partial.lines += 1;
        Ok(partial)
    }
}

/// One line of a reply.
struct Line<'a> {
    code: u16,
    status: Option<EnhancedStatus>,
    text: Cow<'a, str>,
    last: bool,
}

impl<'a> Line<'a> {
    /// Reads `raw`, which ends in LF.
    fn parse(raw: &'a [u8]) -> Result<Self, Problem> {
        let line = raw.strip_suffix(b"\n").unwrap_or(raw);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (digits, rest) = line.split_first_chunk::<3>().ok_or(Problem::BadReply)?;
        let code = code(*digits).ok_or(Problem::BadReply)?;
        let (last, text) = match rest {
            [] => (true, &[][..]),
            [b' ', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            [_, ..] => return Err(Problem::BadReply),
        };
        let text = shown(text);
        match EnhancedStatus::split(&text) {
            Some((status, rest)) if u16::from(status.class()) == code / 100 => {
                let text = match text {
                    Cow::Borrowed(text) => Cow::Borrowed(&text[text.len() - rest.len()..]),
                    Cow::Owned(_) => Cow::Owned(rest.to_owned()),
                };
                Ok(Self { code, status: Some(status), text, last })
            }
            Some(_) | None => Ok(Self { code, status: None, text, last }),
        }
    }
}

/// RFC 5321 4.2: 2yz to 5yz.
fn code(digits: [u8; 3]) -> Option<u16> {
    let valid = matches!(digits[0], b'2'..=b'5') && digits.iter().all(u8::is_ascii_digit);
    valid.then(|| digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
}

fn shown(text: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(text);
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        // Nearly all.
        return text;
    }
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
