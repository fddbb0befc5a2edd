//! `MQX_*` functions that say what the host knows, each with its size.
//!
//! Diagnostics: as in `misuse`; what is not known is NULL, with size 0.

use std::ffi::{c_char, c_int};
use std::ptr;

use crate::access::{self, Wanted};
use crate::fact::Asked;
use crate::message::Part;
use crate::misuse::Misuse;
use crate::state::State;
use crate::text::Text;
use crate::token::{Opaque, Token};

macro_rules! facts {
    ($($name:ident $asked:ident;)*) => {$(
        /// See `mailerq.h`.
        ///
        /// # Safety
        /// `size` is NULL or can be written to; any pointer may be given as `connection`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(connection: *mut Opaque, size: *mut usize) -> *const c_char {
            // SAFETY: the same promise.
            unsafe { lend(stringify!($name), Wanted::Connection, connection, size, |state, token| {
                Ok(state.connection(token)?.facts.text(Asked::$asked))
            }) }
        }
    )*};
}

facts! {
    MQX_peer Peer;
    MQX_helo Helo;
    MQX_login Login;
    MQX_host Host;
    MQX_tlsVersion TlsVersion;
    MQX_cipher Cipher;
    MQX_sni ServerName;
}

macro_rules! parts {
    ($($name:ident $part:ident;)*) => {$(
        /// See `mailerq.h`.
        ///
        /// # Safety
        /// `size` is NULL or can be written to; any pointer may be given as `message`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(message: *mut Opaque, size: *mut usize) -> *const c_char {
            // SAFETY: the same promise.
            unsafe { lend(stringify!($name), Wanted::Message, message, size, |state, token| {
                Ok(state.message_with(token, &[Part::$part])?.text(Part::$part))
            }) }
        }
    )*};
}

parts! {
    MQX_envelope Envelope;
    MQX_recipient Recipient;
    MQX_mime Mime;
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_peerPort(connection: *mut Opaque) -> c_int {
    access::serve("MQX_peerPort", Wanted::Connection, connection, 0, |state, token| {
        Ok(c_int::from(state.connection(token)?.facts.peer_port()))
    })
}

/// See `mailerq.h`.
///
/// # Safety
/// `size` is NULL or can be written to; any pointer may be given as `message`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_messageId(message: *mut Opaque, size: *mut usize) -> *const c_char {
    // SAFETY: the same promise.
    unsafe {
        lend("MQX_messageId", Wanted::Message, message, size, |state, token| {
            Ok(state.message(token)?.id_text())
        })
    }
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_attempt(message: *mut Opaque) -> c_int {
    access::serve("MQX_attempt", Wanted::Message, message, -1, |state, token| {
        Ok(c_int::try_from(state.message(token)?.attempt).unwrap_or(c_int::MAX))
    })
}

/// # Safety
/// `size` is NULL or can be written to.
unsafe fn lend(
    function: &'static str,
    wanted: Wanted,
    pointer: *mut Opaque,
    size: *mut usize,
    find: impl for<'s> FnOnce(&'s mut State, Token) -> Result<Option<&'s Text>, Misuse>,
) -> *const c_char {
    let nothing = (ptr::null(), 0);
    let (text, bytes) = access::serve(function, wanted, pointer, nothing, |state, token| {
        let text = find(state, token)?.map(Text::as_terminated);
        Ok(text.map_or(nothing, |text| (text.as_ptr(), text.size())))
    });
    if !size.is_null() {
        // SAFETY: not NULL, and can be written to by the caller's promise.
        unsafe { size.write(bytes) };
    }
    text
}
