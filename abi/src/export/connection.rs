//! `MQ_*` functions on a connection.
//!
//! Diagnostics: as in `misuse`.

use std::ffi::{c_int, c_void};
use std::{ptr, slice};

use crate::access::{self, Wanted};
use crate::misuse::Misuse;
use crate::token::Opaque;

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SmtpFileDescriptor(connection: *mut Opaque) -> c_int {
    access::serve("MQ_SmtpFileDescriptor", Wanted::Connection, connection, -1, |state, token| {
        Ok(state.connection(token)?.fd)
    })
}

/// See `mailerq.h`.
///
/// # Safety
/// `buffer` is NULL or `size` bytes can be read from it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SmtpSend(
    connection: *mut Opaque,
    buffer: *const c_void,
    size: usize,
) -> usize {
    access::serve("MQ_SmtpSend", Wanted::Connection, connection, 0, |state, token| {
        if !state.may_send(token, size)? || size == 0 {
            return Ok(0);
        }
        if buffer.is_null() {
            return Err(Misuse::Argument("buffer is NULL"));
        }
        // SAFETY: not NULL; `size` bytes can be read, which the header asks of the caller, and are at most
        // the output's limit, far below `isize::MAX`.
        let bytes = unsafe { slice::from_raw_parts(buffer.cast::<u8>(), size) };
        state.send(token, bytes)
    })
}

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SmtpAuthenticated(connection: *mut Opaque) -> u8 {
    access::serve("MQ_SmtpAuthenticated", Wanted::Connection, connection, 0, |state, token| {
        Ok(u8::from(state.connection(token)?.authenticated))
    })
}

/// See `mailerq.h`. `authenticated` is a C `bool`, compared with 0 (D-0F).
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SetSmtpAuthenticated(connection: *mut Opaque, authenticated: u8) {
    access::serve("MQ_SetSmtpAuthenticated", Wanted::Connection, connection, (), |state, token| {
        let connection = state.connection(token)?;
        if connection.chain.owes(token.plugin()) {
            return Err(Misuse::Late);
        }
        connection.set_authenticated(authenticated != 0);
        Ok(())
    });
}

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SmtpSecure(connection: *mut Opaque) -> u8 {
    access::serve("MQ_SmtpSecure", Wanted::Connection, connection, 0, |state, token| {
        Ok(u8::from(state.connection(token)?.secure))
    })
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SmtpData(connection: *mut Opaque) -> *mut c_void {
    let otherwise = ptr::null_mut();
    access::serve("MQ_SmtpData", Wanted::Connection, connection, otherwise, |state, token| {
        Ok(state.connection(token)?.data.value(token.plugin()))
    })
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointers may be given; `data` is only stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SetSmtpData(connection: *mut Opaque, data: *mut c_void) {
    access::serve("MQ_SetSmtpData", Wanted::Connection, connection, (), |state, token| {
        state.connection(token)?.data.set(token.plugin(), data);
        Ok(())
    });
}
