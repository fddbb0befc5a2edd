//! Hooks under their own prototypes: those of each generation, and the extensions.
//!
//! Owns the typed pointers, and the calls through those that are not hooks of a step; for these see
//! `callee`. Must never decide whether a hook is called, nor call one outside of `call`, which keeps the current call and stops exceptions.
//! Diagnostics: none; a hook that the plugin does not export answers as one that returns false.

use std::ffi::{c_char, c_int};

use libloading::os::unix::Library;

use crate::call::{self, Call, Word};
use crate::generation::Generation;
use crate::hook::{Hook, Site};
use crate::plugin::PluginIndex;
use crate::token::{Opaque, Token};

// Results are integers: a plain C plugin may return what is no Rust `bool` (D-0F).
type VersionHook = unsafe extern "C-unwind" fn() -> c_int;
type ProcessHook = unsafe extern "C-unwind" fn();
type PluginHook = unsafe extern "C-unwind" fn(*mut Opaque) -> u8;
type ContextHook = unsafe extern "C-unwind" fn(*mut Opaque) -> u8;
type ContextNotice = unsafe extern "C-unwind" fn(*mut Opaque);
pub(crate) type ConnectionHook = unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque) -> u8;
type ConnectionNotice = unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque);
pub(crate) type TextHook =
    unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque, *const c_char, usize) -> u8;
pub(crate) type AddressHook =
    unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque, *const c_char) -> u8;
pub(crate) type MessageHook =
    unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque, *mut Opaque) -> u8;
pub(crate) type ResultHook = unsafe extern "C-unwind" fn(
    *mut Opaque,
    *mut Opaque,
    *mut Opaque,
    c_int,
    *const c_char,
    usize,
) -> u8;
pub(crate) type LoginHook = unsafe extern "C-unwind" fn(
    *mut Opaque,
    *mut Opaque,
    *const c_char,
    usize,
    *const c_char,
    usize,
) -> u8;

/// A hook of a step, under its prototype.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Function {
    /// Context and connection.
    Connection(ConnectionHook),
    /// These and a text.
    Text(TextHook),
    /// These and an address.
    Address(AddressHook),
    /// These and a message.
    Message(MessageHook),
    /// These, a message, a code and a text.
    Result(ResultHook),
    /// These, a login and a password.
    Login(LoginHook),
}

/// The hooks whose prototypes the generations do not share.
#[derive(Debug)]
enum Own {
    First {
        context_initialize: Option<ContextHook>,
        context_cleanup: Option<ContextHook>,
        mail_from: Option<TextHook>,
        rcpt_to: Option<TextHook>,
    },
    Later {
        context_initialize: Option<ContextNotice>,
        context_cleanup: Option<ContextNotice>,
        mail_from: Option<AddressHook>,
        rcpt_to: Option<AddressHook>,
        out_sent: Option<MessageHook>,
    },
}

/// What a plugin exports. `mq_version` is called before the generation is known, see [`ask_version`].
#[derive(Debug)]
pub(crate) struct Hooks {
    own: Own,
    initialize: Option<ProcessHook>,
    cleanup: Option<ProcessHook>,
    connect: Option<ConnectionHook>,
    secure: Option<ConnectionHook>,
    authenticate: Option<LoginHook>,
    data: Option<TextHook>,
    message: Option<MessageHook>,
    close: Option<ConnectionHook>,
    out_data: Option<MessageHook>,
    helo: Option<TextHook>,
    reset: Option<ConnectionHook>,
    lost: Option<ConnectionNotice>,
    out_connect: Option<ConnectionHook>,
    out_secure: Option<ConnectionHook>,
    out_message: Option<MessageHook>,
    out_result: Option<ResultHook>,
    out_close: Option<ConnectionHook>,
    plugin_initialize: Option<PluginHook>,
    reload: Option<ContextNotice>,
}

/// Looks a hook up in the plugin and what it was linked with.
///
/// # Safety
/// `F` is a function pointer of the prototype that the header gives `hook`, and `library` stays loaded.
unsafe fn resolve<F: Copy>(library: &Library, hook: Hook) -> Option<F> {
    // SAFETY: the type is the caller's promise; the library is never unloaded.
    unsafe { library.get::<F>(hook.symbol().to_bytes_with_nul()) }.ok().map(|symbol| *symbol)
}

