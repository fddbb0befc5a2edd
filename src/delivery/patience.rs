//! When one message is tried, and for how long: what it asks for itself, else what the settings say.
//!
//! Pure: `now` is a parameter. Must never: shorten what a message asked for because the settings have
//! changed since.
//!
//! **Diagnostics**: none.

use crate::queue::{Retrial, Retry, Wishes};

use super::{Now, Place, StoreLimits};

/// Nothing is further away than this, however wrong the wall clock stood when it was written down.
const SPAN_MS_MAX: u64 = 365 * 24 * 3600 * 1000;

/// The rules of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience<'a> {
    limits: &'a StoreLimits,
    wishes: Option<&'a Wishes>,
}

impl<'a> Patience<'a> {
    pub(super) fn of(limits: &'a StoreLimits, wishes: Option<&'a Wishes>) -> Self {
        Self { limits, wishes }
    }

    /// When its time is over, on the monotonic clock.
    pub(super) fn expiry_ms(&self, received_ms: u64, now: Now) -> u64 {
        match self.wishes.and_then(|wishes| wishes.deliver_until_ms) {
            Some(until_ms) => now.mono_of(until_ms, SPAN_MS_MAX),
            None => {
                let span_ms = self.limits.deliver_ms_max;
                now.mono_of(received_ms.saturating_add(span_ms), span_ms)
            }
        }
    }

    /// What it waits for at first.
    pub(super) fn first(&self, expiry_ms: u64, now: Now) -> Place {
        self.first_ms(now).map_or(Place::Ready, |first_ms| Place::Waiting(first_ms.min(expiry_ms)))
    }

    /// When it may first be tried, on the monotonic clock; none for at once.
    fn first_ms(&self, now: Now) -> Option<u64> {
        let not_before_ms = self.wishes?.not_before_ms?;
        (not_before_ms > now.unix_ms).then(|| now.mono_of(not_before_ms, SPAN_MS_MAX))
    }

    /// What becomes of it after its attempt number `attempts` failed for now, with so much time left.
    /// Times are in milliseconds, the answer's on the wall clock.
    pub(super) fn next(&self, attempts: u32, left_ms: u64, unix_ms: u64) -> Retrial {
        let Retry { intervals_s, attempts_max, .. } = &self.limits.retry;
        let wishes = self.wishes;
        let rule = Retry {
            intervals_s: Vec::new(),
            attempts_max: wishes.and_then(|w| w.attempts_max).unwrap_or(*attempts_max),
            deliver_ms_max: left_ms,
        };
        let intervals_s = wishes.and_then(|w| w.retries_s.as_deref()).unwrap_or(intervals_s);
        rule.next_of(intervals_s, attempts, unix_ms, unix_ms)
    }

    /// The longest pause between two attempts that may be meant, in milliseconds.
    pub(super) fn pause_ms_max(&self) -> u64 {
        match self.wishes {
            // What it asked for may have been more than the settings say by now.
            Some(_) => SPAN_MS_MAX,
            None => self.limits.retry.interval_ms_max(),
        }
    }

    /// Whether it stays in the queue when it failed for good: nobody takes its result.
    pub(super) fn keeps_failed(&self) -> bool {
        !self.limits.queues.takes_failures(self.wishes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::ResultQueues;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    fn limits() -> StoreLimits {
        StoreLimits {
            retry: Retry { intervals_s: vec![600], attempts_max: 3, deliver_ms_max: DAY_MS },
            deliver_ms_max: DAY_MS,
            loading_max: 1,
            queues: ResultQueues::default(),
        }
    }

    const NOW: Now = Now { mono_ms: 5_000, unix_ms: 1_000_000_000 };

    #[test]
    fn without_wishes_the_settings_rule() {
        let limits = limits();
        let patience = Patience::of(&limits, None);
        assert_eq!(patience.expiry_ms(NOW.unix_ms, NOW), 5_000 + DAY_MS);
        assert_eq!(patience.first_ms(NOW), None);
        assert_eq!(patience.next(1, DAY_MS, 7), Retrial::At(600_007));
        assert_eq!(patience.next(3, DAY_MS, 7), Retrial::GiveUp);
        assert_eq!(patience.next(1, 600_000, 7), Retrial::GiveUp, "it would expire first");
        assert!(patience.keeps_failed());
    }

    #[test]
    fn a_message_has_its_own_way() {
        let limits = limits();
        let wishes = Wishes {
            retries_s: Some([5, 60].into()),
            attempts_max: Some(9),
            deliver_until_ms: Some(NOW.unix_ms + 3 * DAY_MS),
            not_before_ms: Some(NOW.unix_ms + 2_000),
            ..Wishes::default()
        };
        let patience = Patience::of(&limits, Some(&wishes));
        assert_eq!(patience.expiry_ms(1, NOW), 5_000 + 3 * DAY_MS, "longer than the settings say");
        assert_eq!(patience.first_ms(NOW), Some(7_000));
        assert_eq!(patience.next(1, DAY_MS, 0), Retrial::At(5_000));
        assert_eq!(patience.next(8, DAY_MS, 0), Retrial::At(60_000));
        assert_eq!(patience.next(9, DAY_MS, 0), Retrial::GiveUp);
        assert!(patience.pause_ms_max() > DAY_MS);
        let past = Wishes { deliver_until_ms: Some(1), not_before_ms: Some(1), ..wishes };
        let patience = Patience::of(&limits, Some(&past));
        assert_eq!((patience.expiry_ms(0, NOW), patience.first_ms(NOW)), (5_000, None));
    }

    /// One mail must not keep a hop and the journal busy: also one that was queued when no pause could
    /// still be asked for.
    #[test]
    fn without_a_pause_there_is_the_shortest_one() {
        let limits = limits();
        for retries in [&[][..], &[0], &[0, 0]] {
            let retries_s = Some(retries.into());
            let wishes = Wishes { retries_s, attempts_max: Some(0), ..Wishes::default() };
            let patience = Patience::of(&limits, Some(&wishes));
            for attempts in [1, 2, 1_000] {
                assert_eq!(patience.next(attempts, DAY_MS, 3), Retrial::At(1_003), "{retries:?}");
            }
        }
    }
}
