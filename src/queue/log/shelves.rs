//! The named queues: which transactions are their entries.
//!
//! Owns names and order; the entries themselves are transactions like any other, written and freed as
//! mail is. Of each entry only its id and its size stay in memory. A name is there as long as something
//! is in it.
//!
//! Diagnostics: none.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::queue::engine::Shelf;
use crate::queue::mail::TransactionId;

/// All named queues.
#[derive(Debug, Default)]
pub(super) struct Shelves(BTreeMap<Arc<String>, Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// With the bytes of each one's record.
    ids: BTreeMap<TransactionId, u32>,
    bytes: u64,
}

impl Shelves {
    /// The one copy of a name.
    pub(super) fn name(&self, name: &str) -> Arc<String> {
        let name = name.to_owned();
        self.0.get_key_value(&name).map_or_else(|| Arc::new(name), |(known, _)| known.clone())
    }

    pub(super) fn add(&mut self, name: &Arc<String>, id: TransactionId, bytes: u32) {
        let entries = self.0.entry(name.clone()).or_default();
        let before = entries.ids.insert(id, bytes).unwrap_or(0);
        entries.bytes = entries.bytes - u64::from(before) + u64::from(bytes);
    }

    pub(super) fn remove(&mut self, name: &Arc<String>, id: TransactionId) {
        let Some(entries) = self.0.get_mut(name) else {
            return;
        };
        entries.bytes -= entries.ids.remove(&id).map_or(0, u64::from);
        if entries.ids.is_empty() {
            self.0.remove(name);
        }
    }

    /// Those that were there at the start.
    pub(super) fn go_on_from(&mut self, before: Shelves) {
        for (name, mut entries) in before.0 {
            let since = self.0.entry(name).or_default();
            since.ids.append(&mut entries.ids);
            since.bytes += entries.bytes;
        }
    }

    /// See [`Queue::shelves`](crate::queue::Queue::shelves).
    pub(super) fn list(&self) -> Vec<Shelf> {
        let shelf = |(name, entries): (&Arc<String>, &Entries)| Shelf {
            name: name.as_str().into(),
            entries: entries.ids.len() as u64,
            bytes: entries.bytes,
        };
        self.0.iter().map(shelf).collect()
    }

    /// See [`Queue::shelved`](crate::queue::Queue::shelved).
    pub(super) fn ids(
        &self,
        name: &str,
        after: Option<TransactionId>,
        limit: usize,
    ) -> Vec<(TransactionId, u32)> {
        // An `Arc<String>` borrows as a `String` only.
        let name = String::from(name);
        let Some(entries) = self.0.get(&name) else {
            return Vec::new();
        };
        let from = after.map_or(0, |after| after.as_u64().saturating_add(1));
        let entries = entries.ids.range(TransactionId::from_u64(from)..);
        entries.take(limit).map(|(id, bytes)| (*id, *bytes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_their_order_and_an_empty_queue_is_gone() {
        let id = TransactionId::from_u64;
        let mut shelves = Shelves::default();
        let name = shelves.name("results");
        for number in [3, 1, 2] {
            shelves.add(&name, id(number), 10);
        }
        shelves.add(&name, id(2), 15);
        let other = shelves.name("other");
        shelves.add(&other, id(9), 1);
        assert!(Arc::ptr_eq(&name, &shelves.name("results")));
        assert_eq!(shelves.ids("results", None, 2), [(id(1), 10), (id(2), 15)]);
        assert_eq!(shelves.ids("results", Some(id(2)), 9), [(id(3), 10)]);
        assert_eq!(shelves.ids("unknown", None, 9), []);
        let sizes: Vec<_> = shelves.list().iter().map(|s| (s.entries, s.bytes)).collect();
        assert_eq!(sizes, [(1, 1), (3, 35)]);
        for number in [1, 2, 3] {
            shelves.remove(&name, id(number));
        }
        shelves.remove(&name, id(1));
        assert_eq!(shelves.list().len(), 1);
    }
}
