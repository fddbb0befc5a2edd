//! What a start finds: the mail that is waiting, and what was damaged.
//!
//! Owns the values an engine's recovery hands to the runtime. Bodies are never part of them.
//!
//! Diagnostics: a [`Report`] with one [`Damage`] for every place that did not read back.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::extras::Extras;
use super::few::Few;
use super::mail::{Addresses, Attempt, TransactionId};
use super::wishes::Wishes;

/// Everything a start found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The transactions held, by increasing id; without the entries of named queues.
    pub waiting: Vec<Waiting>,
    /// What was found out about the storage.
    pub report: Report,
    /// The largest id seen, for [`Ids::new`](super::Ids::new).
    pub id_max: Option<TransactionId>,
}

/// A transaction that is held, without its bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its name.
    pub id: TransactionId,
    /// When it was received, unix time in milliseconds.
    pub received_ms: u64,
    /// Bytes of all its texts.
    pub body_bytes: u64,
    /// What it asks for itself.
    pub wishes: Option<Box<Wishes>>,
    /// The mails that are not freed, by increasing index.
    pub mails: Few<WaitingMail>,
}

/// A mail that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingMail {
    /// See [`Mail::index`](super::Mail::index).
    pub index: u16,
    /// Its sender's and its recipient's.
    pub addresses: Addresses,
    /// How many attempts were recorded.
    pub attempts: u32,
    /// The last of them; none means the mail is due at once.
    pub last: Option<Box<Attempt>>,
    /// What plugins have made of it, if anything.
    pub extras: Option<Arc<Extras>>,
}

/// What was found out about the storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Places that did not read back. Each costs the mail in it, nothing else.
    pub damaged: Vec<Damage>,
    /// How many more there were than [`Report::damaged`] lists.
    pub damaged_more: u64,
    /// Bytes at the end of the newest segment that a crash left incomplete. This is not damage:
    /// nobody was told they are durable.
    pub torn_bytes: u64,
    /// Segments read.
    pub segments: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Records read.
    pub records: u64,
}

/// A place that did not read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The segment's number.
    pub segment: u64,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How many bytes were skipped.
    pub length: u64,
    /// What was wrong.
    pub reason: DamageReason,
}

/// What was wrong with a damaged place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DamageReason {
    /// No record begins where one should.
    Header,
    /// A record's metadata does not match its checksum, or does not parse.
    Metadata,
    /// A record's bodies do not match their checksum.
    Body,
    /// The segment is shorter than it was when it was sealed.
    Truncated,
    /// The disk did not answer.
    Unreadable,
    /// The segment is not there.
    Missing,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, offset, length, .. } = self;
        match self.reason {
            DamageReason::Header => {
                write!(f, "segment {segment}: {length} bytes at {offset} hold no record")
            }
            DamageReason::Metadata => write!(
                f,
                "segment {segment}: the metadata of the record at {offset} is damaged ({length} bytes skipped)"
            ),
            DamageReason::Body => write!(
                f,
                "segment {segment}: the body of the record at {offset} is damaged ({length} bytes skipped)"
            ),
            DamageReason::Unreadable => {
                write!(f, "segment {segment}: {length} bytes at {offset} cannot be read")
            }
            DamageReason::Truncated => {
                write!(f, "segment {segment} is cut off at {offset}; {length} bytes are missing")
            }
            DamageReason::Missing => {
                write!(f, "segment {segment} of {length} bytes is missing")
            }
        }
    }
}
