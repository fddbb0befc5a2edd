//! `MQ_*` functions on a context, its timers and its watches.
//!
//! Diagnostics: as in `misuse`.

use std::ffi::{c_int, c_void};
use std::ptr;

use crate::access::{self, Wanted};
use crate::command::{READ, Timer, TimerCallback, WRITE, Watch, WatchCallback, timeout_ms};
use crate::libev;
use crate::misuse::Misuse;
use crate::step::Verdict;
use crate::token::Opaque;

export! { MQ_Continue(context: *mut Opaque) = go_on }
export! { MQ_Complete(context: *mut Opaque) = complete }
export! { MQ_Retry(context: *mut Opaque) = retry }
export! { MQ_ContextData, MQ_contextData(context: *mut Opaque) -> *mut c_void = data }
export! {
    MQ_SetContextData, MQ_setContextData(
        context: *mut Opaque,
        value: *mut c_void,
    ) = set_data
}
export! { MQ_ev(context: *mut Opaque) -> *mut Opaque = ev }
export! {
    MQ_IOWatch, MQ_ioWatch(
        context: *mut Opaque,
        fd: c_int,
        events: c_int,
        callback: Option<WatchCallback>,
        data: *mut c_void,
    ) -> *mut Opaque = watch
}
export! { MQ_IOUnwatch, MQ_ioUnwatch(watcher: *mut Opaque) = unwatch }
export! {
    MQ_TimerStart, MQ_startTimer(
        context: *mut Opaque,
        timeout: f32,
        callback: Option<TimerCallback>,
        data: *mut c_void,
    ) -> *mut Opaque = start_timer
}
export! { MQ_TimerStop, MQ_stopTimer(timer: *mut Opaque) = stop_timer }
export! { MQ_TimerReset, MQ_resetTimer(timer: *mut Opaque, timeout: f32) = reset_timer }

fn go_on(function: &'static str, context: *mut Opaque) {
    access::hand_back(function, Wanted::Context, Verdict::Continue, context);
}

fn complete(function: &'static str, context: *mut Opaque) {
    access::hand_back(function, Wanted::Context, Verdict::Complete, context);
}

fn retry(function: &'static str, context: *mut Opaque) {
    access::hand_back(function, Wanted::Context, Verdict::Retry, context);
}

fn data(function: &'static str, context: *mut Opaque) -> *mut c_void {
    access::serve(function, Wanted::Context, context, ptr::null_mut(), |state, token| {
        Ok(state.context_data.value(token.plugin()))
    })
}

fn set_data(function: &'static str, context: *mut Opaque, value: *mut c_void) {
    access::serve(function, Wanted::Context, context, (), |state, token| {
        state.context_data.set(token.plugin(), value);
        Ok(())
    });
}

fn ev(function: &'static str, context: *mut Opaque) -> *mut Opaque {
    libev::ask(function, context)
}

fn watch(
    function: &'static str,
    context: *mut Opaque,
    fd: c_int,
    events: c_int,
    callback: Option<WatchCallback>,
    data: *mut c_void,
) -> *mut Opaque {
    access::serve(function, Wanted::Context, context, ptr::null_mut(), |state, token| {
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

fn unwatch(function: &'static str, watcher: *mut Opaque) {
    access::serve(function, Wanted::Watch, watcher, (), |state, token| state.unwatch(token));
}

fn start_timer(
    function: &'static str,
    context: *mut Opaque,
    timeout: f32,
    callback: Option<TimerCallback>,
    data: *mut c_void,
) -> *mut Opaque {
    access::serve(function, Wanted::Context, context, ptr::null_mut(), |state, token| {
        let callback = callback.ok_or(Misuse::Argument("callback is NULL"))?;
        let after_ms = timeout_ms(timeout).ok_or(Misuse::Argument("timeout is not a number"))?;
        let timer = Timer { plugin: token.plugin(), repeats: false, callback, data };
        state.start_timer(timer, after_ms).map(|token| token.to_pointer())
    })
}

fn stop_timer(function: &'static str, timer: *mut Opaque) {
    access::serve(function, Wanted::Timer, timer, (), |state, token| state.stop_timer(token));
}

fn reset_timer(function: &'static str, timer: *mut Opaque, timeout: f32) {
    access::serve(function, Wanted::Timer, timer, (), |state, token| {
        let after_ms = timeout_ms(timeout).ok_or(Misuse::Argument("timeout is not a number"))?;
        state.reset_timer(token, after_ms)
    });
}
