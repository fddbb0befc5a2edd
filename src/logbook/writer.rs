//! The thread that makes lines of entries and appends them to files.
//!
//! Owns the files. May block on disks. While a file takes nothing, what was rendered for it is kept and
//! nothing more is taken: so entries wait, then outcomes, then mail. It tries again until it succeeds,
//! and goes on in the middle of a line where that is where it stopped; in another file, which was put in
//! the place of the first meanwhile, the line begins anew.
//!
//! A thread of its own, beside the application log's: that one must be able to say that this one waits.
//!
//! Diagnostics: [`LogbookError`] at the start; trouble is logged as critical, rate-limited.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::entry::Entry;
use super::handle::{Front, Logbook, QUEUE_ENTRIES_MAX, Shared};
use super::template::{Piece, Template};
use crate::clock::Wall;
use crate::log::file::{LogFile, Patience};
use crate::log::{Level, Log, push_safe};

/// Octets that are rendered before they are written.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Octets of one value in a line.
const VALUE_BYTES_MAX: usize = 4 * 1024;
/// The pause before a file that took nothing is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long a file may take nothing before somebody is told.
const COMPLAINT_AFTER: Duration = Duration::from_secs(1);

/// One log: its file and the form of its lines.
#[derive(Debug, Clone)]
pub struct Page {
    /// The file.
    pub path: PathBuf,
    /// The form.
    pub template: Template,
}

/// Why the logs cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LogbookError {
    /// A file cannot be opened; the administrator must act.
    #[error("the log {path} cannot be opened: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The thread cannot be started.
    #[error("the thread of the send and received log cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// The thread, as the one that started it sees it.
#[derive(Debug)]
pub struct LogbookThread {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl LogbookThread {
    /// Writes what was taken before and ends. Returns whether that was done within `wait`; what is
    /// not written then is lost.
    pub fn finish(self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        // Dropping the sender is what the thread sees.
        drop(self.end);
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.thread.is_finished()
    }
}

impl Logbook {
    /// Opens the files and starts the thread; neither where no log is named. `notify` is called from
    /// the thread with a worker that was given an entry back, once there is room.
    ///
    /// # Errors
    /// A file cannot be opened, or the thread not started.
    pub fn start(
        (sent, received): (Option<Page>, Option<Page>),
        workers: usize,
        log: Log,
        notify: impl Fn(usize) + Send + 'static,
    ) -> Result<(Self, Option<LogbookThread>), LogbookError> {
        if sent.is_none() && received.is_none() {
            return Ok((Self::none(), None));
        }
        let mut files = Vec::<Outlet>::new();
        let sent_file = open(sent.as_ref(), &mut files)?;
        let received_file = open(received.as_ref(), &mut files)?;
        let shared = Arc::new(Shared {
            bytes: AtomicUsize::new(0),
            refused: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            reopen: AtomicBool::new(false),
        });
        let (sender, entries) = bounded(QUEUE_ENTRIES_MAX);
        let (end, ended) = bounded(0);
        let sent = sent.map(|page| page.template);
        let received = received.map(|page| page.template);
        let writer = Writer {
            entries,
            ended,
            shared: Arc::clone(&shared),
            files,
            forms: [sent.clone().zip(sent_file), received.clone().zip(received_file)],
            wall: Wall::system(),
            log: log.clone(),
            notify: Box::new(notify),
            value: String::new(),
        };
        let run = move || {
            let run = std::panic::AssertUnwindSafe(|| writer.run());
            if std::panic::catch_unwind(run).is_err() {
                log.critical(
                    "log",
                    "the send and received log end here: a bug; see standard error",
                );
            }
        };
        let thread = std::thread::Builder::new().name("logbook".into()).spawn(run);
        let thread = thread.map_err(LogbookError::Thread)?;
        let logbook = Self::new(Front { sender, sent, received, shared });
        Ok((logbook, Some(LogbookThread { end, thread })))
    }
}

/// Opens the file of a page unless another page has it open already; which one it is.
fn open(page: Option<&Page>, files: &mut Vec<Outlet>) -> Result<Option<usize>, LogbookError> {
    let Some(Page { path, .. }) = page else { return Ok(None) };
    if let Some(known) = files.iter().position(|outlet| outlet.file.path() == path) {
        return Ok(Some(known));
    }
    let file = LogFile::open(path, Patience::Refuses)
        .map_err(|source| LogbookError::Open { path: path.clone(), source })?;
    files.push(Outlet { file, unwritten: Vec::new(), begun: 0, stuck: None });
    Ok(Some(files.len() - 1))
}

/// A file, and what it has not taken yet.
struct Outlet {
    file: LogFile,
    /// Whole lines, of which it may have taken a part of the first.
    unwritten: Vec<u8>,
    /// Octets of that part.
    begun: usize,
    /// Since when it takes nothing.
    stuck: Option<Instant>,
}

struct Writer {
    entries: Receiver<Entry>,
    ended: Receiver<()>,
    shared: Arc<Shared>,
    files: Vec<Outlet>,
    /// Of the send log and the received log.
    forms: [Option<(Template, usize)>; 2],
    wall: Wall,
    log: Log,
    notify: Box<dyn Fn(usize) + Send>,
    value: String,
}

impl Writer {
    fn run(mut self) {
        let mut ending = false;
        while !ending || !self.entries.is_empty() {
            let first = select! {
                recv(self.entries) -> entry => {
                    // Without a handle there is nothing more to come.
                    ending |= entry.is_err();
                    entry.ok()
                }
                recv(self.ended) -> _ => {
                    ending = true;
                    self.entries.try_recv().ok()
                }
            };
            let Some(first) = first else { continue };
            self.render(&first);
            while self.rendered() < BATCH_BYTES_MAX
                && let Ok(next) = self.entries.try_recv()
            {
                self.render(&next);
            }
            self.tell_of_room();
            if !self.write_all(&mut ending) {
                self.log.critical("log", "the last lines of the send or received log are lost");
                return;
            }
        }
    }

