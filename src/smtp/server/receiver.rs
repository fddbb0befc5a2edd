//! One message on its way in: buffer, budget and fate.
//!
//! Owns the text of the current transaction and its share of memory. Once a fault is known it holds
//! nothing any more and only follows the framing to its end. It writes no replies.
//!
//! Invariants: the buffer's capacity is never above `reserved`; after a fault both are zero;
//! `text[..kept]` is final and `text[kept..]` not looked at yet.
//!
//! Diagnostics: [`Fault`], answered by the session when the text or chunk ends.

use thiserror::Error;

use super::super::body::{Body, LineEnds, Piece, TextScanner, received_fields};
use super::super::memory::Memory;

/// Reserved for a mail whose size MAIL did not say.
const RESERVE_BYTES_DEFAULT: usize = 16 * 1024;
/// Reserved beyond `SIZE=`: the end of the text, stuffed dots, commands pipelined behind it, our zero.
const RESERVE_BYTES_SLACK: usize = 1024;
/// Allocated at once at most; what was reserved above it is allocated as text comes.
const ALLOCATE_BYTES_MAX: usize = 1 << 20;
/// A buffer grows by half, but at least by this: growing moves the text, and a text of 100 KiB whose size nobody
/// said is to be moved once, while it is small.
const STEP_BYTES_MIN: usize = 128 * 1024;
/// Room below which the buffer grows before the next read.
const ROOM_BYTES_MIN: usize = 512;

/// Why the text is not kept.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    #[error("the budget for bodies is used up")]
    Memory,
    #[error("the message is larger than allowed")]
    Size,
    #[error("a CR or LF stands alone in the text")]
    LineEnds,
    #[error("a chunk was refused, and its octets are missing")]
    Gap,
}

/// How far one piece of input went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Octets that belong to the message.
    pub(super) used: usize,
    /// Whether the text or chunk is complete.
    pub(super) ended: bool,
}

/// How the octets to come are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Dot-stuffed, up to CRLF.CRLF.
    Text,
    /// So many octets are left of the chunk.
    Chunk(u64),
}

/// The message of one transaction.
#[derive(Debug)]
pub(super) struct Receiver {
    text: Vec<u8>,
    kept: usize,
    /// What is reserved when the text begins.
    declared: usize,
    reserved: usize,
    size_max: u64,
    scanner: TextScanner,
    /// Line ends over all chunks: a CR at the end of one and an LF in the next are one CRLF.
    chunk_ends: LineEnds,
    fault: Option<Fault>,
}

impl Receiver {
    /// A message of which nothing has come; `None` if the budget has no room now for what MAIL
    /// declared, or a default. Nothing stays reserved until the text begins: what strangers only
    /// announce must keep nobody else's mail out.
    pub(super) fn open(
        declared: Option<u64>,
        size_max: u64,
        memory: &mut dyn Memory,
    ) -> Option<Self> {
        let wanted = declared.map_or(RESERVE_BYTES_DEFAULT, saturated);
        let reserved = wanted.min(saturated(size_max)).saturating_add(RESERVE_BYTES_SLACK);
        if !memory.reserve(reserved) {
            return None;
        }
        memory.release(reserved);
        Some(Self {
            text: Vec::new(),
            kept: 0,
            declared: reserved,
            reserved: 0,
            size_max,
            scanner: TextScanner::new(),
            chunk_ends: LineEnds::new(),
            fault: None,
        })
    }

    /// What became known to be wrong so far.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The text begins: reserves what was declared, if that has not happened; false if the budget has
    /// no room.
    #[must_use]
    pub(super) fn begin(&mut self, memory: &mut dyn Memory) -> bool {
        if self.reserved > 0 || self.fault.is_some() {
            return true;
        }
        let begun = memory.reserve(self.declared);
        self.reserved = if begun { self.declared } else { 0 };
        begun
    }

    /// Gives everything back; the message is gone.
    pub(super) fn release(&mut self, memory: &mut dyn Memory) {
        memory.release(self.reserved);
        self.reserved = 0;
        self.kept = 0;
        self.text = Vec::new();
    }

    /// Told how large the next chunk is, before any of it.
    pub(super) fn on_chunk(&mut self, size: u64, memory: &mut dyn Memory) {
        if !self.begin(memory) {
            return self.fail(Fault::Memory, memory);
        }
        if (self.kept as u64).saturating_add(size) > self.size_max {
            self.fail(Fault::Size, memory);
        }
    }

    /// Told that a chunk was refused: what follows is not the message that was meant.
    pub(super) fn on_gap(&mut self, memory: &mut dyn Memory) {
        self.fail(Fault::Gap, memory);
    }

    /// The buffer to append to, with room to spare; `None` if nothing is kept any more.
    pub(super) fn room(&mut self, memory: &mut dyn Memory) -> Option<&mut Vec<u8>> {
        self.grow(ROOM_BYTES_MIN, memory).then_some(&mut self.text)
    }

    /// Takes octets from a foreign buffer.
    pub(super) fn take(
        &mut self,
        framing: &mut Framing,
        raw: &[u8],
        memory: &mut dyn Memory,
    ) -> Progress {
        // Of a chunk, copy only what belongs to it.
        let raw = match framing {
            Framing::Chunk(left) => &raw[..raw.len().min(saturated(*left))],
            Framing::Text => raw,
        };
        if !self.grow(raw.len(), memory) {
            return self.discard(framing, raw);
        }
        self.text.extend_from_slice(raw);
        let (rest, ended) = self.scan(framing);
        let used = raw.len() - (self.text.len() - rest);
        self.text.truncate(self.kept);
        self.judge(memory);
        Progress { used, ended }
    }

