//! A name server of the test: a foreign one (dnslib), whose zone the test writes and may change.
//!
//! It owns the process and the directory with its zone and its log. **Diagnostics**: as a tool's.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Listener, Tool};

/// A running name server. Dropping it kills it.
pub(crate) struct NameServer {
    directory: TempDir,
    listener: Listener,
}

impl NameServer {
    /// A name server with this zone, as `tests/python/dns.py` describes it.
    pub(crate) fn start(zone: &Value) -> NameServer {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("zone"), zone.to_string()).unwrap();
        std::fs::write(directory.path().join("log"), "").unwrap();
        let tool = Tool::python("dns.py");
        let tool = tool.arg(directory.path().join("zone")).arg(directory.path().join("log"));
        NameServer { listener: tool.listen_when_ready(), directory }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// From now on another zone.
    pub(crate) fn set(&self, zone: &Value) {
        let fresh = self.file("zone.new");
        std::fs::write(&fresh, zone.to_string()).unwrap();
        std::fs::rename(&fresh, self.file("zone")).unwrap();
    }

    /// How often `question` (`udp MX example.org`) was asked so far.
    pub(crate) fn asked(&self, question: &str) -> usize {
        let log = std::fs::read_to_string(self.file("log")).unwrap();
        log.lines().filter(|line| *line == question).count()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
