//! When each message of an open loop is due, whatever the server makes of those before it.
//!
//! Threads share a rate by taking turns: thread n of t sends the messages n, n + t, n + 2t.
//!
//! **Diagnostics**: none.

use std::time::{Duration, Instant};

use crate::cli::Extent;

/// The messages of one thread by their time.
#[derive(Debug)]
pub(super) struct Pace {
    /// Messages a second, of all threads.
    rate: u32,
    threads: u64,
    /// The number of the next message.
    next: u64,
    /// Messages in all; only those with lower numbers exist.
    end: u64,
    /// When message 0 is due; nothing is before it is known.
    start: Option<Instant>,
}

impl Pace {
    /// A schedule of thread `index`.
    pub(super) fn new(rate: u32, extent: Extent, index: u32, threads: u32) -> Pace {
        let end = match extent {
            Extent::Messages(count) => count,
            Extent::Time(time) => time.as_secs().saturating_mul(rate.into()),
        };
        Pace { rate, threads: threads.into(), next: index.into(), end, start: None }
    }

    /// Begins, unless it has.
    pub(super) fn start(&mut self, now: Instant) {
        self.start.get_or_insert(now);
    }

    /// When the next message is due; `None` before the start and after the last.
    pub(super) fn due(&self) -> Option<Instant> {
        let start = self.start.filter(|_| self.next < self.end)?;
        let nanos = u128::from(self.next) * 1_000_000_000 / u128::from(self.rate);
        // 584 years.
        Some(start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// The next message, if it is due: its number, and since when.
    pub(super) fn take(&mut self, now: Instant) -> Option<(u64, Instant)> {
        let due = self.due().filter(|due| *due <= now)?;
        let number = self.next;
        self.next += self.threads;
        Some((number, due))
    }

    /// How many messages were not taken.
    pub(super) fn left(&self) -> u64 {
        self.end.saturating_sub(self.next).div_ceil(self.threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_a_rate_and_leave_nothing_out() {
        let start = Instant::now();
        let mut seen = Vec::new();
        for index in 0..3 {
            let mut pace = Pace::new(100, Extent::Messages(10), index, 3);
            assert_eq!(pace.take(start), None, "it has not begun");
            pace.start(start);
            while let Some((number, due)) = pace.take(start + Duration::from_secs(9)) {
                assert_eq!(due, start + Duration::from_millis(10 * number));
                seen.push(number);
            }
            assert_eq!((pace.left(), pace.due()), (0, None));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_taken_before_it_is_due() {
        let start = Instant::now();
        let mut pace = Pace::new(2, Extent::Time(Duration::from_secs(2)), 0, 1);
        pace.start(start);
        assert_eq!(pace.take(start), Some((0, start)));
        let half = start + Duration::from_millis(500);
        assert_eq!(pace.take(half - Duration::from_nanos(1)), None);
        assert_eq!((pace.due(), pace.take(half)), (Some(half), Some((1, half))));
        assert_eq!(pace.left(), 2);
    }
}
