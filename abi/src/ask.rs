//! Asking: one step shown to plugins in a row.
//!
//! Owns the way from a step to the hooks, and back to what became of it. It is on the way of all mail, for
//! every plugin that is interested in none: so a step is looked up once for all its plugins, and nothing is
//! looked up, borrowed or written after a hook that declines but the word of the watchdog. Must never hold the
//! cell while plugin code runs. Diagnostics: as the worker's.

use std::ffi::c_char;
use std::rc::Rc;

use crate::call;
use crate::callee::Callee;
use crate::hook::Hook;
use crate::id::ConnectionId;
use crate::plugin::PluginIndex;
use crate::state::{Connection, State};
use crate::step::{Returned, Step, Walked};
use crate::token::Name;
use crate::worker::Worker;

impl Worker {
    /// Asks the plugins of a connection one after the other, from a place in
    /// [`callees`](crate::PluginSet::callees) on, until one takes control or says something of its step, or all
    /// were asked. One that [`skips`](Worker::skips) it declines. `None`, and nobody is asked, if the connection
    /// is gone.
    ///
    /// # Panics
    /// When the connection is held, the message is not one of it, or the place is beyond the last: all are
    /// bugs of the caller.
    #[inline]
    pub fn ask(
        &mut self,
        connection: ConnectionId,
        from: usize,
        step: &Step<'_>,
    ) -> Option<Walked> {
        // Each step has a loop of its own, into which only what it shows is carried: what one loop for all of
        // them carries costs as much as the rest of a call.
        macro_rules! ask {
            ($hook:ident) => {
                self.ask_in_turn::<{ Hook::$hook as u8 }>(connection, from, step)
            };
        }
        match step {
            Step::Connect => ask!(Connect),
            Step::Secure => ask!(Secure),
            Step::Authenticate { .. } => ask!(Authenticate),
            Step::MailFrom(_) => ask!(MailFrom),
            Step::RcptTo(_) => ask!(RcptTo),
            Step::Data(_) => ask!(Data),
            Step::Message(_) => ask!(Message),
            Step::Close => ask!(Close),
            Step::OutData(_) => ask!(OutData),
            Step::OutSent(_) => ask!(OutSent),
            Step::Helo(_) => ask!(Helo),
            Step::Reset => ask!(Reset),
            Step::OutConnect => ask!(OutConnect),
            Step::OutSecure => ask!(OutSecure),
            Step::OutMessage(_) => ask!(OutMessage),
            Step::OutResult { .. } => ask!(OutResult),
            Step::OutClose => ask!(OutClose),
        }
    }

    /// The same of these, which are callees of the step's hook and not all that the connection has.
    ///
    /// # Panics
    /// When the connection is held, or the message is not one of it.
    pub fn ask_these(
        &mut self,
        callees: &[Callee],
        connection: ConnectionId,
        step: &Step<'_>,
    ) -> Option<Walked> {
        let owing = self.with_asked(connection, step, |asked| asked.chain.owes_any())?;
        Some(match owing && !step.is_last() {
            true => self.ask_some(callees, connection, step),
            false => self.ask_row(callees, connection, step, |_| false),
        })
    }

    /// Asks one plugin; without this hook, it declines.
    ///
    /// # Panics
    /// As [`ask_these`](Worker::ask_these), and when the connection is gone.
    pub fn call(
        &mut self,
        plugin: PluginIndex,
        connection: ConnectionId,
        step: Step<'_>,
    ) -> Returned {
        let callee = Callee::new(self.host.plugins().plugin(plugin), step.hook());
        let walked = self.ask_these(callee.as_slice(), connection, &step);
        walked.expect("hooks are called for open connections").returned.unwrap_or_default()
    }

