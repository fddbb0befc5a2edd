//! `<queue-directory>/crashes`: what earlier processes wrote down as they ended, a line each.
//!
//! Owns the file between two crashes: its bound, its reading, and what follows from it. A start tells
//! what is new in the application log, with functions and lines, and refuses to go on when one plugin
//! has crashed too often within a minute (`plugin-crash-limit`). What writes the lines is the plugin
//! interface's handler of signals, which says what they look like.
//!
//! Must never: trust what it reads. The file may be torn, huge, or anybody's.
//!
//! **Diagnostics**: critical lines for crashes; [`CrashLoop`] names plugin, hook and remedy; a file that
//! cannot be kept is warned of, and costs no start.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rohrpost_abi::Symbols;
use rustix::fs::OFlags;

use crate::log::{Level, Log};

/// The file's name in the queue directory.
pub(crate) const CRASHES_NAME: &str = "crashes";
/// What is read of the file, its end: some hundred crashes.
const READ_BYTES_MAX: u64 = 256 * 1024;
/// A file that is larger is cut to what is read.
const FILE_BYTES_MAX: u64 = 4 * READ_BYTES_MAX;
/// Crashes that are told at one start; of more only the number.
const TOLD_MAX: usize = 10;
/// Frames of one crash.
const FRAMES_MAX: usize = 64;
/// Crashes of one plugin count together for so long.
const TOGETHER_S: u64 = 60;
/// Written behind what was told.
const TOLD: &str = "# told";
const TOLD_LINE: &[u8] = b"# told\n";
/// How far ahead of ours the clock of the process before may have been.
const CLOCK_SLACK_S: u64 = 5;

/// One crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// When, in seconds since 1970.
    pub unix_s: u64,
    /// A signal without its SIG, or `exception`, `panic`, `exit`.
    pub cause: String,
    /// The plugin that it is laid to, by its file name; `None` for the server itself.
    pub plugin: Option<String>,
    /// The hook or callback that ran, if one did.
    pub site: Option<String>,
    /// Name of the thread.
    pub thread: String,
    /// What was read, written or run.
    pub address: String,
    /// File names and places within the files, innermost first.
    pub frames: Vec<(String, u64)>,
}

impl Crash {
    /// Reads a line; `None` for what is none.
    fn parse(line: &str) -> Option<Crash> {
        let mut words = line.split(' ');
        let unix_s = words.next()?.parse().ok()?;
        let cause = words.next().filter(|cause| is_cause(cause))?.to_owned();
        let mut crash = Crash {
            unix_s,
            cause,
            plugin: None,
            site: None,
            thread: String::new(),
            address: String::new(),
            frames: Vec::new(),
        };
        for word in words {
            let Some((key, value)) = word.split_once('=') else { continue };
            match key {
                "plugin" => crash.plugin = Some(unescaped(value)),
                "in" => crash.site = Some(unescaped(value)),
                "thread" => crash.thread = unescaped(value),
                "address" => crash.address = unescaped(value),
                "at" if crash.frames.len() < FRAMES_MAX => crash.frames.extend(frame(value)),
                _ => {}
            }
        }
        Some(crash)
    }
}

/// As a sentence of the log.
impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.plugin {
            Some(plugin) => write!(f, "plugin {plugin} ended the server")?,
            None => write!(f, "the server itself ended")?,
        }
        if let Some(site) = &self.site {
            write!(f, " in {site}")?;
        }
        write!(f, ": {}", self.cause)?;
        match self.address.as_str() {
            "" | "0x0" => {}
            address => write!(f, " at address {address}")?,
        }
        write!(f, ", thread {}, unix time {}", self.thread, self.unix_s)
    }
}

