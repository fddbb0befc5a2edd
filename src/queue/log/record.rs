//! The frame of a record: what is needed to find it, to trust its lengths and to check its bytes.
//!
//! Owns the header's layout, the kinds and the largest lengths. Must not know what metadata mean;
//! that is [`codec`](super::codec).
//!
//! Diagnostics: none of its own; a header that does not check is simply none.

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 32;
/// The layout's version.
const VERSION: u8 = 1;
/// Most metadata of one record: some 100,000 recipients with long addresses.
pub(super) const METADATA_BYTES_MAX: usize = 64 << 20;
/// Most bytes of all bodies of one record, zeros included.
pub(super) const BODY_BYTES_MAX: usize = 1 << 30;
/// Most bytes of one record.
pub(super) const RECORD_BYTES_MAX: usize = HEADER_BYTES + METADATA_BYTES_MAX + BODY_BYTES_MAX;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first of a segment: which came before it, and how far that one counts.
    Opening,
    /// A transaction, new or rewritten.
    Accept,
    /// The outcome of an attempt.
    Settle,
    /// Transactions that were refused though their record may have been written.
    Void,
    /// Segments below a number are done with.
    Release,
    /// The outcome of an attempt with what tells of it: it counts only if the companions right before
    /// it all do.
    Outcome,
    /// A transaction that counts only with the outcome that follows.
    Companion,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Opening => 1,
            Self::Accept => 2,
            Self::Settle => 3,
            Self::Void => 4,
            Self::Release => 5,
            Self::Outcome => 6,
            Self::Companion => 7,
        }
    }

    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Opening),
            2 => Some(Self::Accept),
            3 => Some(Self::Settle),
            4 => Some(Self::Void),
            5 => Some(Self::Release),
            6 => Some(Self::Outcome),
            7 => Some(Self::Companion),
            _ => None,
        }
    }
}

/// Where a record is: in which segment, and how far into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The segment's number.
    pub(super) segment: u64,
    /// Bytes before the record.
    pub(super) offset: u32,
}

/// A record's header.
///
/// | bytes | content, little endian |
/// |---|---|
/// | 0..8 | the segment's salt |
/// | 8 | version, 1 |
/// | 9 | kind |
/// | 10..12 | zero |
/// | 12..16 | length of the metadata |
/// | 16..20 | length of the bodies, each with its zero byte |
/// | 20..24 | CRC-32 of the metadata |
/// | 24..28 | CRC-32 of the bodies |
/// | 28..32 | CRC-32 of bytes 0..28, the segment's number and the record's offset (8 bytes each) |
///
/// Metadata and bodies follow without padding.
///
/// The salt is drawn at random for each segment and stands in its file name, so that it survives
/// any damage inside the file. It is what a scan looks for after damage: the text of a mail, whose
/// sender cannot know it, never looks like a record. Segment and offset are part of the checksum, so
/// that a header is valid in its own place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The kind's number; an unknown one is damage, but its lengths can be trusted.
    pub(super) kind: u8,
    /// Bytes of metadata, at most [`METADATA_BYTES_MAX`].
    pub(super) metadata_bytes: u32,
    /// Bytes of bodies, at most [`BODY_BYTES_MAX`].
    pub(super) body_bytes: u32,
    /// CRC-32 of the metadata.
    pub(super) metadata_crc: u32,
    /// CRC-32 of the bodies.
    pub(super) body_crc: u32,
}

impl Header {
    /// A header for `metadata`; without bodies so far.
    pub(super) fn new(kind: Kind, metadata: &[u8]) -> Self {
        assert!(metadata.len() <= METADATA_BYTES_MAX, "metadata were measured before");
        Self {
            kind: kind.number(),
            metadata_bytes: metadata.len() as u32,
            body_bytes: 0,
            metadata_crc: crc32fast::hash(metadata),
            body_crc: 0,
        }
    }

    /// Bytes of the whole record.
    pub(super) fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.metadata_bytes) + u64::from(self.body_bytes)
    }

    pub(super) fn encode(&self, salt: u64, place: Place) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&salt.to_le_bytes());
        bytes[8] = VERSION;
        bytes[9] = self.kind;
        bytes[12..16].copy_from_slice(&self.metadata_bytes.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.metadata_crc.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = checksum(&bytes, place);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header in `bytes`, if they are one at this place; its lengths are within their bounds.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], salt: u64, place: Place) -> Option<Self> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let header = Self {
            kind: bytes[9],
            metadata_bytes: word(12),
            body_bytes: word(16),
            metadata_crc: word(20),
            body_crc: word(24),
        };
        let valid = bytes[..8] == salt.to_le_bytes()
            && word(28) == checksum(bytes, place)
            && bytes[8] == VERSION
            && header.metadata_bytes as usize <= METADATA_BYTES_MAX
            && header.body_bytes as usize <= BODY_BYTES_MAX;
        valid.then_some(header)
    }
}

/// A record with valid checksums around any content, for tests that must come past them.
pub(in crate::queue) fn frame(
    (segment, salt, offset): (u64, u64, u32),
    kind: u8,
    metadata: &[u8],
    body: &[u8],
) -> Vec<u8> {
    let header = Header {
        kind,
        body_bytes: body.len() as u32,
        body_crc: crc32fast::hash(body),
        ..Header::new(Kind::Accept, metadata)
    };
    let place = Place { segment, offset };
    [&header.encode(salt, place)[..], metadata, body].concat()
}

fn checksum(bytes: &[u8; HEADER_BYTES], place: Place) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..28]);
    crc.update(&place.segment.to_le_bytes());
    crc.update(&u64::from(place.offset).to_le_bytes());
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_valid_as_written_in_its_own_place_only() {
        let place = Place { segment: 7, offset: 4096 };
        let header = Header { body_bytes: 9, body_crc: 4, ..Header::new(Kind::Accept, b"meta") };
        let bytes = header.encode(11, place);
        assert_eq!(Header::decode(&bytes, 11, place), Some(header));
        assert_eq!(Header::decode(&bytes, 12, place), None);
        assert_eq!(Header::decode(&bytes, 11, Place { segment: 8, ..place }), None);
        assert_eq!(Header::decode(&bytes, 11, Place { offset: 4097, ..place }), None);
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&flipped, 11, place), None, "bit {bit}");
        }
    }

    #[test]
    fn lengths_beyond_their_bounds_are_not_believed() {
        let place = Place { segment: 1, offset: 0 };
        let empty = Header::new(Kind::Accept, b"");
        let long_metadata = Header { metadata_bytes: METADATA_BYTES_MAX as u32 + 1, ..empty };
        let long_body = Header { body_bytes: BODY_BYTES_MAX as u32 + 1, ..empty };
        assert_eq!(Header::decode(&long_metadata.encode(1, place), 1, place), None);
        assert_eq!(Header::decode(&long_body.encode(1, place), 1, place), None);
    }

    #[test]
    fn kinds_read_back() {
        for number in 0..=u8::MAX {
            if let Some(kind) = Kind::from_number(number) {
                assert_eq!(kind.number(), number);
            }
        }
    }
}
