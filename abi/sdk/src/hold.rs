//! Holds: steps that wait for a plugin. Must never: end without a verdict and without a word, or answer a
//! step that is over.
//!
//! A hold that is dropped fails its step; one that the server took back (`plugin-timeout`, its stop) is
//! over, and does nothing any more. A step goes on only if the failure was noted: else the server takes it
//! back.
//!
//! Diagnostics: a warning where a hold is dropped without a verdict.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ffi::{c_double, c_int, c_void};
use std::fmt;
use std::ptr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::connection::Connection;
use crate::context::Context;
use crate::edge::guarded;
use crate::failure::Failure;
use crate::ffi::{self, MqHold};
use crate::log;
use crate::message::Message;
use crate::plugin::Plugin;
use crate::post::Remote;

/// How a step is handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next plugin is asked, then the server goes on.
    Continue,
    /// The other plugins are passed over.
    Complete,
    /// The step begins again at the first plugin.
    Retry,
}

impl Verdict {
    const fn number(self) -> c_int {
        match self {
            Verdict::Continue => 0,
            Verdict::Complete => 1,
            Verdict::Retry => 2,
        }
    }
}

/// A step that waits for this plugin: answer it, then hand it back. Once it is over, as after
/// `plugin-timeout`, answers do nothing and return false: the connection may be at another step by then.
#[must_use = "a step that is held and dropped has failed"]
pub struct Hold<P: Plugin> {
    lease: Rc<Lease>,
    connection: Connection,
    message: Option<Message>,
    context: Context,
    worker: Rc<P::Worker>,
    state: Rc<P::Connection>,
}

/// The shortest time that the server knows.
const SECONDS_MIN: c_double = 0.001;

struct Lease {
    /// NULL: it is over. While it is not, the server has one of the counts.
    token: Cell<*mut MqHold>,
}

impl Lease {
    fn release(self: &Rc<Self>, verdict: Verdict) -> bool {
        let token = self.token.replace(ptr::null_mut());
        if token.is_null() {
            return false;
        }
        let released = ffi::MQX_release(token, verdict.number()) != 0;
        if released {
            // SAFETY: the server's count: `expired` is not called for what was released here.
            unsafe { Rc::decrement_strong_count(Rc::as_ptr(self)) };
        }
        released
    }
}

/// The server takes the step back, and lets it fail.
extern "C" fn expired(_: *mut MqHold, data: *mut c_void) {
    // SAFETY: the count that `Hold::new` gave to the server, which calls this once, and never for a hold
    // that was released.
    let lease = unsafe { Rc::from_raw(data.cast_const().cast::<Lease>()) };
    lease.token.set(ptr::null_mut());
}

impl<P: Plugin> Hold<P> {
    /// Within the hook of the step. Without a `timeout`, `plugin-timeout` alone counts.
    pub(crate) fn new(
        connection: Connection,
        message: Option<Message>,
        context: Context,
        timeout: Option<Duration>,
        worker: Rc<P::Worker>,
        state: Rc<P::Connection>,
    ) -> Result<Hold<P>, Failure> {
        // 0 would be no limit.
        let timeout: c_double = timeout.map_or(0.0, |time| time.as_secs_f64().max(SECONDS_MIN));
        let lease = Rc::new(Lease { token: Cell::new(ptr::null_mut()) });
        let data = Rc::into_raw(Rc::clone(&lease));
        let (pointer, given) = (connection.pointer(), data.cast_mut().cast());
        // SAFETY: `data` is what `expired` takes, once.
        let token = unsafe { ffi::MQX_hold(pointer, timeout, expired, given) };
        if token.is_null() {
            // SAFETY: the count of `into_raw`, of which the server has made nothing.
            unsafe { Rc::decrement_strong_count(data) };
            return Err(Failure::new("the server refused to let a step be held"));
        }
        lease.token.set(token);
        Ok(Hold { lease, connection, message, context, worker, state })
    }

    /// Hands the step back. False if the server has taken it back before.
    pub fn release(self, verdict: Verdict) -> bool {
        self.lease.release(verdict)
    }

    /// [`Verdict::Continue`].
    pub fn proceed(self) -> bool {
        self.release(Verdict::Continue)
    }

    /// Fails the step and hands it back.
    pub fn fail_with(self, failure: &Failure) {
        log::warning(failure);
        self.end_in_failure();
    }

    fn end_in_failure(&self) {
        // Where the failure is refused, the step must not go on as if nothing had been: it is taken back.
        if self.is_live() && self.connection.fail() {
            self.lease.release(Verdict::Continue);
        }
    }

    /// Does the step wait still?
    pub fn is_live(&self) -> bool {
        !self.lease.token.get().is_null()
    }

    /// What is known of the connection.
    pub fn connection(&self) -> Connection {
        self.connection
    }

    /// The message of the step, if it is about one and waits still.
    pub fn message(&self) -> Option<Message> {
        self.message.filter(|_| self.is_live())
    }

    // ---- Answers: false when it is over -----------------------------------------------------------

    /// As [`Step::reject`](crate::Step::reject).
    pub fn reject(&self, code: u16, status: &str, text: &str) -> bool {
        self.is_live() && self.connection.reject(code, status, text)
    }

