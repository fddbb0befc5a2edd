//! Callees: hooks of plugins, ready to be called in a step.
//!
//! Owns what is the same in every step: the function under the prototype that it has in its plugin's
//! generation, and the plugin's bits in tokens and in the word of the watchdog. All of it is found when a set is
//! made, so that a call looks nothing up. Must never call but from within a [`Row`], which keeps the current
//! call and stops exceptions. Diagnostics: none; a function that cannot be what a step calls declines.

use std::ffi::{c_char, c_int};

use crate::call::{Call, Row};
use crate::generation::Generation;
use crate::hook::{Hook, Site};
use crate::hooks::Function;
use crate::plugin::{Plugin, PluginIndex};
use crate::step::Step;
use crate::token::{ContextForm, Form, Kind, Name};

/// A hook of a step, of one plugin.
#[derive(Clone, Copy, Debug)]
pub struct Callee {
    function: Function,
    context: ContextForm,
    connection: Form,
    message: Form,
    call: Call,
}

impl Callee {
    /// `None` for a hook that the plugin does not export, or that is not one of a step.
    pub(crate) fn new(plugin: &Plugin, hook: Hook) -> Option<Callee> {
        let index = plugin.index;
        let context = match plugin.generation {
            // G1 hands back with it (D-10), later ones have one per worker (D-12).
            Generation::G1 => ContextForm::of_step(index),
            Generation::G2 | Generation::G3 => ContextForm::bare(index),
        };
        Some(Callee {
            function: plugin.hooks.function(hook)?,
            context,
            connection: Form::new(Kind::Connection, index),
            message: Form::new(Kind::Message, index),
            call: Call::new(index, Site::Hook(hook)),
        })
    }

    /// Whose hook it is.
    pub fn plugin(&self) -> PluginIndex {
        self.connection.plugin()
    }

    /// Did the plugin take control? `message` is the name of the one that the step shows, if it shows one;
    /// `address` shows the address of an address step, where G2 and later are called.
    // Inlined into a loop per step, in which only what that step shows is left.
    #[inline(always)]
    pub(crate) fn call(
        &self,
        row: &mut Row<'_>,
        name: Name,
        message: Name,
        step: &Step<'_>,
        address: impl FnOnce(&[u8]) -> *const c_char,
    ) -> bool {
        let context = self.context.of(name).to_pointer();
        let connection = self.connection.of(name).to_pointer();
        let message = self.message.of(message).to_pointer();
        macro_rules! call {
            ($function:expr $(, $argument:expr)*) => {
                row.call(self.call, || {
                    // SAFETY: resolved under the name whose prototype of this generation this is; tokens are
                    // never dereferenced, texts are borrowed for the call and end in a zero byte.
                    unsafe { $function(context, connection $(, $argument)*) }
                })
            };
        }
        let returned = match (step, self.function) {
            (
                Step::Connect
                | Step::Secure
                | Step::Close
                | Step::Reset
                | Step::OutConnect
                | Step::OutSecure
                | Step::OutClose,
                Function::Connection(function),
            ) => call!(function),
            (
                Step::Data(text) | Step::Helo(text) | Step::MailFrom(text) | Step::RcptTo(text),
                Function::Text(function),
            ) => call!(function, text.as_ptr(), text.size()),
            (Step::MailFrom(text) | Step::RcptTo(text), Function::Address(function)) => {
                let address = address(text.as_bytes());
                call!(function, address)
            }
            (
                Step::Message(_) | Step::OutMessage(_) | Step::OutData(_) | Step::OutSent(_),
                Function::Message(function),
            ) => call!(function, message),
            (Step::OutResult { message: _, code, text }, Function::Result(function)) => {
                call!(function, message, c_int::from(*code), text.as_ptr(), text.size())
            }
            (Step::Authenticate { login, password }, Function::Login(function)) => {
                call!(function, login.as_ptr(), login.size(), password.as_ptr(), password.size())
            }
            (_, _) => 0,
        };
        returned != 0
    }
}
