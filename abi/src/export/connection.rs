//! `MQ_*` functions on a connection.
//!
//! Diagnostics: as in `misuse`.

use std::ffi::{c_int, c_void};
use std::{ptr, slice};

use crate::access::{self, Wanted};
use crate::hold::Hearing;
use crate::misuse::Misuse;
use crate::step::Verdict;
use crate::token::Opaque;

export! { MQ_continue(connection: *mut Opaque) = go_on }
export! { MQ_complete(connection: *mut Opaque) = complete }
export! { MQ_retry(connection: *mut Opaque) = retry }
export! {
    MQ_SmtpFileDescriptor, MQ_fileDescriptor(
        connection: *mut Opaque,
    ) -> c_int = file_descriptor
}
export! {
    MQ_SmtpSend, MQ_send(
        connection: *mut Opaque,
        buffer: *const c_void,
        size: usize,
    ) -> usize = unsafe send
}
export! { MQ_SmtpAuthenticated, MQ_authenticated(connection: *mut Opaque) -> u8 = authenticated }
export! {
    MQ_SetSmtpAuthenticated, MQ_setAuthenticated(
        connection: *mut Opaque,
        authenticated: u8,
    ) = set_authenticated
}
export! { MQ_SmtpSecure, MQ_secure(connection: *mut Opaque) -> u8 = secure }
export! { MQ_SmtpData, MQ_connectionData(connection: *mut Opaque) -> *mut c_void = data }
export! {
    MQ_SetSmtpData, MQ_setConnectionData(
        connection: *mut Opaque,
        data: *mut c_void,
    ) = set_data
}

fn go_on(function: &'static str, connection: *mut Opaque) {
    access::hand_back(function, Wanted::Connection, Verdict::Continue, connection);
}

fn complete(function: &'static str, connection: *mut Opaque) {
    access::hand_back(function, Wanted::Connection, Verdict::Complete, connection);
}

fn retry(function: &'static str, connection: *mut Opaque) {
    access::hand_back(function, Wanted::Connection, Verdict::Retry, connection);
}

fn file_descriptor(function: &'static str, connection: *mut Opaque) -> c_int {
    access::serve(function, Wanted::Connection, connection, -1, |state, token| {
        Ok(state.connection(token)?.fd)
    })
}

/// # Safety
/// The bytes are NULL or `size` of them can be read.
unsafe fn send(
    function: &'static str,
    connection: *mut Opaque,
    buffer: *const c_void,
    size: usize,
) -> usize {
    access::serve(function, Wanted::Connection, connection, 0, |state, token| {
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

fn authenticated(function: &'static str, connection: *mut Opaque) -> u8 {
    access::serve(function, Wanted::Connection, connection, 0, |state, token| {
        Ok(u8::from(state.connection(token)?.authenticated))
    })
}

fn set_authenticated(function: &'static str, connection: *mut Opaque, authenticated: u8) {
    access::serve(function, Wanted::Connection, connection, (), |state, token| {
        // If it fails in this step, what it says of the client in it is to be told apart (D-27).
        state.tell_chain(token);
        let hearing = state.hearing(token)?;
        let connection = state.connection(token)?;
        match hearing {
            Hearing::Late => return Err(Misuse::Late),
            Hearing::Now => connection.set_authenticated(token.plugin(), authenticated != 0),
            Hearing::AtRelease => {
                let staged = connection.staged.get_or_insert_default();
                staged.authenticated = Some(authenticated != 0);
            }
        }
        Ok(())
    });
}

fn secure(function: &'static str, connection: *mut Opaque) -> u8 {
    access::serve(function, Wanted::Connection, connection, 0, |state, token| {
        Ok(u8::from(state.connection(token)?.secure))
    })
}

fn data(function: &'static str, connection: *mut Opaque) -> *mut c_void {
    let otherwise = ptr::null_mut();
    access::serve(function, Wanted::Connection, connection, otherwise, |state, token| {
        Ok(state.connection(token)?.data.value(token.plugin()))
    })
}

fn set_data(function: &'static str, connection: *mut Opaque, data: *mut c_void) {
    access::serve(function, Wanted::Connection, connection, (), |state, token| {
        state.connection(token)?.data.set(token.plugin(), data);
        Ok(())
    });
}
