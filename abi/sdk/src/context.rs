//! A worker, and what can be asked of its loop. Must never: leave its thread.
//!
//! Diagnostics: a [`Failure`] where the server refuses, which is when this worker has no room for more.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::failure::Failure;
use crate::ffi::MqContext;
use crate::post::Remote;
use crate::timer::Timer;
use crate::watch::{Interest, Readiness, Watch};

/// The worker that a hook or callback runs on. A number, in fact, which stays valid as long as the worker:
/// closures may take it along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    pointer: *mut MqContext,
    _here: PhantomData<*mut ()>,
}

impl Context {
    pub(crate) fn new(pointer: *mut MqContext) -> Context {
        Context { pointer, _here: PhantomData }
    }

    pub(crate) fn pointer(self) -> *mut MqContext {
        self.pointer
    }

    /// The `MQ_Context *` of `mailerq.h`, for what this crate does not have; to be given to the server's
    /// functions, never to be read.
    pub fn as_raw(self) -> *mut c_void {
        self.pointer.cast()
    }

    /// Runs `callback` once, after `time`; not if the timer is dropped before.
    ///
    /// # Errors
    /// A million timers exist on this worker.
    pub fn timer(
        self,
        time: Duration,
        callback: impl FnOnce() + 'static,
    ) -> Result<Timer, Failure> {
        Timer::once(self, time, callback)
    }

    /// Runs `callback` after `first`, and then every `interval`, until the timer is dropped or it panics.
    ///
    /// # Errors
    /// A million timers exist on this worker, or `interval` is below a millisecond.
    pub fn repeat(
        self,
        first: Duration,
        interval: Duration,
        callback: impl FnMut() + 'static,
    ) -> Result<Timer, Failure> {
        Timer::repeat(self, first, interval, callback)
    }

    /// Runs `callback` whenever `descriptor` is ready, until the watch is dropped or it panics. Make the
    /// descriptor non-blocking: readiness is a hint.
    ///
    /// # Errors
    /// 65,536 watches exist on this worker.
    pub fn watch<F: AsFd + 'static>(
        self,
        descriptor: F,
        interest: Interest,
        callback: impl FnMut(&F, Readiness) + 'static,
    ) -> Result<Watch<F>, Failure> {
        Watch::new(self, descriptor, interest, callback)
    }

    /// The way back to this worker from other threads.
    pub fn remote(self) -> Remote {
        Remote::new(self)
    }
}