/// Calls `mq_version`, whose prototype all generations share; `None` if it is missing.
pub(crate) fn ask_version(library: &Library, plugin: PluginIndex, name: &str) -> Option<c_int> {
    // SAFETY: this is `mq_version`'s prototype in the header of every generation.
    let version = unsafe { resolve::<VersionHook>(library, Hook::Version) }?;
    let site = Site::Hook(Hook::Version);
    // SAFETY: a plugin's `mq_version` takes nothing and may be called at any time.
    Some(call::loading_code(plugin, name, site, || unsafe { version() }))
}

impl Hooks {
    /// Resolves every hook once.
    ///
    /// # Safety
    /// The library was compiled for this generation, and it stays loaded.
    pub(crate) unsafe fn resolve(library: &Library, generation: Generation) -> Hooks {
        macro_rules! hook {
            ($hook:ident) => {
                // SAFETY: the field's type is the prototype that the header of this generation gives
                // this hook.
                unsafe { resolve(library, Hook::$hook) }
            };
        }
        let own = match generation {
            Generation::G1 => Own::First {
                context_initialize: hook!(ContextInitialize),
                context_cleanup: hook!(ContextCleanup),
                mail_from: hook!(MailFrom),
                rcpt_to: hook!(RcptTo),
            },
            Generation::G2 | Generation::G3 => Own::Later {
                context_initialize: hook!(ContextInitialize),
                context_cleanup: hook!(ContextCleanup),
                mail_from: hook!(MailFrom),
                rcpt_to: hook!(RcptTo),
                out_sent: hook!(OutSent),
            },
        };
        Hooks {
            own,
            initialize: hook!(Initialize),
            cleanup: hook!(Cleanup),
            connect: hook!(Connect),
            secure: hook!(Secure),
            authenticate: hook!(Authenticate),
            data: hook!(Data),
            message: hook!(Message),
            close: hook!(Close),
            out_data: hook!(OutData),
            helo: hook!(Helo),
            reset: hook!(Reset),
            lost: hook!(Lost),
            out_connect: hook!(OutConnect),
            out_secure: hook!(OutSecure),
            out_message: hook!(OutMessage),
            out_result: hook!(OutResult),
            out_close: hook!(OutClose),
            plugin_initialize: hook!(PluginInitialize),
            reload: hook!(Reload),
        }
    }

    pub(crate) fn exports(&self, hook: Hook) -> bool {
        match hook {
            Hook::Version => true,
            Hook::Initialize => self.initialize.is_some(),
            Hook::Cleanup => self.cleanup.is_some(),
            Hook::ContextInitialize | Hook::ContextCleanup => self.own.exports(hook),
            Hook::Lost => self.lost.is_some(),
            Hook::PluginInitialize => self.plugin_initialize.is_some(),
            Hook::Reload => self.reload.is_some(),
            Hook::Connect
            | Hook::Secure
            | Hook::Authenticate
            | Hook::MailFrom
            | Hook::RcptTo
            | Hook::Data
            | Hook::Message
            | Hook::Close
            | Hook::OutData
            | Hook::OutSent
            | Hook::Helo
            | Hook::Reset
            | Hook::OutConnect
            | Hook::OutSecure
            | Hook::OutMessage
            | Hook::OutResult
            | Hook::OutClose => self.function(hook).is_some(),
        }
    }

    /// A hook of a step, if the plugin exports it.
    pub(crate) fn function(&self, hook: Hook) -> Option<Function> {
        match hook {
            Hook::Connect => self.connect.map(Function::Connection),
            Hook::Secure => self.secure.map(Function::Connection),
            Hook::Authenticate => self.authenticate.map(Function::Login),
            Hook::MailFrom | Hook::RcptTo | Hook::OutSent => self.own.function(hook),
            Hook::Data => self.data.map(Function::Text),
            Hook::Message => self.message.map(Function::Message),
            Hook::Close => self.close.map(Function::Connection),
            Hook::OutData => self.out_data.map(Function::Message),
            Hook::Helo => self.helo.map(Function::Text),
            Hook::Reset => self.reset.map(Function::Connection),
            Hook::OutConnect => self.out_connect.map(Function::Connection),
            Hook::OutSecure => self.out_secure.map(Function::Connection),
            Hook::OutMessage => self.out_message.map(Function::Message),
            Hook::OutResult => self.out_result.map(Function::Result),
            Hook::OutClose => self.out_close.map(Function::Connection),
            Hook::Version
            | Hook::Initialize
            | Hook::Cleanup
            | Hook::ContextInitialize
            | Hook::ContextCleanup
            | Hook::Lost
            | Hook::PluginInitialize
            | Hook::Reload => None,
        }
    }

