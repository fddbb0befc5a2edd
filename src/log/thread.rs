//! The thread that writes the log.
//!
//! Owns the places the log goes to. One write a batch and place; may block on disks and terminals,
//! which is why it is a thread.
//!
//! Diagnostics: lines that handles dropped, and lines that a place did not take, are reported in
//! the log as soon as it can be written again.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::file::{LogFile, Patience};
use super::handle::{Front, Item, Log, QUEUE_LINES_MAX, Shared, Then};
use super::level::Level;
use super::limit::Limits;
use super::line::Line;
use crate::clock::Wall;

/// Bytes that are written at once: a batch ends when it has become longer than this.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// How long [`Log::redirect`] waits for room in the queue.
const MOVE_PATIENCE: Duration = Duration::from_secs(2);

/// One place that the log is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The system log; not supported yet, and left out.
    Syslog,
    /// A file, appended to.
    File(PathBuf),
}

/// Why the log does not work.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file cannot be opened; the administrator must act.
    #[error("the log {path} cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The thread cannot be started; the system is short of something.
    #[error("the log's thread cannot be started")]
    Thread(#[source] io::Error),
    /// Lines may be lost: they were not written in time.
    #[error("the log was not written within {0:?}")]
    Slow(Duration),
}

/// The thread, as the one that started it sees it. Dropping this lets the thread go on until the
/// last handle is gone.
#[derive(Debug)]
pub struct LogThread {
    sender: Sender<Item>,
    thread: JoinHandle<()>,
}

impl Log {
    /// Opens all targets and starts the thread. Without targets nothing is logged (D-B2), and no
    /// text is formatted; the system log is left out.
    ///
    /// # Errors
    /// A file cannot be opened, or the thread not started.
    pub fn start(targets: &[Target], level: Level) -> Result<(Self, LogThread), LogError> {
        let outlets = targets.iter().filter_map(outlet).collect::<Result<Vec<_>, _>>()?;
        Self::start_with(outlets, level, Wall::system())
    }

    /// Waits until all that was logged before is written.
    ///
    /// # Errors
    /// That took longer than `wait`.
    pub fn flush(&self, wait: Duration) -> Result<(), LogError> {
        let Some(front) = self.front() else { return Ok(()) };
        flush(&front.sender, Then::GoOn, wait)
    }

    /// Writes to other places, and up to another level, from now on. What was logged before goes
    /// where it was meant to go.
    ///
    /// # Errors
    /// A file cannot be opened, or the thread is far behind; nothing has changed then.
    pub fn redirect(&self, targets: &[Target], level: Level) -> Result<(), LogError> {
        let outlets = targets.iter().filter_map(outlet).collect::<Result<Vec<_>, _>>()?;
        let Some(front) = self.front() else { return Ok(()) };
        let rank = rank(&outlets, level);
        let sent = front.sender.send_timeout(Item::Move(outlets), MOVE_PATIENCE);
        sent.map_err(|_| LogError::Slow(MOVE_PATIENCE))?;
        front.rank.store(rank, Ordering::Relaxed);
        Ok(())
    }

    /// Starts the thread with one place to write to, in UTC: for tests and tools.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn to_writer(
        writer: impl Write + Send + 'static,
        level: Level,
    ) -> Result<(Self, LogThread), LogError> {
        Self::start_with(vec![Outlet::new(Place::Writer(Box::new(writer)))], level, Wall::utc())
    }

    fn start_with(
        outlets: Vec<Outlet>,
        level: Level,
        wall: Wall,
    ) -> Result<(Self, LogThread), LogError> {
        let (sender, receiver) = bounded(QUEUE_LINES_MAX);
        let rank = AtomicU8::new(rank(&outlets, level));
        let shared = Arc::new(Shared::default());
        let back =
            Back { receiver, shared: Arc::clone(&shared), outlets, wall, batch: Batch::default() };
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || back.run());
        let thread = thread.map_err(LogError::Thread)?;
        let limits = Limits::new();
        let log = Self::new(Front { sender: sender.clone(), rank, limits, shared });
        Ok((log, LogThread { sender, thread }))
    }
}

impl LogThread {
    /// Waits until all that was logged before is written.
    ///
    /// # Errors
    /// That took longer than `wait`.
    pub fn flush(&self, wait: Duration) -> Result<(), LogError> {
        flush(&self.sender, Then::GoOn, wait)
    }

    /// Writes what was logged before and ends the thread; lines of other handles that come later
    /// are lost.
    ///
    /// # Errors
    /// That took longer than `wait`; the thread is then left behind.
    pub fn finish(self, wait: Duration) -> Result<(), LogError> {
        flush(&self.sender, Then::End, wait)?;
        // It has answered, so it is past its last write, and a panic has been printed.
        let _ = self.thread.join();
        Ok(())
    }
}

