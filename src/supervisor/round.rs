//! When something that is done regularly is due.
//!
//! Owns the next time. Must not be put off by what happens meanwhile, and makes up for nothing that was
//! missed.
//!
//! Diagnostics: none.

use std::time::{Duration, Instant};

pub(super) struct Round {
    every: Duration,
    next: Instant,
}

impl Round {
    /// Due for the first time `every` after `now`.
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        Self { every, next: now + every }
    }

    /// When it is due.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// Whether it is due; if so, it is again a while later.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + self.every;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events that come faster than it is due do not put it off.
    #[test]
    fn it_is_due_at_its_time_however_often_it_is_asked() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut round = Round::new(Duration::from_millis(1000), start);
        let due: Vec<u64> = (0..40).map(|n| n * 100).filter(|ms| round.is_due(at(*ms))).collect();
        assert_eq!(due, [1000, 2000, 3000]);
        assert!(round.is_due(at(9_500)));
        assert_eq!(round.next(), at(10_500), "nothing is made up for");
    }
}
