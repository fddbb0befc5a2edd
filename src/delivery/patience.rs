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
/// The shortest pause of a mail that was put off.
const PAUSE_MS_MIN: u64 = 1_000;
/// So long before its time is over a mail that was put off beyond that is tried for the last time.
const LAST_MS: u64 = 2_000;

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

    /// When a mail is tried again that was put off until `at_ms` on the wall clock: the time that is left is
    /// not exceeded, so that there is one more attempt, and no pause is shorter than the shortest. Attempts
    /// count where there was one.
    pub(super) fn put_off(
        &self,
        at_ms: u64,
        attempts: Option<u32>,
        left_ms: u64,
        unix_ms: u64,
    ) -> Retrial {
        let earliest_ms = unix_ms.saturating_add(PAUSE_MS_MIN);
        let latest_ms = unix_ms.saturating_add(left_ms.min(SPAN_MS_MAX)).saturating_sub(LAST_MS);
        let wishes_max = self.wishes.and_then(|wishes| wishes.attempts_max);
        let attempts_max = wishes_max.unwrap_or(self.limits.retry.attempts_max);
        let spent = attempts.is_some_and(|count| attempts_max != 0 && count >= attempts_max);
        match spent || latest_ms < earliest_ms {
            true => Retrial::GiveUp,
            false => Retrial::At(at_ms.clamp(earliest_ms, latest_ms)),
        }
    }

    /// When a mail is due that waits until `not_before_ms` since `at_ms`, both on the wall clock of then; on
    /// the monotonic clock. It waits no longer than was meant, however wrong that clock stood.
    pub(super) fn due_ms(at_ms: u64, not_before_ms: u64, expiry_ms: u64, now: Now) -> u64 {
        let pause_ms = not_before_ms.saturating_sub(at_ms).min(SPAN_MS_MAX);
        now.mono_of(not_before_ms, pause_ms).min(expiry_ms)
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
        let past = Wishes { deliver_until_ms: Some(1), not_before_ms: Some(1), ..wishes };
        let patience = Patience::of(&limits, Some(&past));
        assert_eq!((patience.expiry_ms(0, NOW), patience.first_ms(NOW)), (5_000, None));
    }

    /// A restart must neither forget what was meant nor wait for years.
    #[test]
    fn a_pause_is_as_long_as_it_was_meant_to_be_whatever_the_clock_said() {
        let rows = [
            ("what is left of it", NOW.unix_ms - 1_000, 60_000, 64_000),
            ("a clock that stood in the future", NOW.unix_ms + 9 * DAY_MS, 60_000, 65_000),
            ("one that stood in the past", 0, 60_000, 5_000),
            ("no longer than there is time", NOW.unix_ms, DAY_MS, 5_000 + 70_000),
        ];
        for (name, at_ms, pause_ms, expected) in rows {
            let due_ms = Patience::due_ms(at_ms, at_ms + pause_ms, 75_000, NOW);
            assert_eq!(due_ms, expected, "{name}");
        }
    }

    #[test]
    fn a_mail_that_is_put_off_keeps_its_last_chance_and_the_shortest_pause() {
        let limits = limits();
        let patience = Patience::of(&limits, None);
        let rows = [
            (50_000, Some(1), DAY_MS, Retrial::At(50_000)),
            (0, Some(1), DAY_MS, Retrial::At(8_000)),
            (u64::MAX, Some(1), DAY_MS, Retrial::At(7_000 + DAY_MS - LAST_MS)),
            (50_000, Some(3), DAY_MS, Retrial::GiveUp),
            (50_000, None, DAY_MS, Retrial::At(50_000)),
            (50_000, None, 2_999, Retrial::GiveUp),
            (50_000, Some(1), 3_000, Retrial::At(8_000)),
            (u64::MAX, None, u64::MAX, Retrial::At(7_000 + SPAN_MS_MAX - LAST_MS)),
        ];
        for (at_ms, attempts, left_ms, expected) in rows {
            let next = patience.put_off(at_ms, attempts, left_ms, 7_000);
            assert_eq!(next, expected, "{at_ms} {attempts:?} {left_ms}");
        }
        let wishes = Wishes { attempts_max: Some(9), ..Wishes::default() };
        let patience = Patience::of(&limits, Some(&wishes));
        assert_eq!(patience.put_off(50_000, Some(8), DAY_MS, 7_000), Retrial::At(50_000));
        assert_eq!(patience.put_off(50_000, Some(9), DAY_MS, 7_000), Retrial::GiveUp);
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
