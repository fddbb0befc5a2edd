//! The functions of `mailerq.h` that this crate uses, as the C compiler sees them.
//!
//! Must never: be public. A result that is a C `bool` is an integer here, compared with 0. Those that take
//! tokens alone are safe: any pointer may be given for a token, and one that is none does nothing.
//! Diagnostics: none.

use std::ffi::{c_char, c_double, c_float, c_int, c_void};

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug)]
        #[allow(unreachable_pub, reason = "the edge shows them to its macro")]
        pub struct $name {
            _private: [u8; 0],
        }
    )*};
}

opaque! {
    /// `MQ_Context`
    MqContext
    /// `MQ_Connection`
    MqConnection
    /// `MQ_Message`
    MqMessage
    /// `MQ_Address`
    MqAddress
    /// `MQ_IOWatcher`
    MqWatcher
    /// `MQ_Timer`
    MqTimer
    /// `MQX_Plugin`
    MqPlugin
    /// `MQX_Metric`
    MqMetric
    /// `MQX_Hold`
    MqHold
}

pub(crate) const READ: c_int = 1;
pub(crate) const WRITE: c_int = 2;

pub(crate) type WatchCallback = extern "C" fn(*mut MqWatcher, c_int, c_int, *mut c_void);
pub(crate) type Callback = extern "C" fn(*mut c_void);
pub(crate) type HoldCallback = extern "C" fn(*mut MqHold, *mut c_void);
type Connection = *mut MqConnection;
type Message = *mut MqMessage;

