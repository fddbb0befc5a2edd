//! The embedded engine: an append-only segment log of our own, durable on this machine.
//!
//! One record is one transaction, or the outcome of one attempt. Records go to the end of the
//! newest segment, one write and one sync for everything that all workers have pending; the layout is
//! documented at [`record`] and [`codec`]. [`journal`] is the one file that knows how durable is done,
//! [`recovery`] is its reverse, [`compaction`] gives space back, [`commit`] is the thread.
//!
//! What holds, and is tested with a storage that fails on request:
//! - What was answered as durable is there after any crash, unless its settle was durable too.
//! - A damaged byte costs at most its own record, and is reported.
//! - No text that a sender chooses is ever taken for a record.
//! - The bytes on disk stay below twice the live ones and a few segments, while the disk works.
//!
//! Diagnostics: see the modules; everything that fails is either an answer to a worker, an
//! [`OpenError`], a line of the report, or [`Status::trouble`](super::Status::trouble).

mod accepted;
mod backlog;
mod batch;
pub mod bench;
mod codec;
mod commit;
mod compaction;
mod extras;
mod gauges;
mod head;
mod history;
mod index;
mod journal;
mod reader;
mod record;
mod recovery;
mod reserve;
mod scan;
mod segment;
mod shelves;
mod space;
mod start;
mod survey;
#[cfg(test)]
mod tests;
mod unsynced;

pub use commit::{Backlog, LogQueue, Notify, Unread};
pub use journal::Options;
pub use reader::LogReader;
pub(super) use record::frame;
pub use recovery::OpenError;
pub(super) use segment::segment_file_name;
#[cfg(test)]
pub(super) use tests::sample_segment;

/// Whether the log opens a file of this name in its directory.
pub(crate) fn is_file_of_queue(name: &str) -> bool {
    name == reserve::NAME || segment::SegmentName::parse(name).is_some()
}
