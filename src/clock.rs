//! Wall time: the date in Received fields, the stamp in logs, times in records.
//!
//! Owns the only reading of the wall clock and the time zone. Never used for timers: the wall
//! clock jumps, so those count on the monotonic clock of the reactor.
//!
//! Diagnostics: none; times that no calendar has are replaced by the nearest that one has.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Unix time in milliseconds as `YYYY-MM-DD HH:MM:SS` in UTC, as MailerQ's JSON has it.
pub fn utc_text(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Turns wall time into text. Each owner has one of its own, which remembers the text of the
/// current second, so that a busy server formats once a second.
#[derive(Debug, Clone)]
pub struct Wall {
    zone: TimeZone,
    date: Cached,
    stamp: Cached,
}

impl Wall {
    /// Wall time in the system's time zone.
    pub fn system() -> Self {
        Self::in_zone(TimeZone::system())
    }

    /// Wall time in UTC.
    pub fn utc() -> Self {
        Self::in_zone(TimeZone::UTC)
    }

    fn in_zone(zone: TimeZone) -> Self {
        let cached = |format| Cached { format, second: None, text: String::new() };
        // RFC 5322 3.3: the names of days and months are English whatever the locale.
        let date = cached("%a, %d %b %Y %H:%M:%S %z");
        Self { zone, date, stamp: cached("%Y-%m-%d %H:%M:%S") }
    }

    /// Milliseconds since 1970 in UTC; 0 if the clock stands before that.
    pub fn now_ms() -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// The date as mail has it: `Mon, 23 Sep 2019 12:46:56 +0200` (RFC 5322 3.3).
    pub fn date(&mut self, unix_ms: u64) -> &str {
        self.date.text(unix_ms, &self.zone)
    }

    /// The date as logs have it: `2019-09-23 12:46:56`.
    pub fn stamp(&mut self, unix_ms: u64) -> &str {
        self.stamp.text(unix_ms, &self.zone)
    }
}

/// The text of one second.
#[derive(Debug, Clone)]
struct Cached {
    format: &'static str,
    second: Option<u64>,
    text: String,
}

impl Cached {
    fn text(&mut self, unix_ms: u64, zone: &TimeZone) -> &str {
        let second = (unix_ms / 1000).min(SECOND_MAX);
        if self.second != Some(second) {
            let seconds = i64::try_from(second).unwrap_or(i64::MAX);
            let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
            self.text = time.to_zoned(zone.clone()).strftime(self.format).to_string();
            self.second = Some(second);
        }
        &self.text
    }
}

/// The last second that is written as such: the end of the year 9998, because a zone may push the
/// end of 9999 over the edge of the calendar.
const SECOND_MAX: u64 = 253_370_764_799;

#[cfg(test)]
mod tests {
    use super::*;

    /// 2019-09-23 12:46:56 UTC.
    const SAMPLE_MS: u64 = 1_569_242_816_000;

    #[test]
    fn rfc_5322_dates_are_in_english_with_a_numeric_zone() {
        assert_eq!(Wall::utc().date(SAMPLE_MS), "Mon, 23 Sep 2019 12:46:56 +0000");
        assert_eq!(Wall::utc().date(0), "Thu, 01 Jan 1970 00:00:00 +0000");
        let zone = TimeZone::fixed(jiff::tz::offset(-3));
        assert_eq!(Wall::in_zone(zone).date(SAMPLE_MS), "Mon, 23 Sep 2019 09:46:56 -0300");
    }

    #[test]
    fn stamps_have_the_shape_of_the_log() {
        assert_eq!(Wall::utc().stamp(SAMPLE_MS + 999), "2019-09-23 12:46:56");
    }

    #[test]
    fn the_text_follows_the_second_both_ways() {
        let mut wall = Wall::utc();
        assert_eq!(wall.stamp(SAMPLE_MS), "2019-09-23 12:46:56");
        assert_eq!(wall.stamp(SAMPLE_MS + 1000), "2019-09-23 12:46:57");
        assert_eq!(wall.stamp(SAMPLE_MS - 1), "2019-09-23 12:46:55");
    }

    #[test]
    fn times_beyond_the_calendar_do_not_panic() {
        for hours in [-25, 0, 25] {
            let mut wall = Wall::in_zone(TimeZone::fixed(jiff::tz::offset(hours)));
            assert!(wall.date(u64::MAX).contains("999"));
            assert!(!wall.stamp(0).is_empty());
        }
    }

    #[test]
    fn the_clock_stands_after_this_was_written() {
        assert!(Wall::now_ms() > SAMPLE_MS);
    }
}
