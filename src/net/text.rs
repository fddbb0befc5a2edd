//! A message text on its way to a socket: stuffed as it goes, never copied.
//!
//! Must never: hold more than references to the text.
//!
//! **Diagnostics**: none; the transport says how a write ended.

use std::io::IoSlice;
use std::sync::Arc;

use crate::queue::{Body, Transaction};
use crate::smtp::stuffer::{LineRepair, Place, Stuffer};

use super::transport::{Moved, Transport};

/// Slices handed to one write; the system takes 1,024 at most.
const SLICES_MAX: usize = 64;

/// Writes of one text in one turn.
const WRITES_MAX: usize = 16;

/// A text that is being sent.
#[derive(Debug)]
pub struct TextOut {
    transaction: Arc<Transaction>,
    body: Body,
    /// Whether our Received field goes before it.
    traced: bool,
    place: Place,
    /// Octets of the slice at `place` that are out.
    skip: usize,
    ended: bool,
}

/// How far a text has come.
#[derive(Debug)]
pub enum Sent {
    /// All of it, with the line that ends it.
    All,
    /// Much of it; the socket may take more, after the others had their turn.
    Some,
    /// The socket is full.
    Blocked,
    /// The connection is lost.
    Gone,
}

impl TextOut {
    /// The stored text, with our Received field before it.
    pub fn stored(transaction: Arc<Transaction>, body: Body) -> TextOut {
        TextOut { transaction, body, traced: true, place: Place::START, skip: 0, ended: false }
    }

    /// A text that a plugin made for this attempt: it is final as it is.
    pub fn made(transaction: Arc<Transaction>, body: Body) -> TextOut {
        TextOut { traced: false, ..TextOut::stored(transaction, body) }
    }

    /// Writes as much as the socket takes. Returns how far it came, and the octets written.
    pub fn write(&mut self, transport: &mut Transport) -> (Sent, usize) {
        let mut total = 0;
        for _ in 0..WRITES_MAX {
            let (moved, places) = self.write_some(transport);
            let count = match moved {
                Moved::Some(count) | Moved::Blocked(count) => count,
                Moved::End | Moved::Gone(_) => return (Sent::Gone, total),
            };
            total += count;
            self.advance(count, &places);
            if self.ended {
                return (Sent::All, total);
            }
            if matches!(moved, Moved::Blocked(_)) {
                return (Sent::Blocked, total);
            }
        }
        (Sent::Some, total)
    }

    /// One write of the slices that come next; with where each ends.
    fn write_some(&self, transport: &mut Transport) -> (Moved, Vec<(usize, Place)>) {
        let trace: &[u8] = if self.traced { &self.transaction.trace } else { &[] };
        let mut stuffer =
            Stuffer::resume(trace, self.body.as_bytes(), LineRepair::Trust, self.place);
        let mut slices = Vec::with_capacity(4);
        let mut places = Vec::with_capacity(4);
        while slices.len() < SLICES_MAX
            && let Some(slice) = stuffer.next()
        {
            let skip = if slices.is_empty() { self.skip } else { 0 };
            places.push((slice.len(), stuffer.place()));
            slices.push(IoSlice::new(&slice[skip..]));
        }
        (transport.write_slices(&slices), places)
    }

    /// `count` octets of the slices that end at `places` are out.
    fn advance(&mut self, count: usize, places: &[(usize, Place)]) {
        let mut left = count + self.skip;
        for &(length, place) in places {
            if left < length {
                break;
            }
            left -= length;
            self.place = place;
        }
        self.skip = left;
        self.ended = self.place.is_end() && self.skip == 0;
    }
}