fn is_cause(word: &str) -> bool {
    !word.is_empty() && word.len() <= 16 && word.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Undoes `%XX`. What could disturb a line of the log is a question mark.
fn unescaped(word: &str) -> String {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let [first, more @ ..] = rest {
        let code = more.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

fn frame(value: &str) -> Option<(String, u64)> {
    let (name, offset) = value.rsplit_once("+0x")?;
    Some((unescaped(name), u64::from_str_radix(offset, 16).ok()?))
}

/// One plugin has crashed too often.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "plugin {plugin} has ended the server {count} times within a minute, last in {site} ({cause}); \
     mend {} or take it away, and start again. Its crashes count no longer when the file has changed, \
     or a minute after the last one; plugin-crash-limit: 0 starts whatever happens", file.display()
)]
pub struct CrashLoop {
    /// The plugin's file name.
    plugin: String,
    /// Its file.
    file: PathBuf,
    /// Where it crashed last.
    site: String,
    /// How.
    cause: String,
    /// How often.
    count: usize,
}

/// The file, read.
#[derive(Debug)]
pub struct Crashes {
    file: File,
    found: Vec<Crash>,
    /// From here on nobody has been told.
    new_from: usize,
}

impl Crashes {
    /// Opens the file of a queue directory, or makes it, and reads it.
    ///
    /// # Errors
    /// It is no file, or cannot be read or written.
    pub fn open(directory: &Path) -> io::Result<Crashes> {
        let path = directory.join(CRASHES_NAME);
        let mut file = open(&path)?;
        let length = file.metadata()?.len();
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(length.saturating_sub(READ_BYTES_MAX)))?;
        (&file).take(READ_BYTES_MAX).read_to_end(&mut tail)?;
        let text = String::from_utf8_lossy(&tail);
        let mut found = Vec::new();
        let mut new_from = 0;
        for line in text.lines() {
            match line {
                TOLD => new_from = found.len(),
                line => found.extend(Crash::parse(line)),
            }
        }
        if length > FILE_BYTES_MAX {
            file = cut(&path, &tail)?;
        }
        if !tail.is_empty() && !tail.ends_with(b"\n") {
            // What comes next is a line of its own.
            file.write_all(b"\n")?;
        }
        Ok(Crashes { file, found, new_from })
    }

    /// What nobody has been told yet.
    pub fn news(&self) -> &[Crash] {
        &self.found[self.new_from..]
    }

    /// Tells what is new, with functions and lines where the files of `plugins` are still those that
    /// crashed, and remembers that it did; on a thread of its own, for reading debug information takes
    /// its time, and a start must not wait for it. `None` if there is nothing to tell.
    ///
    /// # Errors
    /// When the system gives no thread, or no other descriptor of the file.
    pub fn tell(&mut self, plugins: &Path, log: &Log) -> io::Result<Option<JoinHandle<()>>> {
        let news = self.news().to_vec();
        if news.is_empty() {
            return Ok(None);
        }
        let (mut file, plugins, log) = (self.file.try_clone()?, plugins.to_owned(), log.clone());
        let thread = std::thread::Builder::new().name("crashes".into()).spawn(move || {
            tell_all(&news, &plugins, &log);
            // If it cannot be written, it is told again.
            // In one piece: this process may crash meanwhile, and write a line of its own.
            let _ = file.write_all(TOLD_LINE);
        })?;
        self.new_from = self.found.len();
        Ok(Some(thread))
    }

    /// The plugin that has crashed `limit` times within a minute before `now_s`, with the file that is
    /// still there.
    pub fn find_loop(&self, limit: usize, now_s: u64, plugins: &Path) -> Option<CrashLoop> {
        let recent = now_s.saturating_sub(TOGETHER_S)..=now_s + CLOCK_SLACK_S;
        let counted = self.found.iter().filter(|crash| recent.contains(&crash.unix_s));
        let counted: Vec<&Crash> = counted.filter(|crash| is_unchanged(crash, plugins)).collect();
        let last = counted.iter().rev().find(|crash| {
            let same = counted.iter().filter(|other| other.plugin == crash.plugin);
            same.count() >= limit
        })?;
        let plugin = last.plugin.clone()?;
        let count = counted.iter().filter(|crash| crash.plugin == last.plugin).count();
        Some(CrashLoop {
            file: plugins.join(&plugin),
            site: last.site.clone().unwrap_or_else(|| "a thread of its own".to_owned()),
            cause: last.cause.clone(),
            plugin,
            count,
        })
    }

    /// The file, for the next crash.
    pub fn into_file(self) -> File {
        self.file
    }
}

fn tell_all(news: &[Crash], plugins: &Path, log: &Log) {
    let left_out = news.len().saturating_sub(TOLD_MAX);
    if left_out > 0 {
        log.critical("crash", format_args!("{left_out} earlier crashes are in {CRASHES_NAME}"));
    }
    for crash in &news[left_out..] {
        let frames = described(crash, plugins);
        log.critical("crash", crash);
        for line in frames {
            log.write(Level::Critical, "crash", line);
        }
    }
}

