//! The header of a text (RFC 5322 section 2.2), as far as others look at it: its fields, each with where
//! it stands.
//!
//! Must never: read beyond the header, or change a text.
//!
//! Diagnostics: none; what is no field ends the header.

use std::borrow::Cow;
use std::ops::Range;

/// One field, folded lines and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as it is written, without the colon.
    pub name: &'a [u8],
    /// What follows the colon, as it is written, without the last CRLF.
    pub value: &'a [u8],
    /// Where the whole field stands in the text, with its last CRLF.
    pub place: Range<usize>,
}

impl Field<'_> {
    /// Whether this is its name; case does not matter.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value on one line (RFC 5322 section 2.2.3), without blanks around it. Octets that are no
    /// UTF-8 are replaced.
    pub fn text(&self) -> String {
        unfolded(self.value).trim_matches([' ', '\t']).to_owned()
    }
}

/// Takes line ends out of a folded value.
fn unfolded(value: &[u8]) -> Cow<'_, str> {
    match memchr::memchr2(b'\r', b'\n', value) {
        None => String::from_utf8_lossy(value),
        Some(_) => {
            let kept = value.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n'));
            String::from_utf8_lossy(&kept.collect::<Vec<u8>>()).into_owned().into()
        }
    }
}

/// The fields of a text, in their order.
pub fn fields(text: &[u8]) -> Fields<'_> {
    Fields { text, at: 0 }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.at;
        let text = self.text;
        let first_end = line_end(text, start)?;
        let line = &text[start..first_end];
        let colon = memchr::memchr(b':', line)?;
        let name = line[..colon].trim_ascii_end();
        // RFC 5322 section 2.2: printable, without blanks. Anything else is no field.
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let end = unfolded_end(text, start, text.len());
        self.at = end;
        let value = &text[start + colon + 1..end];
        let value = value.strip_suffix(b"\r\n").or(value.strip_suffix(b"\n")).unwrap_or(value);
        Some(Field { name, value, place: start..end })
    }
}

/// The lines of a header, with their line ends: up to the first empty one, whatever they say.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let end = line_end(text, at)?;
        let line = at..end;
        at = end;
        (!matches!(&text[line.clone()], b"\n" | b"\r\n")).then_some(line)
    })
}

/// Behind the line that begins at `from`, and behind those that go on with a blank; never behind `end`,
/// which is past `from`.
pub fn unfolded_end(text: &[u8], from: usize, end: usize) -> usize {
    let text = &text[..end];
    let mut at = line_end(text, from).unwrap_or(end);
    while matches!(text.get(at), Some(b' ' | b'\t')) {
        at = line_end(text, at).unwrap_or(end);
    }
    at
}

/// Behind the line that begins at `from`; none at the end of the text.
fn line_end(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..).filter(|rest| !rest.is_empty())?;
    Some(memchr::memchr(b'\n', rest).map_or(text.len(), |at| from + at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &[u8]) -> Vec<(String, String)> {
        let name = |field: &Field<'_>| String::from_utf8_lossy(field.name).into_owned();
        fields(text).map(|field| (name(&field), field.text())).collect()
    }

    #[test]
    fn fields_are_unfolded_and_end_with_the_header() {
        type Pairs = &'static [(&'static str, &'static str)];
        let rows: &[(&[u8], Pairs)] = &[
            (b"", &[]),
            (b"\r\nA: b\r\n", &[]),
            (b"A: b\r\nC:d\r\n\r\nE: f\r\n", &[("A", "b"), ("C", "d")]),
            (b"A: b\r\n\tc\r\n  d\r\nE:\r\n\r\n", &[("A", "b\tc  d"), ("E", "")]),
            (b"A : b\r\n", &[("A", "b")]),
            (b"A: b", &[("A", "b")]),
            (b"A: b\r\n ", &[("A", "b")]),
            (b" A: b\r\nC: d\r\n", &[]),
            (b"A: b\r\nno field\r\nC: d\r\n", &[("A", "b")]),
            (b"\xfcber: b\r\n", &[]),
            (b"A: \xfc\r\n", &[("A", "\u{fffd}")]),
            (b": b\r\n", &[]),
        ];
        for (text, expected) in rows {
            let found = listed(text);
            let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!(found, *expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn places_join_without_gaps() {
        let text = b"A: b\r\n c\r\nD: e\r\n\r\nbody\r\n";
        let mut at = 0;
        for field in fields(text) {
            assert_eq!(field.place.start, at);
            at = field.place.end;
        }
        assert_eq!(&text[at..], b"\r\nbody\r\n");
    }
}
