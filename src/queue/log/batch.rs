//! The records of one write, laid out without copying a body.
//!
//! Owns the scratch bytes (headers and metadata), the bodies between them, and where each record
//! will be. Does no IO.
//!
//! Diagnostics: [`Unfit`] for a transaction that no record can hold.

use std::io::IoSlice;
use std::mem;

use super::codec::{self, Opening, Unfit, UsedBodies};
use super::history::History;
use super::record::{Header, Kind, Place};
use super::segment::{Location, SegmentName};
use crate::queue::mail::{Attempt, Body, Transaction, TransactionId};

/// The largest record of something that this server wrote itself.
pub(super) const INTERNAL_BYTES_MAX: u64 = 64 << 20;

/// Records to be written at one place of one segment.
#[derive(Debug)]
pub(super) struct Batch {
    name: SegmentName,
    start: u64,
    bytes: u64,
    scratch: Vec<u8>,
    /// The metadata under construction.
    metadata: Vec<u8>,
    /// Each body with the length of the scratch before it.
    bodies: Vec<(usize, Body)>,
}

impl Batch {
    /// An empty batch for the end of segment `name`, which has `start` bytes.
    pub(super) fn new(name: SegmentName, start: u64) -> Self {
        let (scratch, metadata, bodies) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, start, bytes: 0, scratch, metadata, bodies }
    }

    /// Starts over for another place and keeps the memory.
    pub(super) fn reset(&mut self, name: SegmentName, start: u64) {
        (self.name, self.start) = (name, start);
        self.clear();
    }

    /// Lets go of everything that was added, the bodies with it.
    pub(super) fn clear(&mut self) {
        self.bytes = 0;
        self.scratch.clear();
        self.bodies.clear();
    }

    /// How many bytes it has.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn add_opening(&mut self, opening: &Opening) {
        self.add(Kind::Opening, |metadata| codec::put_opening(metadata, opening));
    }

    pub(super) fn add_void(&mut self, ids: &[TransactionId]) {
        self.add(Kind::Void, |metadata| codec::put_void(metadata, ids));
    }

    pub(super) fn add_release(&mut self, oldest: u64) {
        self.add(Kind::Release, |metadata| codec::put_release(metadata, oldest));
    }

    /// Adds an outcome; one with companions counts only if the `companions` records before it do.
    pub(super) fn add_settle(
        &mut self,
        attempt: &Attempt,
        number: u32,
        companions: u8,
    ) -> Location {
        match companions {
            0 => self.add(Kind::Settle, |metadata| codec::put_settle(metadata, attempt, number)),
            _ => self.add(Kind::Outcome, |metadata| {
                metadata.push(companions);
                codec::put_settle(metadata, attempt, number);
            }),
        }
    }

    /// As [`Batch::add_accept`], with the room that what tells of an outcome has. A companion counts
    /// only with the outcome that follows.
    pub(super) fn add_internal(
        &mut self,
        transaction: &Transaction,
        companion: bool,
    ) -> Result<Location, Unfit> {
        let kind = if companion { Kind::Companion } else { Kind::Accept };
        self.add_transaction(kind, transaction, &[], INTERNAL_BYTES_MAX)
    }

    /// Adds a transaction whose record has at most `room` bytes; see [`codec::put_accept`]. On an
    /// error nothing is added.
    pub(super) fn add_accept(
        &mut self,
        transaction: &Transaction,
        histories: &[History],
        room: u64,
    ) -> Result<Location, Unfit> {
        self.add_transaction(Kind::Accept, transaction, histories, room)
    }

    fn add_transaction(
        &mut self,
        kind: Kind,
        transaction: &Transaction,
        histories: &[History],
        room: u64,
    ) -> Result<Location, Unfit> {
        self.metadata.clear();
        codec::put_accept(&mut self.metadata, transaction, histories)?;
        let mut header = Header::new(kind, &self.metadata);
        let mut crc = crc32fast::Hasher::new();
        let used = UsedBodies::of(transaction);
        let bodies = || transaction.bodies.iter().enumerate();
        let kept = || bodies().filter_map(|(at, body)| used.has(at).then_some(body));
        for body in kept() {
            header.body_bytes += body.as_bytes_with_nul().len() as u32;
        }
        if header.record_bytes() > room {
            return Err(Unfit::NoRoom(transaction.id));
        }
        kept().for_each(|body| crc.update(body.as_bytes_with_nul()));
        header.body_crc = crc.finalize();
        let location = self.add_framed(&header);
        self.bodies.extend(kept().map(|body| (self.scratch.len(), body.clone())));
        Ok(location)
    }

    fn add(&mut self, kind: Kind, put: impl FnOnce(&mut Vec<u8>)) -> Location {
        self.metadata.clear();
        put(&mut self.metadata);
        let header = Header::new(kind, &self.metadata);
        self.add_framed(&header)
    }

    fn add_framed(&mut self, header: &Header) -> Location {
        let offset = u32::try_from(self.start + self.bytes)
            .expect("a segment is closed long before its offsets need 33 bits");
        let place = Place { segment: self.name.number, offset };
        self.scratch.extend_from_slice(&header.encode(self.name.salt, place));
        self.scratch.extend_from_slice(&self.metadata);
        self.bytes += header.record_bytes();
        // METADATA_BYTES_MAX and BODY_BYTES_MAX together stay below 2^32.
        Location { place, bytes: header.record_bytes() as u32 }
    }

    /// The bytes in order.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.bodies.len() + 1);
        let mut from = 0;
        for (before, body) in &self.bodies {
            if *before > from {
                slices.push(IoSlice::new(&self.scratch[mem::replace(&mut from, *before)..*before]));
            }
            slices.push(IoSlice::new(body.as_bytes_with_nul()));
        }
        if self.scratch.len() > from {
            slices.push(IoSlice::new(&self.scratch[from..]));
        }
        slices
    }
}
