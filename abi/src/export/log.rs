//! `MQ_log`, which any thread may call at any time.
//!
//! Diagnostics: none; a priority that does not exist is marked in the line.

use std::borrow::Cow;
use std::ffi::{c_char, c_int};
use std::slice;

use crate::call;
use crate::host::{self, Level, Speaker};

/// How much of one message is logged (D-B1).
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// See `mailerq.h`.
///
/// # Safety
/// `message` is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_log(priority: c_int, message: *const c_char) {
    if message.is_null() {
        return;
    }
    // SAFETY: not NULL, and NUL-terminated by the caller's promise.
    let size = unsafe { libc::strnlen(message, MESSAGE_BYTES_MAX) };
    // SAFETY: strnlen has read that many bytes.
    let message = unsafe { slice::from_raw_parts(message.cast::<u8>(), size) };
    call::host_code("MQ_log", || {
        let plugin = call::running();
        let (level, mark) = level(priority);
        for line in lines(message) {
            host::say(level, Speaker::Plugin, plugin, &format!("{mark}{line}"));
        }
    });
}

fn level(priority: c_int) -> (Level, &'static str) {
    match priority {
        1 => (Level::Critical, ""),
        2 => (Level::Warning, ""),
        3 => (Level::Info, ""),
        _ => (Level::Info, "(invalid priority) "),
    }
}

/// D-B1: nothing in a message can look like a line of its own, or talk to a terminal.
fn lines(message: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    let message = message.strip_suffix(b"\n").unwrap_or(message);
    message.split(|byte| *byte == b'\n').map(|line| {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        if line.chars().all(is_harmless) {
            return line;
        }
        Cow::Owned(line.chars().map(|c| if is_harmless(c) { c } else { '\u{fffd}' }).collect())
    })
}

fn is_harmless(c: char) -> bool {
    c == '\t' || !c.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_b1_one_line_for_each_line_and_nothing_hidden_in_it() {
        for (message, expected) in [
            ("", vec![""]),
            ("one", vec!["one"]),
            ("one\n", vec!["one"]),
            ("one\r\ntwo\n\nthree", vec!["one", "two", "", "three"]),
            ("a\rb\x1b[31m\tc", vec!["a\u{fffd}b\u{fffd}[31m\tc"]),
        ] {
            assert_eq!(lines(message.as_bytes()).collect::<Vec<_>>(), expected);
        }
        assert_eq!(lines(b"\xff!").collect::<Vec<_>>(), ["\u{fffd}!"]);
    }
}
