//! `rohrpost sink` as a process: a next hop that takes everything and writes it down.
//!
//! It owns the process; the file it dumps to is the caller's. **Diagnostics**: as a server's.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    process::Process,
    server::{program, ready},
    wait::{PATIENCE, eventually},
};

/// A running sink. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Sink {
    process: Process,
    address: SocketAddr,
    dump: PathBuf,
}

impl Sink {
    /// A sink on a port that the system picks, which appends all it accepts to `dump`.
    pub(crate) fn start(dump: &Path) -> Sink {
        Sink::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), dump, &[] as &[&str])
    }

    /// A sink on `address`, with more arguments (`--delay-ms`, `--refuse`).
    pub(crate) fn start_on(
        address: SocketAddr,
        dump: &Path,
        arguments: &[impl AsRef<OsStr>],
    ) -> Sink {
        let mut command = program();
        command.args(["sink", "--listen", &address.to_string(), "--dump"]).arg(dump);
        command.args(arguments);
        let mut process = Process::spawn("rohrpost sink", &mut command);
        let (addresses, pid) = process.await_line(PATIENCE, |line| ready(line, "sink"));
        assert_eq!(pid, process.pid(), "the ready line names its own process");
        Sink { process, address: addresses[0], dump: dump.to_owned() }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has written down so far. A mail is there before its 250 is sent.
    pub(crate) fn dumped(&self) -> Vec<u8> {
        std::fs::read(&self.dump).unwrap_or_default()
    }

    /// How many mails that is: one line each.
    pub(crate) fn count(&self) -> usize {
        self.dumped().iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Waits until `count` mails are there.
    pub(crate) fn await_count(&self, count: usize, deadline: Duration) {
        let what = format!("{count} mails in {}", self.dump.display());
        eventually(&what, deadline, || (self.count() >= count).then_some(()));
    }

    /// In how many mails `text` stands; for recipients, which no mail names twice.
    pub(crate) fn count_with(&self, text: &str) -> usize {
        let dumped = self.dumped();
        let lines = dumped.split(|&byte| byte == b'\n');
        lines.filter(|line| recipients(line).contains(text)).count()
    }

    /// Stops it; what it accepted is then all written down.
    pub(crate) fn terminate(mut self) -> Vec<u8> {
        self.process.terminate(PATIENCE);
        self.dumped()
    }
}

/// The recipients of a dumped mail. Quotes within its text are escaped, so the last field of that name is
/// the real one.
fn recipients(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    line.rsplit_once("\"recipients\":").map_or_else(String::new, |(_, rest)| rest.to_owned())
}
