//! Timers that end with their owner. Must never: run a closure after its timer was dropped.
//!
//! Diagnostics: a closure that panics is named in the log; a repeating one is stopped then.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::fmt;
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::edge::guarded;
use crate::failure::Failure;
use crate::ffi::{self, MqTimer};

/// A timer. Dropping it stops it; [`Timer::detach`] lets it fire without an owner.
#[must_use = "a timer that is dropped is stopped"]
pub struct Timer(Option<Rc<Shared>>);

struct Shared {
    /// NULL: it has fired, or was stopped. While it is not, the server has one of the counts.
    token: Cell<*mut MqTimer>,
    callback: RefCell<Option<Callback>>,
}

enum Callback {
    Once(Box<dyn FnOnce()>),
    Repeat(Box<dyn FnMut()>),
}

impl Timer {
    pub(crate) fn once(
        context: Context,
        time: Duration,
        callback: impl FnOnce() + 'static,
    ) -> Result<Timer, Failure> {
        Timer::start(Callback::Once(Box::new(callback)), |data| {
            // SAFETY: `data` is what `fire` takes; the callback gets it once.
            unsafe { ffi::MQ_startTimer(context.pointer(), time.as_secs_f32(), fire, data) }
        })
    }

    pub(crate) fn repeat(
        context: Context,
        first: Duration,
        interval: Duration,
        callback: impl FnMut() + 'static,
    ) -> Result<Timer, Failure> {
        let (first, interval) = (first.as_secs_f64(), interval.as_secs_f64());
        Timer::start(Callback::Repeat(Box::new(callback)), |data| {
            // SAFETY: `data` is what `fire_again` takes, until the timer is stopped.
            unsafe { ffi::MQX_repeat(context.pointer(), first, interval, fire_again, data) }
        })
    }

    fn start(
        callback: Callback,
        start: impl FnOnce(*mut c_void) -> *mut MqTimer,
    ) -> Result<Timer, Failure> {
        let callback = RefCell::new(Some(callback));
        let shared = Rc::new(Shared { token: Cell::new(ptr::null_mut()), callback });
        let data = Rc::into_raw(Rc::clone(&shared));
        let token = start(data.cast_mut().cast());
        if token.is_null() {
            // SAFETY: the count of `into_raw`, of which the server has made nothing.
            unsafe { Rc::decrement_strong_count(data) };
            return Err(Failure::new("the server refused a timer"));
        }
        shared.token.set(token);
        Ok(Timer(Some(shared)))
    }

    /// Gives a timer that has not fired a new time, from now.
    pub fn reset(&self, time: Duration) {
        if let Some(token) = self.token() {
            ffi::MQ_resetTimer(token, time.as_secs_f32());
        }
    }

    /// Will it fire?
    pub fn is_armed(&self) -> bool {
        self.token().is_some()
    }

    /// Lets it go on without an owner.
    pub fn detach(mut self) {
        self.0 = None;
    }

    fn token(&self) -> Option<*mut MqTimer> {
        let token = self.0.as_ref()?.token.get();
        (!token.is_null()).then_some(token)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.stop();
        }
    }
}

impl Shared {
    fn stop(self: &Rc<Self>) {
        let token = self.token.replace(ptr::null_mut());
        if token.is_null() {
            return;
        }
        ffi::MQ_stopTimer(token);
        // SAFETY: the server's count: a stopped timer is never called back, and the token was there, so
        // that nobody has given it back yet.
        unsafe { Rc::decrement_strong_count(Rc::as_ptr(self)) };
    }
}

extern "C" fn fire(data: *mut c_void) {
    // SAFETY: the count that `start` gave to the server, which calls a timer once.
    let shared = unsafe { Rc::from_raw(data.cast_const().cast::<Shared>()) };
    shared.token.set(ptr::null_mut());
    let callback = shared.callback.borrow_mut().take();
    match callback {
        Some(Callback::Once(callback)) => drop(guarded("a timer", callback)),
        // `start` is given `fire` for the other kind alone.
        Some(Callback::Repeat(_)) | None => {}
    }
}

extern "C" fn fire_again(data: *mut c_void) {
    let data = data.cast_const().cast::<Shared>();
    // SAFETY: the server has a count as long as it calls back.
    unsafe { Rc::increment_strong_count(data) };
    // SAFETY: the count of the line above: the closure may drop its timer.
    let shared = unsafe { Rc::from_raw(data) };
    let callback = shared.callback.borrow_mut().take();
    let Some(Callback::Repeat(mut callback)) = callback else { return };
    if guarded("a repeating timer", &mut callback).is_none() {
        shared.stop();
    }
    if shared.token.get().is_null() {
        // What it captured may panic when it goes.
        guarded("the end of a repeating timer", || drop(callback));
    } else {
        *shared.callback.borrow_mut() = Some(Callback::Repeat(callback));
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("armed", &self.is_armed()).finish()
    }
}