/// Never waits for whoever opens the other end of what is no file.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
    }
}

/// Replaces the file by its end.
fn cut(path: &Path, tail: &[u8]) -> io::Result<File> {
    let near = path.with_extension("new");
    // A start that was cut off may have left one.
    let _ = fs::remove_file(&near);
    let mut file = open(&near)?;
    let from = tail.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    file.write_all(&tail[from..])?;
    fs::rename(&near, path)?;
    Ok(file)
}

/// Whether the plugin that crashed is still there as it was then.
fn is_unchanged(crash: &Crash, plugins: &Path) -> bool {
    crash.plugin.as_deref().and_then(|name| file_of(name, crash.unix_s, plugins)).is_some()
}

/// A plugin's file, if nobody has touched it since `unix_s`.
fn file_of(name: &str, unix_s: u64, plugins: &Path) -> Option<PathBuf> {
    let is_plain = Path::new(name).file_name().is_some_and(|plain| plain == name);
    let path = is_plain.then(|| plugins.join(name))?;
    let (found, link) = (fs::metadata(&path).ok()?, fs::symlink_metadata(&path).ok()?);
    // The time of the last change of any kind: a file may be put in place with an old date, and a link may
    // lead to an old file since a moment ago.
    let changed_s = u64::try_from(found.ctime().max(link.ctime())).unwrap_or(0);
    (found.is_file() && changed_s <= unix_s).then_some(path)
}

/// The frames of a crash as lines, with functions where the file can tell them; those of the plugin that it
/// is laid to are marked by `*`.
fn described(crash: &Crash, plugins: &Path) -> Vec<String> {
    let mut known: Vec<(&str, Option<Symbols>)> = Vec::new();
    let mut lines = Vec::new();
    for (name, offset) in &crash.frames {
        if !known.iter().any(|(other, _)| other == name) {
            let file =
                file_of(name, crash.unix_s, plugins).or_else(|| own_program(name, crash.unix_s));
            known.push((name, file.and_then(|file| Symbols::of_file(&file))));
        }
        let symbols = known.iter().find(|(other, _)| other == name);
        let mark = if crash.plugin.as_ref() == Some(name) { '*' } else { ' ' };
        let told = match symbols.and_then(|(_, symbols)| symbols.as_ref()) {
            Some(symbols) => symbols.describe(name, *offset),
            None => vec![format!("{name}+{offset:#x}")],
        };
        lines.extend(told.into_iter().map(|line| format!("{mark} {line}")));
    }
    lines
}

