//! The edge: the functions that the server calls, made by [`export!`](crate::export), and what is stopped
//! there.
//!
//! Must never: let a panic out. Diagnostics: a panic is a critical line of the log with the hook's name and
//! the panic's own text; a [`Failure`](crate::Failure) is a warning.
//!
//! Public for the macro alone.

use std::any::Any;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::OnceLock;

use crate::address::Address;
use crate::connection::Connection;
use crate::context::Context;
use crate::failure::Outcome;
pub use crate::ffi::{MqAddress, MqConnection, MqContext, MqMessage, MqPlugin};
use crate::message::Message;
use crate::plugin::Plugin;
use crate::setup::Setup;
use crate::step::Step;
use crate::{ffi, log};

/// What `mq_version` returns: generation G3.
pub const VERSION: i32 = 506;

/// Runs a callback; `None` if it panicked.
pub(crate) fn guarded<T>(what: &str, callback: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(callback)) {
        Ok(returned) => Some(returned),
        Err(panic) => {
            report(what, panic);
            None
        }
    }
}

fn report(what: &str, panic: Box<dyn Any + Send>) {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "of a type that is no text",
    };
    log::critical(format_args!("panic in {what}: {text}"));
    // What was thrown may panic when it goes.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}

/// The one value of a plugin.
pub struct Seat<P: Plugin>(OnceLock<P>);

/// The state of one worker, behind its context.
struct Worker<P: Plugin>(Rc<P::Worker>);

impl<P: Plugin> Seat<P> {
    /// An empty one.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Seat<P> {
        Seat(OnceLock::new())
    }

    /// `mqx_initialize`
    pub fn start(&self, plugin: *mut MqPlugin) -> bool {
        match guarded("start", || P::start(Setup::new(plugin))) {
            Some(Ok(plugin)) => self.0.set(plugin).is_ok(),
            Some(Err(failure)) => {
                log::critical(format_args!("start: {failure}"));
                false
            }
            None => false,
        }
    }

    /// `mqx_reload`
    pub fn reload(&self, plugin: *mut MqPlugin) {
        self.notify("mqx_reload", |it| it.reload(Setup::new(plugin)));
    }

    /// `mq_cleanup`
    pub fn notify(&self, what: &'static str, hook: impl FnOnce(&P) -> Outcome) {
        let Some(plugin) = self.0.get() else { return };
        if let Some(Err(failure)) = guarded(what, || hook(plugin)) {
            log::warning(format_args!("{what}: {failure}"));
        }
    }

    /// `mq_context_initialize`
    pub fn begin(&self, context: *mut MqContext) {
        let Some(plugin) = self.0.get() else { return };
        match guarded("worker", || plugin.worker(Context::new(context))) {
            Some(Ok(worker)) => {
                let worker: Box<Worker<P>> = Box::new(Worker(Rc::new(worker)));
                ffi::MQ_setContextData(context, Box::into_raw(worker).cast());
            }
            Some(Err(failure)) => log::critical(format_args!("worker: {failure}")),
            None => {}
        }
    }

    /// `mq_context_cleanup`
    pub fn end(&self, context: *mut MqContext) {
        let data = ffi::MQ_contextData(context);
        ffi::MQ_setContextData(context, std::ptr::null_mut());
        if !data.is_null() {
            // SAFETY: the box of `begin`, taken out of its place above.
            let worker = unsafe { Box::from_raw(data.cast::<Worker<P>>()) };
            guarded("the end of a worker", || drop(worker));
        }
    }

    /// A hook of a connection; whether it took control.
    pub fn step(
        &self,
        name: &'static str,
        context: *mut MqContext,
        connection: *mut MqConnection,
        message: *mut MqMessage,
        hook: impl FnOnce(&P, &mut Step<'_, P>) -> Outcome,
    ) -> bool {
        let connection = Connection::new(connection);
        let Some((plugin, worker)) = self.0.get().zip(worker::<P>(context)) else {
            // It was said when the worker could not be made.
            connection.fail();
            return false;
        };
        let message = (!message.is_null()).then(|| Message::new(message));
        let mut step = Step::new(connection, message, Context::new(context), worker);
        match guarded(name, || hook(plugin, &mut step)) {
            Some(Ok(())) => {}
            Some(Err(failure)) => {
                log::warning(format_args!("{name}: {failure}"));
                connection.fail();
            }
            None => {
                connection.fail();
            }
        }
        step.took_control()
    }

    /// The same for a close hook: afterwards the state of the connection goes.
    pub fn close(
        &self,
        name: &'static str,
        context: *mut MqContext,
        connection: *mut MqConnection,
        hook: impl FnOnce(&P, &mut Step<'_, P>) -> Outcome,
    ) -> bool {
        let took_control = self.step(name, context, connection, std::ptr::null_mut(), hook);
        let data = ffi::MQ_connectionData(connection);
        ffi::MQ_setConnectionData(connection, std::ptr::null_mut());
        if !data.is_null() {
            // SAFETY: the count that `state` put there, taken out of its place above.
            let state = unsafe { Rc::from_raw(data.cast_const().cast::<P::Connection>()) };
            guarded("the end of a connection", || drop(state));
        }
        took_control
    }
}

fn worker<P: Plugin>(context: *mut MqContext) -> Option<Rc<P::Worker>> {
    let data: *const Worker<P> = ffi::MQ_contextData(context).cast_const().cast();
    // SAFETY: NULL, or the box of `begin`, which stays until `end` on this thread.
    let worker = unsafe { data.as_ref() }?;
    Some(Rc::clone(&worker.0))
}

/// The state of a connection, made if there is none.
pub(crate) fn state<P: Plugin>(connection: Connection) -> Rc<P::Connection> {
    let pointer = connection.pointer();
    let data: *mut c_void = ffi::MQ_connectionData(pointer);
    let data: *const P::Connection = data.cast_const().cast();
    if data.is_null() {
        let state = Rc::new(P::Connection::default());
        let data = Rc::into_raw(Rc::clone(&state)).cast_mut();
        ffi::MQ_setConnectionData(pointer, data.cast());
        return state;
    }
    // SAFETY: the count that was put there above, and is taken out in `close` alone.
    unsafe { Rc::increment_strong_count(data) };
    // SAFETY: the count of the line above.
    unsafe { Rc::from_raw(data) }
}

/// A text of a hook, for the time of its call.
///
/// # Safety
/// `text` is NULL, or readable for `size` octets until the hook returns.
pub unsafe fn text<'a>(text: *const c_char, size: usize) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(text.cast(), size) }
}

