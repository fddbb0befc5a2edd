//! The stage of a dialogue: a server of one worker with the plugin, clients, and a next hop, in a
//! temporary folder, under a clock that only the dialogue moves.
//!
//! Owns when all is quiet. Must never: wait for anything longer than its patience.
//!
//! **Diagnostics**: [`StageError`]; what happens is kept as events, in order.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cli::{Sink, SinkOutput};
use crate::log::{Level, Log};
use crate::settings::{Arguments, Machine, Report as SettingsReport, Settings, Sources};
use crate::sink;
use crate::supervisor::StartError;
use crate::supervisor::single::Single;
use crate::worker::Report;

use super::dialogue::Dialogue;
use super::folder;
use super::guard::Guard;

/// Nothing has happened for so long: then nothing happens without time or a peer.
const QUIET: Duration = Duration::from_millis(20);
/// How long a turn that did nothing is followed by none.
const PAUSE: Duration = Duration::from_micros(300);
/// How long the log may take to take note.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// The time that passes at once while plugins hold what the clients' leaving began.
const LEAVING_STEP: Duration = Duration::from_secs(10);
/// Octets that a client reads ahead at most.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// Why there is no stage.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    /// Settings of the dialogue are wrong.
    #[error("settings of the dialogue: {0}")]
    Settings(SettingsReport),
    /// The server does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The server does not start with this plugin.
    #[error("{source}")]
    Refused {
        /// What kept it from starting.
        source: Box<StartError>,
        /// What had happened until then.
        events: Vec<Event>,
    },
    /// The next hop does not start.
    #[error("the next hop: {0}")]
    Hop(#[from] sink::SinkError),
    /// Something that every program needs.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StageError {
    move |source| StageError::System { what, source }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The server called a plugin, or was called back.
    Trace(String),
    /// A line of the log.
    Log(String),
}

/// What the log's thread writes, until the stage fetches it.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> Vec<Event> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        String::from_utf8_lossy(&bytes).lines().filter_map(event).collect()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One client.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    read: Vec<u8>,
    ended: bool,
}

/// How a stage ended.
pub(super) struct End {
    /// Whether the server came to its end.
    pub(super) ended: bool,
    /// What lived on for the plugin until then.
    pub(super) live: rohrpost_abi::Counts,
    /// Steps that were held when the clients left; or those that nobody handed back of what their leaving and
    /// the stop began.
    pub(super) unreturned: u64,
}

/// The stage.
pub(super) struct Stage {
    single: Single,
    log: Log,
    written: Written,
    /// Lines of the log that were fetched.
    noted: u64,
    pub(super) events: Vec<Event>,
    clients: BTreeMap<usize, Client>,
    current: usize,
    dump: PathBuf,
    ended: Option<Report>,
    patience: Duration,
    guard: Guard,
    /// Last, so that it goes last.
    _place: TempDir,
}