    fn rendered(&self) -> usize {
        self.files.iter().map(|outlet| outlet.unwritten.len()).sum()
    }

    /// Appends the line of an entry to what its file is to take.
    fn render(&mut self, entry: &Entry) {
        self.shared.bytes.fetch_sub(entry.bytes(), Ordering::SeqCst);
        let Self { forms, files, value, wall, .. } = self;
        let form = match entry {
            Entry::Sent(_) => &forms[0],
            Entry::Received(_) => &forms[1],
        };
        let Some((template, file)) = form else { return };
        let mut line = String::new();
        let mut context = Context { entry, wall, value };
        context.render(&template.pieces, &mut line);
        line.push('\n');
        files[*file].unwritten.extend_from_slice(line.as_bytes());
    }

    /// Whoever was refused may try again.
    fn tell_of_room(&self) {
        for (worker, refused) in self.shared.refused.iter().enumerate() {
            if refused.swap(false, Ordering::SeqCst) {
                (self.notify)(worker);
            }
        }
    }

    /// Writes until all files took all. While the server ends each is tried once more at least; `false`
    /// if one of them still takes nothing then.
    fn write_all(&mut self, ending: &mut bool) -> bool {
        loop {
            if self.shared.reopen.swap(false, Ordering::SeqCst) {
                for outlet in &mut self.files {
                    if let Err(error) = outlet.reopen() {
                        complain(&self.log, outlet, &error);
                    }
                }
            }
            let mut waits = false;
            for outlet in &mut self.files {
                if let Err(error) = outlet.write() {
                    waits = true;
                    let since = *outlet.stuck.get_or_insert_with(Instant::now);
                    let patient = error.kind() == io::ErrorKind::WouldBlock;
                    if !patient || since.elapsed() >= COMPLAINT_AFTER {
                        complain(&self.log, outlet, &error);
                    }
                }
            }
            if !waits {
                return true;
            }
            if *ending && self.files.iter().all(Outlet::is_hopeless) {
                return false;
            }
            // Woken at the end of the server; else the pause is over.
            let woken = !*ending && self.ended.recv_timeout(RETRY_PAUSE) != Err(TIMEOUT);
            if *ending {
                std::thread::sleep(RETRY_PAUSE);
            }
            *ending |= woken;
        }
    }
}

const TIMEOUT: crossbeam_channel::RecvTimeoutError = crossbeam_channel::RecvTimeoutError::Timeout;

fn complain(log: &Log, outlet: &Outlet, error: &io::Error) {
    let path = outlet.file.path().display();
    let text = format_args!(
        "{path} cannot be written: {error}; deliveries and new mail wait for it when {} entries do",
        QUEUE_ENTRIES_MAX
    );
    log.limited("logbook", Level::Critical, "log", text);
}

impl Outlet {
    /// Writes what it can.
    fn write(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            self.stuck = None;
            return Ok(());
        }
        if self.file.follow(Wall::now_ms()) {
            self.begun = 0;
        }
        let mut done = self.begun;
        let outcome = loop {
            if done == self.unwritten.len() {
                break Ok(());
            }
            match self.file.file().write(&self.unwritten[done..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        if done > self.begun {
            let ends = self.unwritten[..done].iter().rposition(|octet| *octet == b'\n');
            let lines = ends.map_or(0, |end| end + 1);
            self.unwritten.drain(..lines);
            self.begun = done - lines;
        }
        if outcome.is_ok() {
            self.stuck = None;
        }
        outcome
    }

    /// Opens it again. What another file has of the first line is no line.
    fn reopen(&mut self) -> io::Result<()> {
        if self.file.reopen()? {
            self.begun = 0;
        }
        Ok(())
    }

    /// It has taken nothing for longer than a stop waits.
    fn is_hopeless(&self) -> bool {
        self.unwritten.is_empty()
            || self.stuck.is_some_and(|since| since.elapsed() >= COMPLAINT_AFTER)
    }
}

/// What a line is made of.
struct Context<'a> {
    entry: &'a Entry,
    wall: &'a mut Wall,
    value: &'a mut String,
}

impl Context<'_> {
    fn render(&mut self, pieces: &[Piece], line: &mut String) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Value(field) => {
                    self.look_up(field);
                    let end = self.value.floor_char_boundary(VALUE_BYTES_MAX);
                    push_safe(&self.value[..end], line);
                }
                Piece::If { condition, then, or } => {
                    self.look_up(condition);
                    let holds = !matches!(self.value.as_str(), "" | "0" | "false");
                    self.render(if holds { then } else { or }, line);
                }
            }
        }
    }

    fn look_up(&mut self, field: &super::entry::Field) {
        self.value.clear();
        self.entry.put(field, self.wall, self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that took the first half of a line is moved away while it takes no more.
    #[test]
    fn a_line_that_was_begun_is_whole_in_the_file_that_comes_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = LogFile::open(&path, Patience::Refuses).unwrap();
        let unwritten = b"one\ntwo\n".to_vec();
        let mut outlet = Outlet { file, unwritten, begun: 2, stuck: None };
        outlet.reopen().unwrap();
        assert_eq!(outlet.begun, 2, "in the same file it goes on");
        std::fs::rename(&path, folder.path().join("log.1")).unwrap();
        // Seen without a signal, too.
        outlet.write().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!((outlet.unwritten.len(), outlet.begun), (0, 0));
    }

    #[test]
    fn a_file_that_stops_within_a_line_goes_on_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_bits_truncate(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut reader = options.read(true).write(true).open(&path).unwrap();
        let file = LogFile::open(&path, Patience::Refuses).unwrap();
        // More than a pipe holds, so that it stops somewhere.
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let whole = line.repeat(200);
        let mut outlet = Outlet { file, unwritten: whole.clone(), begun: 0, stuck: None };
        let mut read = Vec::new();
        let mut buffer = [0; 1500];
        while outlet.write().is_err() {
            let count = io::Read::read(&mut reader, &mut buffer).unwrap();
            read.extend_from_slice(&buffer[..count]);
        }
        while read.len() < whole.len() {
            let count = io::Read::read(&mut reader, &mut buffer).unwrap();
            read.extend_from_slice(&buffer[..count]);
        }
        assert!(read == whole, "each octet once");
    }
}
