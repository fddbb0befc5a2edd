//! `MQX_*` functions on an outgoing message.
//!
//! Diagnostics: as in `misuse`.

use std::ffi::{c_char, c_int};
use std::{ptr, slice};

use crate::access::{self, Wanted};
use crate::decision::{self, Decided, Decision, HOST_BYTES_MAX, Reason, TEXT_BYTES_MAX};
use crate::message::Direction;
use crate::misuse::Misuse;
use crate::state::State;
use crate::token::{Opaque, Token};

/// The longest status that means anything, and one octet more: `5.999.999`.
const STATUS_BYTES_MAX: usize = 10;

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// `status` and `text` are NULL or NUL-terminated strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_bounce(
    message: *mut Opaque,
    code: c_int,
    status: *const c_char,
    text: *const c_char,
) -> u8 {
    access::serve("MQX_bounce", Wanted::Message, message, 0, |state, token| {
        // SAFETY: the caller's promise.
        let status = unsafe { bytes(status, STATUS_BYTES_MAX) };
        // SAFETY: the caller's promise.
        let text = unsafe { bytes(text, TEXT_BYTES_MAX) };
        let reason = Reason {
            code: decision::code(code)?,
            status: status.map(decision::status).transpose()?,
            text: text.map(|text| String::from_utf8_lossy(text).into()),
        };
        decide(state, token, Decision::Bounce(reason))
    })
}

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_retryAt(message: *mut Opaque, unix_seconds: f64) -> u8 {
    access::serve("MQX_retryAt", Wanted::Message, message, 0, |state, token| {
        let unix_ms = decision::unix_ms(unix_seconds)?;
        decide(state, token, Decision::RetryAt { unix_ms })
    })
}

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// `host` is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_route(message: *mut Opaque, host: *const c_char, port: c_int) -> u8 {
    access::serve("MQX_route", Wanted::Message, message, 0, |state, token| {
        // SAFETY: the caller's promise. What is longer than any host, brackets included, is none.
        let host = unsafe { bytes(host, HOST_BYTES_MAX + 3) };
        let host = decision::host(host.ok_or(Misuse::Argument("host is NULL"))?)?;
        decide(state, token, Decision::Route { host, port: decision::port(port)? })
    })
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_state(message: *mut Opaque) -> *const c_char {
    access::serve("MQX_state", Wanted::Message, message, ptr::null(), |state, token| {
        let reached = state.message(token)?.state.as_ref();
        Ok(reached.map_or(ptr::null(), |reached| reached.as_terminated().as_ptr()))
    })
}

fn decide(state: &mut State, token: Token, decision: Decision) -> Result<u8, Misuse> {
    let message = state.message(token)?;
    match message.direction {
        Direction::Incoming => return Err(Misuse::Argument("the message is not an outgoing one")),
        Direction::Outgoing => {}
    }
    let (connection, plugin) = (message.connection, token.plugin());
    let owner = state.connections.get(connection.0);
    if owner.is_some_and(|owner| owner.chain.owes(plugin)) {
        return Err(Misuse::Late);
    }
    state.message(token)?.docket.decide(Decided { plugin, decision })?;
    Ok(1)
}

/// At most `bytes_max` bytes of a C string; `None` for NULL.
///
/// # Safety
/// `text` is NULL or a NUL-terminated string, which stays as it is while the result is used.
unsafe fn bytes<'a>(text: *const c_char, bytes_max: usize) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and NUL-terminated by the caller's promise.
    let size = unsafe { libc::strnlen(text, bytes_max) };
    // SAFETY: strnlen has read that many bytes.
    Some(unsafe { slice::from_raw_parts(text.cast::<u8>(), size) })
}