/// This program, if it is the one that crashed.
fn own_program(name: &str, unix_s: u64) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    file_of(name, unix_s, own.parent()?).filter(|path| *path == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "100 SEGV pid=7 thread=worker-0 address=0x10 plugin=10-a%20b.so \
                        in=mq_smtp_in_data at=10-a%20b.so+0x1f at=libc.so.6+0x20";

    fn directory(text: &[u8]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join(CRASHES_NAME), text).unwrap();
        place
    }

    fn now_s() -> u64 {
        crate::clock::Wall::now_ms() / 1000
    }

    #[test]
    fn a_line_is_read_word_by_word() {
        let crash = Crash::parse(LINE).unwrap();
        assert_eq!((crash.unix_s, crash.cause.as_str()), (100, "SEGV"));
        assert_eq!(crash.plugin.as_deref(), Some("10-a b.so"));
        assert_eq!(crash.frames, [("10-a b.so".into(), 0x1f), ("libc.so.6".into(), 0x20)]);
        let said = "plugin 10-a b.so ended the server in mq_smtp_in_data: SEGV at address 0x10, \
                    thread worker-0, unix time 100";
        assert_eq!(crash.to_string(), said);
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        let long = format!("1 SEGV {}", "at=x+0x1 ".repeat(1000));
        assert_eq!(Crash::parse(&long).unwrap().frames.len(), FRAMES_MAX);
        for line in ["", "x", "1", "1 ", "1 SE=GV", "-1 SEGV", "99999999999999999999999 SEGV"] {
            assert_eq!(Crash::parse(line), None, "{line}");
        }
        let crash = Crash::parse("1 SEGV plugin=%0a%zz%é in at=x at=y+0xzz").unwrap();
        assert_eq!(crash.plugin.as_deref(), Some("?%zz%é"));
        assert!(crash.frames.is_empty());
    }

    #[test]
    fn hostile_files_are_read_as_far_as_they_go_and_stay_bounded() {
        let mut text = vec![0xff; FILE_BYTES_MAX as usize];
        text.extend(b"\n");
        text.extend(LINE.as_bytes());
        let place = directory(&text);
        let crashes = Crashes::open(place.path()).unwrap();
        assert_eq!(crashes.news().len(), 1);
        let path = place.path().join(CRASHES_NAME);
        assert!(fs::metadata(&path).unwrap().len() <= READ_BYTES_MAX);
        writeln!(crashes.into_file(), "{LINE}").unwrap();
        assert_eq!(Crashes::open(place.path()).unwrap().news().len(), 2, "on a line of its own");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Crashes::open(place.path()).is_err());
    }

    #[test]
    fn a_crash_is_told_once() {
        let place = directory(format!("{LINE}\n").as_bytes());
        let mut crashes = Crashes::open(place.path()).unwrap();
        assert_eq!(crashes.news().len(), 1);
        let thread = crashes.tell(place.path(), &Log::none()).unwrap();
        thread.expect("there is something to tell").join().unwrap();
        assert_eq!(crashes.news(), []);
        assert!(crashes.tell(place.path(), &Log::none()).unwrap().is_none());
        let again = Crashes::open(place.path()).unwrap();
        assert_eq!((again.news().len(), again.found.len()), (0, 1));
    }

    #[test]
    fn a_link_that_was_changed_is_another_file() {
        let place = tempfile::tempdir().unwrap();
        let made = place.path().join("a.so");
        std::os::unix::fs::symlink("/bin/sh", &made).unwrap();
        let link_s = u64::try_from(fs::symlink_metadata(&made).unwrap().ctime()).unwrap();
        let file_s = u64::try_from(fs::metadata(&made).unwrap().ctime()).unwrap();
        assert!(file_s < link_s, "the shell was there before");
        assert_eq!(file_of("a.so", link_s - 1, place.path()), None);
        assert_eq!(file_of("a.so", link_s, place.path()), Some(made));
    }

    #[test]
    fn crashes_of_one_plugin_within_a_minute_are_a_loop_as_long_as_its_file_is_the_same() {
        let place = tempfile::tempdir().unwrap();
        let plugins = place.path();
        fs::write(plugins.join("a.so"), "").unwrap();
        fs::write(plugins.join("b.so"), "").unwrap();
        // Later than the files were made.
        let now = now_s() + 100;
        let line = |at: u64, plugin: &str| format!("{at} ABRT plugin={plugin} in=mq_cleanup\n");
        let found = |lines: &[String]| {
            let place = directory(lines.concat().as_bytes());
            Crashes::open(place.path()).unwrap().find_loop(3, now, plugins)
        };
        let (a, b) = (|ago| line(now - ago, "a.so"), |ago| line(now - ago, "b.so"));
        assert_eq!(found(&[a(1), b(1), a(2), b(2)]), None, "two of each");
        assert_eq!(found(&[a(70), a(2), a(1)]), None, "one is too old");
        assert_eq!(found(&[line(now + 100, "a.so"), a(2), a(1)]), None, "one is not yet");
        let gone = |ago| line(now - ago, "gone.so");
        assert_eq!(found(&[gone(3), gone(2), gone(1)]), None, "it is not there");
        let outside = |ago| line(now - ago, "..%2Fa.so");
        assert_eq!(found(&[outside(3), outside(2), outside(1)]), None);
        let host = |ago: u64| format!("{} SEGV thread=x\n", now - ago);
        assert_eq!(found(&[host(3), host(2), host(1)]), None, "no plugin did it");
        let error = found(&[a(3), b(1), a(2), a(1)]).unwrap().to_string();
        assert!(error.contains("plugin a.so has ended the server 3 times"), "{error}");
        assert!(error.contains("last in mq_cleanup (ABRT)"), "{error}");
        assert!(error.contains("plugin-crash-limit"), "{error}");
        // Crashes from before the file was changed.
        let old = |ago: u64| line(now - 200 - ago, "a.so");
        let place = directory([old(3), old(2), old(1)].concat().as_bytes());
        let crashes = Crashes::open(place.path()).unwrap();
        assert_eq!(crashes.find_loop(3, now - 200, plugins), None);
    }
}
