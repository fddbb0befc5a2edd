//! Text of strangers on its way into a notice: nothing in it may become structure.
//!
//! Owns the cleaning of such text and the folding of fields. What is not printable is replaced, never
//! escaped: a reader wants words, and whoever sent the octets can look at what it sent.
//!
//! Diagnostics: none; what is cut ends in `...`.

/// Octets after which a line is folded where there is a blank (RFC 5322 2.1.1).
const LINE_BYTES: usize = 76;
/// Octets after which it is folded even without one; RFC 5322 2.1.1 allows 998.
const LINE_BYTES_MAX: usize = 900;
/// Octets of the text of strangers that one field or paragraph takes.
pub(super) const TEXT_BYTES_MAX: usize = 1024;

/// Which characters may stand in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// Printable ASCII.
    Ascii,
    /// Anything that can be shown.
    Utf8,
}

/// One line of text at most [`TEXT_BYTES_MAX`] long: control characters and line ends become blanks, runs
/// of blanks one, what the charset lacks `?`.
pub(super) fn clean(text: &str, charset: Charset) -> String {
    let mut out = String::with_capacity(text.len().min(TEXT_BYTES_MAX));
    for char in text.chars() {
        if out.len() >= TEXT_BYTES_MAX - 4 {
            out.push_str("...");
            break;
        }
        match char {
            c if c.is_control() || c.is_whitespace() => {
                if !out.is_empty() && !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c if is_hidden(c) => out.push('?'),
            c if !c.is_ascii() && charset == Charset::Ascii => out.push('?'),
            c => out.push(c),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Characters that reorder or hide others.
fn is_hidden(char: char) -> bool {
    let ranges = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}'];
    char == '\u{feff}' || ranges.iter().any(|range| range.contains(&char))
}

/// Appends `Name: value` and CRLF, folded; the value must be clean.
pub(super) fn push(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push(':');
    let mut column = name.len() + 1;
    for word in value.split(' ').filter(|word| !word.is_empty()) {
        if column > name.len() + 1 && column + 1 + word.len() > LINE_BYTES {
            out.push_str("\r\n");
            column = 0;
        }
        out.push(' ');
        column += 1;
        let mut rest = word;
        while rest.len() > LINE_BYTES_MAX - column.min(LINE_BYTES) {
            let end = rest.floor_char_boundary(LINE_BYTES_MAX - column.min(LINE_BYTES));
            out.push_str(&rest[..end]);
            out.push_str("\r\n ");
            column = 1;
            rest = &rest[end..];
        }
        out.push_str(rest);
        column += rest.len();
    }
    out.push_str("\r\n");
}
