//! Which mail is due when, and when a mail is tried again.
//!
//! Owns the order of due times and the retry rule. Pure: reads no clock, knows no mail; `now` is
//! always a parameter.
//!
//! Diagnostics: none; a mail that is not to be tried again is [`Retrial::GiveUp`].

use std::collections::BTreeSet;

/// Keys by the time they are due, earliest first; keys of one time in their own order.
///
/// Holds 24 bytes and little more for each [`MailId`](super::MailId): the caller, who knows when a
/// key is due, names the time to remove it, so no second table is kept.
#[derive(Clone, Debug)]
pub struct Schedule<K> {
    due: BTreeSet<(u64, K)>,
}

impl<K: Copy + Ord> Schedule<K> {
    /// An empty schedule.
    pub const fn new() -> Self {
        Self { due: BTreeSet::new() }
    }

    /// Makes `key` due at `due_ms`. The same key may be due at several times.
    pub fn insert(&mut self, due_ms: u64, key: K) {
        self.due.insert((due_ms, key));
    }

    /// Takes `key` back; whether it was due at `due_ms`.
    pub fn remove(&mut self, due_ms: u64, key: K) -> bool {
        self.due.remove(&(due_ms, key))
    }

    /// The key that is longest due at `now_ms`, if any is.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<K> {
        if self.next_due()? > now_ms {
            return None;
        }
        self.due.pop_first().map(|(_, key)| key)
    }

    /// Some keys with their times, the latest first: those before `before`, at most `limit`.
    pub fn latest(&self, before: Option<(u64, K)>, limit: usize) -> Vec<(u64, K)> {
        let keys = match before {
            Some(before) => self.due.range(..before),
            None => self.due.range(..),
        };
        keys.rev().take(limit).copied().collect()
    }

    /// When the next key is due.
    pub fn next_due(&self) -> Option<u64> {
        self.due.first().map(|&(due_ms, _)| due_ms)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

impl<K: Copy + Ord> Default for Schedule<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// The shortest pause between two attempts, in seconds, whatever anybody asks for: without one, a hop
/// that refuses at once would be asked some hundred times a second.
pub(super) const INTERVAL_S_MIN: u32 = 1;

/// When a mail is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Seconds after the first attempt, the second, and so on; the last one repeats. None, or zero, is
    /// one second.
    pub intervals_s: Vec<u32>,
    /// Attempts in all; 0 for no limit.
    pub attempts_max: u32,
    /// Milliseconds after which a mail expires, from when it was received.
    pub deliver_ms_max: u64,
}

/// What the rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retrial {
    /// Try again, not before this unix time in milliseconds.
    At(u64),
    /// It was tried often enough, or would expire before the next attempt.
    GiveUp,
}

impl Retry {
    /// What becomes of a mail after its attempt number `attempts` failed at `now_ms`. Times are
    /// unix milliseconds.
    pub fn next(&self, attempts: u32, received_ms: u64, now_ms: u64) -> Retrial {
        self.next_of(&self.intervals_s, attempts, received_ms, now_ms)
    }

    /// The same with other intervals, in seconds.
    pub fn next_of(
        &self,
        intervals_s: &[u32],
        attempts: u32,
        received_ms: u64,
        now_ms: u64,
    ) -> Retrial {
        if self.attempts_max != 0 && attempts >= self.attempts_max {
            return Retrial::GiveUp;
        }
        let at = now_ms.saturating_add(interval_ms(intervals_s, attempts));
        // A clock that went back does not make a mail older.
        match at.saturating_sub(received_ms) < self.deliver_ms_max {
            true => Retrial::At(at),
            false => Retrial::GiveUp,
        }
    }
}

fn interval_ms(intervals_s: &[u32], attempts: u32) -> u64 {
    let place = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let interval = intervals_s.get(place).or(intervals_s.last());
    u64::from(interval.copied().unwrap_or(0).max(INTERVAL_S_MIN)) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::dice::Dice;

    #[test]
    fn a_schedule_agrees_with_a_sorted_list() {
        let mut dice = Dice::from_environment();
        let mut schedule = Schedule::new();
        let mut model: Vec<(u64, u32)> = Vec::new();
        for _ in 0..20_000 {
            match dice.below(4) {
                0 | 1 => {
                    let pair = (dice.below(500), dice.below(200) as u32);
                    schedule.insert(pair.0, pair.1);
                    if !model.contains(&pair) {
                        model.push(pair);
                    }
                }
                2 => {
                    let pair = (dice.below(500), dice.below(200) as u32);
                    let held = model.iter().position(|&p| p == pair);
                    assert_eq!(schedule.remove(pair.0, pair.1), held.is_some());
                    held.map(|at| model.swap_remove(at));
                }
                _ => {
                    let now = dice.below(500);
                    model.sort_unstable();
                    let expected = model.first().copied().filter(|&(due, _)| due <= now);
                    assert_eq!(schedule.pop_due(now), expected.map(|(_, key)| key));
                    if expected.is_some() {
                        model.remove(0);
                    }
                }
            }
            assert_eq!(schedule.len(), model.len());
            assert_eq!(schedule.is_empty(), model.is_empty());
            assert_eq!(schedule.next_due(), model.iter().map(|&(due, _)| due).min());
        }
    }

    #[test]
    fn the_retry_rule() {
        let rule = Retry { intervals_s: vec![60, 300], attempts_max: 5, deliver_ms_max: 3_600_000 };
        let rows = [
            ("after the first attempt", 1, 0, 1_000, Retrial::At(61_000)),
            ("after the second", 2, 0, 61_000, Retrial::At(361_000)),
            ("the last interval repeats", 4, 0, 700_000, Retrial::At(1_000_000)),
            ("tried often enough", 5, 0, 700_000, Retrial::GiveUp),
            ("would expire at that very moment", 1, 0, 3_540_000, Retrial::GiveUp),
            ("just in time", 1, 0, 3_539_999, Retrial::At(3_599_999)),
            ("the clock went back", 1, 5_000_000, 1_000, Retrial::At(61_000)),
            ("the end of time", 1, 0, u64::MAX, Retrial::GiveUp),
            ("not tried yet", 0, 0, 0, Retrial::At(60_000)),
        ];
        for (name, attempts, received_ms, now_ms, expected) in rows {
            assert_eq!(rule.next(attempts, received_ms, now_ms), expected, "{name}");
        }
    }

    #[test]
    fn without_intervals_and_limit_a_mail_is_tried_every_second_until_it_expires() {
        for intervals_s in [vec![], vec![0], vec![0, 0]] {
            let rule = Retry { intervals_s, attempts_max: 0, deliver_ms_max: 1_010 };
            assert_eq!(rule.next(u32::MAX, 0, 9), Retrial::At(1_009));
            assert_eq!(rule.next(u32::MAX, 0, 10), Retrial::GiveUp);
        }
    }
}
