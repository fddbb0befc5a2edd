//! A step: what a hook is called for. Must never: outlive the call of its hook.
//!
//! Diagnostics: none.

use std::ops::Deref;
use std::rc::Rc;

use crate::connection::Connection;
use crate::context::Context;
use crate::edge;
use crate::failure::Failure;
use crate::ffi;
use crate::hold::Hold;
use crate::message::Message;
use crate::plugin::Plugin;

/// One event on one connection. It is the [`Connection`], too: what is answered there is the answer of
/// this step, and then no other plugin is asked.
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
        let (connection, worker) = (self.connection, Rc::clone(&self.worker));
        let hold = Hold::new(connection, self.message, self.context, worker, self.state())?;
        self.took_control = true;
        Ok(hold)
    }

    /// Passes over the other plugins in this step.
    pub fn complete(&mut self) {
        self.took_control = true;
        ffi::MQ_complete(self.connection.pointer());
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
