//! The server under test as a process, with a directory of its own.
//!
//! It owns the process and (shared with its builder) the directory; the settings are the caller's. No
//! setting leaks in from the environment of the test run. **Diagnostics**: a server that does not say
//! `ready` in time panics with what it wrote.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;

use super::{
    process::Process,
    wait::{PATIENCE, eventually},
};

/// The program under test: the one just built, or the one that `ROHRPOST_PROGRAM` names, so that an
/// installed program can be judged by the same tests.
fn program_path() -> OsString {
    std::env::var_os("ROHRPOST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_rohrpost").into())
}

/// A command of the program that inherits no setting: `ROHRPOST_*` variables are settings to it.
pub(crate) fn program() -> Command {
    let mut command = Command::new(program_path());
    without_settings(&mut command);
    command
}

fn without_settings(command: &mut Command) {
    command.stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROHRPOST_") {
            command.env_remove(name);
        }
    }
}

/// Reads `ready KIND=address[,address] pid=N`, in which other words may stand.
pub(crate) fn ready(line: &str, kind: &str) -> Option<(Vec<SocketAddr>, i32)> {
    let words = line.strip_prefix("ready ")?;
    let value =
        |name: &str| words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let addresses = value(kind)?.split(',').map(|one| one.parse().ok()).collect::<Option<_>>()?;
    Some((addresses, value("pid")?.parse().ok()?))
}

/// How a server shall be started. Keep it to start another on the same queue.
#[derive(Debug, Clone)]
pub(crate) struct ServerBuilder {
    directory: Arc<TempDir>,
    settings: Vec<(String, String)>,
    environment: Vec<(String, OsString)>,
    tracer: Vec<OsString>,
    supervised: bool,
}

impl ServerBuilder {
    /// One setting; the last of one name counts.
    pub(crate) fn setting(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    /// Delivers everything to `address`.
    pub(crate) fn smarthost(self, address: SocketAddr) -> Self {
        self.setting("smarthost", address.ip()).setting("smarthost-port", address.port())
    }

    /// One variable of the server's environment.
    pub(crate) fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts the server below another program, given as the start of a command line.
    pub(crate) fn below(mut self, tracer: impl IntoIterator<Item = OsString>) -> Self {
        self.tracer = tracer.into_iter().collect();
        self
    }

    /// Lets a keeper start the server (`run --supervise`); signals go to that.
    pub(crate) fn supervised(mut self) -> Self {
        self.supervised = true;
        self
    }

    /// The directory that holds this server's queue and whatever else a test puts there.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the queue is.
    pub(crate) fn queue_directory(&self) -> PathBuf {
        self.directory().join("queue")
    }

    /// Starts a server and waits until every listener is open.
    pub(crate) fn start(&self) -> Server {
        std::fs::create_dir_all(self.queue_directory()).expect("a new directory can be written");
        let mut process = Process::spawn("rohrpost run", &mut self.command());
        let (addresses, secure_addresses, pid) = process.await_line(PATIENCE, |line| {
            let (addresses, pid) = ready(line, "smtp")?;
            let secure = ready(line, "smtps").map(|(addresses, _)| addresses);
            Some((addresses, secure.unwrap_or_default(), pid))
        });
        match (self.supervised, self.tracer.is_empty()) {
            (true, _) => assert_ne!(pid, process.pid(), "the keeper is another process"),
            (false, true) => assert_eq!(pid, process.pid(), "the ready line names its process"),
            (false, false) => process.set_pid(pid),
        }
        Server { builder: self.clone(), process, addresses, secure_addresses }
    }

    /// Starts the program and waits for nothing: for starts that are to fail.
    pub(crate) fn spawn(&self) -> Process {
        std::fs::create_dir_all(self.queue_directory()).expect("a new directory can be written");
        Process::spawn("rohrpost run", &mut self.command())
    }

    /// What a subcommand says of this queue, whether or not a server runs on it.
    pub(crate) fn report(&self, subcommand: &[&str]) -> String {
        ask(subcommand, &self.queue_directory())
    }

    /// Runs a subcommand on this queue to its end, whatever that is.
    pub(crate) fn order(&self, subcommand: &[&str]) -> Said {
        let mut command = program();
        command.args(subcommand).arg("--queue-directory").arg(self.queue_directory());
        let mut process = Process::spawn("rohrpost order", &mut command);
        let code = process.wait(PATIENCE).code();
        Said { code, stdout: process.stdout.complete(), stderr: process.stderr.complete() }
    }

    /// Starts a server that must not come up; how it ended, and what it said.
    pub(crate) fn start_in_vain(&self) -> (Option<i32>, String) {
        std::fs::create_dir_all(self.queue_directory()).expect("a new directory can be written");
        let mut process = Process::spawn("rohrpost run", &mut self.command());
        let status = process.wait(PATIENCE);
        let said = process.stdout.complete();
        assert_eq!(said, "", "a server that cannot start says nothing\n{process}");
        (status.code(), process.stderr.complete())
    }

    fn command(&self) -> Command {
        let mut command = match self.tracer.split_first() {
            None => program(),
            Some((tracer, rest)) => {
                let mut command = Command::new(tracer);
                without_settings(&mut command);
                command.args(rest).arg(program_path());
                command
            }
        };
        command.arg("run").args(self.supervised.then_some("--supervise"));
        command.arg(format!("--queue-directory={}", self.queue_directory().display()));
        command.args(self.settings.iter().map(|(key, value)| format!("--{key}={value}")));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// How a subcommand ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What the server told of itself: the fields of `rohrpost status`.
#[derive(Debug, Clone)]
pub(crate) struct Status(serde_json::Value);

impl Status {
    /// A count by its name.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("status has no count {name}: {}", self.0))
    }

    /// The entries of a list by its name.
    pub(crate) fn rows(&self, name: &str) -> Vec<serde_json::Value> {
        self.0[name].as_array().unwrap_or_else(|| panic!("no list {name}: {}", self.0)).clone()
    }

    /// What is true or false, by its JSON pointer.
    pub(crate) fn flag(&self, pointer: &str) -> bool {
        let value = self.0.pointer(pointer).and_then(serde_json::Value::as_bool);
        value.unwrap_or_else(|| panic!("status has no flag {pointer}: {}", self.0))
    }

    /// A count by its JSON pointer.
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let value = self.0.pointer(pointer).and_then(serde_json::Value::as_u64);
        value.unwrap_or_else(|| panic!("status has no number {pointer}: {}", self.0))
    }

    /// A text by its JSON pointer.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        let value = self.0.pointer(pointer).and_then(serde_json::Value::as_str);
        value.unwrap_or_else(|| panic!("status has no text {pointer}: {}", self.0))
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    builder: ServerBuilder,
    process: Process,
    addresses: Vec<SocketAddr>,
    secure_addresses: Vec<SocketAddr>,
}

impl Server {
    /// A server on a port that the system picks, in a new directory, with two workers, and a smarthost
    /// that nobody listens on: mail stays queued unless the test names another.
    pub(crate) fn builder() -> ServerBuilder {
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory can be made"));
        let queue = ServerBuilder {
            directory,
            settings: Vec::new(),
            environment: Vec::new(),
            tracer: Vec::new(),
            supervised: false,
        };
        queue
            .setting("smtp-ip", "127.0.0.1")
            .setting("smtp-port", 0)
            .setting("smtp-threads", 2)
            // A test that is not about notices shall not meet them among its mails.
            .setting("dsn-notify", "NEVER")
            .environment("RUST_BACKTRACE", "1")
            .smarthost(SocketAddr::from(([127, 0, 0, 1], 9)))
    }

