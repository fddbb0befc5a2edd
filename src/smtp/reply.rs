//! Replies that are made at run time, on either side.
//!
//! Owns the reply as a value (code, enhanced status, text), its wire form, and nothing else: fixed
//! replies live in [`answer`](super::answer), and the parser of received ones beside the client. A
//! reply never puts a control character or a line break of its text on the wire.
//!
//! Diagnostics: none; a code or status that no reply can have makes [`Reply::new`] return `None`.

use std::fmt;

use super::answer::Fixed;

/// RFC 5321 4.5.3.1.5: a reply line is at most 512 octets with its CRLF. The rest is for the code,
/// the separator and the longest enhanced status.
const LINE_TEXT_BYTES_MAX: usize = 512 - 2 - 4 - "5.999.999 ".len();

/// Lines that one reply may have; what is left of a longer text is not sent.
const LINES_MAX: usize = 32;

/// An enhanced status code, `class.subject.detail` (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedStatus {
    /// A status; `class` is 2, 4 or 5, the others at most 999 (RFC 3463 2).
    pub const fn new(class: u8, subject: u16, detail: u16) -> Option<Self> {
        match class {
            2 | 4 | 5 if subject <= 999 && detail <= 999 => Some(Self { class, subject, detail }),
            _ => None,
        }
    }

    /// 2 success, 4 temporary, 5 permanent.
    pub const fn class(self) -> u8 {
        self.class
    }

    /// What it is about: 1 address, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 policy.
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// The detail within the subject.
    pub const fn detail(self) -> u16 {
        self.detail
    }

    /// As it is shown. Each mail that is delivered records one, and its Display costs ten times as much.
    pub fn to_text(self) -> String {
        let mut text = String::with_capacity("5.999.999".len());
        let mut digits = itoa::Buffer::new();
        for (before, number) in
            [("", u16::from(self.class)), (".", self.subject), (".", self.detail)]
        {
            text.push_str(before);
            text.push_str(digits.format(number));
        }
        text
    }

    /// Splits a status off the front of `text`; the rest begins after the space.
    pub fn split(text: &str) -> Option<(Self, &str)> {
        let (class, rest) = number(text.as_bytes())?;
        let (subject, rest) = number(rest.strip_prefix(b".")?)?;
        let (detail, rest) = number(rest.strip_prefix(b".")?)?;
        let status = Self::new(u8::try_from(class).ok()?, subject, detail)?;
        let rest = if rest.is_empty() { rest } else { rest.strip_prefix(b" ")? };
        Some((status, &text[text.len() - rest.len()..]))
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// The number at the front of `bytes`, of one to three digits, and what is behind it.
fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at(digits);
    let value = || digits.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'));
    (1..=3).contains(&digits.len()).then(|| (value(), rest))
}

/// A reply: code, enhanced status, and text whose lines are separated by LF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: Option<EnhancedStatus>,
    text: String,
    /// The client understands UTF-8 in replies.
    utf8: bool,
}

impl Reply {
    /// A reply; `None` if `code` is not 200 to 599, or the status is of another class than the code.
    pub fn new(code: u16, status: Option<EnhancedStatus>, text: impl Into<String>) -> Option<Self> {
        let class_agrees = status.is_none_or(|s| u16::from(s.class) == code / 100);
        let valid = (200..=599).contains(&code) && class_agrees;
        valid.then(|| Self { code, status, text: text.into(), utf8: false })
    }

    /// The same, whose text goes out as UTF-8: for a client that asked for SMTPUTF8, and takes replies in
    /// it with that (RFC 6531).
    pub fn in_utf8(self) -> Self {
        Self { utf8: true, ..self }
    }

    /// The three-digit code, 200 to 599.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status, if there is one (RFC 2034).
    pub const fn status(&self) -> Option<EnhancedStatus> {
        self.status
    }

    /// The text without codes; its lines are separated by LF.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// 2yz: done.
    pub const fn is_success(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4yz: may work later.
    pub const fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5yz: will not work.
    pub const fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// 4yz or 5yz.
    pub const fn is_refusal(&self) -> bool {
        self.is_temporary() || self.is_permanent()
    }

    /// Appends the wire form. Characters that may not be said become `?`, and over-long lines and
    /// texts are cut (RFC 5321 4.2, 4.5.3.1.5), so that no text can forge a second reply.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.lines().take(LINES_MAX).peekable();
        let mut line = lines.next().unwrap_or("");
        loop {
            let separator = if lines.peek().is_some() { b'-' } else { b' ' };
            self.write_line(line, separator, out);
            match lines.next() {
                Some(next) => line = next,
                None => return,
            }
        }
    }

