//! `MQ_*` functions on a message.
//!
//! Diagnostics: as in `misuse`.

use std::ffi::c_char;
use std::{ptr, slice};

use crate::access::{self, Wanted};
use crate::call;
use crate::json::{self, Json};
use crate::message::{Direction, Part};
use crate::misuse::Misuse;
use crate::text::Text;
use crate::token::Opaque;

export! { MQ_Json, MQ_json(message: *mut Opaque) -> *mut Opaque = json }
export! { MQ_Envelope(message: *mut Opaque) -> *const c_char = envelope }
export! { MQ_envelope(message: *mut Opaque) -> *const c_char = envelope_address }
export! { MQ_recipient(message: *mut Opaque) -> *const c_char = recipient_address }
export! {
    MQ_SetEnvelope, MQ_setEnvelope(
        message: *mut Opaque,
        envelope: *const c_char,
        size: usize,
    ) = unsafe set_envelope
}
export! { MQ_Recipient(message: *mut Opaque) -> *const c_char = recipient }
export! {
    MQ_SetRecipient, MQ_setRecipient(
        message: *mut Opaque,
        recipient: *const c_char,
        size: usize,
    ) = unsafe set_recipient
}
export! { MQ_Mime, MQ_mime(message: *mut Opaque) -> *const c_char = mime }
export! {
    MQ_SetMime, MQ_setMime(
        message: *mut Opaque,
        mime: *const c_char,
        size: usize,
    ) = unsafe set_mime
}

fn json(function: &'static str, message: *mut Opaque) -> *mut Opaque {
    json::object(function, message)
}

fn envelope(function: &'static str, message: *mut Opaque) -> *const c_char {
    text(function, message, Part::Envelope)
}

/// # Safety
/// The bytes are NULL or `size` of them can be read.
unsafe fn set_envelope(
    function: &'static str,
    message: *mut Opaque,
    envelope: *const c_char,
    size: usize,
) {
    // SAFETY: the same promise.
    unsafe { set_text(function, message, Part::Envelope, envelope, size) };
}

fn recipient(function: &'static str, message: *mut Opaque) -> *const c_char {
    text(function, message, Part::Recipient)
}

/// # Safety
/// The bytes are NULL or `size` of them can be read.
unsafe fn set_recipient(
    function: &'static str,
    message: *mut Opaque,
    recipient: *const c_char,
    size: usize,
) {
    // SAFETY: the same promise.
    unsafe { set_text(function, message, Part::Recipient, recipient, size) };
}

fn mime(function: &'static str, message: *mut Opaque) -> *const c_char {
    text(function, message, Part::Mime)
}

/// # Safety
/// The bytes are NULL or `size` of them can be read.
unsafe fn set_mime(function: &'static str, message: *mut Opaque, mime: *const c_char, size: usize) {
    // SAFETY: the same promise.
    unsafe { set_text(function, message, Part::Mime, mime, size) };
}

/// From G2 on, both are addresses: strings as well, since an address is.
fn envelope_address(function: &'static str, message: *mut Opaque) -> *const c_char {
    address(function, message, Part::Envelope)
}

fn recipient_address(function: &'static str, message: *mut Opaque) -> *const c_char {
    address(function, message, Part::Recipient)
}

fn address(function: &'static str, message: *mut Opaque, part: Part) -> *const c_char {
    access::serve(function, Wanted::Message, message, ptr::null(), |state, token| {
        state.message_address(token, part)
    })
}

fn text(function: &'static str, message: *mut Opaque, part: Part) -> *const c_char {
    access::serve(function, Wanted::Message, message, ptr::null(), |state, token| {
        let text = state.message_with(token, &[part])?.text(part);
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
    let written = access::serve(function, Wanted::Message, message, None, |state, token| {
        if size > part.bytes_max() && !bytes.is_null() {
            return Err(Misuse::Argument("size is beyond any address or message; nothing was set"));
        }
        // The copy is made before the old value goes, which may be what is copied.
        let text = (!bytes.is_null()).then(|| {
            // SAFETY: not NULL, and `size` bytes can be read by the caller's promise; `bytes_max` is far
            // below `isize::MAX`.
            Text::copy_from(unsafe { slice::from_raw_parts(bytes.cast::<u8>(), size) })
        });
        state.set_part(token, part, text)?;
        Ok(state.messages.get_mut(token.key()).and_then(|message| {
            let writes = message.direction() == Direction::Incoming && !message.json_busy;
            let view = message.json.as_deref().filter(|_| writes).map(Json::active)?;
            message.json_busy = true;
            Some((view, message.text(part).cloned()))
        }))
    });
    let Some((view, text)) = written else { return };
    // Outside of the cell: what plugins hung onto the old value may run.
    call::object_code(|| view.set(part, text.as_ref()));
    access::serve(function, Wanted::Message, message, (), |state, token| {
        if let Some(message) = state.messages.get_mut(token.key()) {
            message.json_busy = false;
        }
        Ok(())
    });
}