    /// The first address on which TLS begins with the first octet.
    pub(crate) fn smtps(&self) -> SocketAddr {
        self.secure_addresses[0]
    }

    /// The first address it listens on.
    pub(crate) fn smtp(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The builder it was started from.
    pub(crate) fn plan(&self) -> &ServerBuilder {
        &self.builder
    }

    /// Its process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills it as a power cut of the process would: no handler runs.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Asks it to drain and stop.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.terminate(PATIENCE)
    }

    /// Asks it to drain and stop (SIGTERM), and does not wait.
    pub(crate) fn ask_to_end(&self) {
        self.process.ask_to_end();
    }

    /// What `rohrpost status` says now.
    pub(crate) fn status(&self) -> Status {
        let text = ask(&["status"], &self.builder.queue_directory());
        let value = serde_json::from_str(&text);
        Status(value.unwrap_or_else(|error| panic!("status is not JSON ({error}): {text}")))
    }

    /// What `rohrpost queue count` says now.
    pub(crate) fn queue_count(&self) -> u64 {
        let text = ask(&["queue", "count"], &self.builder.queue_directory());
        // Below it stand the named queues.
        let first = text.lines().next().unwrap_or_default();
        first.parse().unwrap_or_else(|_| panic!("queue count is not a number: {text:?}"))
    }

    /// Waits until nothing is queued.
    pub(crate) fn await_empty_queue(&self, deadline: Duration) {
        eventually("an empty queue", deadline, || (self.queue_count() == 0).then_some(()));
    }
}

/// Runs a subcommand that reports on a queue.
fn ask(subcommand: &[&str], queue: &Path) -> String {
    let mut command = program();
    command.args(subcommand).arg("--queue-directory").arg(queue);
    let mut process = Process::spawn("rohrpost report", &mut command);
    let status = process.wait(PATIENCE);
    assert!(status.success(), "{subcommand:?} failed\n{process}");
    process.stdout.complete()
}

#[test]
fn ready_lines_are_read_whole_or_not_at_all() {
    let (addresses, pid) = ready("ready smtp=127.0.0.1:40123,[::1]:25 pid=4711", "smtp").unwrap();
    assert_eq!((addresses.len(), addresses[0].port(), pid), (2, 40123, 4711));
    let both = "ready smtp=127.0.0.1:25 smtps=127.0.0.1:465 pid=1";
    assert_eq!(ready(both, "smtps").unwrap().0[0].port(), 465);
    for line in
        ["ready sink=127.0.0.1:1 pid=1", "ready smtp=nowhere pid=1", "ready smtp=[::1]:1", ""]
    {
        assert_eq!(ready(line, "smtp"), None, "{line}");
    }
}
