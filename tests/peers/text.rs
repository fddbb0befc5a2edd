//! Texts of mail that programs are known to break: dots, long lines, eight bits, no end, nothing.
//!
//! All of them are lines ended by CRLF without a CR or LF of their own, as RFC 5321 2.3.8 has it; the
//! random ones come from the seed that the test prints.

use super::find;
use crate::support::Random;

/// RFC 5321 4.5.3.1.6: octets of a line, without its end.
const LINE_BYTES_MAX: usize = 998;

/// Octets of the large ones.
const LARGE_BYTES: usize = 1 << 20;

/// One mail, as it is to arrive.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) name: &'static str,
    pub(crate) octets: Vec<u8>,
}

impl Text {
    /// Whether a final dot can end it: DATA has no way to send a text without a last line end.
    pub(crate) fn ends_in_line_end(&self) -> bool {
        self.octets.is_empty() || self.octets.ends_with(b"\r\n")
    }

    /// The header, and what is below the empty line that ends it.
    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        match find(&self.octets, b"\r\n\r\n") {
            Some(at) => (&self.octets[..at + 2], &self.octets[at + 4..]),
            None => (&self.octets, b""),
        }
    }

    /// As DATA carries it, without the final dot: RFC 5321 4.5.2.
    pub(crate) fn stuffed(&self) -> Vec<u8> {
        let mut made = Vec::with_capacity(self.octets.len() + 16);
        for line in self.octets.split_inclusive(|&octet| octet == b'\n') {
            if line.starts_with(b".") {
                made.push(b'.');
            }
            made.extend_from_slice(line);
        }
        made
    }

    /// As programs of this system read it from a file: lines that end in LF.
    pub(crate) fn with_line_feeds(&self) -> Vec<u8> {
        self.octets.iter().copied().filter(|&octet| octet != b'\r').collect()
    }
}

/// One text of each kind, and `more` of random octets and lengths.
pub(crate) fn texts(random: &mut Random, more: usize) -> Vec<Text> {
    let text = |name, body: &[u8]| Text { name, octets: [HEADER, body].concat() };
    let long = |length: usize| [&vec![b'x'; length][..], b"\r\n"].concat();
    let mut made = vec![
        text("plain", b"\r\nHello,\r\n\r\nthis is a text.\r\n"),
        text("dots", b"\r\n.\r\n..\r\n...\r\n.x\r\n. \r\nx.\r\n\r\n.\r\n\r\n.\r\n"),
        text("dot first in each line", &[b"\r\n", &b".....\r\n".repeat(200)[..]].concat()),
        text(
            "lines of the longest kind",
            &[b"\r\n", &long(LINE_BYTES_MAX)[..], &long(997)].concat(),
        ),
        text(
            "a dot behind the longest line",
            &[b"\r\n", &long(998)[..], b".\r\n", &long(998)].concat(),
        ),
        text("eight bits", b"\r\nGr\xfc\xdfe, \xe4\xf6\xfc\xff\x80.\r\n"),
        text("utf-8", "\r\nGrüße, 世界, \u{1f4ee}\r\n".as_bytes()),
        text("a header in utf-8", "X-Greeting: Grüße, 世界\r\n\r\nText.\r\n".as_bytes()),
        text("a folded header", b"X-Folded: one\r\n two\r\n\tthree\r\n\r\nText.\r\n"),
        text("blanks at the ends of lines", b"\r\nx \r\n \r\n\t\r\nx\t\r\n   .\r\n"),
        text("like an mbox", b"\r\nFrom a@example.org Sun Nov 22\r\nFrom \r\n>From x\r\n"),
        text("control characters", b"\r\n\x01\x07\x08\x0b\x0c\x1b\x7f\r\n"),
        text("an empty body", b"\r\n"),
        text("nothing but empty lines", b"\r\n\r\n\r\n\r\n"),
        text("a header alone", b""),
        text("no last line end", b"\r\nThe last line has no end."),
        text("large", &lines(random, LARGE_BYTES, 120)),
    ];
    for _ in 0..more {
        let magnitude = 4 + random.below(17);
        let bytes = random.below(1 << magnitude) as usize;
        let longest = [80, 300, LINE_BYTES_MAX as u64][random.below(3) as usize];
        made.push(text("random", &lines(random, bytes, longest)));
    }
    made
}

const HEADER: &[u8] =
    b"Subject: what others keep\r\nFrom: <a@example.org>\r\nTo: <b@example.net>\r\n\
    Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n";

/// An empty line and then about `bytes` octets in lines, of which many begin with dots. No NUL: there
/// are receivers that take it out (RFC 5322 4 forbids it).
fn lines(random: &mut Random, bytes: usize, longest: u64) -> Vec<u8> {
    let mut made = b"\r\n".to_vec();
    while made.len() < bytes + 2 {
        let length = random.below(longest + 1) as usize;
        let begin = made.len();
        let dots = random.below(8).saturating_sub(4) as usize;
        made.resize(begin + dots, b'.');
        while made.len() < begin + length {
            for octet in random.bits().to_le_bytes() {
                made.push(if matches!(octet, b'\0' | b'\r' | b'\n') { b'.' } else { octet });
            }
        }
        made.truncate(begin + length);
        made.extend_from_slice(b"\r\n");
    }
    made
}

#[test]
fn texts_are_lines_within_the_limit() {
    let mut random = Random::from_environment("texts_are_lines_within_the_limit");
    for text in texts(&mut random, 20) {
        let lines = text.octets.split(|&octet| octet == b'\n');
        for line in lines {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            assert!(line.len() <= LINE_BYTES_MAX && !line.contains(&b'\r'), "{}", text.name);
        }
        let unstuffed: Vec<u8> = text
            .stuffed()
            .split_inclusive(|&octet| octet == b'\n')
            .flat_map(|line| line.strip_prefix(b".").unwrap_or(line).to_vec())
            .collect();
        assert_eq!(unstuffed, text.octets, "{}", text.name);
    }
}
