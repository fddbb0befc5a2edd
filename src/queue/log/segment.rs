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
    /// The bytes that count.
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

impl Segment {
    pub(super) fn new(name: SegmentName) -> Self {
        Self {
            name,
            bytes: 0,
            live_bytes: 0,
            live: 0,
            accepts: Vec::new(),
            damaged: false,
        }
    }
}

/// All segments, oldest first.
#[derive(Debug, Default)]
pub(super) struct Segments(pub(super) VecDeque<Segment>);

impl Segments {
    pub(super) fn find(&mut self, number: u64) -> Option<&mut Segment> {
        let at = self
            .0
            .binary_search_by_key(&number, |segment| segment.name.number)
            .ok()?;
        self.0.get_mut(at)
    }

    /// A transaction is now at `location`.
    pub(super) fn on_placed(&mut self, id: TransactionId, location: Location) {
        let segment = self
            .find(location.place.segment)
            .expect("a record is in a known segment");
        segment.live += 1;
        segment.live_bytes += u64::from(location.bytes);
        segment.accepts.push(id);
    }

    /// What is at `location` is needed no more.
    pub(super) fn on_freed(&mut self, location: Location) {
        let segment = self
            .find(location.place.segment)
            .expect("a segment outlives what is in it");
        segment.live -= 1;
        segment.live_bytes -= u64::from(location.bytes);
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.0.iter().map(|segment| segment.bytes).sum()
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.0.iter().map(|segment| segment.live_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_nothing_else_is_one() {
        let name = SegmentName {
            number: 255,
            salt: u64::MAX,
        };
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
