//! The segment that is being written.
//!
//! Owns the open file and how much of it was written and made durable. Must never write or sync
//! again after either failed: the journal drops it then. Does not preallocate: on ext4 fdatasync
//! of an allocated file was now faster, now slower than of one that grows, within the noise.
//!
//! Diagnostics: what the system said, unchanged.

use std::io::{self, ErrorKind, IoSlice};

use super::batch::Batch;
use super::segment::SegmentName;
use crate::queue::storage::Appender;

/// Most slices of one call (IOV_MAX of Linux).
const SLICES_MAX: usize = 1024;

pub(super) struct Head {
    file: Box<dyn Appender>,
    name: SegmentName,
    written: u64,
    synced: u64,
}

impl Head {
    /// An empty file.
    pub(super) fn new(file: Box<dyn Appender>, name: SegmentName) -> Self {
        Self { file, name, written: 0, synced: 0 }
    }

    pub(super) const fn name(&self) -> SegmentName {
        self.name
    }

    /// Bytes written; after a failure with a part of the last batch.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that are durable.
    pub(super) const fn synced(&self) -> u64 {
        self.synced
    }

    /// Appends all of `batch`.
    pub(super) fn write(&mut self, batch: &Batch) -> io::Result<()> {
        let mut slices = batch.slices();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let call = &rest[..rest.len().min(SLICES_MAX)];
            match self.file.append(call) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                // A short write says why with the next call, if there is a reason.
                Ok(taken) => {
                    self.written += taken as u64;
                    IoSlice::advance_slices(&mut rest, taken);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes everything written durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.synced = self.written;
        Ok(())
    }
}