    /// The loop of the step that calls `HOOK`.
    #[inline(never)]
    fn ask_in_turn<const HOOK: u8>(
        &self,
        connection: ConnectionId,
        from: usize,
        step: &Step<'_>,
    ) -> Option<Walked> {
        if step.hook() as u8 != HOOK {
            unreachable!("each step has one hook");
        }
        let look = |asked: &Connection| (Rc::clone(&asked.set), asked.chain.owes_any());
        let (set, owing) = self.with_asked(connection, step, look)?;
        let callees = &set.callees(step.hook())[from..];
        if owing && !step.is_last() {
            return Some(self.ask_some(callees, connection, step));
        }
        Some(self.ask_row(callees, connection, step, |_| false))
    }

    /// The same where plugins are to be passed over. What they owe can only become less while hooks run:
    /// nothing is revoked meanwhile.
    #[cold]
    #[inline(never)]
    fn ask_some(&self, callees: &[Callee], connection: ConnectionId, step: &Step<'_>) -> Walked {
        self.ask_row(callees, connection, step, |plugin| self.skips(plugin, connection))
    }

    #[inline(always)]
    fn ask_row(
        &self,
        callees: &[Callee],
        connection: ConnectionId,
        step: &Step<'_>,
        skips: impl Fn(PluginIndex) -> bool,
    ) -> Walked {
        let name = Name::new(self.index, connection.0);
        let message = step.message().map_or(name, |message| Name::new(self.index, message.0));
        // The same for all of them.
        let mut shown: Option<*const c_char> = None;
        let mut rest = callees.iter();
        self.asked.begin(name.step_bits());
        let stopped = call::in_a_row(self.word, |row| {
            for callee in rest.by_ref() {
                if skips(callee.plugin()) {
                    continue;
                }
                let took_control = callee.call(row, name, message, step, |text| {
                    let show = || self.state.borrow_mut().show_address(connection, text);
                    *shown.get_or_insert_with(show)
                });
                // Both at once: neither is ever so.
                if took_control | self.asked.is_told() {
                    return Some(took_control);
                }
            }
            None
        });
        let told = self.asked.is_told();
        self.asked.end();
        // No set has more plugins than tokens can name.
        let asked = (callees.len() - rest.len()) as u16;
        match stopped {
            None => Walked { declined: asked, returned: None },
            Some(took_control) => {
                let plugin = callees[usize::from(asked) - 1].plugin();
                let returned = self.took(plugin, connection, step.hook(), took_control, told);
                Walked { declined: asked - 1, returned: Some(returned) }
            }
        }
    }

    /// The one look-up of a step; `None` if its connection is gone.
    #[inline(always)]
    fn with_asked<T>(
        &self,
        connection: ConnectionId,
        step: &Step<'_>,
        look: impl FnOnce(&Connection) -> T,
    ) -> Option<T> {
        // SAFETY: what is borrowed here is let go of at the end of this function, which calls nobody that
        // could borrow the cell: `look` looks at the connection alone.
        let state = unsafe { self.state.try_borrow_unguarded() };
        let state: &State = state.expect("no cell is borrowed while plugins are asked");
        let asked = state.connections.get(connection.0)?;
        asked.chain.expect_free();
        if let Some(message) = step.message() {
            let owner = state.messages.get(message.0).map(|message| message.connection);
            let fits = owner == Some(connection);
            assert!(fits, "a step shows an open message of its connection");
        }
        Some(look(asked))
    }

    /// A hook returned true, or said something of its step before it returned. Not on the way of mail that
    /// no plugin is interested in.
    #[inline(never)]
    fn took(
        &self,
        plugin: PluginIndex,
        connection: ConnectionId,
        hook: Hook,
        took_control: bool,
        told: bool,
    ) -> Returned {
        let (holds, verdict, answered) = {
            let state = &mut *self.state.borrow_mut();
            let connection = state.connections.get_mut(connection.0);
            let connection = connection.expect("only the worker closes a connection");
            if !told {
                connection.on_call(plugin, hook);
            }
            connection.on_return(took_control)
        };
        if holds && !took_control {
            self.warn_hold_then_false(plugin);
        }
        let returned = self.returned(plugin, took_control || holds, verdict);
        Returned { answered, ..returned }
    }
}
