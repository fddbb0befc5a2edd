//! Generation G1 ("2.1" names): its hooks under their own prototypes.
//!
//! Owns the typed pointers and the calls through them. Must never decide whether a hook is called,
//! nor call one outside of `call`, which keeps the current call and stops exceptions.
//! Diagnostics: none; a hook that the plugin does not export answers as one that returns false.

use std::ffi::{c_char, c_int};

use libloading::os::unix::Library;

use crate::call::{self, Call, Word};
use crate::hook::{Hook, Site};
use crate::plugin::PluginIndex;
use crate::step::Step;
use crate::token::{Opaque, Token};

// Results are integers: a plain C plugin may return what is no Rust `bool` (D-0F).
type VersionHook = unsafe extern "C-unwind" fn() -> c_int;
type ProcessHook = unsafe extern "C-unwind" fn();
type ContextHook = unsafe extern "C-unwind" fn(*mut Opaque) -> u8;
type ConnectionHook = unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque) -> u8;
type TextHook = unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque, *const c_char, usize) -> u8;
type MessageHook = unsafe extern "C-unwind" fn(*mut Opaque, *mut Opaque, *mut Opaque) -> u8;
type LoginHook = unsafe extern "C-unwind" fn(
    *mut Opaque,
    *mut Opaque,
    *const c_char,
    usize,
    *const c_char,
    usize,
) -> u8;

/// What a G1 plugin exports. `mq_version` is called before the generation is known, see
/// [`ask_version`].
#[derive(Debug)]
pub(crate) struct G1 {
    initialize: Option<ProcessHook>,
    cleanup: Option<ProcessHook>,
    context_initialize: Option<ContextHook>,
    context_cleanup: Option<ContextHook>,
    connect: Option<ConnectionHook>,
    secure: Option<ConnectionHook>,
    authenticate: Option<LoginHook>,
    mail_from: Option<TextHook>,
    rcpt_to: Option<TextHook>,
    data: Option<TextHook>,
    message: Option<MessageHook>,
    close: Option<ConnectionHook>,
    out_data: Option<MessageHook>,
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

impl G1 {
    /// Resolves every hook once.
    ///
    /// # Safety
    /// The library's `mq_version` named generation G1 as its own, and it stays loaded.
    pub(crate) unsafe fn resolve(library: &Library) -> G1 {
        macro_rules! hook {
            ($hook:ident) => {
                // SAFETY: the field's type is the prototype that the G1 header gives this hook.
                unsafe { resolve(library, Hook::$hook) }
            };
        }
        G1 {
            initialize: hook!(Initialize),
            cleanup: hook!(Cleanup),
            context_initialize: hook!(ContextInitialize),
            context_cleanup: hook!(ContextCleanup),
            connect: hook!(Connect),
            secure: hook!(Secure),
            authenticate: hook!(Authenticate),
            mail_from: hook!(MailFrom),
            rcpt_to: hook!(RcptTo),
            data: hook!(Data),
            message: hook!(Message),
            close: hook!(Close),
            out_data: hook!(OutData),
        }
    }

    pub(crate) fn exports(&self, hook: Hook) -> bool {
        match hook {
            Hook::Version => true,
            Hook::Initialize => self.initialize.is_some(),
            Hook::Cleanup => self.cleanup.is_some(),
            Hook::ContextInitialize => self.context_initialize.is_some(),
            Hook::ContextCleanup => self.context_cleanup.is_some(),
            Hook::Connect => self.connect.is_some(),
            Hook::Secure => self.secure.is_some(),
            Hook::Authenticate => self.authenticate.is_some(),
            Hook::MailFrom => self.mail_from.is_some(),
            Hook::RcptTo => self.rcpt_to.is_some(),
            Hook::Data => self.data.is_some(),
            Hook::Message => self.message.is_some(),
            Hook::Close => self.close.is_some(),
            Hook::OutData => self.out_data.is_some(),
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
            // SAFETY: resolved under the name whose G1 prototype this is; it takes nothing.
            call::process_code(plugin, Site::Hook(hook), || unsafe { function() });
        }
    }

    /// `mq_context_initialize` or `mq_context_cleanup`: did the plugin take control?
    pub(crate) fn call_context(&self, word: &Word, hook: Hook, context: Token) -> bool {
        let function = match hook {
            Hook::ContextInitialize => self.context_initialize,
            Hook::ContextCleanup => self.context_cleanup,
            _ => None,
        };
        let Some(function) = function else {
            return false;
        };
        let call = Call::new(context.plugin(), Site::Hook(hook));
        let context = context.to_pointer();
        // SAFETY: resolved under the name whose G1 prototype this is; a token is never dereferenced.
        call::plugin_code(word, call, || unsafe { function(context) }) != 0
    }

    /// One step of one connection, whose step context `token` is: did the plugin take control?
    #[inline(always)]
    pub(crate) fn call_step(&self, word: &Word, step: Step<'_>, token: Token) -> bool {
        let running = Call::new(token.plugin(), Site::Hook(step.hook()));
        let (context, connection) = (token.to_pointer(), token.connection().to_pointer());
        macro_rules! call {
            ($function:expr $(, $argument:expr)*) => {
                match $function {
                    None => 0,
                    Some(function) => call::plugin_code(word, running, || {
                        // SAFETY: resolved under the name whose G1 prototype this is; tokens are
                        // never dereferenced, texts are borrowed for the call and end in a zero byte.
                        unsafe { function(context, connection $(, $argument)*) }
                    }),
                }
            };
        }
        let returned = match step {
            Step::Connect => call!(self.connect),
            Step::Secure => call!(self.secure),
            Step::Authenticate { login, password } => call!(
                self.authenticate,
                login.as_ptr(),
                login.size(),
                password.as_ptr(),
                password.size()
            ),
            Step::MailFrom(text) => call!(self.mail_from, text.as_ptr(), text.size()),
            Step::RcptTo(text) => call!(self.rcpt_to, text.as_ptr(), text.size()),
            Step::Data(text) => call!(self.data, text.as_ptr(), text.size()),
            Step::Message(id) => call!(self.message, token.message(id.0).to_pointer()),
            Step::Close => call!(self.close),
            Step::OutData(id) => call!(self.out_data, token.message(id.0).to_pointer()),
        };
        returned != 0
    }
}
