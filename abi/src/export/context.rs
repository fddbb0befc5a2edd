//! `MQ_*` functions on a context, its timers and its watches.
//!
//! Diagnostics: as in `misuse`.

use std::ffi::{c_int, c_void};
use std::ptr;

use crate::access::{self, Wanted};
use crate::call;
use crate::command::{READ, Timer, TimerCallback, WRITE, Watch, WatchCallback, timeout_ms};
use crate::host::{self, Level};
use crate::libev;
use crate::misuse::{Misuse, Once};
use crate::plugin::PluginIndex;
use crate::step::Verdict;
use crate::token::Opaque;

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_Continue(context: *mut Opaque) {
    access::hand_back(Verdict::Continue, context);
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_Complete(context: *mut Opaque) {
    access::hand_back(Verdict::Complete, context);
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_Retry(context: *mut Opaque) {
    access::hand_back(Verdict::Retry, context);
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_ContextData(context: *mut Opaque) -> *mut c_void {
    access::serve("MQ_ContextData", Wanted::Context, context, ptr::null_mut(), |state, token| {
        Ok(state.context_data.value(token.plugin()))
    })
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointers may be given; `value` is only stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_SetContextData(context: *mut Opaque, value: *mut c_void) {
    access::serve("MQ_SetContextData", Wanted::Context, context, (), |state, token| {
        state.context_data.set(token.plugin(), value);
        Ok(())
    });
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_ev(context: *mut Opaque) -> *mut Opaque {
    libev::ask(context)
}

/// See `mailerq.h`.
///
/// # Safety
/// `callback` is NULL or callable with `data` as long as the watch exists.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_IOWatch(
    context: *mut Opaque,
    fd: c_int,
    events: c_int,
    callback: Option<WatchCallback>,
    data: *mut c_void,
) -> *mut Opaque {
    access::serve("MQ_IOWatch", Wanted::Context, context, ptr::null_mut(), |state, token| {
        let callback = callback.ok_or(Misuse::Argument("callback is NULL"))?;
        if fd < 0 {
            return Err(Misuse::Argument("fd is negative"));
        }
        let interest = events as u8 & (READ | WRITE);
        if interest == 0 {
            return Err(Misuse::Argument("events has neither MQ_READ nor MQ_WRITE"));
        }
        let watch = Watch { plugin: token.plugin(), fd, interest, callback, data };
        state.watch(watch).map(|token| token.to_pointer())
    })
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_IOUnwatch(watcher: *mut Opaque) {
    access::serve("MQ_IOUnwatch", Wanted::Watch, watcher, (), |state, token| state.unwatch(token));
}

/// See `mailerq.h`.
///
/// # Safety
/// `callback` is NULL or callable with `data` as long as the timer exists.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_TimerStart(
    context: *mut Opaque,
    timeout: f32,
    callback: Option<TimerCallback>,
    data: *mut c_void,
) -> *mut Opaque {
    access::serve("MQ_TimerStart", Wanted::Context, context, ptr::null_mut(), |state, token| {
        let callback = callback.ok_or(Misuse::Argument("callback is NULL"))?;
        let after_ms = timeout_ms(timeout).ok_or(Misuse::Argument("timeout is not a number"))?;
        let timer = Timer { plugin: token.plugin(), callback, data };
        state.start_timer(timer, after_ms).map(|token| token.to_pointer())
    })
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_TimerStop(timer: *mut Opaque) {
    access::serve("MQ_TimerStop", Wanted::Timer, timer, (), |state, token| state.stop_timer(token));
}

/// See `mailerq.h`.
///
/// # Safety
/// None beyond the types: any pointer may be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn MQ_TimerReset(timer: *mut Opaque, timeout: f32) {
    access::serve("MQ_TimerReset", Wanted::Timer, timer, (), |state, token| {
        let after_ms = timeout_ms(timeout).ok_or(Misuse::Argument("timeout is not a number"))?;
        state.reset_timer(token, after_ms)
    });
}

/// For what this host has not got: once per plugin.
pub(super) fn say_once(plugin: PluginIndex, once: Once, text: &'static str) {
    call::host_code("the log", || {
        if host::installed().is_some_and(|host| host.meter(Some(plugin)).first(once)) {
            host::log(Level::Warning, Some(plugin), text);
        }
    });
}
