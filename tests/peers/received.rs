//! A mail as a receiver kept it, taken apart: what hops after us added, our Received field, the rest.
//!
//! **Diagnostics**: a mail without our field has all of its octets in `rest`.

use std::fmt;

/// The name of the server under test, by which its Received field is known.
pub(crate) const UNDER_TEST: &str = "under-test.example";

/// One mail.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// Fields that came before ours: those of the receiver.
    pub(crate) added: Vec<u8>,
    /// Our Received field.
    pub(crate) trace: Vec<u8>,
    /// What stands below it.
    pub(crate) rest: Vec<u8>,
}

impl Received {
    pub(crate) fn new(octets: Vec<u8>) -> Received {
        let mut at = 0;
        while let Some(end) = field_end(&octets, at) {
            let field = &octets[at..end];
            let ours = format!("\tby {UNDER_TEST} (Rohrpost) with ");
            if field.starts_with(b"Received: ") && find(field, ours.as_bytes()).is_some() {
                let (added, trace) = (octets[..at].to_vec(), field.to_vec());
                return Received { added, trace, rest: octets[end..].to_vec() };
            }
            at = end;
        }
        Received { added: Vec::new(), trace: Vec::new(), rest: octets }
    }

    /// What stands below the first `count` fields under ours.
    pub(crate) fn below(&self, count: usize) -> &[u8] {
        let mut at = 0;
        for _ in 0..count {
            at = field_end(&self.rest, at).unwrap_or(self.rest.len());
        }
        &self.rest[at..]
    }

    /// The names of the fields that came before ours.
    pub(crate) fn added_names(&self) -> Vec<String> {
        let (mut names, mut at) = (Vec::new(), 0);
        while let Some(end) = field_end(&self.added, at) {
            let field = &self.added[at..end];
            let colon = find(field, b":").unwrap_or(field.len());
            names.push(String::from_utf8_lossy(&field[..colon]).to_ascii_lowercase());
            at = end;
        }
        names
    }
}

/// Where the header field that begins at `at` ends, with its folded lines; `None` at the end of the
/// header.
fn field_end(octets: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    loop {
        let line = end + find(&octets[end..], b"\r\n")? + 2;
        if line == at + 2 {
            return None;
        }
        end = line;
        if !matches!(octets.get(end), Some(b' ' | b'\t')) {
            return Some(end);
        }
    }
}

pub(crate) fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}

/// Panics with the first place at which `kept` is not what was `sent`.
pub(crate) fn assert_same_octets(name: &str, sent: &[u8], kept: &[u8]) {
    if sent == kept {
        return;
    }
    let at = sent.iter().zip(kept).take_while(|(a, b)| a == b).count();
    let near = |octets: &[u8]| {
        octets[at.saturating_sub(60)..octets.len().min(at + 60)].escape_ascii().to_string()
    };
    let (sent_bytes, kept_bytes) = (sent.len(), kept.len());
    panic!(
        "\"{name}\": {sent_bytes} octets were sent, {kept_bytes} kept; they differ at {at}\nsent: {}\n\
         kept: {}",
        near(sent),
        near(kept)
    );
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |octets: &[u8]| octets[..octets.len().min(2000)].escape_ascii().to_string();
        let (added, trace, rest) = (shown(&self.added), shown(&self.trace), shown(&self.rest));
        write!(f, "added: {added}\ntrace: {trace}\nrest ({} octets): {rest}", self.rest.len())
    }
}

#[test]
fn a_mail_is_taken_apart_at_our_field() {
    let text = "Return-Path: <a@b>\r\nReceived: from us\r\n\tby other\r\nReceived: from x\r\n\tby \
                under-test.example (Rohrpost) with SMTP id 1;\r\n\tdate\r\n\r\nReceived: body\r\n";
    let mail = Received::new(text.as_bytes().to_vec());
    assert_eq!(mail.added_names(), ["return-path", "received"]);
    assert!(
        mail.trace.starts_with(b"Received: from x\r\n\tby under")
            && mail.trace.ends_with(b"date\r\n")
    );
    assert_eq!(mail.rest, b"\r\nReceived: body\r\n");
    for foreign in [
        "",
        "\r\nx",
        "Subject: a\r\n b\r\n\r\nReceived: from x\r\n\tby under-test.example (Rohrpost) with ",
    ] {
        let mail = Received::new(foreign.as_bytes().to_vec());
        assert_eq!((mail.trace.as_slice(), mail.rest.as_slice()), (&b""[..], foreign.as_bytes()));
    }
}