    fn write_line(&self, line: &str, separator: u8, out: &mut Vec<u8>) {
        // Every message has one, and formatting a number costs as much as all the rest of it.
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(digits.format(self.code).as_bytes());
        out.push(separator);
        if let Some(EnhancedStatus { class, subject, detail }) = self.status {
            for (number, after) in [(u16::from(class), b'.'), (subject, b'.'), (detail, b' ')] {
                out.extend_from_slice(digits.format(number).as_bytes());
                out.push(after);
            }
        }
        if line.len() <= LINE_TEXT_BYTES_MAX && line.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
            return;
        }
        let mut room = LINE_TEXT_BYTES_MAX;
        for c in line.chars() {
            let c = if self.may_say(c) { c } else { '?' };
            let Some(left) = room.checked_sub(c.len_utf8()) else { break };
            room = left;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    fn may_say(&self, c: char) -> bool {
        matches!(c, ' '..='~') || (self.utf8 && !c.is_ascii() && !c.is_control())
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.code)?;
        if let Some(status) = self.status {
            write!(f, "{status} ")?;
        }
        let mut lines = self.text.lines();
        f.write_str(lines.next().unwrap_or(""))?;
        lines.try_for_each(|line| write!(f, " / {line}"))
    }
}

impl From<Fixed> for Reply {
    fn from(fixed: Fixed) -> Self {
        let (status, text) = match EnhancedStatus::split(fixed.text()) {
            Some((status, text)) => (Some(status), text),
            None => (None, fixed.text()),
        };
        Self { code: fixed.code(), status, text: text.to_owned(), utf8: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_share_code_and_status() {
        let reply = Reply::new(550, EnhancedStatus::new(5, 7, 1), "No relaying.\nAsk us.").unwrap();
        assert_eq!(wire(&reply), "550-5.7.1 No relaying.\r\n550 5.7.1 Ask us.\r\n");
        assert_eq!(reply.to_string(), "550 5.7.1 No relaying. / Ask us.");
    }

    #[test]
    fn text_cannot_forge_a_reply() {
        let reply = Reply::new(451, None, "a\r\r250 ok\0\u{7f}\u{e4}\tb").unwrap();
        assert_eq!(wire(&reply), "451 a??250 ok????b\r\n");
        let split = Reply::new(451, None, "a\r\n250 ok").unwrap();
        assert_eq!(wire(&split), "451-a\r\n451 250 ok\r\n");
    }

    #[test]
    fn rfc_6531_text_stays_utf_8_only_for_who_asked_for_it() {
        let reply = Reply::new(550, None, "gr\u{fc}n\u{85}\t\u{1f41b}").unwrap();
        assert_eq!(wire(&reply), "550 gr?n???\r\n");
        assert_eq!(wire(&reply.in_utf8()), "550 gr\u{fc}n??\u{1f41b}\r\n");
        let long = Reply::new(550, None, "\u{fc}".repeat(600)).unwrap().in_utf8();
        assert!(wire(&long).len() <= 512 && wire(&long).ends_with("\u{fc}\r\n"));
    }

    #[test]
    fn long_texts_are_cut() {
        let text = vec!["x".repeat(2000); 100].join("\n");
        let out = wire(&Reply::new(554, EnhancedStatus::new(5, 999, 999), text).unwrap());
        assert_eq!(out.lines().count(), LINES_MAX);
        assert!(out.lines().all(|line| line.len() == 510));
        assert!(out.lines().last().unwrap().starts_with("554 "));
    }

    #[test]
    fn impossible_replies_are_not_made() {
        assert_eq!(Reply::new(199, None, ""), None);
        assert_eq!(Reply::new(600, None, ""), None);
        assert_eq!(Reply::new(250, EnhancedStatus::new(5, 0, 0), ""), None);
        assert_eq!(EnhancedStatus::new(3, 0, 0), None);
        assert_eq!(EnhancedStatus::new(5, 1000, 0), None);
    }

    #[test]
    fn status_is_split_only_where_there_is_one() {
        let status = EnhancedStatus::new(5, 1, 1);
        let rows = [
            ("5.1.1 unknown", status.map(|s| (s, "unknown"))),
            ("5.1.1", status.map(|s| (s, ""))),
            ("5.1.1unknown", None),
            ("5.1 unknown", None),
            ("5.1.1.1 unknown", None),
            ("5.1.1000 unknown", None),
            ("+5.1.1 unknown", None),
            ("3.1.1 unknown", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(EnhancedStatus::split(text), expected, "{text}");
        }
    }
}
