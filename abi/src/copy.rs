//! Private copies: each plugin is loaded from a file of its own that nobody else can name.
//!
//! The same inode would give the handle of an earlier load, and a write to a mapped file changes or
//! kills the process that maps it (D-0E). Owns the copies' names and their removal. Must never leave
//! a file behind. Diagnostics: `io::Error`, which `load` puts into a sentence with the path.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where the copies are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copies {
    /// In a fresh directory of mode 0700 within this one, which must allow execution. It is gone again
    /// once everything is loaded.
    Directory(PathBuf),
    /// In memory, by a descriptor per plugin that stays open. Debuggers see no file name.
    Memory,
}

/// Makes copies in one place; removes the place when dropped.
#[derive(Debug)]
pub(crate) enum Copier {
    Directory(PathBuf),
    Memory,
}

/// A copy to load from; removes the file when dropped. What is mapped by then stays.
#[derive(Debug)]
pub(crate) enum PrivateCopy {
    File(PathBuf),
    Memory(PathBuf),
}

impl Copier {
    pub(crate) fn in_directory(parent: &Path) -> io::Result<Copier> {
        make_directory(parent).map(Copier::Directory)
    }

    pub(crate) fn copy(&self, file: &Path, name: &OsStr) -> io::Result<PrivateCopy> {
        match self {
            Copier::Directory(directory) => {
                let copy = PrivateCopy::File(directory.join(name));
                fs::copy(file, copy.path())?;
                Ok(copy)
            }
            Copier::Memory => copy_to_memory(file, name).map(PrivateCopy::Memory),
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        if let Copier::Directory(directory) = self {
            // It is empty by now; if not, what is left is harmless.
            let _ = fs::remove_dir(directory);
        }
    }
}

impl PrivateCopy {
    /// What opens this copy for as long as the process lives, whatever becomes of its name.
    pub(crate) fn keep(&self) -> PathBuf {
        match self {
            PrivateCopy::Memory(path) => path.clone(),
            PrivateCopy::File(path) => match File::open(path) {
                Ok(file) => PathBuf::from(format!("/proc/self/fd/{}", file.into_raw_fd())),
                // Then nothing of it can be named but addresses.
                Err(_) => path.clone(),
            },
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            PrivateCopy::File(path) | PrivateCopy::Memory(path) => path,
        }
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        if let PrivateCopy::File(path) = self {
            // A copy that was never written is no harm either.
            let _ = fs::remove_file(path);
        }
    }
}

/// The name is random, hence new: the dynamic linker gives back an earlier load's handle for a path
/// that it has seen, even if the file is another.
fn make_directory(parent: &Path) -> io::Result<PathBuf> {
    let template = parent.join("rohrpost-plugins-XXXXXX").into_os_string().into_vec();
    let mut template = CString::new(template)?.into_bytes_with_nul();
    // SAFETY: a writable, NUL-terminated string that ends in the six X that mkdtemp asks for.
    let made = unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) };
    if made.is_null() {
        return Err(io::Error::last_os_error());
    }
    template.pop();
    Ok(PathBuf::from(std::ffi::OsString::from_vec(template)))
}

/// A copy in memory that is read, not run; it goes with the value.
#[derive(Debug)]
pub(crate) struct Reading(File);

impl Reading {
    pub(crate) fn of(file: &Path) -> io::Result<Reading> {
        memory_of(file, OsStr::new("symbols")).map(Reading)
    }

    /// What opens it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn copy_to_memory(file: &Path, name: &OsStr) -> io::Result<PathBuf> {
    let memory = memory_of(file, name)?;
    // Kept open for good: a later copy on the same number would have a path that the dynamic linker
    // has seen, and get this one's handle.
    Ok(PathBuf::from(format!("/proc/self/fd/{}", memory.into_raw_fd())))
}

fn memory_of(file: &Path, name: &OsStr) -> io::Result<File> {
    let mut source = File::open(file)?;
    let name = CString::new(name.as_bytes())?;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made above, is valid, and nobody else owns it.
    let mut memory = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    io::copy(&mut source, &mut memory)?;
    Ok(memory)
}
