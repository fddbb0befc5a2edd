//! `MQX_*` functions that say what an incoming step is to come to.
//!
//! Diagnostics: as in `misuse`; what is misused changes no answer that was given before.

use std::ffi::{c_char, c_int};
use std::slice;

use crate::access::{self, Wanted};
use crate::answer::{self, ANSWER_BYTES_MAX, Class, Ruling, Wish, Words};
use crate::misuse::Misuse;
use crate::token::Opaque;

/// A status is at most `5.999.999`; a longer one need not be read to its end.
pub(super) const STATUS_BYTES_MAX: usize = 16;

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// `status` and `text` are each NULL or a NUL-terminated string; any pointer may be given as `connection`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_reject(
    connection: *mut Opaque,
    code: c_int,
    status: *const c_char,
    text: *const c_char,
) -> u8 {
    // SAFETY: the same promise.
    unsafe { refuse("MQX_reject", Class::Permanent, connection, code, status, text) }
}

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// `status` and `text` are each NULL or a NUL-terminated string; any pointer may be given as `connection`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_defer(
    connection: *mut Opaque,
    code: c_int,
    status: *const c_char,
    text: *const c_char,
) -> u8 {
    // SAFETY: the same promise.
    unsafe { refuse("MQX_defer", Class::Temporary, connection, code, status, text) }
}

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_disconnect(connection: *mut Opaque) -> u8 {
    access::serve("MQX_disconnect", Wanted::Connection, connection, 0, |state, token| {
        state.answer(token, Wish::Disconnect)?.disconnect = true;
        Ok(1)
    })
}

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_discard(connection_or_message: *mut Opaque) -> u8 {
    let wanted = Wanted::ConnectionOrMessage;
    access::serve("MQX_discard", wanted, connection_or_message, 0, |state, token| {
        state.answer(token, Wish::Discard)?.ruling = Some(Ruling::Discard);
        Ok(1)
    })
}

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_fail(connection: *mut Opaque) -> u8 {
    access::serve("MQX_fail", Wanted::Connection, connection, 0, |state, token| {
        state.answer(token, Wish::Fail)?.ruling = Some(Ruling::Fail);
        Ok(1)
    })
}

/// # Safety
/// `status` and `text` are each NULL or a NUL-terminated string.
unsafe fn refuse(
    function: &'static str,
    class: Class,
    connection: *mut Opaque,
    code: c_int,
    status: *const c_char,
    text: *const c_char,
) -> u8 {
    access::serve(function, Wanted::Connection, connection, 0, |state, token| {
        let code = answer::code(code, class)?;
        // SAFETY: NULL or NUL-terminated by the caller's promise.
        let status = unsafe { read(status, STATUS_BYTES_MAX) };
        // SAFETY: the same.
        let text = unsafe { read(text, ANSWER_BYTES_MAX) };
        let status = status.map(|status| answer::status(status, class)).transpose()?;
        let text = text.map(|text| String::from_utf8_lossy(text).into());
        let words = Words { code, status, text };
        state.answer(token, Wish::Refuse)?.ruling = Some(match class {
            Class::Permanent => Ruling::Reject(words),
            Class::Temporary => Ruling::Defer(words),
        });
        Ok::<u8, Misuse>(1)
    })
}

/// What comes before the NUL, at most so much of it; `None` for NULL.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string that lives for `'a`.
pub(super) unsafe fn read<'a>(text: *const c_char, bytes_max: usize) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and NUL-terminated by the caller's promise.
    let size = unsafe { libc::strnlen(text, bytes_max) };
    // SAFETY: strnlen has read that many bytes.
    Some(unsafe { slice::from_raw_parts(text.cast::<u8>(), size) })
}
