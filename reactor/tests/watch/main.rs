//! Owns: the proof of the rules for watched descriptors (D-94 to D-9C), on real ones.
//!
//! Descriptors are closed and their numbers used again behind the watch set's back, as a plugin
//! does it. Numbers are the process's, so the tests take turns, and are a process of their own.
//!
//! Must never: sleep; every wait has something ready, or a timeout of zero.
//!
//! Diagnostics: none beyond the assertions.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod changes;
mod closed;
mod model;
mod readiness;
#[path = "../suite/support.rs"]
mod support;

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rohrpost_reactor::{HostReadiness, Interest, Ready, WatchKey, WatchSet};

/// Held by a test for as long as it plays with numbers.
fn numbers() -> MutexGuard<'static, ()> {
    static NUMBERS: Mutex<()> = Mutex::new(());
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A descriptor as a plugin has it: a number that it may close at any time, whoever watches it.
#[derive(Clone, Copy)]
struct Foreign(BorrowedFd<'static>);

impl Foreign {
    fn new(fd: impl Into<OwnedFd>) -> Self {
        // Leaked: from here on nobody but `close` closes the number.
        let leaked: &'static OwnedFd = Box::leak(Box::new(fd.into()));
        Foreign(leaked.as_fd())
    }

    /// A descriptor that takes the number of `self`, which must be free.
    fn reused_by(self, fd: impl AsFd) -> Self {
        let fd =
            nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(self.number())).unwrap();
        assert_eq!(fd, self.number(), "the number was not free");
        self
    }

    /// Closed, and its number taken at once by a descriptor of `fd`'s file.
    fn passed_to(self, fd: impl AsFd) -> Self {
        self.close();
        self.reused_by(fd)
    }

    fn number(self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn close(self) {
        nix::unistd::close(self.number()).unwrap();
    }
}

/// The set under test; payloads are names.
type Set = WatchSet<&'static str>;

fn set() -> Set {
    WatchSet::new(64)
}

/// A pipe whose reading end is foreign, and the writing end.
fn pipe() -> (Foreign, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    (Foreign::new(reader), writer)
}

/// The same, with a byte to read.
fn ready_pipe() -> (Foreign, PipeWriter) {
    let (reader, mut writer) = pipe();
    writer.write_all(b"x").unwrap();
    (reader, writer)
}

/// One wait that does not wait, and all callbacks that it leads to.
fn turn(set: &mut Set) -> Vec<(&'static str, Ready)> {
    assert_eq!(set.wait(Some(Duration::ZERO), None).unwrap(), HostReadiness::Idle);
    std::iter::from_fn(|| set.take_ready()).map(|(_, name, ready)| (name, ready)).collect()
}

fn fired(name: &'static str, interest: Interest) -> (&'static str, Ready) {
    (name, Ready::Fired(interest))
}

fn dead(name: &'static str, interest: Interest, errno: nix::errno::Errno) -> (&'static str, Ready) {
    (name, Ready::Dead { interest, os_error: errno as i32 })
}

fn watch(set: &mut Set, fd: Foreign, interest: Interest, name: &'static str) -> WatchKey {
    set.watch(fd.0, interest, name).unwrap()
}

fn regular_file() -> File {
    File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap()
}

fn foreign_reader(reader: &PipeReader) -> Foreign {
    Foreign::new(reader.try_clone().unwrap())
}
