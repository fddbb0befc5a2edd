//! What the log stands on: a directory of files that are only appended to.
//!
//! Owns the [`Storage`] trait and [`DiskStorage`]; [`MemoryStorage`](super::MemoryStorage) is its
//! twin for tests. Must not know what the bytes mean, and must not hide a failure: nothing here
//! is retried.
//!
//! Diagnostics: every call returns what the system said; the engine adds the segment and the
//! operation.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A flat directory of append-only files.
pub trait Storage: Send + Sync {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new, empty file; its name must be free. Durable only after [`Storage::sync_directory`].
    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>>;

    /// An existing file, for reading.
    fn open(&self, name: &str) -> io::Result<Box<dyn Reader>>;

    /// Makes the bytes of an existing file durable.
    fn sync(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name.
    fn rename(&self, name: &str, to: &str) -> io::Result<()>;

    /// Cuts an existing file off after `length` bytes, which gives back what followed. A crash may
    /// undo it.
    fn truncate(&self, name: &str, length: u64) -> io::Result<()>;

    /// A file that takes up so many bytes and holds nothing; one that is there may stay.
    fn reserve(&self, name: &str, bytes: u64) -> io::Result<()>;

    /// Takes a file away.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renamings and removals durable.
    fn sync_directory(&self) -> io::Result<()>;

    /// How many bytes could still be written.
    fn free_bytes(&self) -> io::Result<u64>;

    /// A number nobody outside can guess.
    fn salt(&self) -> io::Result<u64>;
}

/// A file that grows at its end.
pub trait Appender: Send {
    /// Appends from the slices, in one call of the system; may append less than given.
    fn append(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Makes everything appended durable. After a failure what was not durable before may never
    /// be, and a second success would say nothing: do not call it again.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file that is read.
pub trait Reader: Send {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Reads at `offset`; may read less than asked for, 0 at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// A directory on disk. It should belong to the server alone (mode 0700): file names hold salts.
#[derive(Clone, Debug)]
pub struct DiskStorage {
    directory: PathBuf,
}

impl DiskStorage {
    /// The directory, which must exist.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Storage for DiskStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Appender>> {
        let path = self.directory.join(name);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Reader>> {
        Ok(Box::new(File::open(self.directory.join(name))?))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        File::open(self.directory.join(name))?.sync_data()
    }

    fn rename(&self, name: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.directory.join(name), self.directory.join(to))
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.directory.join(name))?.set_len(length)
    }

    fn reserve(&self, name: &str, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let path = self.directory.join(name);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // File systems that cannot promise room have to be given something to keep.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                io::copy(&mut io::repeat(0).take(bytes), &mut file).map(drop)
            }
            outcome => Ok(outcome?),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.directory)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn salt(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        // Up to 256 bytes come whole or not at all (getrandom(2)).
        rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
        Ok(u64::from_le_bytes(bytes))
    }
}

impl Appender for File {
    fn append(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_vectored(slices)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Reader for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}