    /// As [`Step::defer`](crate::Step::defer).
    pub fn defer(&self, code: u16, status: &str, text: &str) -> bool {
        self.is_live() && self.connection.defer(code, status, text)
    }

    /// As [`Step::discard`](crate::Step::discard).
    pub fn discard(&self) -> bool {
        self.is_live() && self.connection.discard()
    }

    /// As [`Step::disconnect`](crate::Step::disconnect).
    pub fn disconnect(&self) -> bool {
        self.is_live() && self.connection.disconnect()
    }

    /// As [`Step::fail`](crate::Step::fail); the step waits until it is handed back.
    pub fn fail(&self) -> bool {
        self.is_live() && self.connection.fail()
    }

    /// As [`Step::set_authenticated`](crate::Step::set_authenticated).
    pub fn set_authenticated(&self, authenticated: bool) -> bool {
        let live = self.is_live();
        if live {
            self.connection.set_authenticated(authenticated);
        }
        live
    }

    /// As [`Step::send`](crate::Step::send).
    pub fn send(&self, bytes: &[u8]) -> bool {
        self.is_live() && self.connection.send(bytes)
    }

    /// The worker's loop.
    pub fn context(&self) -> Context {
        self.context
    }

    /// The state of the worker.
    pub fn worker(&self) -> &Rc<P::Worker> {
        &self.worker
    }

    /// The state of the connection.
    pub fn state(&self) -> &Rc<P::Connection> {
        &self.state
    }

    /// The same for other threads: the hold waits on its worker until something is posted for it.
    pub fn remote(self) -> RemoteHold<P> {
        let remote = self.context.remote();
        let number = PARKED.with_borrow_mut(|parked| parked.park(Box::new(self)));
        let returns = RETURNS.with(Arc::clone);
        RemoteHold { remote, returns, number, done: false, _of: std::marker::PhantomData }
    }
}

impl<P: Plugin> Drop for Hold<P> {
    fn drop(&mut self) {
        if self.is_live() {
            if !std::thread::panicking() {
                log::warning("a held step was dropped without a verdict, and fails");
            }
            self.end_in_failure();
        }
    }
}

/// Holds that belong to other threads, by number.
#[derive(Default)]
struct Parked {
    next: u64,
    holds: HashMap<u64, Box<dyn std::any::Any>>,
}

impl Parked {
    fn park(&mut self, hold: Box<dyn std::any::Any>) -> u64 {
        self.next += 1;
        self.holds.insert(self.next, hold);
        self.next
    }
}

/// What other threads have decided about the holds of one worker: one at most for each that is parked.
#[derive(Default)]
struct Returns(Mutex<VecDeque<Box<dyn FnOnce() + Send>>>);

impl Returns {
    fn with<T>(&self, f: impl FnOnce(&mut VecDeque<Box<dyn FnOnce() + Send>>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

thread_local! {
    static PARKED: RefCell<Parked> = RefCell::default();
    static RETURNS: Arc<Returns> = Arc::default();
}

/// Carries out what other threads have decided. After each closure that was posted: where a decision found
/// no room to be posted itself, there was one behind which it comes.
pub(crate) fn take_returns() {
    let returns = RETURNS.with(Arc::clone);
    while let Some(decision) = returns.with(VecDeque::pop_front) {
        guarded("the hand-back of another thread", decision);
    }
}

/// A step that waits for another thread. Dropped without a verdict it fails, as a [`Hold`] does.
#[must_use = "a step that is held and dropped has failed"]
pub struct RemoteHold<P: Plugin> {
    remote: Remote,
    returns: Arc<Returns>,
    number: u64,
    done: bool,
    _of: std::marker::PhantomData<fn() -> P>,
}

impl<P: Plugin> RemoteHold<P> {
    /// Hands the step back.
    pub fn release(self, verdict: Verdict) {
        self.finish(move |hold| {
            hold.release(verdict);
        });
    }

    /// Gives the hold to `finish`, on its worker: there it can be answered and handed back.
    pub fn finish(mut self, finish: impl FnOnce(Hold<P>) + Send + 'static) {
        self.done = true;
        self.post(finish);
    }

    fn post(&self, finish: impl FnOnce(Hold<P>) + Send + 'static) {
        let number = self.number;
        let decision = move || {
            let hold = PARKED.with_borrow_mut(|parked| parked.holds.remove(&number));
            if let Some(Ok(hold)) = hold.map(|hold| hold.downcast::<Hold<P>>()) {
                finish(*hold);
            }
        };
        self.returns.with(|returns| returns.push_back(Box::new(decision)));
        // Refused, it has 65,536 before it, the last of which takes the decision along; or the worker has
        // ended, and taken the step back.
        self.remote.post(|_| {});
    }
}

impl<P: Plugin> Drop for RemoteHold<P> {
    fn drop(&mut self) {
        if !self.done {
            self.post(drop);
        }
    }
}

impl<P: Plugin> fmt::Debug for Hold<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("live", &self.is_live()).finish_non_exhaustive()
    }
}

impl<P: Plugin> fmt::Debug for RemoteHold<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHold").field("number", &self.number).finish_non_exhaustive()
    }
}
