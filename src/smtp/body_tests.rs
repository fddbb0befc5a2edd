//! The scanner against every split, and against a naive model.

use super::super::support::{Random, seed};
use super::*;

/// Scans `reads` one after the other: text, whether it ended, octets used, whether it is clean.
fn scan(reads: &[&[u8]]) -> (Vec<u8>, bool, usize, bool) {
    let (mut scanner, mut text, mut before) = (TextScanner::new(), Vec::new(), 0);
    for raw in reads {
        let mut at = 0;
        loop {
            match scanner.next(raw, at) {
                Piece::Text(range) => {
                    at = range.end;
                    text.extend_from_slice(&raw[range]);
                }
                Piece::End(end) => return (text, true, before + end, !scanner.is_stray()),
                Piece::More => break,
            }
        }
        before += raw.len();
    }
    (text, false, before, !scanner.is_stray())
}

/// Octet by octet, as RFC 5321 4.5.2 says it; text is only compared while it is clean.
fn model(raw: &[u8]) -> (Vec<u8>, bool, usize, bool) {
    let (mut text, mut clean, mut at) = (Vec::new(), true, 0);
    let mut line_start = true;
    while at < raw.len() {
        if line_start && raw[at..].starts_with(b".\r\n") {
            return (text, true, at + 3, clean);
        }
        if line_start && raw[at] == b'.' {
            at += 1;
            line_start = false;
            continue;
        }
        line_start = false;
        match raw[at] {
            b'\r' if raw.get(at + 1) == Some(&b'\n') => {
                text.extend_from_slice(b"\r\n");
                at += 1;
                line_start = true;
            }
            b'\r' if at + 1 == raw.len() => text.push(b'\r'),
            b'\r' | b'\n' => clean = false,
            other => text.push(other),
        }
        at += 1;
    }
    (text, false, at, clean)
}

/// RFC 5321 4.1.1.4, 4.5.2; S1: nothing but CRLF.CRLF ends the text.
#[test]
fn text_ends_at_crlf_dot_crlf_alone() {
    /// What came, the text if it ended, whether it is clean.
    type Row = (&'static [u8], Option<&'static [u8]>, bool);
    let rows: &[Row] = &[
        (b".\r\n", Some(b""), true),
        (b"a\r\n.\r\n", Some(b"a\r\n"), true),
        (b"..\r\n.\r\n", Some(b".\r\n"), true),
        (b".a\r\n.\r\n", Some(b"a\r\n"), true),
        (b"\r\n.\r\n", Some(b"\r\n"), true),
        (b"a\0b\r\n.\r\n", Some(b"a\0b\r\n"), true),
        (b"a\r\n.\n", None, false),
        (b"a\n.\r\n", None, false),
        (b"a\n.\n", None, false),
        (b"a\r.\r", None, false),
        (b"a\r\n.\r", None, true),
        (b"a\r\r\n.\r\n", Some(b""), false),
        (b"a\r\n.\r\r\n", None, false),
        (b"a\r\n\n.\r\n", None, false),
        (b".\n", None, false),
        (b"\n.\r\n", None, false),
        (b"a\r\n.\0\r\n", None, true),
    ];
    for (raw, ends_with, clean) in rows {
        let name = raw.escape_ascii().to_string();
        for split in 0..=raw.len() {
            let (text, ended, used, was_clean) = scan(&[&raw[..split], &raw[split..]]);
            assert_eq!(ended, ends_with.is_some(), "{name} at {split}");
            assert_eq!(used, raw.len(), "{name} at {split}");
            assert_eq!(was_clean, *clean, "{name} at {split}");
            if let (Some(expected), true) = (ends_with, clean) {
                assert_eq!(text, *expected, "{name} at {split}");
            }
        }
    }
}

#[test]
fn scanner_agrees_with_the_model_over_random_texts_and_splits() {
    let mut random = Random(seed(1));
    let alphabet: &[&[u8]] = &[b"\r\n", b"\r\n", b"\r\n.", b".", b"a", b"bc", b"\r", b"\n", b"\0"];
    for _ in 0..20_000 {
        let clean_only = random.below(2) == 0;
        let letters = if clean_only { &alphabet[..6] } else { alphabet };
        let mut raw = Vec::new();
        for _ in 0..random.below(24) {
            raw.extend_from_slice(letters[random.below(letters.len())]);
        }
        let split = random.below(raw.len() + 1);
        let (head, tail) = raw.split_at(split);
        let (head, middle) = head.split_at(random.below(head.len() + 1));
        let (got, expected) = (scan(&[head, middle, tail]), model(&raw));
        let name = raw.escape_ascii().to_string();
        // A dangling `.CR` is undecided: no text yet here, a CR of text in the model.
        if expected.3 && (expected.1 || !raw.ends_with(b"\r")) {
            assert_eq!(got, expected, "{name}");
        } else {
            assert_eq!((got.1, got.3), (expected.1, expected.3), "{name}");
        }
    }
}

#[test]
fn line_ends_are_checked_across_pieces() {
    let rows: &[(&[u8], bool)] = &[
        (b"", true),
        (b"a", true),
        (b"a\r\nb\r\n", true),
        (b"\r\n\r\n", true),
        (b"\n", false),
        (b"\r", false),
        (b"a\nb", false),
        (b"a\rb", false),
        (b"\n\r", false),
        (b"a\r\r\n", false),
        (b"a\r\n\n", false),
    ];
    for (text, clean) in rows {
        assert_eq!(is_crlf_only(text), *clean, "{}", text.escape_ascii());
        for split in 0..=text.len() {
            let mut ends = LineEnds::new();
            ends.check(&text[..split]);
            ends.check(b"");
            ends.check(&text[split..]);
            assert_eq!(!ends.is_stray(), *clean, "{} at {split}", text.escape_ascii());
        }
    }
}

/// D-41.
#[test]
fn d_41_a_body_keeps_a_zero_past_its_end() {
    let body = Body::new(b"a\0b".to_vec());
    assert_eq!((body.as_bytes(), body.as_bytes_with_nul()), (&b"a\0b"[..], &b"a\0b\0"[..]));
    assert_eq!(Body::new(Vec::new()).as_bytes_with_nul(), b"\0");
    assert!(!format!("{body:?}").contains('a'));
}

/// RFC 5321 6.3.
#[test]
fn received_fields_are_counted_in_the_header_alone() {
    let text = b"Received: a\r\n b\r\nX-Received: c\r\nrEcEiVeD:d\r\n\r\nReceived: e\r\n";
    assert_eq!(received_fields(text), 2);
    assert_eq!(received_fields(b"Received: cut"), 1);
    assert_eq!(received_fields(b""), 0);
    assert_eq!(received_fields(b"\r\nReceived: a\r\n"), 0);
}
