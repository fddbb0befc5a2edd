//! `MQX_hold` and `MQX_release`.
//!
//! Diagnostics: as in `misuse`; a release that comes too late is none.

use std::ffi::{c_double, c_int, c_void};
use std::ptr;

use crate::access::{self, Wanted};
use crate::hold::{self, HoldCallback};
use crate::misuse::Misuse;
use crate::token::Opaque;

/// See `mailerq.h`.
///
/// # Safety
/// `expired` is NULL or callable with `data` as long as the hold exists; any pointer may be given as
/// `connection`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_hold(
    connection: *mut Opaque,
    timeout: c_double,
    expired: Option<HoldCallback>,
    data: *mut c_void,
) -> *mut Opaque {
    let otherwise = ptr::null_mut();
    access::serve("MQX_hold", Wanted::Connection, connection, otherwise, |state, token| {
        let timeout_ms = hold::timeout_ms(timeout)
            .ok_or(Misuse::Argument("timeout is negative or not a number"))?;
        state.hold(token, timeout_ms, expired, data).map(|token| token.to_pointer())
    })
}

/// See `mailerq.h`. Returns 0 or 1: a C `bool`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQX_release(hold: *mut Opaque, verdict: c_int) -> u8 {
    access::release(hold, hold::verdict(verdict))
}