impl Stage {
    /// Starts the server with `plugin` and what the dialogue says of settings and the next hop.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub(super) fn set(
        plugin: &Path,
        dialogue: &Dialogue,
        patience: Duration,
    ) -> Result<Stage, StageError> {
        let guard = Guard::set(patience).map_err(system("no thread can be made"))?;
        let place = folder().map_err(system("a temporary folder cannot be made"))?;
        let plugins = place.path().join("plugins");
        std::fs::create_dir(&plugins).map_err(system("a folder cannot be made"))?;
        let whole = std::fs::canonicalize(plugin).map_err(system("the plugin is not there"))?;
        let mut name = plugin.file_name().unwrap_or_default().to_owned();
        if plugin.extension().is_none_or(|extension| extension != "so") {
            name.push(".so");
        }
        std::os::unix::fs::symlink(whole, plugins.join(name))
            .map_err(system("no link to the plugin can be made"))?;
        let dump = place.path().join("sent");
        let hop = sink::spawn(Sink {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            output: SinkOutput::Discard,
            command_delay: Duration::ZERO,
            dot_delay: Duration::ZERO,
            refusals: dialogue.refusals.clone(),
            close_after: None,
            dump: Some(dump.clone()),
            threads: 1,
        })?;
        let settings = settings(dialogue, place.path(), hop).map_err(StageError::Settings)?;
        let written = Written::default();
        let (log, _) = Log::to_writer(written.clone(), Level::Debug).map_err(StartError::from)?;
        let single = match Single::start(settings, &log) {
            Ok(single) => single,
            Err(source) => {
                // What is late is missing, and no more.
                let _ = log.flush(LOG_PATIENCE);
                let events = written.take();
                return Err(StageError::Refused { source: Box::new(source), events });
            }
        };
        guard.learn(single.host());
        let mut stage = Stage {
            single,
            log,
            written,
            noted: 0,
            events: Vec::new(),
            clients: BTreeMap::new(),
            current: 1,
            dump,
            ended: None,
            patience,
            guard,
            _place: place,
        };
        match stage.begin() {
            Ok(()) => Ok(stage),
            Err(source) => {
                stage.note();
                Err(StageError::Refused { source: Box::new(source), events: stage.events })
            }
        }
    }

    /// Waits for the contexts, however much time plugins ask for there, and opens.
    fn begin(&mut self) -> Result<(), StartError> {
        let end = Instant::now() + self.patience;
        let ready = loop {
            self.turn();
            match self.single.report() {
                Some(Report::Ready(_)) => break true,
                Some(Report::StartFailed(_, text)) => return Err(StartError::Context(text)),
                Some(Report::Ended(_)) => break false,
                Some(Report::Renewed(..) | Report::RenewalFailed(..) | Report::Departed(..)) => {}
                None if Instant::now() > end => break false,
                None => {
                    self.settle();
                    self.advance(Duration::from_secs(1));
                }
            }
        };
        if !ready {
            let text = "mq_context_initialize was not handed back".to_owned();
            return Err(StartError::Context(text));
        }
        self.single.open();
        self.settle();
        Ok(())
    }

    // ---- Time -------------------------------------------------------------------------------------

    /// The time on the stage, from the start.
    pub(super) fn now_ms(&self) -> u64 {
        self.single.now_ms()
    }

    /// One turn, and what came of it; whether anything did.
    fn turn(&mut self) -> bool {
        self.guard.beat();
        // A poll that fails would end a server; here the next look fails in its place.
        let _ = self.single.turn();
        // Each is read, whatever the others had.
        let read =
            self.clients.values_mut().filter_map(|client| client.fetch().then_some(())).count();
        let happened = self.note();
        read > 0 || happened || !self.single.is_at_rest()
    }

    /// Takes what was logged into the events; whether there was anything.
    fn note(&mut self) -> bool {
        let sent = self.log.sent();
        if std::mem::replace(&mut self.noted, sent) == sent {
            return false;
        }
        if self.log.flush(LOG_PATIENCE).is_err() {
            // What is late is found the next time.
            self.noted = u64::MAX;
        }
        let before = self.events.len();
        self.events.extend(self.written.take());
        self.events.len() > before
    }

    /// Turns until `find` finds something, or patience is over.
    pub(super) fn until<T>(&mut self, mut find: impl FnMut(&mut Stage) -> Option<T>) -> Option<T> {
        let end = Instant::now() + self.patience;
        loop {
            let busy = self.turn();
            if let Some(found) = find(self) {
                return Some(found);
            }
            if Instant::now() > end {
                return None;
            }
            if !busy {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Turns until nothing happens any more without time or a peer.
    pub(super) fn settle(&mut self) {
        let end = Instant::now() + self.patience;
        let mut quiet_since = None;
        loop {
            let now = Instant::now();
            if self.turn() {
                quiet_since = None;
            } else if now - *quiet_since.get_or_insert(now) >= QUIET {
                return;
            } else {
                std::thread::sleep(PAUSE);
            }
            if now > end {
                return;
            }
        }
    }

    /// Lets time pass, timer by timer: what each sets off is over before the next. The loop adds a
    /// millisecond to each timer, so that none is early; so does this.
    pub(super) fn advance(&mut self, time: Duration) {
        self.settle();
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.now_ms().saturating_add(millis).saturating_add(1);
        loop {
            let now_ms = self.single.advance(until_ms);
            let fired = self.turn();
            if self.turn() || fired {
                self.settle();
            }
            if now_ms >= until_ms {
                return;
            }
        }
    }

    // ---- Clients ----------------------------------------------------------------------------------

    /// From now on client `number` talks.
    pub(super) fn choose(&mut self, number: usize) {
        self.current = number;
    }

    /// The client that talks, connected if it was not.
    fn client(&mut self) -> io::Result<&mut Client> {
        if !self.clients.contains_key(&self.current) {
            let stream = TcpStream::connect(self.single.address())?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let client = Client { stream, read: Vec::new(), ended: false };
            self.clients.insert(self.current, client);
        }
        let client = self.clients.get_mut(&self.current);
        Ok(client.expect("invariant: it was inserted above if it was not there"))
    }

    /// Sends all of it, while the server runs.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        self.client()?;
        let sent = self.until(|stage| {
            while !rest.is_empty() {
                match stage.client().and_then(|client| client.stream.write(rest)) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                    Err(error) => return Some(Err(error)),
                }
            }
            Some(Ok(()))
        });
        sent.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The next line from the server, without its end.
    ///
    /// # Errors
    /// The server has closed, or says nothing.
    pub(super) fn line(&mut self) -> io::Result<String> {
        self.client()?;
        let line = self.until(|stage| {
            let client = stage.client().ok()?;
            match client.read.windows(2).position(|pair| pair == b"\r\n") {
                Some(end) => {
                    let line: Vec<u8> = client.read.drain(..end + 2).collect();
                    Some(Ok(String::from_utf8_lossy(&line[..end]).into_owned()))
                }
                None if client.ended => Some(Err(io::ErrorKind::UnexpectedEof.into())),
                None => None,
            }
        });
        line.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits until the server has closed; whatever it says first is an error.
    pub(super) fn await_close(&mut self) -> io::Result<()> {
        match self.line() {
            Ok(line) => Err(io::Error::other(format!("it says {line:?}"))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.clients.remove(&self.current);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends nothing more, but listens.
    pub(super) fn half_close(&mut self) -> io::Result<()> {
        self.client()?.stream.shutdown(Shutdown::Write)
    }

    /// The client is gone: its end is reset, for one that only says nothing more may listen still (D-49a).
    pub(super) fn drop_client(&mut self) {
        if let Some(client) = self.clients.remove(&self.current) {
            // Where it is gone already there is nothing to reset.
            let _ = socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO));
        }
    }

    // ---- Looks ------------------------------------------------------------------------------------

    /// Steps that the plugin holds.
    pub(super) fn held(&self) -> u64 {
        self.single.held()
    }

    /// Mails that the next hop has taken, a JSON object each.
    pub(super) fn sent(&self) -> Vec<serde_json::Value> {
        // It is there as soon as there is one.
        let text = std::fs::read_to_string(&self.dump).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Calls that did nothing, of the plugin or of nobody that could be named.
    pub(super) fn misuses(&self) -> u64 {
        let host = self.single.host();
        let set = host.plugins().set();
        let named: u64 = set.plugins().iter().map(|plugin| host.misuses(*plugin)).sum();
        named + host.misuses_of_unknown()
    }

    /// Clients go, and plugins have the time that they need for that, as far as `plugin-timeout` and the
    /// patience allow. Then the server goes: contexts are cleaned up, then the plugin.
    pub(super) fn end(&mut self) -> End {
        let held = self.held();
        let revoked = self.single.revoked();
        self.clients.clear();
        self.settle();
        if held == 0 {
            // First what waits for a descriptor, of which a timer may be the limit.
            self.until(|stage| (stage.held() == 0).then_some(()));
            let end = Instant::now() + self.patience;
            while self.held() > 0 && self.single.revoked() == revoked && Instant::now() < end {
                self.advance(LEAVING_STEP);
            }
        }
        let live = self.single.live();
        self.single.drain();
        let end = Instant::now() + self.patience;
        while self.ended.is_none() && Instant::now() < end {
            self.settle();
            self.ended = self.single.report();
            if self.ended.is_none() {
                self.advance(Duration::from_secs(1));
            }
        }
        let ended = matches!(self.ended, Some(Report::Ended(_)));
        if ended {
            self.single.host().plugins().cleanup();
        }
        self.note();
        let left = self.held() + self.single.revoked() - revoked;
        End { ended, live, unreturned: if held > 0 { held } else { left } }
    }
}

impl Client {
    /// Reads what there is; whether there was anything.
    fn fetch(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let mut any = false;
        while !self.ended && self.read.len() < AHEAD_BYTES_MAX {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
                // A reset is an end, too.
                Err(_) => self.ended = true,
            }
            any = true;
        }
        any
    }
}

/// `[Info] [2019-09-23 12:46:56] [trace] 10-a.so mq_version false`, without its date.
fn event(line: &str) -> Option<Event> {
    let (level, rest) = line.split_once("] [")?;
    let (_, rest) = rest.split_once("] [")?;
    let (part, text) = rest.split_once("] ")?;
    let level = level.trim_start_matches('[');
    match (part, level) {
        ("trace", _) => Some(Event::Trace(traced(text))),
        // What the server says of itself is not about the plugin.
        ("plugin", _) => Some(Event::Log(format!("{level}: {text}"))),
        (_, "Critical" | "Warning") => Some(Event::Log(format!("{level}: {part}: {text}"))),
        _ => None,
    }
}

/// `hook NAME OUTCOME` of a call; a callback and a hand-back as they are.
fn traced(text: &str) -> String {
    match text.split_once(' ') {
        Some(("back" | "callback" | "passed", _)) | None => text.to_owned(),
        Some((_, call)) => format!("hook {call}"),
    }
}

fn settings(
    dialogue: &Dialogue,
    place: &Path,
    hop: SocketAddr,
) -> Result<Settings, SettingsReport> {
    let path = |name: &str| place.join(name).display().to_string();
    let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut values = vec![
        own("smarthost", &hop.ip().to_string()),
        own("smarthost-port", &hop.port().to_string()),
        own("dsn-notify", "NEVER"),
        own("smtp-hostname", "mx.example.org"),
    ];
    values.extend(dialogue.settings.iter().cloned());
    // What a dialogue cannot change.
    values.extend([
        own("smtp-ip", "127.0.0.1"),
        own("smtp-port", "0"),
        own("smtp-threads", "1"),
        own("queue-directory", &path("queue")),
        own("plugin-directory", &path("plugins")),
        own("plugin-trace", "yes"),
        own("user", ""),
    ]);
    let sources = Sources {
        main_file: None,
        environment: Vec::new(),
        arguments: Arguments { config_file: None, values },
    };
    std::fs::create_dir_all(place.join("queue")).ok();
    Settings::load(&sources, &Machine::detect()).map(|loaded| loaded.settings)
}
