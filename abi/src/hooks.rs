//! Hooks under their own prototypes: those of each generation, and the extensions.
//!
//! Owns the typed pointers and the calls through them. Must never decide whether a hook is called,
//! nor call one outside of [`call::plugin_code`], which keeps the current call and stops exceptions.
//! Diagnostics: none; a hook that the plugin does not export answers as one that returns false.

use std::ffi::{c_char, c_int};

use libloading::os::unix::Library;

use crate::call;
use crate::generation::Generation;
use crate::hook::{Hook, Site};
use crate::plugin::Plugin;
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

/// The tokens that a connection hook is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepTokens {
    pub(crate) context: Token,
    pub(crate) connection: Token,
    /// Only a message step has one.
    pub(crate) message: Option<Token>,
    /// The address of an address step, where G2 and later are called; else NULL.
    pub(crate) address: *const c_char,
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
pub(crate) fn ask_version(library: &Library, plugin: call::Blame<'_>) -> Option<c_int> {
    // SAFETY: this is `mq_version`'s prototype in the header of every generation.
    let version = unsafe { resolve::<VersionHook>(library, Hook::Version) }?;
    // SAFETY: a plugin's `mq_version` takes nothing and may be called at any time.
    Some(call::plugin_code(plugin, Site::Hook(Hook::Version), || unsafe { version() }))
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
    pub(crate) fn call_process(&self, plugin: &Plugin, hook: Hook) {
        let function = match hook {
            Hook::Initialize => self.initialize,
            Hook::Cleanup => self.cleanup,
            _ => None,
        };
        if let Some(function) = function {
            // SAFETY: resolved under the name whose prototype this is; it takes nothing.
            call::plugin_code(plugin.blame(), Site::Hook(hook), || unsafe { function() });
        }
    }

    /// `mqx_initialize` or `mqx_reload`; true where there is nobody to object.
    pub(crate) fn call_plugin(&self, plugin: &Plugin, hook: Hook, own: Token) -> bool {
        let (own, site) = (own.to_pointer(), Site::Hook(hook));
        match (hook, self.plugin_initialize, self.reload) {
            (Hook::PluginInitialize, Some(function), _) => {
                // SAFETY: resolved under the name whose prototype this is; a token is never dereferenced.
                call::plugin_code(plugin.blame(), site, || unsafe { function(own) }) != 0
            }
            (Hook::Reload, _, Some(function)) => {
                // SAFETY: as above.
                call::plugin_code(plugin.blame(), site, || unsafe { function(own) });
                true
            }
            _ => true,
        }
    }

    /// `mq_context_initialize` or `mq_context_cleanup`: did the plugin take control? From G2 on it
    /// cannot.
    pub(crate) fn call_context(&self, plugin: &Plugin, hook: Hook, context: Token) -> bool {
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
                call::plugin_code(plugin.blame(), Site::Hook(hook), || unsafe { function(context) })
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
    pub(crate) fn call_lost(&self, plugin: &Plugin, context: Token, connection: Token) {
        let Some(function) = self.lost else { return };
        let (context, connection) = (context.to_pointer(), connection.to_pointer());
        call::plugin_code(plugin.blame(), Site::Hook(Hook::Lost), || {
            // SAFETY: resolved under the name whose prototype this is; tokens are never dereferenced.
            unsafe { function(context, connection) };
        });
    }

    /// One step of one connection: did the plugin take control?
    pub(crate) fn call_step(&self, plugin: &Plugin, step: Step<'_>, tokens: StepTokens) -> bool {
        let site = Site::Hook(step.hook());
        let (context, connection) = (tokens.context.to_pointer(), tokens.connection.to_pointer());
        let message = tokens.message.map_or(std::ptr::null_mut(), Token::to_pointer);
        macro_rules! call {
            ($function:expr $(, $argument:expr)*) => {
                match $function {
                    None => 0,
                    Some(function) => call::plugin_code(plugin.blame(), site, || {
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
            (Step::MailFrom(_), Own::Later { mail_from, .. }) => call!(*mail_from, tokens.address),
            (Step::RcptTo(_), Own::Later { rcpt_to, .. }) => call!(*rcpt_to, tokens.address),
            (Step::Data(text), _) => call!(self.data, text.as_ptr(), text.size()),
            (Step::Message(_), _) => call!(self.message, message),
            (Step::Close, _) => call!(self.close),
            (Step::OutData(_), _) => call!(self.out_data, message),
            (Step::OutSent(_), Own::Later { out_sent, .. }) => call!(*out_sent, message),
            (Step::OutSent(_), Own::First { .. }) => 0,
            (Step::Helo(text), _) => call!(self.helo, text.as_ptr(), text.size()),
            (Step::Reset, _) => call!(self.reset),
            (Step::OutConnect, _) => call!(self.out_connect),
            (Step::OutSecure, _) => call!(self.out_secure),
            (Step::OutMessage(_), _) => call!(self.out_message, message),
            (Step::OutResult { code, text, .. }, _) => {
                call!(self.out_result, message, c_int::from(code), text.as_ptr(), text.size())
            }
            (Step::OutClose, _) => call!(self.out_close),
        };
        returned != 0
    }
}

impl Own {
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