fn flush(sender: &Sender<Item>, then: Then, wait: Duration) -> Result<(), LogError> {
    let deadline = Instant::now() + wait;
    let (answer, answered) = bounded(1);
    let sent = sender.send_deadline(Item::Flush { then, answer }, deadline);
    sent.map_err(|_| LogError::Slow(wait))?;
    answered.recv_deadline(deadline).map_err(|_| LogError::Slow(wait))
}

/// The thread's own side.
struct Back {
    receiver: Receiver<Item>,
    shared: Arc<Shared>,
    outlets: Vec<Outlet>,
    wall: Wall,
    batch: Batch,
}

/// Lines that are written together.
#[derive(Default)]
struct Batch {
    text: String,
    lines: usize,
    unix_ms: u64,
}

impl Back {
    fn run(mut self) {
        while let Ok(item) = self.receiver.recv() {
            let mut next = Some(item);
            while let Some(item) = next {
                if self.take(item) == Then::End {
                    return;
                }
                let more = self.batch.text.len() < BATCH_BYTES_MAX;
                next = more.then(|| self.receiver.try_recv().ok()).flatten();
            }
            self.write();
        }
    }

    fn take(&mut self, item: Item) -> Then {
        self.shared.waiting_bytes.fetch_sub(item.bytes(), Ordering::Relaxed);
        match item {
            Item::Line(line) => self.render(&line),
            Item::Reopen => {
                self.write();
                self.reopen();
            }
            Item::Move(outlets) => {
                self.write();
                self.outlets = outlets;
            }
            Item::Flush { then, answer } => {
                self.write();
                // Who asked may have stopped waiting.
                let _ = answer.send(());
                return then;
            }
        }
        Then::GoOn
    }

    fn render(&mut self, line: &Line) {
        self.batch.unix_ms = line.unix_ms;
        let stamp = self.wall.stamp(line.unix_ms);
        self.batch.lines += line.render(stamp, &mut self.batch.text);
    }

    /// Adds a line of the thread's own.
    fn say(&mut self, level: Level, text: String) {
        let line = Line { level, part: "log", unix_ms: Wall::now_ms(), text: text.into() };
        self.render(&line);
    }

    fn write(&mut self) {
        match self.shared.dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            dropped => self.say(Level::Warning, format!("{dropped} lines were dropped here")),
        }
        if self.batch.lines > 0 {
            let stamp = self.wall.stamp(self.batch.unix_ms);
            for outlet in &mut self.outlets {
                outlet.write(&self.batch, stamp);
            }
            self.batch.text.clear();
            self.batch.lines = 0;
        }
    }

    fn reopen(&mut self) {
        let failed: Vec<_> =
            self.outlets.iter_mut().filter_map(|outlet| outlet.reopen().err()).collect();
        for error in failed {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            self.say(Level::Critical, format!("{error}: {}", cause.unwrap_or_default()));
        }
    }
}

/// What is written to these places; nothing where there are none.
fn rank(outlets: &[Outlet], level: Level) -> u8 {
    if outlets.is_empty() { 0 } else { level.rank() }
}

/// One place with the count of what it did not take.
pub(super) struct Outlet {
    place: Place,
    lost_lines: usize,
}

enum Place {
    Writer(Box<dyn Write + Send>),
    File(LogFile),
}

fn outlet(target: &Target) -> Option<Result<Outlet, LogError>> {
    let place = match target {
        Target::Stdout => Place::Writer(Box::new(io::stdout())),
        Target::Stderr => Place::Writer(Box::new(io::stderr())),
        Target::File(path) => match LogFile::open(path, Patience::Waits) {
            Ok(file) => Place::File(file),
            Err(source) => return Some(Err(LogError::Open { path: path.clone(), source })),
        },
        Target::Syslog => return None,
    };
    Some(Ok(Outlet::new(place)))
}

impl Outlet {
    fn new(place: Place) -> Self {
        Self { place, lost_lines: 0 }
    }

    fn write(&mut self, batch: &Batch, stamp: &str) {
        if let Place::File(file) = &mut self.place {
            file.follow(batch.unix_ms);
        }
        let written = match self.lost_lines {
            0 => self.place.write(&batch.text),
            lost => {
                let text = format!("{lost} lines before these could not be written").into();
                let line =
                    Line { level: Level::Warning, part: "log", unix_ms: batch.unix_ms, text };
                let mut text = String::new();
                line.render(stamp, &mut text);
                text.push_str(&batch.text);
                self.place.write(&text)
            }
        };
        self.lost_lines = if written.is_ok() { 0 } else { self.lost_lines + batch.lines };
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        let Place::File(file) = &mut self.place else { return Ok(()) };
        let reopened = file.reopen().map(|_is_another| ());
        reopened.map_err(|source| LogError::Open { path: file.path().into(), source })
    }
}

impl Place {
    fn write(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Writer(writer) => writer.write_all(text.as_bytes()).and_then(|()| writer.flush()),
            Self::File(file) => file.file().write_all(text.as_bytes()),
        }
    }
}
