//! Text: bytes that C may read, because one zero byte follows them.
//!
//! Owns that invariant. Must never look for a meaning in the bytes: they may contain NULs and need
//! not be UTF-8. Diagnostics: `None` where the zero byte is missing.

use std::ffi::{CStr, c_char};
use std::sync::Arc;

/// Borrowed bytes with one zero byte past their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminated<'a>(&'a [u8]);

impl<'a> Terminated<'a> {
    /// No bytes: the null sender, for one.
    pub const EMPTY: Terminated<'static> = Terminated(&[0]);

    /// `bytes` ends in the zero byte, which does not count; `None` if it does not. Others may come before.
    pub fn new(bytes: &'a [u8]) -> Option<Terminated<'a>> {
        (bytes.last() == Some(&0)).then_some(Terminated(bytes))
    }

    /// The bytes without the zero byte at their end.
    pub fn as_bytes(self) -> &'a [u8] {
        &self.0[..self.size()]
    }

    pub(crate) fn as_ptr(self) -> *const c_char {
        self.0.as_ptr().cast()
    }

    pub(crate) fn size(self) -> usize {
        self.0.len() - 1
    }
}

impl<'a> From<&'a CStr> for Terminated<'a> {
    fn from(text: &'a CStr) -> Terminated<'a> {
        Terminated(text.to_bytes_with_nul())
    }
}

/// Owned bytes with one zero byte past their end; clones share them.
#[derive(Clone, Debug)]
pub struct Text(Owned);

/// A longer copy is a buffer, which [`Text::into_vec`] takes as it is.
const COPY_BYTES_MAX: usize = 512;

/// What is kept to be refilled is at least this much, and at most that.
const REFILL_BYTES_MIN: usize = 64;
const REFILL_BYTES_MAX: usize = 512;

/// A short copy takes one allocation, a buffer that came from elsewhere is not copied.
#[derive(Clone, Debug)]
enum Owned {
    Copy(Arc<[u8]>),
    Buffer(Arc<Vec<u8>>),
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl Text {
    /// Copies `bytes`, which need no zero byte.
    pub fn copy_from(bytes: &[u8]) -> Text {
        if bytes.len() > COPY_BYTES_MAX {
            let mut copy = Vec::with_capacity(bytes.len() + 1);
            copy.extend_from_slice(bytes);
            return Text::from_vec(copy);
        }
        let mut copy: Arc<[u8]> = std::iter::repeat_n(0, bytes.len() + 1).collect();
        let own = Arc::get_mut(&mut copy).expect("it was made above");
        own[..bytes.len()].copy_from_slice(bytes);
        Text(Owned::Copy(copy))
    }

    /// Adds the zero byte; copies only if `bytes` has no room for it.
    pub fn from_vec(mut bytes: Vec<u8>) -> Text {
        bytes.push(0);
        Text(Owned::Buffer(Arc::new(bytes)))
    }

    /// Shares a buffer that ends in the zero byte already; gives it back if it does not.
    pub fn from_terminated(bytes: Arc<Vec<u8>>) -> Result<Text, Arc<Vec<u8>>> {
        if bytes.last() == Some(&0) { Ok(Text(Owned::Buffer(bytes))) } else { Err(bytes) }
    }

    /// Makes it say `bytes` in the memory that it has, if nobody shares that and it is neither too small nor
    /// far too big; else in another.
    pub(crate) fn refill(&mut self, bytes: &[u8]) {
        if let Owned::Buffer(buffer) = &mut self.0
            && let Some(buffer) = Arc::get_mut(buffer)
            && (bytes.len() + 1..=REFILL_BYTES_MAX).contains(&buffer.capacity())
        {
            buffer.clear();
            buffer.extend_from_slice(bytes);
            buffer.push(0);
            return;
        }
        *self = Text::refillable(bytes);
    }

    /// A copy for [`Text::refill`]: with room for most addresses.
    #[cold]
    pub(crate) fn refillable(bytes: &[u8]) -> Text {
        let mut copy = Vec::with_capacity((bytes.len() + 1).max(REFILL_BYTES_MIN));
        copy.extend_from_slice(bytes);
        Text::from_vec(copy)
    }

    /// The bytes without the zero byte at their end.
    pub fn as_bytes(&self) -> &[u8] {
        self.as_terminated().as_bytes()
    }

    /// The same bytes, borrowed.
    pub fn as_terminated(&self) -> Terminated<'_> {
        match &self.0 {
            Owned::Copy(bytes) => Terminated(bytes),
            Owned::Buffer(bytes) => Terminated(bytes),
        }
    }

    /// The bytes without the zero byte; a buffer is copied only if it is shared.
    pub fn into_vec(self) -> Vec<u8> {
        let mut bytes = match self.0 {
            Owned::Copy(bytes) => bytes.to_vec(),
            Owned::Buffer(bytes) => Arc::unwrap_or_clone(bytes),
        };
        bytes.pop();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zero_byte_never_counts() {
        let text = Text::copy_from(b"a\0b");
        assert_eq!(text.as_bytes(), b"a\0b");
        assert_eq!(text.as_terminated().size(), 3);
        assert_eq!(text.clone().into_vec(), b"a\0b");
        assert_eq!(text, Text::from_vec(b"a\0b".to_vec()));
        assert_ne!(text, Text::copy_from(b"a"));
        assert_eq!(Terminated::EMPTY.as_bytes(), b"");
    }

    #[test]
    fn a_text_is_refilled_in_its_own_memory_unless_somebody_shares_it() {
        let mut text = Text::refillable(b"someone@example.org");
        let place = text.as_bytes().as_ptr();
        text.refill(b"else@example.com");
        assert_eq!((text.as_bytes(), text.as_bytes().as_ptr()), (&b"else@example.com"[..], place));
        let shared = text.clone();
        text.refill(b"");
        assert_eq!((shared.as_bytes(), text.as_bytes()), (&b"else@example.com"[..], &b""[..]));
        assert_eq!(text.as_terminated(), Terminated::EMPTY);
        for long in [REFILL_BYTES_MIN, REFILL_BYTES_MAX, 70_000] {
            text.refill(&vec![b'x'; long]);
            assert_eq!(text.as_bytes().len(), long);
        }
        text.refill(b"short");
        let Owned::Buffer(buffer) = &text.0 else { panic!("it is a buffer") };
        assert!(buffer.capacity() <= REFILL_BYTES_MAX, "what is far too big is let go of");
    }

    #[test]
    fn bytes_without_a_zero_at_the_end_are_refused() {
        assert_eq!(Terminated::new(b"abc"), None);
        assert_eq!(Terminated::new(b""), None);
        assert!(Text::from_terminated(Arc::new(b"abc".to_vec())).is_err());
    }

    #[test]
    fn sharing_a_terminated_buffer_copies_nothing() {
        let shared = Arc::new(b"body\0".to_vec());
        let text = Text::from_terminated(Arc::clone(&shared)).expect("terminated");
        assert_eq!(text.as_bytes().as_ptr(), shared.as_ptr());
    }
}
