//! The server's log, from any thread. Must never: fail. Diagnostics: none.

use std::ffi::{CString, c_int};
use std::fmt::Display;

use crate::ffi;

/// Somebody has to act.
pub fn critical(text: impl Display) {
    say(1, &text);
}

/// Something is wrong, and was dealt with.
pub fn warning(text: impl Display) {
    say(2, &text);
}

/// Worth knowing.
pub fn info(text: impl Display) {
    say(3, &text);
}

fn say(priority: c_int, text: &dyn Display) {
    let text = c_string(text.to_string());
    // SAFETY: the text is a NUL-terminated string that outlives the call.
    unsafe { ffi::MQ_log(priority, text.as_ptr()) };
}

/// Up to its first NUL, which C takes for the end.
pub(crate) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    let mut bytes: Vec<u8> = text.into();
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    CString::new(bytes).unwrap_or_default()
}
