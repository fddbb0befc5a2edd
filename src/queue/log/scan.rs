//! Reading a segment from its start to its end, over whatever is damaged.
//!
//! Owns the walk from record to record, the search for the next one after damage, and the reading
//! of a single record. Must not trust a length before the header's checksum has spoken for it, and
//! must not hold more than one record's metadata and one window of bytes.
//!
//! Diagnostics: [`Found::Damage`] for each place that does not read back, [`Found::Torn`] for what
//! a crash left incomplete at the end of the newest segment.

use std::io::{self, ErrorKind};

use memchr::memmem;

use super::accepted::{Accepted, take_accept, take_waiting};
use super::codec::{self, Accept, Opening};
use super::record::{HEADER_BYTES, Header, Kind, Place};
use super::segment::{Location, SegmentName};
use crate::queue::mail::{Body, TransactionId};
use crate::queue::report::{Damage, DamageReason};
use crate::queue::storage::Reader;

/// Bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;
/// Bytes given up at once where the disk does not answer.
const PAGE_BYTES: u64 = 4096;

/// The next thing in a segment.
#[derive(Debug)]
pub(super) enum Found {
    /// A record whose bytes all check.
    Record(Location, Content<Accepted>),
    /// Bytes that had to be skipped.
    Damage(Damage),
    /// So many bytes to the end that were never complete.
    Torn(u64),
}

/// What a record says; of a transaction all of it, or what is kept in memory.
#[derive(Debug)]
pub(super) enum Content<A = Accept> {
    Opening(Opening),
    Accept(A),
    Settle(codec::Settle),
    /// With the number of companions that it counts with only.
    Outcome(u8, codec::Settle),
    Companion(A),
    Void(Vec<TransactionId>),
    Release(u64),
}

impl<A> Content<A> {
    fn decode(
        header: &Header,
        metadata: &[u8],
        take_accept: impl Fn(&[u8], u32) -> Option<A>,
    ) -> Option<Self> {
        let kind = Kind::from_number(header.kind)?;
        if header.body_bytes != 0 && !matches!(kind, Kind::Accept | Kind::Companion) {
            return None;
        }
        match kind {
            Kind::Opening => codec::take_opening(metadata).map(Self::Opening),
            Kind::Accept => take_accept(metadata, header.body_bytes).map(Self::Accept),
            Kind::Settle => codec::take_settle(metadata).map(Self::Settle),
            Kind::Outcome => {
                codec::take_outcome(metadata).map(|(count, settle)| Self::Outcome(count, settle))
            }
            Kind::Companion => take_accept(metadata, header.body_bytes).map(Self::Companion),
            Kind::Void => codec::take_void(metadata).map(Self::Void),
            Kind::Release => codec::take_release(metadata).map(Self::Release),
        }
    }
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was sealed: every byte before the limit was durable once.
    Sealed,
    /// It was the one being written.
    Newest,
}

/// A walk through one segment.
pub(super) struct Scan {
    name: SegmentName,
    window: Window,
    end: End,
    offset: u64,
}

impl Scan {
    /// A walk over the first `limit` bytes of what `reader` reads.
    pub(super) fn new(name: SegmentName, reader: Box<dyn Reader>, limit: u64, end: End) -> Self {
        // An offset has 32 bits; no segment that we wrote is longer.
        let limit = limit.min(u64::from(u32::MAX));
        Self { name, window: Window::new(reader, limit), end, offset: 0 }
    }

    /// The next thing; none at the end.
    pub(super) fn next(&mut self) -> Option<Found> {
        let left = self.window.limit - self.offset;
        if left == 0 {
            return None;
        }
        let found = match self.step() {
            Ok(found) => found,
            Err(Unreadable { offset }) => {
                let page_end = (offset / PAGE_BYTES + 1) * PAGE_BYTES;
                let length = page_end.min(self.window.limit) - self.offset;
                Found::Damage(self.damage(length, DamageReason::Unreadable))
            }
        };
        self.offset += match &found {
            Found::Record(location, _) => u64::from(location.bytes),
            Found::Damage(damage) => damage.length,
            Found::Torn(bytes) => *bytes,
        };
        Some(found)
    }

