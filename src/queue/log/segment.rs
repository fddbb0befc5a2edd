//! One file of the log: its name, and what is kept in memory about it.
//!
//! Owns the naming of files and the counts of what is still alive in each. Does no IO.
//!
//! Diagnostics: none; a name that is no segment's is left alone.

use std::collections::VecDeque;
use std::fmt;

use super::record::Place;
use crate::queue::mail::TransactionId;

/// What names a segment: its number, from 1 and rising, and its salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    pub(super) number: u64,
    pub(super) salt: u64,
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.log", self.number, self.salt)
    }
}

impl SegmentName {
    /// The segment with this file name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (number, salt) = name.strip_suffix(".log")?.split_once('-')?;
        let parsed = Self {
            number: u64::from_str_radix(number, 16).ok()?,
            salt: u64::from_str_radix(salt, 16).ok()?,
        };
        // One spelling only; and 0 means "none" where a segment is referred to.
        (parsed.number != 0 && parsed.to_string() == name).then_some(parsed)
    }

    /// What the file is called when it was found damaged and nothing in it is needed any more.
    pub(super) fn quarantine(&self) -> String {
        format!("{self}{QUARANTINE}")
    }
}

/// The file name of a segment, for tests that put one in place.
pub(in crate::queue) fn segment_file_name(number: u64, salt: u64) -> String {
    SegmentName { number, salt }.to_string()
}

/// How the names of damaged files end that are kept for whoever wants to look at them.
pub(super) const QUARANTINE: &str = ".damaged";

/// Where the record of a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) place: Place,
    /// Bytes of the whole record.
    pub(super) bytes: u32,
}

/// A segment on disk.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: SegmentName,
    /// The bytes that count, and those behind them that could not be cut off.
    pub(super) bytes: u64,
    /// Of these, bytes of accept records that are needed.
    pub(super) live_bytes: u64,
    /// How many these are.
    pub(super) live: u32,
    /// The ids of all its accept records, needed or not.
    pub(super) accepts: Vec<TransactionId>,
    /// Something in it did not read back.
    pub(super) damaged: bool,
}

/// All segments, oldest first, with their sums: a log of a terabyte has many.
#[derive(Debug, Default)]
pub(super) struct Segments {
    list: VecDeque<Segment>,
    total_bytes: u64,
    live_bytes: u64,
}

impl Segments {
    pub(super) const fn list(&self) -> &VecDeque<Segment> {
        &self.list
    }

    /// Adds an empty segment, the newest.
    pub(super) fn push(&mut self, name: SegmentName) {
        self.list.push_back(Segment {
            name,
            bytes: 0,
            live_bytes: 0,
            live: 0,
            accepts: Vec::new(),
            damaged: false,
        });
    }

    /// The segments that were there at the start are before all that were made since.
    pub(super) fn go_on_from(&mut self, before: Segments) {
        let since = std::mem::replace(self, before);
        self.list.extend(since.list);
        self.total_bytes += since.total_bytes;
        self.live_bytes += since.live_bytes;
    }

    /// Takes the oldest segment if it is older than `oldest`.
    pub(super) fn pop_before(&mut self, oldest: u64) -> Option<Segment> {
        self.list.front().filter(|segment| segment.name.number < oldest)?;
        let segment = self.list.pop_front()?;
        self.total_bytes -= segment.bytes;
        self.live_bytes -= segment.live_bytes;
        Some(segment)
    }

    fn find(&mut self, number: u64) -> Option<&mut Segment> {
        let at = self.list.binary_search_by_key(&number, |segment| segment.name.number).ok()?;
        self.list.get_mut(at)
    }

    /// A segment has so many bytes.
    pub(super) fn on_length(&mut self, number: u64, bytes: u64) {
        if let Some(segment) = self.find(number) {
            let before = std::mem::replace(&mut segment.bytes, bytes);
            self.total_bytes = self.total_bytes - before + bytes;
        }
    }

    /// Something in a segment did not read back.
    pub(super) fn on_damaged(&mut self, number: u64) {
        if let Some(segment) = self.find(number) {
            segment.damaged = true;
        }
    }

    /// A transaction is now at `location`.
    pub(super) fn on_placed(&mut self, id: TransactionId, location: Location) {
        let segment = self.find(location.place.segment).expect("a record is in a known segment");
        segment.live += 1;
        segment.live_bytes += u64::from(location.bytes);
        segment.accepts.push(id);
        self.live_bytes += u64::from(location.bytes);
    }

    /// What is at `location` is needed no more.
    pub(super) fn on_freed(&mut self, location: Location) {
        let segment = self.find(location.place.segment).expect("a segment outlives what is in it");
        segment.live -= 1;
        segment.live_bytes -= u64::from(location.bytes);
        self.live_bytes -= u64::from(location.bytes);
    }

    pub(super) const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(super) const fn live_bytes(&self) -> u64 {
        self.live_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_nothing_else_is_one() {
        let name = SegmentName { number: 255, salt: u64::MAX };
        assert_eq!(name.to_string(), "00000000000000ff-ffffffffffffffff.log");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        let rows = [
            "lock",
            "control",
            "ff-ffffffffffffffff.log",
            "00000000000000FF-ffffffffffffffff.log",
            "0000000000000000-ffffffffffffffff.log",
            "+0000000000000ff-ffffffffffffffff.log",
            &name.quarantine(),
        ];
        for other in rows {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }
}
