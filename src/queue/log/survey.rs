//! What segments there are, before they are read.
//!
//! Owns the list of the files, how each begins, and how many bytes of each count. Reads the first record
//! of each and of nothing more; changes nothing.
//!
//! Diagnostics: [`OpenError`] for what cannot be listed or opened; damage is found when a segment is read.

use std::collections::HashMap;

use super::codec::Opening;
use super::record::Place;
use super::recovery::OpenError;
use super::scan::{self, Content, End, Found, Scan};
use super::segment::SegmentName;
use crate::queue::storage::{Reader, Storage};

/// A segment that was found.
///
/// Without its descriptor: there may be more segments than a process may have files open.
pub(super) struct File {
    pub(super) name: SegmentName,
    pub(super) bytes: u64,
    pub(super) opening: Option<Opening>,
    /// Nothing in it was ever durable: the start or the failure that made it was cut short.
    blank: bool,
}

/// The segments of a log, oldest first.
pub(super) struct Survey {
    files: Vec<File>,
    /// How many bytes of a segment count, where a later one says so; by its number.
    seals: HashMap<u64, u64>,
    newest: u64,
}

impl Survey {
    /// Looks at all segments of `storage`.
    pub(super) fn of(storage: &dyn Storage) -> Result<Self, OpenError> {
        let names = storage.list().map_err(OpenError::List)?;
        let mut names: Vec<SegmentName> =
            names.iter().filter_map(|name| SegmentName::parse(name)).collect();
        names.sort_unstable();
        // Numbers are never used twice; a second file of one number was put there by someone else.
        names.dedup_by_key(|name| name.number);
        let files: Result<Vec<File>, _> =
            names.into_iter().map(|name| look_at(storage, name)).collect();
        let files = files?;
        let seals = seals(&files);
        // While nothing follows but blank ones, a segment was the one being written.
        let newest = files.iter().rfind(|file| !file.blank).map_or(0, |file| file.name.number);
        Ok(Self { files, seals, newest })
    }

    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    /// The number of the segment that was being written; 0 where there is none.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    pub(super) fn seal(&self, number: u64) -> Option<u64> {
        self.seals.get(&number).copied()
    }

    /// The number of the next segment.
    pub(super) fn next_number(&self) -> u64 {
        self.files.last().map_or(1, |file| file.name.number.saturating_add(1))
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

pub(super) fn open_file(
    storage: &dyn Storage,
    name: SegmentName,
) -> Result<Box<dyn Reader>, OpenError> {
    let name = name.to_string();
    storage.open(&name).map_err(|source| OpenError::Segment { name, source })
}

fn look_at(storage: &dyn Storage, name: SegmentName) -> Result<File, OpenError> {
    let reader = open_file(storage, name)?;
    let bytes =
        reader.length().map_err(|source| OpenError::Segment { name: name.to_string(), source })?;
    let place = Place { segment: name.number, offset: 0 };
    let opening = match scan::read_record(&*reader, name, place) {
        Ok(Content::Opening(opening)) if opening.previous < name.number => Some(opening),
        // Damage is found again, and reported, when the segment is read.
        Ok(_) | Err(_) => None,
    };
    let blank = opening.is_none() && is_blank(name, reader, bytes);
    Ok(File { name, bytes, opening, blank })
}

fn is_blank(name: SegmentName, reader: Box<dyn Reader>, bytes: u64) -> bool {
    match Scan::new(name, reader, bytes, End::Newest).next() {
        None => true,
        Some(Found::Torn(torn)) => torn == bytes,
        Some(Found::Record(..) | Found::Damage(_)) => false,
    }
}

/// How many bytes of each segment count, where a later one says so.
fn seals(files: &[File]) -> HashMap<u64, u64> {
    let mut seals = HashMap::new();
    for (at, file) in files.iter().enumerate() {
        let Some(opening) = file.opening else {
            continue;
        };
        for earlier in files[..at].iter().rev() {
            let number = earlier.name.number;
            if number < opening.previous {
                break;
            }
            // What lies between was an attempt to open a segment that failed.
            let counts = if number == opening.previous { opening.previous_bytes } else { 0 };
            seals.entry(number).or_insert(counts);
        }
    }
    seals
}
