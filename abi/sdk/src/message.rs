//! A message: its sender, recipient and text, for one recipient. Must never: borrow from the server.
//!
//! Diagnostics: `None` where there is no such value, or the message is gone.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::connection::{self, start_of, usual_or};
use crate::ffi::{self, MqMessage};
use crate::log::c_string;

/// A message that a hook is shown. A number, in fact: copies name the same one, and are harmless when the
/// step is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message(*mut MqMessage);

type Getter = extern "C" fn(*mut MqMessage, &mut usize) -> *const c_char;
type Setter = unsafe extern "C" fn(*mut MqMessage, *const c_char, usize);

impl Message {
    pub(crate) fn new(pointer: *mut MqMessage) -> Message {
        Message(pointer)
    }

    /// The `MQ_Message *` of `mailerq.h`, for what this crate does not have; to be given to the server's
    /// functions, never to be read.
    pub fn as_raw(self) -> *mut c_void {
        self.0.cast()
    }

    /// The sender; empty for the null sender.
    pub fn sender(self) -> Option<String> {
        self.text(ffi::MQX_envelope)
    }

    /// The recipient.
    pub fn recipient(self) -> Option<String> {
        self.text(ffi::MQX_recipient)
    }

    /// The text, NUL octets included. Of an outgoing message there is none before a plugin has set it.
    pub fn mime(self) -> Option<Vec<u8>> {
        let mut size = 0;
        let text = ffi::MQX_mime(self.0, &mut size);
        // SAFETY: what a getter returns is NULL or readable for `size` octets.
        unsafe { ffi::copied(text, size) }
    }

    /// Its name in the queue.
    pub fn id(self) -> Option<String> {
        self.text(ffi::MQX_messageId)
    }

    /// How many attempts to deliver it there were, with that of now; 0 while it comes in.
    pub fn attempt(self) -> u32 {
        let attempt = ffi::MQX_attempt(self.0);
        u32::try_from(attempt).unwrap_or(0)
    }

    /// In `out_result`: how far it came, in the words of results ("mailfrom", "rcptto", "data", "message").
    pub fn state(self) -> Option<String> {
        let text = ffi::MQX_state(self.0);
        if text.is_null() {
            return None;
        }
        // SAFETY: not NULL, and a NUL-terminated string until the step is over.
        let text = unsafe { CStr::from_ptr(text) };
        Some(text.to_string_lossy().into_owned())
    }

    /// Gives it another sender; "" is the null sender.
    pub fn set_sender(self, sender: &str) {
        self.set(ffi::MQ_setEnvelope, sender.as_bytes());
    }

    /// Gives it another recipient.
    pub fn set_recipient(self, recipient: &str) {
        self.set(ffi::MQ_setRecipient, recipient.as_bytes());
    }

    /// Gives it another text; lines may end in CRLF, CR or LF.
    pub fn set_mime(self, mime: &[u8]) {
        self.set(ffi::MQ_setMime, mime);
    }

    /// Is its recipient a local one?
    pub fn is_local(self) -> bool {
        ffi::MQ_local(self.0.cast()) != 0
    }

    /// Says that its recipient is a local one, or is none.
    pub fn set_local(self, local: bool) {
        ffi::MQ_setLocal(self.0.cast(), local);
    }

    /// Answers as if all were well, and drops it.
    pub fn discard(self) -> bool {
        ffi::MQX_discard(self.0.cast()) != 0
    }

    /// Lets it fail for good on its way out: a code from 500 to 559, an enhanced status of class 5, and the
    /// reason; 0 and "" stand for what is usual. False where there is nothing to decide any more.
    pub fn bounce(self, code: u16, status: &str, text: &str) -> bool {
        let (status, text) = (usual_or(status), usual_or(text));
        // SAFETY: both are NULL or NUL-terminated strings that outlive the call.
        unsafe {
            ffi::MQX_bounce(self.0, c_int::from(code), start_of(&status), start_of(&text)) != 0
        }
    }

    /// Has it tried again at this time, in a second at the earliest, before its time is over at the latest.
    pub fn retry_at(self, time: SystemTime) -> bool {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        ffi::MQX_retryAt(self.0, since.as_secs_f64()) != 0
    }

    /// Sends it to another host, at once and within this attempt; port 0 is that of mail.
    pub fn route(self, host: &str, port: u16) -> bool {
        let host = c_string(host);
        // SAFETY: the host is a NUL-terminated string that outlives the call.
        unsafe { ffi::MQX_route(self.0, host.as_ptr(), c_int::from(port)) != 0 }
    }

    /// Keeps a value under a name, for all plugins, as long as the mail is in the queue; `None` removes it.
    pub fn set_note(self, name: &str, value: Option<&[u8]>) -> bool {
        connection::set_note(self.0.cast(), name, value)
    }

    /// What was kept under a name.
    pub fn note(self, name: &str) -> Option<Vec<u8>> {
        connection::note(self.0.cast(), name)
    }

    fn text(self, getter: Getter) -> Option<String> {
        let mut size = 0;
        let text = getter(self.0, &mut size);
        // SAFETY: what a getter returns is NULL or readable for `size` octets.
        unsafe { ffi::text(text, size) }
    }

    fn set(self, setter: Setter, value: &[u8]) {
        // SAFETY: that many octets can be read there, and are copied before it returns.
        unsafe { setter(self.0, value.as_ptr().cast(), value.len()) };
    }
}
