//! `MQ_*` functions on a message.
//!
//! Diagnostics: as in `misuse`.

use std::ffi::c_char;
use std::{ptr, slice};

use crate::access::{self, Wanted};
use crate::export::context::say_once;
use crate::message::Part;
use crate::misuse::{Misuse, Once};
use crate::text::Text;
use crate::token::Opaque;

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_Json(message: *mut Opaque) -> *mut Opaque {
    let asker = access::serve("MQ_Json", Wanted::Message, message, None, |state, token| {
        state.message(token)?;
        Ok(Some(token.plugin()))
    });
    if let Some(plugin) = asker {
        say_once(
            plugin,
            Once::Json,
            "MQ_Json: this host has no JSON objects yet; NULL is returned",
        );
    }
    ptr::null_mut()
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_Envelope(message: *mut Opaque) -> *const c_char {
    text("MQ_Envelope", message, Part::Envelope)
}

/// See `mailerq.h`.
///
/// # Safety
/// `envelope` is NULL or `size` bytes can be read from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SetEnvelope(
    message: *mut Opaque,
    envelope: *const c_char,
    size: usize,
) {
    // SAFETY: the same promise.
    unsafe { set_text("MQ_SetEnvelope", message, Part::Envelope, envelope, size) };
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_Recipient(message: *mut Opaque) -> *const c_char {
    text("MQ_Recipient", message, Part::Recipient)
}

/// See `mailerq.h`.
///
/// # Safety
/// `recipient` is NULL or `size` bytes can be read from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SetRecipient(
    message: *mut Opaque,
    recipient: *const c_char,
    size: usize,
) {
    // SAFETY: the same promise.
    unsafe { set_text("MQ_SetRecipient", message, Part::Recipient, recipient, size) };
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_Mime(message: *mut Opaque) -> *const c_char {
    text("MQ_Mime", message, Part::Mime)
}

/// See `mailerq.h`.
///
/// # Safety
/// `mime` is NULL or `size` bytes can be read from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SetMime(message: *mut Opaque, mime: *const c_char, size: usize) {
    // SAFETY: the same promise.
    unsafe { set_text("MQ_SetMime", message, Part::Mime, mime, size) };
}

fn text(function: &'static str, message: *mut Opaque, part: Part) -> *const c_char {
    access::serve(function, Wanted::Message, message, ptr::null(), |state, token| {
        let text = state.message(token)?.text(part);
        Ok(text.map_or(ptr::null(), |text| text.as_terminated().as_ptr()))
    })
}

/// # Safety
/// `bytes` is NULL or `size` bytes can be read from it.
unsafe fn set_text(
    function: &'static str,
    message: *mut Opaque,
    part: Part,
    bytes: *const c_char,
    size: usize,
) {
    access::serve(function, Wanted::Message, message, (), |state, token| {
        let message = state.message(token)?;
        if bytes.is_null() {
            message.set(part, None);
            return Ok(());
        }
        if size > part.bytes_max() {
            return Err(Misuse::Argument("size is beyond any address or message; nothing was set"));
        }
        // SAFETY: not NULL, and `size` bytes can be read by the caller's promise; `bytes_max` is far below
        // `isize::MAX`. The copy is made before the old value goes, which may be what is copied.
        let copy = Text::copy_from(unsafe { slice::from_raw_parts(bytes.cast::<u8>(), size) });
        message.set(part, Some(copy));
        Ok(())
    });
}
