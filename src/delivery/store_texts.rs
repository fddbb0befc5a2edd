//! Which texts of mails that wait for a connection stay in memory.
//!
//! A text is on disk from the commit on, so memory is for those that are needed soon: reading one back costs a
//! system call and a thread's attention, keeping one costs its octets for as long as it waits, and new memory
//! from the kernel for each mail that comes.
//!
//! Must never: let go of a text that an attempt uses.
//!
//! **Diagnostics**: none.

use crate::queue::TransactionId;

use super::super::destinations::DestinationId;
use super::super::held::{Content, Held, needs_text};
use super::{Place, Store, Work, find};

/// Ready mails of a destination whose texts stay: what the reading back of those behind them has for a start.
const AHEAD_MAX: usize = 4_000;
/// Ready mails that are looked at for one whose text is in memory, when there is no room for another.
const MEMORY_SCAN: usize = 1_000;

impl Store {
    /// Whether every mail of a new transaction that needs its text has long to wait: behind many others, or
    /// for a host that could not be reached.
    pub(super) fn is_far(&self, held: &Held) -> bool {
        held.mails().iter().filter(|mail| needs_text(mail.place())).all(|mail| {
            let destination = mail.destination;
            self.destinations.ready(destination) > AHEAD_MAX
                || self.destinations.is_cut_off(destination)
        })
    }

    /// Lets go of a text that no attempt needs right now, to give memory to newer mail.
    pub fn unload(&mut self, id: TransactionId) {
        let Some(held) = self.held.get_mut(id) else {
            return;
        };
        if !matches!(held.content(), Content::Memory(_)) {
            return;
        }
        if held.mails().iter().all(|mail| mail.place() != Place::Active) {
            self.released += held.let_text_go();
        }
    }

    /// The first ready mail, among as many as are looked at, whose text is in memory.
    pub(super) fn take_from_memory(&mut self, destination: DestinationId) -> Option<Work> {
        let ready = &mut self.destinations.get_mut(destination)?.ready;
        for at in 0..MEMORY_SCAN.min(ready.len()) {
            let id = ready[at];
            let Some((held, place)) = find(&mut self.held, id) else {
                continue;
            };
            if let (Place::Ready, Content::Memory(transaction)) =
                (held.mails()[place].place(), held.content())
            {
                let transaction = held.text_for(id, place, transaction);
                held.move_to(place, Place::Active);
                self.active += 1;
                ready.remove(at);
                return Some(Work::Deliver(id, transaction));
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "store_texts_tests.rs"]
mod tests;
