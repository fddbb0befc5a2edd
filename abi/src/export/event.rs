//! `MQX_*` functions of the loop: what MailerQ's own timers, watches and threads lack.
//!
//! Diagnostics: as in `misuse`.

use std::ffi::{c_char, c_double, c_int, c_void};
use std::{ptr, slice};

use crate::access::{self, Wanted};
use crate::command::{READ, Timer, TimerCallback, WRITE, timeout_ms_of};
use crate::misuse::Misuse;
use crate::query::{NAME_BYTES_MAX, Query, QueryCallback, RecordKind};
use crate::token::Opaque;

export! {
    MQX_repeat(
        context: *mut Opaque,
        first: c_double,
        interval: c_double,
        callback: Option<TimerCallback>,
        data: *mut c_void,
    ) -> *mut Opaque = repeat
}
export! { MQX_watchMask(watcher: *mut Opaque, events: c_int) -> u8 = watch_mask }
export! {
    MQX_post(
        context: *mut Opaque,
        callback: Option<TimerCallback>,
        data: *mut c_void,
    ) -> u8 = post
}
export! {
    MQX_resolve(
        context: *mut Opaque,
        name: *const c_char,
        kind: c_int,
        callback: Option<QueryCallback>,
        data: *mut c_void,
    ) -> *mut Opaque = unsafe resolve
}
export! { MQX_cancel(query: *mut Opaque) = cancel }

fn repeat(
    function: &'static str,
    context: *mut Opaque,
    first: c_double,
    interval: c_double,
    callback: Option<TimerCallback>,
    data: *mut c_void,
) -> *mut Opaque {
    access::serve(function, Wanted::Context, context, ptr::null_mut(), |state, token| {
        let callback = callback.ok_or(Misuse::Argument("callback is NULL"))?;
        let after_ms = timeout_ms_of(first).ok_or(Misuse::Argument("first is not a number"))?;
        let interval_ms = timeout_ms_of(interval).unwrap_or(0);
        if interval_ms == 0 {
            return Err(Misuse::Argument("interval is not a number above 0"));
        }
        let timer = Timer { plugin: token.plugin(), repeats: true, callback, data };
        state.start_repeating(timer, after_ms, interval_ms).map(|token| token.to_pointer())
    })
}

fn watch_mask(function: &'static str, watcher: *mut Opaque, events: c_int) -> u8 {
    access::serve(function, Wanted::Watch, watcher, 0, |state, token| {
        let interest = events as u8 & (READ | WRITE);
        if interest == 0 && events != 0 {
            return Err(Misuse::Argument("events has bits, but neither MQ_READ nor MQ_WRITE"));
        }
        state.set_interest(token, interest).map(u8::from)
    })
}

fn post(
    function: &'static str,
    context: *mut Opaque,
    callback: Option<TimerCallback>,
    data: *mut c_void,
) -> u8 {
    u8::from(access::post(function, context, callback, data))
}

/// # Safety
/// `name` is NULL or a string.
unsafe fn resolve(
    function: &'static str,
    context: *mut Opaque,
    name: *const c_char,
    kind: c_int,
    callback: Option<QueryCallback>,
    data: *mut c_void,
) -> *mut Opaque {
    access::serve(function, Wanted::Context, context, ptr::null_mut(), |state, token| {
        let callback = callback.ok_or(Misuse::Argument("callback is NULL"))?;
        if name.is_null() {
            return Err(Misuse::Argument("name is NULL"));
        }
        let kind = RecordKind::from_number(kind)
            .ok_or(Misuse::Argument("type is none that can be asked for"))?;
        // SAFETY: not NULL, and NUL-terminated by the caller's promise.
        let size = unsafe { libc::strnlen(name, NAME_BYTES_MAX) };
        // SAFETY: strnlen has read that many bytes.
        let name = unsafe { slice::from_raw_parts(name.cast::<u8>(), size) };
        let query = Query { plugin: token.plugin(), callback: Some(callback), data };
        state.resolve(query, name, kind).map(|token| token.to_pointer())
    })
}

fn cancel(function: &'static str, query: *mut Opaque) {
    access::serve(function, Wanted::Query, query, (), |state, token| state.cancel(token));
}
