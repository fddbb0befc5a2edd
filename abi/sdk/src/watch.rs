//! Watches that own what they watch: it is unwatched before it is closed.
//!
//! Must never: run a closure after its watch was dropped. Diagnostics: a closure that panics is named in
//! the log, and its watch is over.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::rc::Rc;

use crate::context::Context;
use crate::edge::guarded;
use crate::failure::Failure;
use crate::ffi::{self, MqWatcher};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Until it can be read, or an end or error is there.
    Read,
    /// Until it can be written.
    Write,
    /// Either.
    Both,
    /// Nothing, for now.
    Rest,
}

impl Interest {
    const fn bits(self) -> c_int {
        match self {
            Interest::Read => ffi::READ,
            Interest::Write => ffi::WRITE,
            Interest::Both => ffi::READ | ffi::WRITE,
            Interest::Rest => 0,
        }
    }
}

/// What a descriptor is ready for. An error counts as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// It can be read.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
}

/// A watched descriptor. Dropping it unwatches and then closes it.
#[must_use = "a watch that is dropped is over"]
pub struct Watch<F: AsFd + 'static>(Rc<Shared<F>>);

type Callback<F> = Box<dyn FnMut(&F, Readiness)>;

struct Shared<F> {
    /// NULL: it is over. While it is not, the server has one of the counts.
    token: Cell<*mut MqWatcher>,
    callback: RefCell<Option<Callback<F>>>,
    descriptor: F,
}

impl<F: AsFd + 'static> Watch<F> {
    pub(crate) fn new(
        context: Context,
        descriptor: F,
        interest: Interest,
        callback: impl FnMut(&F, Readiness) + 'static,
    ) -> Result<Watch<F>, Failure> {
        // The server refuses a watch that begins with nothing to wait for.
        let first = if interest == Interest::Rest { Interest::Read } else { interest };
        let callback: Callback<F> = Box::new(callback);
        let shared = Rc::new(Shared {
            token: Cell::new(ptr::null_mut()),
            callback: RefCell::new(Some(callback)),
            descriptor,
        });
        let fd = shared.descriptor.as_fd().as_raw_fd();
        let data = Rc::into_raw(Rc::clone(&shared));
        let (context, pointer) = (context.pointer(), data.cast_mut().cast());
        // SAFETY: `data` is what `ready` takes, until the watch is over.
        let token = unsafe { ffi::MQ_ioWatch(context, fd, first.bits(), ready::<F>, pointer) };
        if token.is_null() {
            // SAFETY: the count of `into_raw`, of which the server has made nothing.
            unsafe { Rc::decrement_strong_count(data) };
            return Err(Failure::new("the server refused a watch"));
        }
        shared.token.set(token);
        let watch = Watch(shared);
        if first != interest {
            watch.set_interest(interest);
        }
        Ok(watch)
    }

    /// Waits for something else from now on.
    pub fn set_interest(&self, interest: Interest) {
        let token = self.0.token.get();
        if !token.is_null() {
            ffi::MQX_watchMask(token, interest.bits());
        }
    }

    /// What is watched.
    pub fn descriptor(&self) -> &F {
        &self.0.descriptor
    }
}

impl<F: AsFd + 'static> Drop for Watch<F> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl<F> Shared<F> {
    fn stop(self: &Rc<Self>) {
        let token = self.token.replace(ptr::null_mut());
        if token.is_null() {
            return;
        }
        ffi::MQ_ioUnwatch(token);
        // SAFETY: the server's count: what is unwatched is never called back, and the token was there, so
        // that nobody has given it back yet.
        unsafe { Rc::decrement_strong_count(Rc::as_ptr(self)) };
    }
}

extern "C" fn ready<F: AsFd + 'static>(
    _: *mut MqWatcher,
    _: c_int,
    events: c_int,
    data: *mut c_void,
) {
    let data = data.cast_const().cast::<Shared<F>>();
    // SAFETY: the server has a count as long as it calls back.
    unsafe { Rc::increment_strong_count(data) };
    // SAFETY: the count of the line above: the closure may drop its watch.
    let shared = unsafe { Rc::from_raw(data) };
    let readiness =
        Readiness { readable: events & ffi::READ != 0, writable: events & ffi::WRITE != 0 };
    let callback = shared.callback.borrow_mut().take();
    let Some(mut callback) = callback else { return };
    if guarded("a watch", || callback(&shared.descriptor, readiness)).is_none() {
        shared.stop();
    }
    // What is dropped here may panic when it goes.
    if shared.token.get().is_null() {
        guarded("the end of a watch", || drop(callback));
        guarded("the end of what was watched", || drop(shared));
    } else {
        *shared.callback.borrow_mut() = Some(callback);
    }
}

impl<F: AsFd + 'static> fmt::Debug for Watch<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fd = self.0.descriptor.as_fd().as_raw_fd();
        f.debug_struct("Watch").field("fd", &fd).finish_non_exhaustive()
    }
}
