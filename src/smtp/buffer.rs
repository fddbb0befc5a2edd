//! A queue of bytes that costs nothing while it is empty.
//!
//! Owns what a session has not parsed yet, or has not sent yet. It never grows by itself: the session
//! bounds what it puts in. While secrets may pass through, it wipes what it lets go.
//!
//! Diagnostics: consuming more than there is, is a bug and panics.

use std::fmt;

use zeroize::Zeroize as _;

/// Capacity that an empty buffer may keep, so that an idle connection stays well under 1 KiB.
const IDLE_BYTES_MAX: usize = 256;

/// Bytes in order, consumed from the front.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Index of the first byte that is not consumed; never past the end.
    start: usize,
    /// Whether what leaves the buffer leaves no trace in it.
    wipes: bool,
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

    /// Whether bytes that are consumed, dropped or moved are overwritten.
    pub(super) fn set_wiping(&mut self, wipes: bool) {
        self.wipes = wipes;
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.wipes && self.bytes.capacity() - self.bytes.len() < bytes.len() {
            // A vector that grows by itself leaves its bytes behind in memory that it has given back.
            let mut grown = Vec::with_capacity(2 * (self.len() + bytes.len()));
            grown.extend_from_slice(self.as_slice());
            self.bytes.zeroize();
            (self.bytes, self.start) = (grown, 0);
        }
        self.tail().extend_from_slice(bytes);
    }

    /// The vector to append to. Consumed bytes are cut off first, so that they never pile up.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
            if self.wipes {
                // What was moved to the front is behind the end still.
                self.bytes.spare_capacity_mut().zeroize();
            }
        }
        &mut self.bytes
    }

    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "only bytes that are there can be consumed");
        if self.wipes {
            self.bytes[self.start..self.start + count].zeroize();
        }
        self.start += count;
        if self.is_empty() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.start = 0;
        if self.wipes {
            self.bytes.zeroize();
        }
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
}

/// The length alone: passwords pass through here.
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} octets)", self.len())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.wipes {
            self.bytes.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wiping_buffer_keeps_nothing_that_was_consumed() {
        let mut buffer = Buffer::default();
        buffer.set_wiping(true);
        buffer.push(b"AUTH PLAIN secret\r\nNOOP\r\n");
        buffer.consume(19);
        assert_eq!(buffer.as_slice(), b"NOOP\r\n");
        assert!(buffer.bytes[..19].iter().all(|byte| *byte == 0));
        buffer.push(b"QUIT\r\n");
        assert_eq!(buffer.as_slice(), b"NOOP\r\nQUIT\r\n");
        buffer.push(&[b'x'; 1000]);
        assert_eq!(buffer.len(), 1012);
        buffer.consume(1012);
        assert!(buffer.is_empty() && buffer.bytes.capacity() <= IDLE_BYTES_MAX);
    }
}
