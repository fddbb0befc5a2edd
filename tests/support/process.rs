//! A child process of a test: what it wrote so far, its signals, and its certain end.
//!
//! It owns the child and one reader thread a stream; what is kept of a stream is bounded. It signals
//! only the process it started (or one that this process named as itself, for a traced server), and
//! only before it was waited for, so that a number can not have passed to a stranger.
//!
//! **Diagnostics**: a deadline that passes panics with the tail of both streams.

use std::{
    collections::VecDeque,
    fmt,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{PATIENCE, eventually, within};

/// Of each stream the last this many lines are kept, each of at most this many bytes.
const LINES_KEPT_MAX: usize = 10_000;
const LINE_BYTES_MAX: u64 = 4096;

/// How long a process may take to end after a signal that it cannot ignore.
const DEATH_SECONDS_MAX: u64 = 20;

/// A running child. Dropping it kills it and waits.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: Pid,
    exited: Option<ExitStatus>,
    pub(crate) stdout: Written,
    pub(crate) stderr: Written,
}

impl Process {
    /// Starts `command` with both streams captured. `name` is for messages.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let stdout = Written::read_from(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Written::read_from(child.stderr.take().expect("stderr is a pipe"));
        let pid = Pid::from_child(&child);
        Process { name: name.to_owned(), child, pid, exited: None, stdout, stderr }
    }

    /// Waits for a line of standard output from which `find` makes something.
    pub(crate) fn await_line<T>(
        &mut self,
        deadline: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.await_line_of(&self.stdout.clone(), deadline, find)
    }

    /// Waits for a line of standard error that contains `text`, in whatever case.
    pub(crate) fn await_complaint(&mut self, deadline: Duration, text: &str) {
        let (stderr, text) = (self.stderr.clone(), text.to_ascii_lowercase());
        let contains = |line: &str| line.to_ascii_lowercase().contains(&text).then_some(());
        self.await_line_of(&stderr, deadline, contains);
    }

    fn await_line_of<T>(
        &mut self,
        stream: &Written,
        deadline: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = stream.find(Duration::from_millis(50), &find) {
                return found;
            }
            let over = started.elapsed() >= deadline || self.try_wait().is_some();
            // What was written just before the end may arrive just after it.
            if over {
                let last = stream.find(Duration::from_millis(500), &find);
                return last.unwrap_or_else(|| panic!("the awaited line never came\n{self}"));
            }
        }
    }

    /// Directs signals to `pid`, which this child has named as the process that does the work.
    pub(crate) fn set_pid(&mut self, pid: i32) {
        self.pid = Pid::from_raw(pid).expect("a process id is positive");
    }

    /// The child itself, whatever process signals go to.
    pub(crate) fn child_pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that signals go to.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// How the child ended, if it has.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("a child can be waited for");
        }
        self.exited
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self, deadline: Duration) -> ExitStatus {
        within(deadline, || self.try_wait())
            .unwrap_or_else(|| panic!("did not end within {deadline:?}\n{self}"))
    }

    /// Asks politely (SIGTERM) and waits for the end.
    pub(crate) fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(deadline)
    }

    /// Asks it to open its files again (SIGHUP).
    pub(crate) fn hang_up(&self) {
        let _ = kill_process(self.pid, Signal::HUP);
    }

    /// Asks politely (SIGTERM), and that is all.
    pub(crate) fn ask_to_end(&self) {
        // Not waited for yet, so the number is still its own even if it has ended.
        assert!(self.exited.is_none(), "it was waited for already");
        let _ = kill_process(self.pid, Signal::TERM);
    }

    /// Kills (SIGKILL) and waits: nothing of it runs afterwards.
    pub(crate) fn kill9(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(DEATH_SECONDS_MAX))
    }

    fn signal(&mut self, signal: Signal) {
        if self.try_wait().is_none() {
            // It may end between the look and the signal; then there is nothing to do.
            let _ = kill_process(self.pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.try_wait().is_some() {
            return;
        }
        self.signal(Signal::KILL);
        // A tracer ends by itself after what it traces; if not, it is ours to end.
        let ended = within(Duration::from_secs(2), || self.try_wait());
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{self}");
        }
    }
}

/// The tails of both streams, for a panic message.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "--- {} (pid {}), stdout:\n{}", self.name, self.pid(), self.stdout.tail())?;
        writeln!(f, "--- {} stderr:\n{}", self.name, self.stderr.tail())
    }
}

/// What a stream has carried so far: its last lines, gathered by a thread of its own.
#[derive(Debug, Clone)]
pub(crate) struct Written(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    dropped: u64,
    complete: bool,
}

impl Written {
    /// Reads `stream` to its end on a new thread, which ends with the stream.
    fn read_from(stream: impl Read + Send + 'static) -> Written {
        let written = Written(Arc::default());
        let writer = written.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while let Ok(1..) = stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                writer.push(text);
                line.clear();
            }
            writer.lock().complete = true;
        });
        written
    }

    fn push(&self, line: String) {
        let mut lines = self.lock();
        if lines.kept.len() == LINES_KEPT_MAX {
            lines.kept.pop_front();
            lines.dropped += 1;
        }
        lines.kept.push_back(line);
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for a line among those kept; if there is none yet, once more after new ones came or
    /// after `pause`.
    fn find<T>(&self, pause: Duration, find: &impl Fn(&str) -> Option<T>) -> Option<T> {
        let lines = self.lock();
        if let Some(found) = lines.kept.iter().find_map(|line| find(line)) {
            return Some(found);
        }
        let waited = self.0.1.wait_timeout(lines, pause);
        let (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        lines.kept.iter().find_map(|line| find(line))
    }

    /// Every kept line of a stream whose process has ended, as one text.
    pub(crate) fn complete(&self) -> String {
        eventually("the end of a stream", PATIENCE, || self.lock().complete.then_some(()));
        let lines = self.lock();
        lines.kept.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// The last lines, as a message shows them.
    pub(crate) fn tail(&self) -> String {
        let lines = self.lock();
        let from = lines.kept.len().saturating_sub(60);
        let shown: Vec<&str> = lines.kept.iter().skip(from).map(String::as_str).collect();
        let hidden = lines.dropped + from as u64;
        format!("({hidden} earlier lines)\n{}", shown.join("\n"))
    }
}

#[test]
fn a_process_is_read_waited_for_and_killed() {
    let seconds = Duration::from_secs(20);
    let mut echo = Process::spawn("echo", Command::new("echo").arg("ready now"));
    let word = echo.await_line(seconds, |line| line.strip_prefix("ready ").map(str::to_owned));
    assert_eq!(word, "now");
    assert!(echo.wait(seconds).success());

    let mut cat = Process::spawn("cat", Command::new("cat").stdin(Stdio::piped()));
    assert!(cat.try_wait().is_none());
    assert!(!cat.kill9().success());
}

#[test]
#[should_panic(expected = "the awaited line never came")]
fn a_line_that_cannot_come_any_more_is_not_awaited() {
    let mut ended = Process::spawn("true", &mut Command::new("true"));
    ended.await_line(Duration::from_secs(600), |_| None::<()>);
}
