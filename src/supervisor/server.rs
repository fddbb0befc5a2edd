//! The server from its start to its ordered end, on the main thread.
//!
//! **Diagnostics**: [`StartError`] with an exit code; afterwards the application log.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli;
use crate::control::{self, ControlServer};
use crate::crashes::CrashLoop;
use crate::exposition::Exposition;
use crate::keeper;
use crate::limits::{Connections, MemoryBudget};
use crate::lock::{Lock, LockError};
use crate::log::{Log, LogError, Target};
use crate::logbook::{Logbook, LogbookError, LogbookThread};
use crate::mailboxes::Mailboxes;
use crate::metrics::Metrics;
use crate::net::desk::{Intake, Mail};
use crate::net::listener::BindError;
use crate::plugin::census::Census;
use crate::queue::{LogQueue, OpenError, Queue};
use crate::rolls::RollsError;
use crate::services::Page;
use crate::settings::{Loaded, Settings, Sources};
use crate::taking::Taking;
use crate::tls;
use crate::worker::{Common, Report};

use super::backlog::{open_queue, restore};
use super::ground::{Addresses, Ground, list};
use super::inquiry::{Numbers, serve_control};
use super::line::StatusLine;
use super::orders::{Order, Orders};
use super::readiness::Readiness;
use super::renewal::{Departures, Renewal};
use super::rights::{Rights, RightsError};
use super::round::Round;
use super::start::{
    Aides, Plan, initialize_plugins, load_plugins, open_logbook, start_workers, watch_crashes,
};

/// How long the last lines of the log may take to be written.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// How long a worker may take to start beyond what plugins may.
pub(super) const START_SLACK: Duration = Duration::from_secs(2);
/// How often the stop looks whether the workers have ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the status line moves, and named queues are looked at.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// What the main thread has at least to come to an end, or to begin with it.
const MAIN_PATIENCE_MIN: Duration = Duration::from_secs(2);
/// How long the disk may take at the end, beyond what connections may take.
const QUEUE_PATIENCE: Duration = Duration::from_secs(30);
/// What it has of that when the workers used up everything.
const QUEUE_PATIENCE_MIN: Duration = Duration::from_secs(2);

