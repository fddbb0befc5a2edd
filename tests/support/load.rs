//! `rohrpost load` as a process: what it was told to send, and what it measured.
//!
//! It owns the process; whom it sends to is the caller's. **Diagnostics**: a run that does not end in time
//! or prints no JSON panics with what it wrote.

use std::{net::SocketAddr, process::Command};

use super::{process::Process, server::program, wait::PATIENCE};

/// A command line of `rohrpost load`.
#[derive(Debug)]
pub(crate) struct Load(Command);

impl Load {
    /// To that server, with more arguments as they stand in a manual; the report is JSON.
    pub(crate) fn on(address: SocketAddr, arguments: &str) -> Load {
        Load::plain(address, &format!("--json {arguments}"))
    }

    /// The same, with a report for people.
    pub(crate) fn plain(address: SocketAddr, arguments: &str) -> Load {
        let mut command = program();
        command.args(["load", &address.to_string()]).args(arguments.split_whitespace());
        Load(command)
    }

    /// One more argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Load {
        self.0.arg(argument);
        self
    }

    /// Starts it and leaves it running.
    pub(crate) fn spawn(mut self) -> Process {
        Process::spawn("rohrpost load", &mut self.0)
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Measured {
        let mut process = self.spawn();
        process.wait(PATIENCE);
        Measured::of(&mut process)
    }
}

/// What a load that has ended said.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) code: Option<i32>,
    json: serde_json::Value,
    pub(crate) stderr: String,
}

impl Measured {
    /// Of a process that has ended: its last line is the report.
    pub(crate) fn of(process: &mut Process) -> Measured {
        let code = process.wait(PATIENCE).code();
        let stdout = process.stdout.complete();
        let last = stdout.lines().last().unwrap_or_default();
        let json = serde_json::from_str(last)
            .unwrap_or_else(|error| panic!("{last:?} is not JSON ({error})\n{process}"));
        Measured { code, json, stderr: process.stderr.complete() }
    }

    /// A count by its name.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.json[name].as_u64().unwrap_or_else(|| panic!("no count {name}: {}", self.json))
    }

    /// A number by its JSON pointer.
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        let number = self.json.pointer(pointer).and_then(serde_json::Value::as_f64);
        number.unwrap_or_else(|| panic!("no number {pointer}: {}", self.json))
    }

    /// Messages whose fate that code was.
    pub(crate) fn replies(&self, code: u16) -> u64 {
        self.json["replies"][code.to_string()].as_u64().unwrap_or_default()
    }

    /// Everything was taken: that many messages, each answered 250.
    pub(crate) fn assert_all(&self, messages: u64) {
        let counts = ["messages", "accepted"].map(|name| self.count(name));
        assert_eq!((counts, self.replies(250)), ([messages; 2], messages), "{self:?}");
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        assert_eq!(self.count("lost") + self.count("failed_connections"), 0, "{self:?}");
    }
}
