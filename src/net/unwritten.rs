//! Octets of results and notices between their writing and the disk.
//!
//! They go to the queue's log in front of the outcome that they tell of, and the queue counts outcomes in
//! the order in which they were handed over: so an outcome that is durable frees what went with it.
//!
//! Must never: say that there is room while a disk that takes nothing has the bound in memory.
//!
//! **Diagnostics**: none; deliveries pause ([`Settlements::has_room`](super::settlement::Settlements::has_room)).

use std::collections::VecDeque;

/// Octets of one worker's results and notices that may be on their way to the disk before deliveries pause;
/// what one turn writes comes on top.
pub const UNWRITTEN_BYTES_MAX: usize = 32 << 20;

/// What was handed over and is not durable yet.
#[derive(Debug, Default)]
pub struct Unwritten {
    bytes: usize,
    /// Outcomes handed over since the start.
    handed_over: u64,
    /// Of these, those that are durable.
    durable: u64,
    /// Those that wait with something to be told: their numbers, and the octets of that.
    waiting: VecDeque<(u64, usize)>,
}

impl Unwritten {
    /// Whether more may be handed over.
    pub fn has_room(&self) -> bool {
        self.bytes < UNWRITTEN_BYTES_MAX
    }

    /// An outcome is handed over, with so many octets that tell of it.
    pub fn hand_over(&mut self, told_bytes: usize) {
        self.handed_over += 1;
        if told_bytes > 0 {
            self.bytes = self.bytes.saturating_add(told_bytes);
            self.waiting.push_back((self.handed_over, told_bytes));
        }
    }

    /// So many more outcomes are durable, and what was told of them. Returns whether that made the room
    /// that there was not.
    pub fn on_settled(&mut self, count: usize) -> bool {
        let full = !self.has_room();
        self.durable += count as u64;
        while let Some(&(number, bytes)) = self.waiting.front()
            && number <= self.durable
        {
            self.bytes = self.bytes.saturating_sub(bytes);
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(64);
        }
        full && self.has_room()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_counts_until_the_outcome_behind_it_is_durable() {
        let mut unwritten = Unwritten::default();
        unwritten.hand_over(0);
        unwritten.hand_over(UNWRITTEN_BYTES_MAX - 1);
        assert!(unwritten.has_room());
        unwritten.hand_over(0);
        unwritten.hand_over(1);
        assert!(!unwritten.has_room(), "the bound is reached");
        assert!(!unwritten.on_settled(1), "nothing was told of the first");
        assert!(!unwritten.has_room());
        assert!(unwritten.on_settled(1), "there is room again");
        assert!(!unwritten.on_settled(2), "there was room before");
        assert_eq!((unwritten.bytes, unwritten.waiting.len()), (0, 0));
    }
}
