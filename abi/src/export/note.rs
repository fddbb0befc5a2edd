//! `MQX_setNote` and `MQX_note`.
//!
//! Diagnostics: as in `misuse`.

use std::ffi::{CStr, c_char};
use std::{ptr, slice};

use crate::access::{self, Wanted};
use crate::misuse::Misuse;
use crate::note::Notes;
use crate::token::Opaque;

export! {
    MQX_setNote(
        noted: *mut Opaque,
        name: *const c_char,
        value: *const c_char,
        size: usize,
    ) -> u8 = unsafe set_note
}
export! {
    MQX_note(
        noted: *mut Opaque,
        name: *const c_char,
        size: *mut usize,
    ) -> *const c_char = unsafe note
}

/// # Safety
/// `name` is NULL or a string; `value` is NULL or `size` bytes can be read from it.
unsafe fn set_note(
    function: &'static str,
    noted: *mut Opaque,
    name: *const c_char,
    value: *const c_char,
    size: usize,
) -> u8 {
    access::serve(function, Wanted::ConnectionOrMessage, noted, 0, |state, token| {
        // SAFETY: the same promise.
        let name = unsafe { name_of(name) }?;
        if !value.is_null() && size > Notes::BYTES_MAX {
            return Err(Misuse::Argument("size is beyond what all notes may have together"));
        }
        let value = (!value.is_null()).then(|| {
            // SAFETY: not NULL, and `size` bytes can be read by the caller's promise.
            unsafe { slice::from_raw_parts(value.cast::<u8>(), size) }
        });
        match state.notes_mut(token)?.set(name, value) {
            true => Ok(1),
            false => Err(Misuse::Argument(
                "a note has a name of 1 to 128 octets without control characters, and there are at \
                 most 64 notes with 16384 octets in all",
            )),
        }
    })
}

/// # Safety
/// `name` is NULL or a string; `size` is NULL or can be written.
unsafe fn note(
    function: &'static str,
    noted: *mut Opaque,
    name: *const c_char,
    size: *mut usize,
) -> *const c_char {
    let nothing = (ptr::null(), 0);
    let (text, bytes) =
        access::serve(function, Wanted::ConnectionOrMessage, noted, nothing, |state, token| {
            // SAFETY: the same promise.
            let name = unsafe { name_of(name) }?;
            let text = state.notes(token)?.get(name).map(|text| text.as_terminated());
            Ok(text.map_or(nothing, |text| (text.as_ptr(), text.size())))
        });
    if !size.is_null() {
        // SAFETY: not NULL, and can be written by the caller's promise.
        unsafe { size.write(bytes) };
    }
    text
}

/// # Safety
/// `name` is NULL or a string that stays as it is for `'a`.
unsafe fn name_of<'a>(name: *const c_char) -> Result<&'a str, Misuse> {
    if name.is_null() {
        return Err(Misuse::Argument("name is NULL"));
    }
    // SAFETY: not NULL, and a string by the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().map_err(|_| Misuse::Argument("name is no UTF-8"))
}
