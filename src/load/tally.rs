//! What one thread counted, and what all did.
//!
//! Counting a message takes no allocation. **Diagnostics**: none.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::transaction::Verdict;

/// The longest latency that is told apart, in microseconds: an hour, which is the longest timeout.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Digits of a latency that count.
const DIGITS: u8 = 3;
/// The codes that a reply can have.
const CODES: std::ops::Range<u16> = 200..600;

/// Counts of messages and connections.
#[derive(Debug)]
pub(super) struct Tally {
    /// Messages that were begun.
    pub(super) messages: u64,
    /// Of these, how many the server took.
    pub(super) accepted: u64,
    /// Of these, how many got no final reply.
    pub(super) lost: u64,
    /// Messages that were due and for which no connection was free until the end.
    pub(super) missed: u64,
    /// Recipients that were refused, of messages that were accepted.
    pub(super) refused_recipients: u64,
    /// Connections that were opened.
    pub(super) connections: u64,
    /// Connections that could not be opened, or ended otherwise than by QUIT.
    pub(super) failed_connections: u64,
    /// Why the first of them failed.
    pub(super) failure: Option<String>,
    /// When the first connection was begun; with a rate, when the first message was due.
    pub(super) begun: Option<Instant>,
    /// When the last message was over.
    pub(super) ended: Option<Instant>,
    latency_us: Histogram<u64>,
    codes: Box<[u64; CODES.end as usize - CODES.start as usize]>,
}

impl Default for Tally {
    fn default() -> Tally {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS);
        Tally {
            messages: 0,
            accepted: 0,
            lost: 0,
            missed: 0,
            refused_recipients: 0,
            connections: 0,
            failed_connections: 0,
            failure: None,
            begun: None,
            ended: None,
            latency_us: latency_us.expect("the bounds and digits are within those of the format"),
            codes: Box::new([0; CODES.end as usize - CODES.start as usize]),
        }
    }
}

impl Tally {
    /// A message is over. `since` is what its latency counts from, where it got to its text.
    pub(super) fn message(&mut self, verdict: Verdict, since: Option<Instant>, now: Instant) {
        if CODES.contains(&verdict.code) {
            self.codes[usize::from(verdict.code - CODES.start)] += 1;
        }
        self.accepted += u64::from(verdict.accepted);
        self.refused_recipients += u64::from(verdict.refused_recipients);
        self.ended = Some(now);
        if let Some(since) = since.filter(|_| verdict.to_text) {
            let us = now.saturating_duration_since(since).as_micros();
            self.latency_us.saturating_record(u64::try_from(us).unwrap_or(u64::MAX).max(1));
        }
    }

    /// A connection failed.
    pub(super) fn failed(&mut self, why: String) {
        self.failed_connections += 1;
        self.failure.get_or_insert(why);
    }

    /// Adds what another thread counted.
    pub(super) fn add(&mut self, other: Tally) {
        self.messages += other.messages;
        self.accepted += other.accepted;
        self.lost += other.lost;
        self.missed += other.missed;
        self.refused_recipients += other.refused_recipients;
        self.connections += other.connections;
        self.failed_connections += other.failed_connections;
        self.failure = self.failure.take().or(other.failure);
        self.begun = self.begun.into_iter().chain(other.begun).min();
        self.ended = self.ended.into_iter().chain(other.ended).max();
        self.latency_us.add(&other.latency_us).expect("all have the same bounds");
        self.codes.iter_mut().zip(other.codes.iter()).for_each(|(own, others)| *own += others);
    }

    /// From the beginning to the last reply.
    pub(super) fn time(&self) -> Duration {
        match (self.begun, self.ended) {
            (Some(begun), Some(ended)) => ended.saturating_duration_since(begun),
            (None, _) | (_, None) => Duration::ZERO,
        }
    }

    /// Messages by the code that decided over them; those that never occurred are left out.
    pub(super) fn codes(&self) -> impl Iterator<Item = (u16, u64)> {
        CODES.zip(self.codes.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// The latency in microseconds that `part` of the messages with a reply to their text did not exceed;
    /// 0 where there are none.
    pub(super) fn latency_us(&self, part: f64) -> u64 {
        self.latency_us.value_at_quantile(part).min(self.latency_us.max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_added_up() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let verdict = |code| Verdict {
            code,
            to_text: true,
            accepted: code == 250,
            refused_recipients: 0,
            unclean: false,
        };
        let mut first = Tally { begun: Some(after(1)), ..Tally::default() };
        (1..=98).for_each(|_| first.message(verdict(250), Some(start), after(10)));
        let mut second = Tally { begun: Some(start), ..Tally::default() };
        second.message(Verdict { to_text: false, ..verdict(550) }, None, after(150));
        second.message(verdict(451), Some(start), after(200));
        second.failed("gone".to_owned());
        first.add(second);
        assert_eq!(first.codes().collect::<Vec<_>>(), [(250, 98), (451, 1), (550, 1)]);
        assert_eq!((first.accepted, first.failed_connections), (98, 1));
        assert_eq!(first.failure.as_deref(), Some("gone"));
        assert_eq!(first.time(), Duration::from_millis(200), "the last reply was the 451's");
        let (median, most) = (first.latency_us(0.5), first.latency_us(1.0));
        assert!((9_990..=10_010).contains(&median), "{median}");
        assert!((199_800..=200_200).contains(&most), "{most}");
    }
}
