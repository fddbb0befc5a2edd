//! The shape of a line, and what keeps a stranger's text from forging one (D-B1).
//!
//! Owns the cap on a text and the replacement of characters that are not for reading. Never does
//! IO.
//!
//! Diagnostics: none; a text that is cut ends with a mark.

use std::fmt::{self, Write as _};

use super::level::Level;

/// The longest text of one call in bytes (D-B1).
pub(super) const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The part whose texts may have lines of their own (D-B1): what plugins log. In all others a newline can
/// only come from a stranger.
const LINES_OF: &str = "plugin";
/// Lines that one call may become; newlines after that are written as `\n`, so that a text of
/// newlines alone does not become megabytes of prefixes.
pub(super) const TEXT_LINES_MAX: usize = 256;
/// What a text that was cut ends with.
const CUT: &str = " [cut]";

/// Something to be written, not yet made safe.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) part: &'static str,
    pub(super) unix_ms: u64,
    pub(super) text: Box<str>,
}

/// Formats a text up to the cap; no more memory is taken than that, whatever is formatted.
pub(super) fn capped(text: impl fmt::Display) -> Box<str> {
    let mut capped = Capped(String::new());
    // An error means that the cap was reached, or that a `Display` gave up: both leave a text.
    if write!(capped, "{text}").is_err() {
        capped.0.push_str(CUT);
    }
    capped.0.into_boxed_str()
}

struct Capped(String);

impl fmt::Write for Capped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = TEXT_BYTES_MAX - CUT.len() - self.0.len();
        let fits = text.floor_char_boundary(room);
        self.0.push_str(&text[..fits]);
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl Line {
    /// Appends the line; of a plugin's text one for each of its lines, each with the whole prefix. Returns
    /// how many.
    pub(super) fn render(&self, stamp: &str, out: &mut String) -> usize {
        let lines_max = if self.part == LINES_OF { TEXT_LINES_MAX } else { 1 };
        let mut count = 0;
        for text in self.text.trim_end_matches(['\r', '\n']).splitn(lines_max, '\n') {
            for piece in ["[", self.level.name(), "] [", stamp, "] [", self.part, "] "] {
                out.push_str(piece);
            }
            push_safe(text.trim_end_matches('\r'), out);
            out.push('\n');
            count += 1;
        }
        count
    }
}

/// Appends a text with everything escaped that could act on a terminal or look like a new line.
pub(crate) fn push_safe(text: &str, out: &mut String) {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return out.push_str(text);
    }
    for character in text.chars() {
        match character {
            '\t' => out.push(' '),
            unsafe_one if is_unsafe(unsafe_one) => out.extend(unsafe_one.escape_default()),
            safe => out.push(safe),
        }
    }
}

/// Control characters, the line separators of Unicode, and marks that reorder what is shown.
fn is_unsafe(character: char) -> bool {
    let marks = ['\u{200e}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    character.is_control() || marks.iter().any(|range| range.contains(&character))
}
