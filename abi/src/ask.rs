//! Asking: one step shown to plugins in a row.
//!
//! Owns the way from a step to the hooks, and back to what became of it. It is on the way of all mail, for
//! every plugin that is interested in none: so a step is looked up once for all its plugins, and nothing is
//! looked up, borrowed or written after a hook that declines. Must never hold the cell while plugin code
//! runs. Diagnostics: as the worker's.

use std::ffi::c_char;

use crate::hook::Hook;
use crate::id::ConnectionId;
use crate::plugin::PluginIndex;
use crate::step::{Returned, Step, Walked};
use crate::token::StepName;
use crate::worker::Worker;

impl Worker {
    /// Asks plugins one after the other, until one takes control or says something of its step, or all were
    /// asked. One without this hook, or one that [`skips`](Worker::skips) it, declines.
    ///
    /// # Panics
    /// When the connection is gone or held, or the message is not one of it: both are bugs of the caller.
    #[inline]
    pub fn ask(
        &mut self,
        plugins: &[PluginIndex],
        connection: ConnectionId,
        step: Step<'_>,
    ) -> Walked {
        // Each step has a loop of its own, into which only what it shows is carried: what one loop for all of
        // them carries costs as much as the rest of a call.
        macro_rules! ask {
            ($hook:ident) => {
                self.ask_in_turn::<{ Hook::$hook as u8 }>(plugins, connection, &step)
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

    /// As [`ask`](Worker::ask), for one plugin.
    ///
    /// # Panics
    /// As [`ask`](Worker::ask).
    pub fn call(
        &mut self,
        plugin: PluginIndex,
        connection: ConnectionId,
        step: Step<'_>,
    ) -> Returned {
        self.ask(&[plugin], connection, step).returned.unwrap_or_default()
    }

    /// The loop of the step that calls `HOOK`.
    // By reference: a copy would be made with loads wider than the stores before them, for which a processor
    // waits longer than all the rest takes.
    #[inline(never)]
    fn ask_in_turn<const HOOK: u8>(
        &self,
        plugins: &[PluginIndex],
        connection: ConnectionId,
        step: &Step<'_>,
    ) -> Walked {
        if step.hook() as u8 != HOOK {
            unreachable!("each step has one hook");
        }
        let (name, owing) = self.look_up(connection, step);
        if owing && !step.is_last() {
            return self.ask_some(plugins, connection, step, name);
        }
        let (mut declined, mut shown) = (0, None);
        for &plugin in plugins {
            let returned = self.ask_one(plugin, connection, step, name, &mut shown);
            if returned.is_some() {
                return Walked { declined, returned };
            }
            declined += 1;
        }
        Walked { declined, returned: None }
    }

    /// The same where plugins are to be passed over. What they owe can only become less while hooks run:
    /// nothing is revoked meanwhile.
    #[cold]
    #[inline(never)]
    fn ask_some(
        &self,
        plugins: &[PluginIndex],
        connection: ConnectionId,
        step: &Step<'_>,
        name: StepName,
    ) -> Walked {
        let (mut declined, mut shown) = (0, None);
        for &plugin in plugins {
            if !self.skips(plugin, connection) {
                let returned = self.ask_one(plugin, connection, step, name, &mut shown);
                if returned.is_some() {
                    return Walked { declined, returned };
                }
            }
            declined += 1;
        }
        Walked { declined, returned: None }
    }

    /// The one look-up of a step: its name, and whether any plugin owes a hand-back (D-28).
    #[inline(always)]
    fn look_up(&self, connection: ConnectionId, step: &Step<'_>) -> (StepName, bool) {
        // SAFETY: what is borrowed here is let go of at the end of this function, which calls nobody that
        // could borrow the cell.
        let state = unsafe { self.state.try_borrow_unguarded() };
        let state = state.expect("no cell is borrowed while plugins are asked");
        let callee = state.connections.get(connection.0);
        let chain = &callee.expect("hooks are called for open connections").chain;
        chain.expect_free();
        if let Some(message) = step.message() {
            let owner = state.messages.get(message.0).map(|message| message.connection);
            let fits = owner == Some(connection);
            assert!(fits, "a step shows an open message of its connection");
        }
        (StepName::new(self.index, connection.0), chain.owes_any())
    }

    #[inline(always)]
    fn ask_one(
        &self,
        plugin: PluginIndex,
        connection: ConnectionId,
        step: &Step<'_>,
        name: StepName,
        shown: &mut Option<*const c_char>,
    ) -> Option<Returned> {
        let context = name.shown_to(plugin);
        self.asked.begin(context);
        let hooks = &self.host.plugins().plugin(plugin).hooks;
        let took_control = hooks.call_step(self.word, plugin, step, context, |text| {
            // The same for all of them.
            let show = || self.state.borrow_mut().show_address(connection, text);
            *shown.get_or_insert_with(show)
        });
        let told = self.asked.end();
        if took_control || told {
            return Some(self.took(plugin, connection, step.hook(), took_control, told));
        }
        None
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
