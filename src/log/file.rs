//! A file that lines are appended to, which somebody may move away while it is open.
//!
//! Owns opening it, and noticing that it is not where it was. Knows nothing of lines.
//!
//! Diagnostics: what the system says.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How often somebody looks whether the file is still where it was, in milliseconds.
const MOVED_CHECK_MS: u64 = 1000;

/// Whether writes may wait for a reader, where the file is a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// They may.
    Waits,
    /// They fail instead with [`io::ErrorKind::WouldBlock`], and so does opening a pipe that nobody
    /// reads.
    Refuses,
}

/// An open file and its name.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    patience: Patience,
    checked_ms: u64,
}

impl LogFile {
    /// Opens a file to append to, and makes it with mode 0640 where it is missing.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn open(path: &Path, patience: Patience) -> io::Result<Self> {
        Ok(Self { path: path.into(), file: open(path, patience)?, patience, checked_ms: 0 })
    }

    /// The name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Opens it again if it was moved or removed, as log rotation does; looks once a second at most. If
    /// that fails the old file is still better than none, and the next look tries again. Returns whether
    /// another file is open now.
    pub(crate) fn follow(&mut self, now_ms: u64) -> bool {
        if now_ms.abs_diff(self.checked_ms) < MOVED_CHECK_MS {
            return false;
        }
        self.checked_ms = now_ms;
        let is_moved = !is_same(self.file.metadata().ok(), self.path.metadata().ok());
        is_moved && self.reopen().unwrap_or(false)
    }

    /// Opens it again; whether that is another file than before.
    ///
    /// # Errors
    /// What the system says; the old file is used on.
    pub(crate) fn reopen(&mut self) -> io::Result<bool> {
        let before = std::mem::replace(&mut self.file, open(&self.path, self.patience)?);
        Ok(!is_same(before.metadata().ok(), self.file.metadata().ok()))
    }
}

fn open(path: &Path, patience: Patience) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640);
    if patience == Patience::Refuses {
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options.open(path)
}

fn is_same(open: Option<Metadata>, named: Option<Metadata>) -> bool {
    match (open, named) {
        (Some(open), Some(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
