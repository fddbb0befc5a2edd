//! Private copies: each plugin is loaded from a file of its own that nobody else can name.
//!
//! The same inode would give the handle of an earlier load, and a write to a mapped file changes or
//! kills the process that maps it (D-0E). Owns the copies' names and their removal. Must never leave
//! a file behind. Diagnostics: `io::Error`, which `load` puts into a sentence with the path.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where the copies are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copies {
    /// In a fresh directory of mode 0700 within this one, which must allow execution. It is gone again
    /// once everything is loaded.
    Directory(PathBuf),
    /// In memory, by a descriptor that stays open as long as the plugin is in use. Debuggers see no file
    /// name.
    Memory,
}

/// Tells contents of files apart. Two files that differ have the same one by a chance of one in 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    bytes: u64,
    hash: u64,
}

/// The descriptor that a plugin was loaded from, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Option<OwnedFd>>);

impl Kept {
    /// Closes it; the plugin stays mapped.
    pub(crate) fn close(&self) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(kept);
    }
}

/// Makes copies in one place; removes the place when dropped.
#[derive(Debug)]
pub(crate) enum Copier {
    Directory(PathBuf),
    Memory,
}

/// A copy to load from. Dropping it removes the file or closes the descriptor; what is mapped by then
/// stays.
#[derive(Debug)]
pub(crate) struct PrivateCopy {
    path: PathBuf,
    pub(crate) fingerprint: Fingerprint,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File,
    Memory(OwnedFd),
    /// The descriptor was moved out.
    Kept,
}

impl Copier {
    pub(crate) fn new(copies: &Copies) -> io::Result<Copier> {
        match copies {
            Copies::Memory => Ok(Copier::Memory),
            Copies::Directory(parent) => make_directory(parent).map(Copier::Directory),
        }
    }

    pub(crate) fn copy(&self, file: &Path, name: &OsStr) -> io::Result<PrivateCopy> {
        let mut source = File::open(file)?;
        match self {
            Copier::Directory(directory) => {
                let path = directory.join(name);
                let mut target = File::create(&path)?;
                let mut copy = PrivateCopy {
                    path,
                    fingerprint: Fingerprint { bytes: 0, hash: 0 },
                    place: Place::File,
                };
                copy.fingerprint = copy_all(&mut source, &mut target)?;
                Ok(copy)
            }
            Copier::Memory => copy_to_memory(&mut source, name),
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
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What opens the copy as long as the plugin is in use, whatever becomes of its name: whoever reads its
    /// symbols does so through it. And what keeps that open.
    pub(crate) fn keep(&mut self) -> (PathBuf, Kept) {
        let held = |descriptor| Kept(Mutex::new(Some(descriptor)));
        match std::mem::replace(&mut self.place, Place::Kept) {
            Place::Memory(descriptor) => (self.path.clone(), held(descriptor)),
            Place::File => {
                self.place = Place::File;
                match File::open(&self.path) {
                    Ok(file) => {
                        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                        (path, held(file.into()))
                    }
                    // Then nothing of it can be named but addresses.
                    Err(_) => (self.path.clone(), Kept::default()),
                }
            }
            Place::Kept => (self.path.clone(), Kept::default()),
        }
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        match &self.place {
            // A copy that was never written is no harm either.
            Place::File => drop(fs::remove_file(&self.path)),
            Place::Memory(_) | Place::Kept => {}
        }
    }
}

/// Copies to the end, and tells what it was.
fn copy_all(source: &mut impl Read, target: &mut impl Write) -> io::Result<Fingerprint> {
    let mut hasher = DefaultHasher::new();
    let mut bytes = 0;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(Fingerprint { bytes, hash: hasher.finish() }),
            Ok(count) => {
                hasher.write(&buffer[..count]);
                target.write_all(&buffer[..count])?;
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// How much is read of a file at a time.
const COPY_BYTES: usize = 64 * 1024;

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
        let mut source = File::open(file)?;
        let mut memory = memory_file(OsStr::new("symbols"))?;
        io::copy(&mut source, &mut memory)?;
        Ok(Reading(memory))
    }

    /// What opens it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

fn copy_to_memory(source: &mut File, name: &OsStr) -> io::Result<PrivateCopy> {
    let mut memory = memory_file(name)?;
    let fingerprint = copy_all(source, &mut memory)?;
    let path = fresh_path(memory.as_raw_fd(), COPIES.fetch_add(1, Ordering::Relaxed));
    Ok(PrivateCopy { path, fingerprint, place: Place::Memory(memory.into()) })
}

fn memory_file(name: &OsStr) -> io::Result<File> {
    let name = CString::new(name.as_bytes())?;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made above, is valid, and nobody else owns it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// How many copies in memory this process has made.
static COPIES: AtomicU32 = AtomicU32::new(0);

/// A path to a descriptor that no other copy had, though its number may have been another's before: the
/// dynamic linker gives back an earlier load's handle for a path that it has seen. The bits of `serial`
/// stand in it as one slash or two.
fn fresh_path(fd: i32, serial: u32) -> PathBuf {
    let mut path = String::from("/proc/self/fd");
    for bit in (0..u32::BITS - serial.leading_zeros()).rev() {
        path.push_str(if serial >> bit & 1 == 0 { "/." } else { "//." });
    }
    PathBuf::from(format!("{path}/{fd}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_copies_have_the_same_path_and_each_leads_to_its_descriptor() {
        let file = File::open("/proc/self/status").expect("a process has one");
        let paths: Vec<PathBuf> = (0..600).map(|n| fresh_path(file.as_raw_fd(), n)).collect();
        let different: std::collections::HashSet<&OsStr> =
            paths.iter().map(|path| path.as_os_str()).collect();
        assert_eq!(different.len(), paths.len());
        assert!(paths.iter().all(|path| fs::metadata(path).is_ok_and(|found| found.is_file())));
    }

    #[test]
    fn contents_are_told_apart_by_a_byte() {
        let fingerprint = |text: &[u8]| {
            let mut copy = Vec::new();
            let fingerprint = copy_all(&mut &text[..], &mut copy).expect("memory does not fail");
            assert_eq!(copy, text);
            fingerprint
        };
        assert_eq!(fingerprint(b"one"), fingerprint(b"one"));
        assert_ne!(fingerprint(b"one"), fingerprint(b"onf"));
        assert_ne!(fingerprint(b""), fingerprint(b"\0"));
    }
}