/// An address of a hook, for the time of its call.
///
/// # Safety
/// It is what the server gave to the hook.
pub unsafe fn address<'a>(address: *mut MqAddress) -> Address<'a> {
    // SAFETY: the caller's promise.
    unsafe { Address::new(address) }
}

/// A message of a hook.
pub fn message(message: *mut MqMessage) -> Message {
    Message::new(message)
}

/// Makes the functions that the server calls for a [`Plugin`]: those that every plugin needs, and the hooks
/// that are named.
///
/// `export!(Mine: connect, rcpt_to, message);` The names are those of the methods.
#[macro_export]
macro_rules! export {
    ($plugin:ty $(: $($hook:ident),* $(,)?)?) => {
        const _: () = {
            use $crate::edge::{MqAddress, MqConnection, MqContext, MqMessage, MqPlugin, Seat};

            static SEAT: Seat<$plugin> = Seat::new();

            #[unsafe(no_mangle)]
            extern "C" fn mq_version() -> i32 {
                $crate::edge::VERSION
            }

            #[unsafe(no_mangle)]
            extern "C" fn mqx_initialize(plugin: *mut MqPlugin) -> bool {
                SEAT.start(plugin)
            }

            #[unsafe(no_mangle)]
            extern "C" fn mqx_reload(plugin: *mut MqPlugin) {
                SEAT.reload(plugin);
            }

            #[unsafe(no_mangle)]
            extern "C" fn mq_cleanup() {
                SEAT.notify("mq_cleanup", |plugin| $crate::Plugin::stop(plugin));
            }

            #[unsafe(no_mangle)]
            extern "C" fn mq_context_initialize(context: *mut MqContext) {
                SEAT.begin(context);
            }

            #[unsafe(no_mangle)]
            extern "C" fn mq_context_cleanup(context: *mut MqContext) {
                SEAT.end(context);
            }

            #[unsafe(no_mangle)]
            extern "C" fn mq_smtp_in_close(c: *mut MqContext, k: *mut MqConnection) -> bool {
                SEAT.close("mq_smtp_in_close", c, k, |plugin, step| {
                    $crate::Plugin::close(plugin, step)
                })
            }

            #[unsafe(no_mangle)]
            extern "C" fn mqx_smtp_out_close(c: *mut MqContext, k: *mut MqConnection) -> bool {
                SEAT.close("mqx_smtp_out_close", c, k, |plugin, step| {
                    $crate::Plugin::out_close(plugin, step)
                })
            }

            $($($crate::export_hook!(SEAT, $hook);)*)?
        };
    };
}