unsafe extern "C" {
    pub(crate) safe fn MQ_complete(connection: Connection);
    pub(crate) safe fn MQ_contextData(context: *mut MqContext) -> *mut c_void;
    pub(crate) safe fn MQ_setContextData(context: *mut MqContext, value: *mut c_void);
    pub(crate) fn MQ_ioWatch(
        context: *mut MqContext,
        fd: c_int,
        events: c_int,
        callback: WatchCallback,
        data: *mut c_void,
    ) -> *mut MqWatcher;
    pub(crate) safe fn MQ_ioUnwatch(watcher: *mut MqWatcher);
    pub(crate) safe fn MQX_watchMask(watcher: *mut MqWatcher, events: c_int) -> u8;
    pub(crate) fn MQ_startTimer(
        context: *mut MqContext,
        timeout: c_float,
        callback: Callback,
        data: *mut c_void,
    ) -> *mut MqTimer;
    pub(crate) fn MQX_repeat(
        context: *mut MqContext,
        first: c_double,
        interval: c_double,
        callback: Callback,
        data: *mut c_void,
    ) -> *mut MqTimer;
    pub(crate) safe fn MQ_stopTimer(timer: *mut MqTimer);
    pub(crate) safe fn MQ_resetTimer(timer: *mut MqTimer, timeout: c_float);
    pub(crate) fn MQX_post(context: *mut MqContext, callback: Callback, data: *mut c_void) -> u8;
    pub(crate) fn MQ_send(connection: Connection, buffer: *const c_void, size: usize) -> usize;
    pub(crate) safe fn MQ_authenticated(connection: Connection) -> u8;
    pub(crate) safe fn MQ_setAuthenticated(connection: Connection, authenticated: bool);
    pub(crate) safe fn MQ_secure(connection: Connection) -> u8;
    pub(crate) safe fn MQ_connectionData(connection: Connection) -> *mut c_void;
    pub(crate) safe fn MQ_setConnectionData(connection: Connection, data: *mut c_void);
    pub(crate) safe fn MQX_envelope(message: Message, size: &mut usize) -> *const c_char;
    pub(crate) fn MQ_setEnvelope(message: Message, envelope: *const c_char, size: usize);
    pub(crate) safe fn MQX_recipient(message: Message, size: &mut usize) -> *const c_char;
    pub(crate) fn MQ_setRecipient(message: Message, recipient: *const c_char, size: usize);
    pub(crate) safe fn MQX_mime(message: Message, size: &mut usize) -> *const c_char;
    pub(crate) fn MQ_setMime(message: Message, mime: *const c_char, size: usize);
    pub(crate) safe fn MQX_messageId(message: Message, size: &mut usize) -> *const c_char;
    pub(crate) safe fn MQX_attempt(message: Message) -> c_int;
    pub(crate) safe fn MQ_email(address: *const c_void) -> *const c_char;
    pub(crate) safe fn MQ_local(recipient: *const c_void) -> u8;
    pub(crate) safe fn MQ_setLocal(recipient: *mut c_void, local: bool);
    pub(crate) fn MQ_log(priority: c_int, message: *const c_char);
    pub(crate) fn MQX_reject(
        connection: Connection,
        code: c_int,
        status: *const c_char,
        text: *const c_char,
    ) -> u8;
    pub(crate) fn MQX_defer(
        connection: Connection,
        code: c_int,
        status: *const c_char,
        text: *const c_char,
    ) -> u8;
    pub(crate) fn MQX_bounce(
        message: Message,
        code: c_int,
        status: *const c_char,
        text: *const c_char,
    ) -> u8;
    pub(crate) safe fn MQX_retryAt(message: Message, unix_seconds: c_double) -> u8;
    pub(crate) fn MQX_route(message: Message, host: *const c_char, port: c_int) -> u8;
    pub(crate) safe fn MQX_disconnect(connection: Connection) -> u8;
    pub(crate) safe fn MQX_discard(connection_or_message: *mut c_void) -> u8;
    pub(crate) safe fn MQX_fail(connection: Connection) -> u8;
    pub(crate) fn MQX_hold(
        connection: Connection,
        timeout: c_double,
        expired: HoldCallback,
        data: *mut c_void,
    ) -> *mut MqHold;
    pub(crate) safe fn MQX_release(hold: *mut MqHold, verdict: c_int) -> u8;
    pub(crate) safe fn MQX_peer(connection: Connection, size: &mut usize) -> *const c_char;
    pub(crate) safe fn MQX_peerPort(connection: Connection) -> c_int;
    pub(crate) safe fn MQX_helo(connection: Connection, size: &mut usize) -> *const c_char;
    pub(crate) safe fn MQX_login(connection: Connection, size: &mut usize) -> *const c_char;
    pub(crate) safe fn MQX_tlsVersion(connection: Connection, size: &mut usize) -> *const c_char;
    pub(crate) safe fn MQX_cipher(connection: Connection, size: &mut usize) -> *const c_char;
    pub(crate) safe fn MQX_host(connection: Connection, size: &mut usize) -> *const c_char;
    pub(crate) safe fn MQX_state(message: Message) -> *const c_char;
    pub(crate) safe fn MQX_sni(connection: Connection, size: &mut usize) -> *const c_char;
    pub(crate) fn MQX_setNote(
        connection_or_message: *mut c_void,
        name: *const c_char,
        value: *const c_char,
        size: usize,
    ) -> u8;
    pub(crate) fn MQX_setting(plugin: *mut MqPlugin, key: *const c_char) -> *const c_char;
    pub(crate) fn MQX_counter(
        plugin: *mut MqPlugin,
        name: *const c_char,
        help: *const c_char,
    ) -> *mut MqMetric;
    pub(crate) fn MQX_gauge(
        plugin: *mut MqPlugin,
        name: *const c_char,
        help: *const c_char,
    ) -> *mut MqMetric;
    pub(crate) fn MQX_histogram(
        plugin: *mut MqPlugin,
        name: *const c_char,
        help: *const c_char,
        buckets: *const c_double,
        count: usize,
    ) -> *mut MqMetric;
    pub(crate) safe fn MQX_add(metric: *mut MqMetric, amount: c_double);
    pub(crate) safe fn MQX_set(metric: *mut MqMetric, value: c_double);
    pub(crate) safe fn MQX_observe(metric: *mut MqMetric, value: c_double);
    pub(crate) fn MQX_note(
        connection_or_message: *mut c_void,
        name: *const c_char,
        size: *mut usize,
    ) -> *const c_char;
}

/// Copies a string of the server's.
///
/// # Safety
/// `text` is NULL or readable for `size` octets.
pub(crate) unsafe fn copied(text: *const c_char, size: usize) -> Option<Vec<u8>> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not NULL, and readable for `size` octets by the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(text.cast::<u8>(), size) }.to_vec())
}

/// The same as text. What is not UTF-8, which no client can bring about, becomes U+FFFD.
///
/// # Safety
/// As [`copied`].
pub(crate) unsafe fn text(text: *const c_char, size: usize) -> Option<String> {
    // SAFETY: the same promise.
    let bytes = unsafe { copied(text, size) }?;
    Some(
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}