    fn step(&mut self) -> Result<Found, Unreadable> {
        let Some(header) = self.header(self.offset)? else {
            return self.resynchronise();
        };
        let (left, bytes) = (self.window.limit - self.offset, header.record_bytes());
        if bytes > left {
            return Ok(match self.end {
                End::Newest => Found::Torn(left),
                End::Sealed => Found::Damage(self.damage(left, DamageReason::Truncated)),
            });
        }
        let place = self.place(self.offset);
        let metadata_at = self.offset + HEADER_BYTES as u64;
        let metadata = self.window.bytes(metadata_at, header.metadata_bytes as usize)?;
        let content = match crc32fast::hash(metadata) == header.metadata_crc {
            true => Content::decode(&header, metadata, take_waiting),
            false => None,
        };
        let Some(content) = content else {
            return Ok(Found::Damage(self.damage(bytes, DamageReason::Metadata)));
        };
        let body_at = metadata_at + u64::from(header.metadata_bytes);
        if self.window.crc(body_at, header.body_bytes.into())? != header.body_crc {
            return Ok(Found::Damage(self.damage(bytes, DamageReason::Body)));
        }
        Ok(Found::Record(Location { place, bytes: bytes as u32 }, content))
    }

    /// No record begins here: finds out where the next one does.
    fn resynchronise(&mut self) -> Result<Found, Unreadable> {
        let limit = self.window.limit;
        let mut from = self.offset + 1;
        while let Some(at) = self.window.find(self.name.salt, from)? {
            if self.header(at)?.is_some() {
                return Ok(Found::Damage(self.damage(at - self.offset, DamageReason::Header)));
            }
            from = at + 1;
        }
        let left = limit - self.offset;
        // A file may have grown before its bytes reached the disk.
        let never_written = left < HEADER_BYTES as u64 || self.window.is_zero(self.offset)?;
        Ok(match self.end {
            End::Newest if never_written => Found::Torn(left),
            End::Newest | End::Sealed => Found::Damage(self.damage(left, DamageReason::Header)),
        })
    }

    fn header(&mut self, at: u64) -> Result<Option<Header>, Unreadable> {
        if self.window.limit - at < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let place = self.place(at);
        let bytes = self.window.bytes(at, HEADER_BYTES)?;
        let bytes = bytes.try_into().expect("a window gives as many bytes as asked for");
        Ok(Header::decode(bytes, self.name.salt, place))
    }

    fn place(&self, at: u64) -> Place {
        Place { segment: self.name.number, offset: at as u32 }
    }

    fn damage(&self, length: u64, reason: DamageReason) -> Damage {
        Damage { segment: self.name.number, offset: self.offset, length, reason }
    }
}

/// The disk did not answer for the page of this offset.
struct Unreadable {
    offset: u64,
}

/// The part of a segment that was read last.
struct Window {
    reader: Box<dyn Reader>,
    /// Where reading ends. Falls if the file turns out to be shorter.
    limit: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn new(reader: Box<dyn Reader>, limit: u64) -> Self {
        Self { reader, limit, start: 0, bytes: Vec::new() }
    }

    /// Exactly `length` bytes at `at`, which are before the limit.
    fn bytes(&mut self, at: u64, length: usize) -> Result<&[u8], Unreadable> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + length as u64 > end {
            self.fill(at, length)?;
        }
        let from = (at - self.start) as usize;
        Ok(&self.bytes[from..from + length])
    }

    /// Some bytes at `at`, at least one, at most to the limit.
    fn chunk(&mut self, at: u64) -> Result<&[u8], Unreadable> {
        self.bytes(at, 1)?;
        Ok(&self.bytes[(at - self.start) as usize..])
    }

    /// Makes `length` bytes at `at` present, and what else one read brings.
    fn fill(&mut self, at: u64, length: usize) -> Result<(), Unreadable> {
        let left = self.limit - at;
        let wide = (WINDOW_BYTES.max(length) as u64).min(left) as usize;
        // What comes before a page that the disk lost is good, and a second try may do.
        if self.read(at, wide) >= length || self.read(at, length) >= length {
            return Ok(());
        }
        Err(Unreadable { offset: at + self.bytes.len() as u64 })
    }

    /// Reads up to `length` bytes; says how many came before the disk failed.
    fn read(&mut self, at: u64, length: usize) -> usize {
        self.start = at;
        self.bytes.resize(length, 0);
        if let Err((done, _)) = read_exact(&*self.reader, at, &mut self.bytes) {
            self.bytes.truncate(done);
        }
        self.bytes.len()
    }

    fn crc(&mut self, mut at: u64, mut length: u64) -> Result<u32, Unreadable> {
        let mut crc = crc32fast::Hasher::new();
        while length > 0 {
            let chunk = self.chunk(at)?;
            let taken = (chunk.len() as u64).min(length);
            crc.update(&chunk[..taken as usize]);
            at += taken;
            length -= taken;
        }
        Ok(crc.finalize())
    }

    /// Where the salt next stands, at `from` or later.
    fn find(&mut self, salt: u64, mut from: u64) -> Result<Option<u64>, Unreadable> {
        let salt = salt.to_le_bytes();
        let finder = memmem::Finder::new(&salt);
        while self.limit.saturating_sub(from) >= salt.len() as u64 {
            self.bytes(from, salt.len())?;
            let chunk = self.chunk(from)?;
            if let Some(at) = finder.find(chunk) {
                return Ok(Some(from + at as u64));
            }
            // The last seven bytes may be the salt's first.
            from += (chunk.len() - (salt.len() - 1)) as u64;
        }
        Ok(None)
    }

    /// Whether only zeros follow.
    fn is_zero(&mut self, mut at: u64) -> Result<bool, Unreadable> {
        while at < self.limit {
            let chunk = self.chunk(at)?;
            if chunk.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            at += chunk.len() as u64;
        }
        Ok(true)
    }
}