/// One hook of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! export_hook {
    ($seat:ident, connect) => { $crate::export_hook!(@plain $seat, connect, mq_smtp_in_connect); };
    ($seat:ident, secure) => { $crate::export_hook!(@plain $seat, secure, mq_smtp_in_secure); };
    ($seat:ident, reset) => { $crate::export_hook!(@plain $seat, reset, mqx_smtp_in_reset); };
    ($seat:ident, out_connect) => {
        $crate::export_hook!(@plain $seat, out_connect, mqx_smtp_out_connect);
    };
    ($seat:ident, out_secure) => {
        $crate::export_hook!(@plain $seat, out_secure, mqx_smtp_out_secure);
    };
    ($seat:ident, helo) => { $crate::export_hook!(@text $seat, helo, mqx_smtp_in_helo); };
    ($seat:ident, data) => { $crate::export_hook!(@text $seat, data, mq_smtp_in_data); };
    ($seat:ident, mail_from) => {
        $crate::export_hook!(@address $seat, mail_from, mq_smtp_in_mailfrom);
    };
    ($seat:ident, rcpt_to) => { $crate::export_hook!(@address $seat, rcpt_to, mq_smtp_in_rcptto); };
    ($seat:ident, message) => { $crate::export_hook!(@message $seat, message, mq_smtp_in_message); };
    ($seat:ident, out_message) => {
        $crate::export_hook!(@message $seat, out_message, mqx_smtp_out_message);
    };
    ($seat:ident, out_data) => { $crate::export_hook!(@message $seat, out_data, mq_smtp_out_data); };
    ($seat:ident, out_sent) => { $crate::export_hook!(@message $seat, out_sent, mq_smtp_out_sent); };
    // These are there already.
    ($seat:ident, close) => {};
    ($seat:ident, out_close) => {};
    ($seat:ident, lost) => {
        #[unsafe(no_mangle)]
        extern "C" fn mqx_smtp_lost(c: *mut MqContext, k: *mut MqConnection) {
            $seat.step("mqx_smtp_lost", c, k, ::std::ptr::null_mut(), |plugin, step| {
                $crate::Plugin::lost(plugin, step)
            });
        }
    };
    ($seat:ident, authenticate) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn mq_smtp_in_authenticate(
            c: *mut MqContext,
            k: *mut MqConnection,
            login: *const ::std::ffi::c_char,
            login_size: usize,
            password: *const ::std::ffi::c_char,
            password_size: usize,
        ) -> bool {
            // SAFETY: the server's strings stay until the hook has returned.
            let login = unsafe { $crate::edge::text(login, login_size) };
            // SAFETY: as above.
            let password = unsafe { $crate::edge::text(password, password_size) };
            let name = "mq_smtp_in_authenticate";
            $seat.step(name, c, k, ::std::ptr::null_mut(), |plugin, step| {
                $crate::Plugin::authenticate(plugin, step, login, password)
            })
        }
    };
    ($seat:ident, out_result) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn mqx_smtp_out_result(
            c: *mut MqContext,
            k: *mut MqConnection,
            m: *mut MqMessage,
            code: i32,
            text: *const ::std::ffi::c_char,
            size: usize,
        ) -> bool {
            // SAFETY: the server's strings stay until the hook has returned.
            let text = unsafe { $crate::edge::text(text, size) };
            let code = u16::try_from(code).unwrap_or(0);
            $seat.step("mqx_smtp_out_result", c, k, m, |plugin, step| {
                $crate::Plugin::out_result(plugin, step, $crate::edge::message(m), code, text)
            })
        }
    };
    (@plain $seat:ident, $method:ident, $symbol:ident) => {
        #[unsafe(no_mangle)]
        extern "C" fn $symbol(c: *mut MqContext, k: *mut MqConnection) -> bool {
            $seat.step(stringify!($symbol), c, k, ::std::ptr::null_mut(), |plugin, step| {
                $crate::Plugin::$method(plugin, step)
            })
        }
    };
    (@text $seat:ident, $method:ident, $symbol:ident) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $symbol(
            c: *mut MqContext,
            k: *mut MqConnection,
            text: *const ::std::ffi::c_char,
            size: usize,
        ) -> bool {
            // SAFETY: the server's strings stay until the hook has returned.
            let text = unsafe { $crate::edge::text(text, size) };
            $seat.step(stringify!($symbol), c, k, ::std::ptr::null_mut(), |plugin, step| {
                $crate::Plugin::$method(plugin, step, text)
            })
        }
    };
    (@address $seat:ident, $method:ident, $symbol:ident) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $symbol(
            c: *mut MqContext,
            k: *mut MqConnection,
            address: *mut MqAddress,
        ) -> bool {
            // SAFETY: it is what the server gave to this hook.
            let address = unsafe { $crate::edge::address(address) };
            $seat.step(stringify!($symbol), c, k, ::std::ptr::null_mut(), |plugin, step| {
                $crate::Plugin::$method(plugin, step, address)
            })
        }
    };
    (@message $seat:ident, $method:ident, $symbol:ident) => {
        #[unsafe(no_mangle)]
        extern "C" fn $symbol(
            c: *mut MqContext,
            k: *mut MqConnection,
            m: *mut MqMessage,
        ) -> bool {
            $seat.step(stringify!($symbol), c, k, m, |plugin, step| {
                $crate::Plugin::$method(plugin, step, $crate::edge::message(m))
            })
        }
    };
}
