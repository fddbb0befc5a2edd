//! `MQX_*` functions on an outgoing message.
//!
//! Diagnostics: as in `misuse`.

use std::ffi::{c_char, c_int};
use std::ptr;

use crate::access::{self, Wanted};
use crate::answer::{self, Class, Words};
use crate::decision::{self, Decided, Decision, HOST_BYTES_MAX, TEXT_BYTES_MAX};
use crate::export::answer::{STATUS_BYTES_MAX, read};
use crate::message::Direction;
use crate::misuse::Misuse;
use crate::state::State;
use crate::token::{Kind, Opaque, Token};

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
        let status = unsafe { read(status, STATUS_BYTES_MAX) };
        // SAFETY: the caller's promise.
        let text = unsafe { read(text, TEXT_BYTES_MAX) };
        let status = status.map(|status| answer::status(status, Class::Permanent)).transpose()?;
        let text = text.map(|text| String::from_utf8_lossy(text).into());
        let code = answer::code(code, Class::Permanent)?;
        decide(state, token, Decision::Bounce(Words { code, status, text }))
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
        let host = unsafe { read(host, HOST_BYTES_MAX + 3) };
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
    state.tell_chain(Token::new(Kind::Connection, plugin, state.worker, connection.0));
    if let Some(owner) = state.connections.get(connection.0) {
        if owner.chain.owes(plugin) {
            return Err(Misuse::Late);
        }
        if !owner.chain.is_at(plugin) {
            return Err(Misuse::Undecidable);
        }
    }
    state.message(token)?.docket.decide(Decided { plugin, decision })?;
    Ok(1)
}
