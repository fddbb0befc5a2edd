//! A step: what a hook is called for. Must never: outlive the call of its hook.
//!
//! Diagnostics: a warning for a step that is held and completed.

use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use crate::connection::Connection;
use crate::context::Context;
use crate::edge;
use crate::failure::Failure;
use crate::ffi;
use crate::hold::Hold;
use crate::log;
use crate::message::Message;
use crate::plugin::Plugin;

/// One event on one connection, which it is, too. Once it is answered no other plugin is asked.
pub struct Step<'a, P: Plugin> {
    connection: Connection,
    message: Option<Message>,
    context: Context,
    worker: Rc<P::Worker>,
    took_control: bool,
    _call: std::marker::PhantomData<&'a mut ()>,
}

impl<P: Plugin> Step<'_, P> {
    pub(crate) fn new(
        connection: Connection,
        message: Option<Message>,
        context: Context,
        worker: Rc<P::Worker>,
    ) -> Self {
        let _call = std::marker::PhantomData;
        Step { connection, message, context, worker, took_control: false, _call }
    }

    pub(crate) fn took_control(&self) -> bool {
        self.took_control
    }

    /// The worker's loop: timers, watches, and the way back from other threads.
    pub fn context(&self) -> Context {
        self.context
    }

    /// The connection, to keep.
    pub fn connection(&self) -> Connection {
        self.connection
    }

    /// The state of the worker, as [`Plugin::worker`] made it.
    pub fn worker(&self) -> &Rc<P::Worker> {
        &self.worker
    }

    /// The state of the connection, made when it is first asked for; it goes with the connection, or with
    /// the last of these.
    pub fn state(&self) -> Rc<P::Connection> {
        edge::state::<P>(self.connection)
    }

    /// Lets the step wait, without holding up anything else, until the hold is released.
    ///
    /// # Errors
    /// It is held already, or the server has no room.
    pub fn hold(&mut self) -> Result<Hold<P>, Failure> {
        self.hold_within(None)
    }

    /// The same for this time at most, and never for longer than `plugin-timeout`: then the step has failed,
    /// and the hold is over.
    ///
    /// # Errors
    /// As [`Step::hold`].
    pub fn hold_for(&mut self, time: Duration) -> Result<Hold<P>, Failure> {
        self.hold_within(Some(time))
    }

    fn hold_within(&mut self, time: Option<Duration>) -> Result<Hold<P>, Failure> {
        if self.took_control {
            return Err(Failure::new("this step is held or handed back already"));
        }
        let (connection, worker) = (self.connection, Rc::clone(&self.worker));
        let hold = Hold::new(connection, self.message, self.context, time, worker, self.state())?;
        self.took_control = true;
        Ok(hold)
    }

    /// Passes over the other plugins in this step. One that is held is its hold's to hand back: then this
    /// does nothing but warn.
    pub fn complete(&mut self) {
        if self.took_control {
            log::warning("a step that is held was not completed: that is its hold's to say");
            return;
        }
        self.took_control = true;
        ffi::MQ_complete(self.connection.pointer());
    }

    // ---- Answers ----------------------------------------------------------------------------------

    /// Refuses what the step is about, for good: a code from 500 to 559, an enhanced status of class 5, and
    /// a text, whose lines become lines of the reply. 0 and "" stand for what is usual. False if the answer
    /// was not taken: the step has nothing to refuse, or code or status will not do.
    pub fn reject(&self, code: u16, status: &str, text: &str) -> bool {
        self.connection.reject(code, status, text)
    }

    /// The same for now: 400 to 459, class 4.
    pub fn defer(&self, code: u16, status: &str, text: &str) -> bool {
        self.connection.defer(code, status, text)
    }

    /// Answers as if all were well, and drops the mail; in `rcpt_to`, this recipient.
    pub fn discard(&self) -> bool {
        self.connection.discard()
    }

    /// Closes the connection after the reply to this step.
    pub fn disconnect(&self) -> bool {
        self.connection.disconnect()
    }

    /// This step failed; the server's `plugin-failure` decides. An `Err` of a hook does the same.
    pub fn fail(&self) -> bool {
        self.connection.fail()
    }

    /// Decides whether the client counts as authenticated; in the hook for logins, how that ends.
    pub fn set_authenticated(&self, authenticated: bool) {
        self.connection.set_authenticated(authenticated);
    }

    /// Appends raw octets to the connection's output, before the server's own reply; false if there is no
    /// room.
    pub fn send(&self, bytes: &[u8]) -> bool {
        self.connection.send(bytes)
    }
}

impl<P: Plugin> Deref for Step<'_, P> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl<P: Plugin> std::fmt::Debug for Step<'_, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step").field("connection", &self.connection).finish_non_exhaustive()
    }
}
