//! A queue of bytes that costs nothing while it is empty.
//!
//! Owns what a session has not parsed yet, or has not sent yet. It never grows by itself: the session
//! bounds what it puts in.
//!
//! Diagnostics: consuming more than there is, is a bug and panics.

use std::fmt;

use zeroize::Zeroize;

/// Capacity that an empty buffer may keep, so that an idle connection stays well under 1 KiB.
const IDLE_BYTES_MAX: usize = 256;

/// Bytes in order, consumed from the front.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Index of the first byte that is not consumed; never past the end.
    start: usize,
    /// It holds a secret, which is wiped when it is let go.
    secret: bool,
}

impl Buffer {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.tail().extend_from_slice(bytes);
    }

    /// Appends a secret, which is wiped once all is consumed. Made room for first: a vector that grows
    /// leaves a copy of what it held behind.
    pub(super) fn push_secret(&mut self, secret: &[u8]) {
        let tail = self.tail();
        tail.reserve(secret.len());
        tail.extend_from_slice(secret);
        self.secret = true;
    }

    /// The vector to append to. Consumed bytes are cut off first, so that they never pile up.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "only bytes that are there can be consumed");
        self.start += count;
        if self.is_empty() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.wipe();
        self.start = 0;
        self.bytes.clear();
        if self.bytes.capacity() > IDLE_BYTES_MAX {
            self.bytes = Vec::new();
        }
    }

    /// Moves everything to the end of `target`.
    pub(super) fn drain_into(&mut self, target: &mut Vec<u8>) {
        target.extend_from_slice(self.as_slice());
        self.clear();
    }

    /// Overwrites what is held and what was, if a secret is among it.
    fn wipe(&mut self) {
        if std::mem::take(&mut self.secret) {
            self.bytes.zeroize();
        }
    }
}

/// The length alone: passwords pass through here.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} octets)", self.len())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.wipe();
    }
}