/// What keeps the server from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another server uses the queue, or its directory is not usable.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The server cannot become the user that it shall be.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The send log or the received log cannot be kept.
    #[error(transparent)]
    Logbook(#[from] LogbookError),
    /// The queue cannot be opened.
    #[error("the queue cannot be opened: {0}")]
    Queue(#[from] OpenError),
    /// Users or local addresses cannot be read.
    #[error(transparent)]
    Rolls(#[from] RollsError),
    /// A plugin is not usable.
    #[error(transparent)]
    Plugins(#[from] rohrpost_abi::LoadError),
    /// A plugin cannot be told its settings.
    #[error(transparent)]
    PluginSettings(#[from] rohrpost_abi::SettingsError),
    /// A plugin does not want to be used.
    #[error(transparent)]
    Refused(#[from] rohrpost_abi::InitializeError),
    /// A certificate or key is not usable.
    #[error(transparent)]
    Tls(#[from] tls::LoadError),
    /// A port cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The control socket cannot be opened.
    #[error(transparent)]
    Control(#[from] control::ControlError),
    /// A plugin kept a worker from starting (D-14).
    #[error("{0}")]
    Context(String),
    /// A plugin ends the server again and again.
    #[error(transparent)]
    Crashing(#[from] CrashLoop),
    /// The system refused something that every program needs.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StartError {
    /// The exit code: 75 where trying again may help, 78 where settings are to be mended.
    pub fn exit(&self) -> u8 {
        match self {
            StartError::Lock(error) => error.exit(),
            StartError::Queue(_) | StartError::System { .. } => cli::EXIT_TRY_AGAIN,
            StartError::Log(_)
            | StartError::Logbook(_)
            | StartError::Rights(_)
            | StartError::Plugins(_)
            | StartError::PluginSettings(_)
            | StartError::Refused(_)
            | StartError::Crashing(_)
            | StartError::Rolls(_)
            | StartError::Tls(_)
            | StartError::Bind(_)
            | StartError::Control(_)
            | StartError::Context(_) => cli::EXIT_SETTINGS,
        }
    }
}

pub(super) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// Where an answer of the main thread goes: the control socket.
pub(super) type Answer = Sender<Result<Vec<serde_json::Value>, String>>;

/// What reaches the main thread.
pub(super) enum Event {
    Signal(i32),
    Stop,
    Reopen,
    Reload(Answer),
    Report(Report),
    Intake(Intake, Answer),
    WorkerLost(usize, String),
    /// Mail from before the start could not be read.
    BacklogLost(String, u8),
}

/// Runs the server until it is told to stop; returns the exit code. `sources` are what `loaded`
/// came from, to be read again by a reload; `keeper` is the process that supervises this one.
///
/// # Errors
/// What keeps it from starting and has not been said on stderr. Once it has started it ends with a
/// code.
pub fn run(sources: Sources, loaded: Loaded, keeper: Option<u32>) -> Result<u8, StartError> {
    let Loaded { settings, warnings } = loaded;
    let _ending = Ending;
    rohrpost_abi::keep_freed_memory();
    // What the start does with it is nothing; the default would end it.
    let signals = Signals::new([SIGHUP]).map_err(system("signals cannot be caught"))?;
    raise_descriptor_limit();
    let rights = Rights::of(&settings)?;
    rights.prepare(&settings)?;
    let logging = settings.logging.clone();
    let (log, log_thread) = rights.as_user(|| Log::start(&logging.targets, logging.level))??;
    for warning in &warnings {
        log.warning("settings", warning);
    }
    if let Some(warning) = rights.warning() {
        log.warning("start", warning);
    }
    let server = Server::start(settings, sources, rights, keeper, &log);
    let outcome = server.and_then(|server| server.serve(signals, &log));
    if let Err(error) = &outcome {
        log.critical("start", error);
    }
    // Nowhere is left to complain.
    let _ = log_thread.finish(LOG_PATIENCE);
    match outcome {
        // The log has said it there, and once is enough.
        Err(error) if logging.targets.contains(&Target::Stderr) => Ok(error.exit()),
        outcome => outcome,
    }
}

/// Once this has gone, the process may end by itself.
pub(super) struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        rohrpost_abi::expect_exit();
    }
}

/// The soft limit is raised to the hard one; connection limits derive from it.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised the server works with fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

pub(super) struct Server {
    pub(super) settings: Arc<Settings>,
    pub(super) sources: Sources,
    pub(super) readiness: Readiness,
    pub(super) draining: Arc<AtomicBool>,
    /// The stop has begun.
    ending: Arc<AtomicBool>,
    pub(super) connections: Arc<Connections>,
    _lock: Lock,
    queue: Arc<LogQueue>,
    pub(super) host: &'static rohrpost_abi::Host,
    /// The reload under way, and how many there were.
    pub(super) renewal: Option<Renewal>,
    pub(super) renewals: u64,
    pub(super) departures: Departures,
    metrics: Arc<Metrics>,
    census: Census,
    pub(super) mailboxes: Mailboxes,
    pub(super) orders: Orders,
    workers: Vec<JoinHandle<()>>,
    watchdog: Option<JoinHandle<()>>,
    helper: JoinHandle<()>,
    verifier: JoinHandle<()>,
    reports: Receiver<Report>,
    addresses: Addresses,
    events: (Sender<Event>, Receiver<Event>),
    control: ControlServer,
    taking: Arc<Taking>,
    logbook: Logbook,
    logbook_thread: Option<LogbookThread>,
}

impl Server {
    fn start(
        settings: Settings,
        sources: Sources,
        rights: Rights,
        keeper: Option<u32>,
        log: &Log,
    ) -> Result<Server, StartError> {
        let settings = Arc::new(settings);
        let threads = settings.smtp.threads as usize;
        let Ground { lock, addresses, doors, tls, rolls, metrics_socket } =
            Ground::take(&settings, rights)?;
        if let Some(keeper) = keeper {
            keeper::follow(keeper).map_err(system("the server is not supervised any more"))?;
        }
        watch_crashes(&settings, log)?;
        let mailboxes = Mailboxes::default();
        let (logbook, logbook_thread) = open_logbook(&settings, &mailboxes, log)?;
        let (queue, backlog) = open_queue(&settings, &mailboxes, log)?;
        let census = Census::new(threads);
        rohrpost_abi::watch_main();
        let watchdog = watch_plugins(&settings, &census, log);
        let host = load_plugins(&settings, &mailboxes, log)?;
        // D-08: after everything that can fail for the administrator, before the workers.
        initialize_plugins(host, &settings)?;
        let metrics = Arc::new(Metrics::new(threads));
        let page = metrics_socket.map(|socket| {
            let exposition = Exposition::new(metrics.clone(), queue.clone(), census.clone(), host);
            Page { socket: Arc::new(socket), exposition: Arc::new(exposition) }
        });
        let Aides { jobs, checks, services, helper, verifier } =
            Aides::start(&settings, addresses.all(), &queue, &mailboxes, page, log)?;
        let (report, reports) = unbounded();
        let events = unbounded();
        let connections = Connections::new(settings.smtp.connection_bounds());
        let plan = Plan {
            settings: settings.clone(),
            log: log.clone(),
            logbook: logbook.clone(),
            metrics: metrics.clone(),
            census: census.clone(),
            host,
            tls,
            budget: MemoryBudget::new(settings.general.memory_bytes_max, settings.smtp.threads),
            id_floor: backlog.id_max(),
            jobs,
            services,
            rolls,
            checks,
            listeners: addresses.all(),
            common: Common {
                queue: queue.clone(),
                connections: connections.clone(),
                spares: Arc::default(),
                reports: report,
            },
            lost: events.0.clone(),
        };
        let workers = start_workers(&plan, doors, &mailboxes)?;
        restore(backlog, &queue, &mailboxes, &events.0, log)?;
        let draining = Arc::default();
        let numbers = Numbers { metrics: metrics.clone(), census: census.clone(), host };
        let taking = Taking::new(queue.clone(), log.clone());
        let control =
            serve_control(&settings, &queue, numbers, &mailboxes, &draining, &events.0, &taking)?;
        Ok(Server {
            settings,
            sources,
            readiness: Readiness::new(threads),
            draining,
            ending: Arc::default(),
            connections,
            _lock: lock,
            queue,
            host,
            renewal: None,
            renewals: 0,
            departures: Departures::default(),
            metrics,
            census,
            orders: Orders::new(mailboxes.clone()),
            mailboxes,
            workers,
            watchdog,
            helper,
            verifier,
            reports,
            addresses,
            events,
            control,
            taking,
            logbook,
            logbook_thread,
        })
    }

    /// From the first context to the last.
    fn serve(mut self, signals: Signals, log: &Log) -> Result<u8, StartError> {
        if let Err(error) = self.await_contexts() {
            self.orders.give(Order::Stop, || Mail::Drain);
            self.orders.pass_on();
            return Err(error);
        }
        self.orders.give(Order::Open, || Mail::Open);
        self.orders.pass_on_until(Instant::now() + START_SLACK);
        let patience = self.settings.general.shutdown_timeout;
        listen_to_signals(
            signals,
            self.events.0.clone(),
            patience,
            self.ending.clone(),
            log.clone(),
        )
        .map_err(system("signals cannot be caught"))?;
        self.say_ready(log);
        let exit = self.watch(log);
        Ok(self.end(log, exit))
    }

    fn await_contexts(&self) -> Result<(), StartError> {
        // The workers keep the deadline themselves, unless a hook blocks.
        let end = Instant::now() + self.settings.plugin.start_timeout + START_SLACK;
        // D-15: all of them, in every generation.
        for _ in 0..self.workers.len() {
            match self.reports.recv_deadline(end) {
                Ok(Report::Ready(_)) => {}
                Ok(Report::StartFailed(_, text)) => return Err(StartError::Context(text)),
                Ok(
                    Report::Ended(_)
                    | Report::Renewed(..)
                    | Report::RenewalFailed(..)
                    | Report::Departed(..),
                )
                | Err(RecvTimeoutError::Disconnected) => {
                    return Err(StartError::Context("a worker ended during its start".into()));
                }
                Err(RecvTimeoutError::Timeout) => return Err(StartError::Context(self.blocker())),
            }
        }
        Ok(())
    }

    /// Who keeps a worker from starting.
    pub(super) fn blocker(&self) -> String {
        let current = (0..=u8::MAX).take(self.workers.len()).find_map(|at| self.host.current(at));
        let Some(call) = current else {
            return match self.events.1.try_recv() {
                Ok(Event::WorkerLost(worker, why)) => format!("worker {worker} panicked: {why}"),
                _ => "a worker did not start in time".to_owned(),
            };
        };
        let plugin = self.host.plugins().name(call.plugin).unwrap_or("a plugin");
        format!("plugin {plugin}: {} blocks, and plugin-start-timeout is over", call.site)
    }

    fn say_ready(&self, log: &Log) {
        let addresses = &self.addresses;
        let pid = std::process::id();
        // Nobody may be listening.
        let mut out = std::io::stdout();
        let _ = writeln!(out, "ready {addresses} pid={pid}").and_then(|()| out.flush());
        let set = self.host.plugins().set();
        let plugins: Vec<&str> = set.names().collect();
        let plugins = if plugins.is_empty() { "none".into() } else { plugins.join(", ") };
        log.info("start", format_args!("listening on {addresses}; plugins: {plugins}"));
        self.readiness.ready(&self.mode_text());
    }

    pub(super) fn address_text(&self) -> String {
        list(&self.addresses.all())
    }

    /// Waits for a reason to stop, and keeps the status line moving meanwhile.
    fn watch(&mut self, log: &Log) -> u8 {
        let mut line = StatusLine::new();
        let mut round = Round::new(STATUS_EVERY, Instant::now());
        loop {
            self.readiness.look(&self.metrics);
            // However many events come.
            if round.is_due(Instant::now()) {
                let queue = &self.settings.queue;
                self.taking.trim(u64::from(queue.results_max), queue.results_bytes_max);
                line.show(&self.metrics, &self.queue.status());
            }
            // What a mailbox had no room for.
            self.orders.pass_on();
            self.look_at_renewal(log);
            match self.next_event(round.next()) {
                Ok(Event::Signal(SIGHUP) | Event::Reopen) => {
                    log.reopen();
                    self.logbook.reopen();
                }
                Ok(Event::Reload(answer)) => self.reload(answer, log),
                Ok(Event::Report(report)) => self.on_report(report, log),
                Ok(Event::Intake(intake, answer)) => {
                    let _ = answer.send(self.take_mail(intake, log));
                }
                Ok(Event::Signal(signal)) => {
                    log.info("stop", format_args!("signal {signal}: draining"));
                    return 0;
                }
                Ok(Event::Stop) => {
                    log.info("stop", "asked to: draining");
                    return 0;
                }
                Ok(Event::WorkerLost(worker, why)) => {
                    log.critical("stop", format_args!("worker {worker} panicked: {why}"));
                    return cli::EXIT_BUG;
                }
                Ok(Event::BacklogLost(why, exit)) => {
                    log.critical("stop", format_args!("{why}; mail in it cannot be delivered"));
                    return exit;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return cli::EXIT_BUG,
            }
        }
    }

    /// What comes next, until `end` or that of the reload under way.
    fn next_event(&self, end: Instant) -> Result<Event, RecvTimeoutError> {
        let end = self.renewal.as_ref().map_or(end, |renewal| end.min(renewal.end));
        let left = end.saturating_duration_since(Instant::now());
        let lost = |_| RecvTimeoutError::Disconnected;
        select! {
            recv(self.events.1) -> event => event.map_err(lost),
            recv(self.reports) -> report => report.map(Event::Report).map_err(lost),
            default(left) => Err(RecvTimeoutError::Timeout),
        }
    }

    fn end(mut self, log: &Log, exit: u8) -> u8 {
        self.ending.store(true, Ordering::Release);
        self.readiness.stopping();
        let begun = Instant::now();
        let end = begun
            + self.settings.general.shutdown_timeout
            + self.settings.plugin.shutdown_timeout
            + QUEUE_PATIENCE;
        let drained = self.stop_workers_until(end);
        self.control.stop();
        let queue = self.queue.shutdown(queue_patience(end, Instant::now()));
        if self.logbook_thread.is_some_and(|thread| !thread.finish(LOG_PATIENCE)) {
            log.critical("stop", "the last lines of the send or received log were not written");
        }
        let exit = match (drained, queue) {
            (true, Ok(())) => exit,
            (drained, outcome) => {
                if !drained {
                    log.critical("stop", "a worker did not end in time; its connections are cut");
                }
                if let Err(error) = outcome {
                    log.critical("stop", error);
                }
                if exit == 0 { cli::EXIT_TRY_AGAIN } else { exit }
            }
        };
        if drained {
            let over = Arc::default();
            end_unless_over(self.settings.plugin.shutdown_timeout, &over, log);
            // D-09: in reverse order; nothing may be called after it.
            self.host.plugins().cleanup();
            over.store(true, Ordering::Release);
            drop(self.workers);
            drop(self.helper);
            drop(self.verifier);
        }
        log.info("stop", format_args!("stopped after {} ms", begun.elapsed().as_millis()));
        exit
    }

    /// Whether every worker has ended in time. One that panicked sends no report, so the threads
    /// themselves are asked.
    fn stop_workers_until(&mut self, end: Instant) -> bool {
        self.orders.give(Order::Stop, || Mail::Drain);
        let workers = &self.workers;
        let all_ended = || workers.iter().all(JoinHandle::is_finished);
        while !all_ended() && Instant::now() < end {
            self.orders.pass_on();
            // A report only says that it is worth looking; its thread may take a moment more.
            let _ = self.reports.recv_timeout(LOOK_EVERY);
        }
        all_ended()
    }

    /// Has plugins watched, as soon as there are any.
    pub(super) fn watch_plugins(&mut self, settings: &Settings, log: &Log) {
        if self.watchdog.is_none() {
            self.watchdog = watch_plugins(settings, &self.census, log);
        }
    }
}

/// Starts the watchdog where there is anything to load, before that is loaded.
fn watch_plugins(settings: &Settings, census: &Census, log: &Log) -> Option<JoinHandle<()>> {
    let files = std::fs::read_dir(&settings.plugin.directory).into_iter().flatten().flatten();
    let is_plugin = |file: std::fs::DirEntry| file.path().extension().is_some_and(|it| it == "so");
    if !files.into_iter().any(is_plugin) {
        return None;
    }
    let (workers, warning) = (settings.smtp.threads as usize, settings.plugin.block_warning);
    crate::watchdog::spawn(workers, warning, census.samples.clone(), log.clone()).ok()
}

/// How long the queue may take when the whole stop is to be over at `end`. What does not count into that,
/// a client of the control socket and the last lines of the logs, is short.
fn queue_patience(end: Instant, now: Instant) -> Duration {
    end.saturating_duration_since(now).clamp(QUEUE_PATIENCE_MIN, QUEUE_PATIENCE)
}

/// SIGHUP is among the signals already, and one that came during the start is taken now. The others end a
/// start at once, which has answered nobody.
///
/// Passes signals on to the main thread, which has `patience` to begin a stop; then it sets `ending`.
fn listen_to_signals(
    mut signals: Signals,
    events: Sender<Event>,
    patience: Duration,
    ending: Arc<AtomicBool>,
    log: Log,
) -> std::io::Result<()> {
    signals.add_signal(SIGTERM)?;
    signals.add_signal(SIGINT)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let stops = AtomicU32::new(0);
        for signal in signals.forever() {
            if signal != SIGHUP {
                if stops.fetch_add(1, Ordering::Relaxed) > 0 {
                    // The second one is final: mail that was answered 250 is on disk already.
                    log.warning("stop", format_args!("signal {signal} again: ending at once"));
                    let _ = log.flush(LOG_PATIENCE);
                    rohrpost_abi::end_at_once(cli::EXIT_TRY_AGAIN);
                }
                end_unless_over(patience, &ending, &log);
            }
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Ends the process after `patience`, and names who keeps the main thread, unless it is `over` by then. A
/// plugin that blocks that thread would keep the server for ever.
fn end_unless_over(patience: Duration, over: &Arc<AtomicBool>, log: &Log) {
    let (over, log) = (over.clone(), log.clone());
    let wait = move || {
        std::thread::sleep(patience.max(MAIN_PATIENCE_MIN));
        if over.load(Ordering::Acquire) {
            return;
        }
        match rohrpost_abi::current_main() {
            Some(call) => {
                let plugin = rohrpost_abi::name_of(call.plugin).unwrap_or("a plugin");
                let text = format_args!("{plugin}: {} keeps the server from ending", call.site);
                log.critical("stop", text);
            }
            None => log.critical("stop", "the main thread does not come to an end"),
        }
        // Mail that was answered 250 is on disk already.
        let _ = log.flush(LOG_PATIENCE);
        rohrpost_abi::end_at_once(cli::EXIT_TRY_AGAIN);
    };
    // Without that thread the second signal still ends it.
    let _ = std::thread::Builder::new().name("ending".into()).spawn(wait);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_has_one_deadline_whoever_uses_it_up() {
        let now = Instant::now();
        let left = |secs| queue_patience(now + Duration::from_secs(secs), now);
        assert_eq!(left(600), QUEUE_PATIENCE);
        assert_eq!(left(7), Duration::from_secs(7));
        assert_eq!(left(0), QUEUE_PATIENCE_MIN, "what was written shall be synced");
    }
}
