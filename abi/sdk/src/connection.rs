//! A connection: what is known of the other end.
//!
//! Must never: let anybody answer but a step in its hook or a hold that lives, or read what a token points to. One that has gone stale does nothing, and the server says so
//! in its log.
//!
//! Diagnostics: `false` or `None` where the server did nothing or knows nothing.

use std::ffi::{CString, c_char, c_int, c_void};
use std::net::{IpAddr, SocketAddr};
use std::ptr;

use crate::ffi::{self, MqConnection};
use crate::log::c_string;

/// A client's connection, or one to a next hop. A number, in fact: copies name the same one, and are harmless
/// when it is gone. What it is to be told is said by its [`Step`](crate::Step) or [`Hold`](crate::Hold): one
/// connection has many steps, and an answer is for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection(*mut MqConnection);

type Getter = extern "C" fn(*mut MqConnection, &mut usize) -> *const c_char;
type Answer = unsafe extern "C" fn(*mut MqConnection, c_int, *const c_char, *const c_char) -> u8;

impl Connection {
    pub(crate) fn new(pointer: *mut MqConnection) -> Connection {
        Connection(pointer)
    }

    pub(crate) fn pointer(self) -> *mut MqConnection {
        self.0
    }

    /// The `MQ_Connection *` of `mailerq.h`, for what this crate does not have; to be given to the server's
    /// functions, never to be read.
    pub fn as_raw(self) -> *mut c_void {
        self.0.cast()
    }

    // ---- What is known ----------------------------------------------------------------------------

    /// The other end; the client itself behind a proxy.
    pub fn peer(self) -> Option<SocketAddr> {
        let address: IpAddr = self.text(ffi::MQX_peer)?.parse().ok()?;
        let port = ffi::MQX_peerPort(self.0);
        Some(SocketAddr::new(address, u16::try_from(port).unwrap_or(0)))
    }

    /// What the client calls itself.
    pub fn helo(self) -> Option<String> {
        self.text(ffi::MQX_helo)
    }

    /// What the client is logged in as.
    pub fn login(self) -> Option<String> {
        self.text(ffi::MQX_login)
    }

    /// `TLSv1.2` or `TLSv1.3`.
    pub fn tls_version(self) -> Option<String> {
        self.text(ffi::MQX_tlsVersion)
    }

    /// The cipher suite by its registered name.
    pub fn cipher(self) -> Option<String> {
        self.text(ffi::MQX_cipher)
    }

    /// The name that the client asked for in its handshake.
    pub fn sni(self) -> Option<String> {
        self.text(ffi::MQX_sni)
    }

    /// Of one to a next hop: the host that it was made to, as MX records or settings name it.
    pub fn host(self) -> Option<String> {
        self.text(ffi::MQX_host)
    }

    /// Is everything on it encrypted?
    pub fn is_secure(self) -> bool {
        ffi::MQ_secure(self.0) != 0
    }

    /// Does the client count as authenticated?
    pub fn is_authenticated(self) -> bool {
        ffi::MQ_authenticated(self.0) != 0
    }

    // ---- What is said: by the step, while its hook runs, and by its hold, while that lives ---------

    pub(crate) fn set_authenticated(self, authenticated: bool) {
        ffi::MQ_setAuthenticated(self.0, authenticated);
    }

    pub(crate) fn send(self, bytes: &[u8]) -> bool {
        let start: *const c_void = bytes.as_ptr().cast();
        // SAFETY: that many octets can be read there.
        unsafe { ffi::MQ_send(self.0, start, bytes.len()) == bytes.len() }
    }

    pub(crate) fn reject(self, code: u16, status: &str, text: &str) -> bool {
        self.answer(ffi::MQX_reject, code, status, text)
    }

    pub(crate) fn defer(self, code: u16, status: &str, text: &str) -> bool {
        self.answer(ffi::MQX_defer, code, status, text)
    }

    pub(crate) fn discard(self) -> bool {
        ffi::MQX_discard(self.0.cast()) != 0
    }

    pub(crate) fn disconnect(self) -> bool {
        ffi::MQX_disconnect(self.0) != 0
    }

    pub(crate) fn fail(self) -> bool {
        ffi::MQX_fail(self.0) != 0
    }

    // ---- Notes ------------------------------------------------------------------------------------

    /// Keeps a value under a name, for all plugins, as long as the connection lives; `None` removes it.
    pub fn set_note(self, name: &str, value: Option<&[u8]>) -> bool {
        set_note(self.0.cast(), name, value)
    }

    /// What was kept under a name.
    pub fn note(self, name: &str) -> Option<Vec<u8>> {
        note(self.0.cast(), name)
    }

    fn text(self, getter: Getter) -> Option<String> {
        let mut size = 0;
        let text = getter(self.0, &mut size);
        // SAFETY: what a getter returns is NULL or readable for `size` octets.
        unsafe { ffi::text(text, size) }
    }

    fn answer(self, answer: Answer, code: u16, status: &str, text: &str) -> bool {
        let (status, text) = (usual_or(status), usual_or(text));
        // SAFETY: both are NULL or NUL-terminated strings that outlive the call.
        unsafe { answer(self.0, c_int::from(code), start_of(&status), start_of(&text)) != 0 }
    }
}

/// "" stands for what is usual.
pub(crate) fn usual_or(text: &str) -> Option<CString> {
    (!text.is_empty()).then(|| c_string(text))
}

/// NULL for what is usual.
pub(crate) fn start_of(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}

pub(crate) fn set_note(of: *mut c_void, name: &str, value: Option<&[u8]>) -> bool {
    let name = c_string(name);
    let (start, size) = match value {
        Some(value) => (value.as_ptr().cast(), value.len()),
        None => (ptr::null(), 0),
    };
    // SAFETY: the name is a NUL-terminated string, and `size` octets can be read at `start`.
    unsafe { ffi::MQX_setNote(of, name.as_ptr(), start, size) != 0 }
}

pub(crate) fn note(of: *mut c_void, name: &str) -> Option<Vec<u8>> {
    let name = c_string(name);
    let mut size = 0;
    // SAFETY: the name is a NUL-terminated string; `size` is a place for the size.
    let value = unsafe { ffi::MQX_note(of, name.as_ptr(), &mut size) };
    // SAFETY: what it returns is NULL or readable for `size` octets.
    unsafe { ffi::copied(value, size) }
}