    /// Takes octets that the driver appended to [`room`](Self::room); moves what follows the message
    /// to `rest`. Returns whether the text or chunk is complete.
    pub(super) fn take_appended(
        &mut self,
        framing: &mut Framing,
        rest: &mut Vec<u8>,
        memory: &mut dyn Memory,
    ) -> bool {
        assert!(self.text.len() >= self.kept, "a driver only appends to the body");
        let (after, ended) = self.scan(framing);
        rest.extend_from_slice(&self.text[after..]);
        self.text.truncate(self.kept);
        // The driver may have grown the buffer by more than was reserved.
        if !self.reserve_up_to(self.text.capacity(), memory) {
            self.fail(Fault::Memory, memory);
        }
        self.judge(memory);
        ended
    }

    /// Ends the message: the body and the memory held for it, which is the caller's now.
    pub(super) fn finish(&mut self, memory: &mut dyn Memory) -> Result<Finished, Fault> {
        if self.chunk_ends.is_stray() {
            self.fail(Fault::LineEnds, memory);
        }
        if !self.grow(1, memory) {
            return Err(self.fault.expect("a buffer that cannot grow has a fault"));
        }
        let mut text = std::mem::take(&mut self.text);
        if text.capacity() / 2 > text.len() + RESERVE_BYTES_SLACK {
            text.shrink_to(text.len() + 1);
        }
        let received_fields = received_fields(&text);
        let body = Body::new(text);
        let reserved = body.capacity().min(self.reserved);
        memory.release(self.reserved - reserved);
        self.reserved = 0;
        self.kept = 0;
        Ok(Finished { body, received_fields, reserved })
    }

    /// Makes final what is appended; returns where the message's octets end and whether it is complete.
    fn scan(&mut self, framing: &mut Framing) -> (usize, bool) {
        match framing {
            Framing::Text => self.scan_text(),
            Framing::Chunk(left) => {
                let count = (self.text.len() - self.kept).min(saturated(*left));
                let end = self.kept + count;
                self.chunk_ends.check(&self.text[self.kept..end]);
                self.kept = end;
                *left -= count as u64;
                (end, *left == 0)
            }
        }
    }

    /// Unstuffs in place: text moves only once a dot before it went away.
    fn scan_text(&mut self) -> (usize, bool) {
        let mut at = self.kept;
        loop {
            match self.scanner.next(&self.text, at) {
                Piece::Text(range) => {
                    at = range.end;
                    let count = range.len();
                    if range.start != self.kept {
                        self.text.copy_within(range, self.kept);
                    }
                    self.kept += count;
                }
                Piece::End(end) => return (end, true),
                Piece::More => return (self.text.len(), false),
            }
        }
    }

    /// Follows the framing and keeps nothing.
    fn discard(&mut self, framing: &mut Framing, raw: &[u8]) -> Progress {
        if let Framing::Chunk(left) = framing {
            *left -= raw.len() as u64;
            return Progress { used: raw.len(), ended: *left == 0 };
        }
        let mut at = 0;
        loop {
            match self.scanner.next(raw, at) {
                Piece::Text(range) => at = range.end,
                Piece::End(used) => return Progress { used, ended: true },
                Piece::More => {
                    return Progress { used: raw.len(), ended: false };
                }
            }
        }
    }

    /// Looks whether what was kept may be kept.
    fn judge(&mut self, memory: &mut dyn Memory) {
        if self.kept as u64 > self.size_max {
            self.fail(Fault::Size, memory);
        } else if self.scanner.is_stray() || self.chunk_ends.is_stray_for_good() {
            self.fail(Fault::LineEnds, memory);
        }
    }

    /// The first fault is the one that is answered.
    fn fail(&mut self, fault: Fault, memory: &mut dyn Memory) {
        if self.fault.is_none() {
            self.fault = Some(fault);
            self.release(memory);
        }
    }

    /// Makes room for `count` more octets, within the budget. False means that nothing is kept.
    fn grow(&mut self, count: usize, memory: &mut dyn Memory) -> bool {
        if self.fault.is_some() {
            return false;
        }
        let capacity = self.text.capacity();
        if capacity - self.text.len() >= count {
            return true;
        }
        let first = self.reserved.min(ALLOCATE_BYTES_MAX);
        let step = if capacity == 0 { first } else { (capacity / 2).max(STEP_BYTES_MIN) };
        let wanted = (capacity + step).max(self.text.len() + count);
        let grown = self.reserve_up_to(wanted, memory)
            && self.text.try_reserve_exact(wanted - self.text.len()).is_ok();
        if !grown {
            self.fail(Fault::Memory, memory);
        }
        grown
    }

    fn reserve_up_to(&mut self, wanted: usize, memory: &mut dyn Memory) -> bool {
        let missing = wanted.saturating_sub(self.reserved);
        let granted = missing == 0 || memory.reserve(missing);
        if granted {
            self.reserved += missing;
        }
        granted
    }
}

/// A message that is complete.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) body: Body,
    pub(super) received_fields: usize,
    pub(super) reserved: usize,
}

/// More than memory can hold is as good as all of it: reserving it fails.
fn saturated(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