    /// `mq_initialize` or `mq_cleanup`; any other hook is not one of the process and calls nothing.
    pub(crate) fn call_process(&self, plugin: PluginIndex, hook: Hook) {
        let function = match hook {
            Hook::Initialize => self.initialize,
            Hook::Cleanup => self.cleanup,
            _ => None,
        };
        if let Some(function) = function {
            // SAFETY: resolved under the name whose prototype this is; it takes nothing.
            call::thread_code(plugin, Site::Hook(hook), || unsafe { function() });
        }
    }

    /// `mqx_initialize` or `mqx_reload`; true where there is nobody to object.
    pub(crate) fn call_plugin(&self, plugin: PluginIndex, hook: Hook, own: Token) -> bool {
        let (own, site) = (own.to_pointer(), Site::Hook(hook));
        match (hook, self.plugin_initialize, self.reload) {
            (Hook::PluginInitialize, Some(function), _) => {
                // SAFETY: resolved under the name whose prototype this is; a token is never dereferenced.
                call::thread_code(plugin, site, || unsafe { function(own) }) != 0
            }
            (Hook::Reload, _, Some(function)) => {
                // SAFETY: as above.
                call::thread_code(plugin, site, || unsafe { function(own) });
                true
            }
            _ => true,
        }
    }

    /// `mq_context_initialize` or `mq_context_cleanup`: did the plugin take control? From G2 on it
    /// cannot.
    pub(crate) fn call_context(&self, word: &Word, hook: Hook, context: Token) -> bool {
        let running = Call::new(context.plugin(), Site::Hook(hook));
        let context = context.to_pointer();
        macro_rules! call {
            ($initialize:expr, $cleanup:expr) => {{
                let function = match hook {
                    Hook::ContextInitialize => $initialize,
                    Hook::ContextCleanup => $cleanup,
                    _ => None,
                };
                let Some(function) = function else { return false };
                // SAFETY: resolved under the name whose prototype of this generation this is; a token
                // is never dereferenced.
                call::plugin_code(word, running, || unsafe { function(context) })
            }};
        }
        match &self.own {
            Own::First { context_initialize, context_cleanup, .. } => {
                call!(*context_initialize, *context_cleanup) != 0
            }
            Own::Later { context_initialize, context_cleanup, .. } => {
                call!(*context_initialize, *context_cleanup);
                false
            }
        }
    }

    /// `mqx_smtp_lost`, which can neither take control nor answer.
    pub(crate) fn call_lost(&self, word: &Word, context: Token, connection: Token) {
        let Some(function) = self.lost else { return };
        let running = Call::new(context.plugin(), Site::Hook(Hook::Lost));
        let context = self.own.context(context).to_pointer();
        let connection = connection.to_pointer();
        call::plugin_code(word, running, || {
            // SAFETY: resolved under the name whose prototype this is; tokens are never dereferenced.
            unsafe { function(context, connection) };
        });
    }
}

impl Own {
    /// What a step's hook is given: G1 hands back with it (D-10), later ones have one per worker (D-12).
    #[inline(always)]
    fn context(&self, step: Token) -> Token {
        match self {
            Own::First { .. } => step,
            Own::Later { .. } => step.without_step(),
        }
    }

    fn exports(&self, hook: Hook) -> bool {
        match (self, hook) {
            (Own::First { context_initialize, .. }, Hook::ContextInitialize) => {
                context_initialize.is_some()
            }
            (Own::First { context_cleanup, .. }, Hook::ContextCleanup) => context_cleanup.is_some(),
            (Own::Later { context_initialize, .. }, Hook::ContextInitialize) => {
                context_initialize.is_some()
            }
            (Own::Later { context_cleanup, .. }, Hook::ContextCleanup) => context_cleanup.is_some(),
            (Own::First { .. } | Own::Later { .. }, _) => false,
        }
    }

    fn function(&self, hook: Hook) -> Option<Function> {
        match (self, hook) {
            (Own::First { mail_from, .. }, Hook::MailFrom) => mail_from.map(Function::Text),
            (Own::First { rcpt_to, .. }, Hook::RcptTo) => rcpt_to.map(Function::Text),
            (Own::Later { mail_from, .. }, Hook::MailFrom) => mail_from.map(Function::Address),
            (Own::Later { rcpt_to, .. }, Hook::RcptTo) => rcpt_to.map(Function::Address),
            (Own::Later { out_sent, .. }, Hook::OutSent) => out_sent.map(Function::Message),
            (Own::First { .. } | Own::Later { .. }, _) => None,
        }
    }
}