/// Fills `buffer`, or says how far it came.
fn read_exact(reader: &dyn Reader, at: u64, buffer: &mut [u8]) -> Result<(), (usize, io::Error)> {
    let mut done = 0;
    while done < buffer.len() {
        match reader.read_at(at + done as u64, &mut buffer[done..]) {
            Ok(0) => return Err((done, ErrorKind::UnexpectedEof.into())),
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((done, error)),
        }
    }
    Ok(())
}

/// Why a single record did not read back.
#[derive(Debug)]
pub(super) enum RecordError {
    /// Its bytes are not what was written.
    Damaged,
    /// The disk did not answer.
    Io(io::Error),
}

/// Reads one record; an accept record's bodies are read into its transaction.
pub(super) fn read_record(
    reader: &dyn Reader,
    name: SegmentName,
    place: Place,
) -> Result<Content, RecordError> {
    read_record_part(reader, name, place, usize::MAX)
}

/// The same, with of each body that is longer only the first `body_bytes_max` bytes. If there is any,
/// the bodies' checksum says nothing.
pub(super) fn read_record_part(
    reader: &dyn Reader,
    name: SegmentName,
    place: Place,
    body_bytes_max: usize,
) -> Result<Content, RecordError> {
    let mut at = u64::from(place.offset);
    let mut bytes = [0; HEADER_BYTES];
    read_part(reader, &mut at, &mut bytes)?;
    let header = Header::decode(&bytes, name.salt, place).ok_or(RecordError::Damaged)?;
    let mut metadata = vec![0; header.metadata_bytes as usize];
    read_part(reader, &mut at, &mut metadata)?;
    if crc32fast::hash(&metadata) != header.metadata_crc {
        return Err(RecordError::Damaged);
    }
    let content = Content::decode(&header, &metadata, take_accept);
    let mut content = content.ok_or(RecordError::Damaged)?;
    if let Content::Accept(accept) | Content::Companion(accept) = &mut content {
        read_bodies(reader, &mut at, &header, accept, body_bytes_max)?;
    }
    Ok(content)
}

fn read_bodies(
    reader: &dyn Reader,
    at: &mut u64,
    header: &Header,
    accept: &mut Accept,
    body_bytes_max: usize,
) -> Result<(), RecordError> {
    let mut crc = crc32fast::Hasher::new();
    let mut whole = true;
    for &length in &accept.body_bytes {
        let read = (length as usize).min(body_bytes_max.saturating_add(1));
        let mut bytes = vec![0; read];
        read_part(reader, at, &mut bytes)?;
        crc.update(&bytes);
        if read < length as usize {
            whole = false;
            *at += u64::from(length) - read as u64;
            bytes[read - 1] = 0;
        }
        let body = match length {
            0 => Body::default(),
            _ => Body::try_from(bytes).map_err(|_| RecordError::Damaged)?,
        };
        accept.transaction.bodies.push(body);
    }
    match !whole || crc.finalize() == header.body_crc {
        true => Ok(()),
        false => Err(RecordError::Damaged),
    }
}

fn read_part(reader: &dyn Reader, at: &mut u64, buffer: &mut [u8]) -> Result<(), RecordError> {
    read_exact(reader, *at, buffer).map_err(|(_, error)| match error.kind() {
        ErrorKind::UnexpectedEof => RecordError::Damaged,
        _ => RecordError::Io(error),
    })?;
    *at += buffer.len() as u64;
    Ok(())
}
