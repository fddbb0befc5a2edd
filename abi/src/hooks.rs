//! Hooks under their own prototypes: those of each generation, and the extensions.
//!
//! Owns the typed pointers and the calls through them. Must never decide whether a hook is called,
//! nor call one outside of `call`, which keeps the current call and stops exceptions.
//! Diagnostics: none; a hook that the plugin does not export answers as one that returns false.

use std::ffi::{c_char, c_int};

use libloading::os::unix::Library;

use crate::call::{self, Call, Word};
use crate::generation::Generation;
use crate::hook::{Hook, Site};
use crate::id::MessageId;
use crate::plugin::PluginIndex;
use crate::step::Step;
use crate::token::{Opaque, Token};

// Results are integers: a plain C plugin may return what is no Rust `bool` (D-0F).
type VersionHook = unsafe extern "C-unwind" fn() -> c_int;
type ProcessHook = unsafe extern "C-unwind" fn();
type PluginHook = unsafe extern "C-unwind" fn(*mut Opaque) -> u8;
type ContextHook = unsafe extern "C-unwind" fn(*mut Opaque) -> u8;
type ContextNotice = unsafe extern "C-unwind" fn(*mut Opaque);
type ConnectionHook = unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque) -> u8;
type ConnectionNotice = unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque);
type TextHook = unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque, *const c_char, usize) -> u8;
type AddressHook = unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque, *const c_char) -> u8;
type MessageHook = unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque, *mut Opaque) -> u8;
type ResultHook = unsafe extern "C-unwind" fn(
    *mut Opaque,
    *mut Opaque,
    *mut Opaque,
    c_int,
    *const c_char,
    usize,
) -> u8;
type LoginHook = unsafe extern "C-unwind" fn(
    *mut Opaque,
    *mut Opaque,
    *const c_char,
    usize,
    *const c_char,
    usize,
) -> u8;

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
            Hook::ContextInitialize
            | Hook::ContextCleanup
            | Hook::MailFrom
            | Hook::RcptTo
            | Hook::OutSent => self.own.exports(hook),
            Hook::Connect => self.connect.is_some(),
            Hook::Secure => self.secure.is_some(),
            Hook::Authenticate => self.authenticate.is_some(),
            Hook::Data => self.data.is_some(),
            Hook::Message => self.message.is_some(),
            Hook::Close => self.close.is_some(),
            Hook::OutData => self.out_data.is_some(),
            Hook::Helo => self.helo.is_some(),
            Hook::Reset => self.reset.is_some(),
            Hook::Lost => self.lost.is_some(),
            Hook::OutConnect => self.out_connect.is_some(),
            Hook::OutSecure => self.out_secure.is_some(),
            Hook::OutMessage => self.out_message.is_some(),
            Hook::OutResult => self.out_result.is_some(),
            Hook::OutClose => self.out_close.is_some(),
            Hook::PluginInitialize => self.plugin_initialize.is_some(),
            Hook::Reload => self.reload.is_some(),
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

    /// One step of one connection: did the plugin take control? `token` is the step's context as
    /// `plugin` sees it, and `address` shows the address of an address step, where G2 and later are called.
    // Inlined, so that what a walk's calls have in common is computed once.
    #[inline(always)]
    pub(crate) fn call_step(
        &self,
        word: &Word,
        plugin: PluginIndex,
        step: &Step<'_>,
        token: Token,
        address: impl FnOnce(&[u8]) -> *const c_char,
    ) -> bool {
        let running = Call::new(plugin, Site::Hook(step.hook()));
        let context = self.own.context(token).to_pointer();
        let connection = token.connection().to_pointer();
        let message = |id: MessageId| token.message(id.0).to_pointer();
        macro_rules! call {
            ($function:expr $(, $argument:expr)*) => {
                match $function {
                    None => 0,
                    Some(function) => call::plugin_code(word, running, || {
                        // SAFETY: resolved under the name whose prototype of this generation this is;
                        // tokens are never dereferenced, texts are borrowed for the call and end in a
                        // zero byte.
                        unsafe { function(context, connection $(, $argument)*) }
                    }),
                }
            };
        }
        let returned = match (step, &self.own) {
            (Step::Connect, _) => call!(self.connect),
            (Step::Secure, _) => call!(self.secure),
            (Step::Authenticate { login, password }, _) => call!(
                self.authenticate,
                login.as_ptr(),
                login.size(),
                password.as_ptr(),
                password.size()
            ),
            (Step::MailFrom(text), Own::First { mail_from, .. }) => {
                call!(*mail_from, text.as_ptr(), text.size())
            }
            (Step::RcptTo(text), Own::First { rcpt_to, .. }) => {
                call!(*rcpt_to, text.as_ptr(), text.size())
            }
            (Step::MailFrom(text), Own::Later { mail_from, .. }) => {
                let address = address(text.as_bytes());
                call!(*mail_from, address)
            }
            (Step::RcptTo(text), Own::Later { rcpt_to, .. }) => {
                let address = address(text.as_bytes());
                call!(*rcpt_to, address)
            }
            (Step::Data(text), _) => call!(self.data, text.as_ptr(), text.size()),
            (Step::Message(id), _) => call!(self.message, message(*id)),
            (Step::Close, _) => call!(self.close),
            (Step::OutData(id), _) => call!(self.out_data, message(*id)),
            (Step::OutSent(id), Own::Later { out_sent, .. }) => call!(*out_sent, message(*id)),
            (Step::OutSent(_), Own::First { .. }) => 0,
            (Step::Helo(text), _) => call!(self.helo, text.as_ptr(), text.size()),
            (Step::Reset, _) => call!(self.reset),
            (Step::OutConnect, _) => call!(self.out_connect),
            (Step::OutSecure, _) => call!(self.out_secure),
            (Step::OutMessage(id), _) => call!(self.out_message, message(*id)),
            (Step::OutResult { message: id, code, text }, _) => {
                call!(self.out_result, message(*id), c_int::from(*code), text.as_ptr(), text.size())
            }
            (Step::OutClose, _) => call!(self.out_close),
        };
        returned != 0
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
        match self {
            Own::First { context_initialize, context_cleanup, mail_from, rcpt_to } => match hook {
                Hook::ContextInitialize => context_initialize.is_some(),
                Hook::ContextCleanup => context_cleanup.is_some(),
                Hook::MailFrom => mail_from.is_some(),
                Hook::RcptTo => rcpt_to.is_some(),
                _ => false,
            },
            Own::Later { context_initialize, context_cleanup, mail_from, rcpt_to, out_sent } => {
                match hook {
                    Hook::ContextInitialize => context_initialize.is_some(),
                    Hook::ContextCleanup => context_cleanup.is_some(),
                    Hook::MailFrom => mail_from.is_some(),
                    Hook::RcptTo => rcpt_to.is_some(),
                    Hook::OutSent => out_sent.is_some(),
                    _ => false,
                }
            }
        }
    }
}
