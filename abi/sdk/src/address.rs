//! An address that a client named. Must never: outlive the hook. Diagnostics: none.

use std::borrow::Cow;
use std::ffi::{CStr, c_void};
use std::marker::PhantomData;

use crate::ffi::{self, MqAddress};

/// The sender of MAIL FROM, or a recipient of RCPT TO, without brackets and parameters.
#[derive(Debug)]
pub struct Address<'a> {
    pointer: *mut MqAddress,
    text: Option<&'a [u8]>,
    _here: PhantomData<*mut ()>,
}

impl<'a> Address<'a> {
    /// # Safety
    /// The pointer is what the server gave to the hook whose call is `'a`.
    pub(crate) unsafe fn new(pointer: *mut MqAddress) -> Address<'a> {
        let text = ffi::MQ_email(pointer.cast());
        let text = (!text.is_null()).then(|| {
            // SAFETY: it is a NUL-terminated string, valid until the step is over, which is not before
            // the hook has returned; nothing that this crate offers changes it.
            unsafe { CStr::from_ptr::<'a>(text) }.to_bytes()
        });
        Address { pointer, text, _here: PhantomData }
    }

    /// Is it the null sender?
    pub fn is_null(&self) -> bool {
        self.text.is_none()
    }

    /// Its octets; empty for the null sender.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.text.unwrap_or_default()
    }

    /// As text, which the server has checked to be UTF-8; empty for the null sender.
    pub fn text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.as_bytes())
    }

    /// What comes before the last `@`.
    pub fn local_part(&self) -> Cow<'a, str> {
        let text = self.as_bytes();
        let end = text.iter().rposition(|byte| *byte == b'@').unwrap_or(text.len());
        String::from_utf8_lossy(&text[..end])
    }

    /// What comes after the last `@`; empty without one.
    pub fn domain(&self) -> Cow<'a, str> {
        let text = self.as_bytes();
        let start = text.iter().rposition(|byte| *byte == b'@').map_or(text.len(), |at| at + 1);
        String::from_utf8_lossy(&text[start..])
    }

    /// Is it a local recipient, by the settings or a plugin?
    pub fn is_local(&self) -> bool {
        let address: *const c_void = self.pointer.cast();
        ffi::MQ_local(address) != 0
    }

    /// Says that it is one, or is none: a local recipient is accepted from everybody.
    pub fn set_local(&self, local: bool) {
        let address: *mut c_void = self.pointer.cast();
        ffi::MQ_setLocal(address, local);
    }
}
