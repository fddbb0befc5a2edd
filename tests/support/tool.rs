//! Foreign programs below `target/tools`, fetched by `tests/tools/fetch.sh`.
//!
//! It owns their command lines and, where one of them listens without saying where, the search for its
//! port. **Diagnostics**: a missing tool panics with the command that fetches it.

use std::{
    ffi::OsStr,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    process::Process,
    server::ready,
    wait::{PATIENCE, eventually},
};

/// One command line of a foreign program.
#[derive(Debug)]
pub(crate) struct Tool {
    name: String,
    command: Command,
}

impl Tool {
    /// One of `target/tools/bin`.
    pub(crate) fn new(name: &str) -> Tool {
        let mut command = Command::new(Tool::path(name));
        command.stdin(Stdio::null());
        Tool { name: name.to_owned(), command }
    }

    /// One of the scripts in `tests/python`.
    pub(crate) fn python(script: &str) -> Tool {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
        let mut tool = Tool::new("python3").arg(folder.join(script));
        tool.name = script.to_owned();
        tool
    }

    /// One of the scripts in `tests/node`.
    pub(crate) fn node(script: &str) -> Tool {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
        let mut tool = Tool::new("node").arg(folder.join(script));
        tool.name = script.to_owned();
        tool
    }

    /// Where a fetched program is.
    pub(crate) fn path(name: &str) -> PathBuf {
        present(Tool::folder("bin").join(name))
    }

    /// A folder below `target/tools`: `bin`, `deb`, `node`, `stamp`.
    pub(crate) fn folder(name: &str) -> PathBuf {
        let tools = std::env::var_os("ROHRPOST_TOOLS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"),
            PathBuf::from,
        );
        present(tools.join(name))
    }

    /// One more argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Tool {
        self.command.arg(argument);
        self
    }

    /// Arguments separated by blanks, as they stand in a manual.
    pub(crate) fn words(mut self, arguments: &str) -> Tool {
        self.command.args(arguments.split_whitespace());
        self
    }

    /// Reads its standard input from a file.
    pub(crate) fn input(mut self, path: &Path) -> Tool {
        let file = std::fs::File::open(path).expect("the input of a tool can be opened");
        self.command.stdin(file);
        self
    }

    /// Starts it and leaves it running.
    pub(crate) fn spawn(mut self) -> Process {
        Process::spawn(&self.name, &mut self.command)
    }

    /// Runs it to its end and returns what it said, which must be success.
    pub(crate) fn run(self, deadline: Duration) -> String {
        let mut process = self.spawn();
        let status = process.wait(deadline);
        assert!(status.success(), "{status}\n{process}");
        process.stdout.complete()
    }

    /// Starts a program that listens where it was told to, and finds out where that is.
    pub(crate) fn listen(self) -> Listener {
        let process = self.spawn();
        let pid = process.pid();
        let port = eventually("a listening port", PATIENCE, || listening_port(pid));
        Listener { process, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Starts a script that prints `ready receiver=HOST:PORT pid=N`.
    pub(crate) fn listen_when_ready(self) -> Listener {
        let mut process = self.spawn();
        let (addresses, _) = process.await_line(PATIENCE, |line| ready(line, "receiver"));
        Listener { process, address: addresses[0] }
    }
}

fn present(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "no {}: run tests/tools/fetch.sh once", path.display());
    path
}

/// A foreign program that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// A port of 127.0.0.1 on which nobody listens now; for a next hop that shall be missing at first.
pub(crate) fn fresh_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be picked");
    listener.local_addr().expect("a bound socket has an address")
}

/// The IPv4 port that process `pid` listens on, from /proc: smtp-sink does not tell what it picked.
fn listening_port(pid: i32) -> Option<u16> {
    let held: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().find_map(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let listens = fields.get(3) == Some(&"0A");
        let inode = format!("socket:[{}]", fields.get(9)?);
        let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        (listens && held.contains(&inode)).then_some(port)
    })
}

#[test]
fn smtp_source_reaches_smtp_sink_on_a_picked_port() {
    let sink = Tool::new("smtp-sink").words("127.0.0.1:0 16").listen();
    let source = Tool::new("smtp-source").words("-s 2 -m 20 -l 4096");
    source.arg(sink.address.to_string()).run(PATIENCE);
}
