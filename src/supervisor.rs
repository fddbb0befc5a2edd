//! The life of the server: settings, plugins, binding, workers, signals, and the ordered end.
//!
//! Runs on the main thread. What one part needs of another is made here and handed over; there is
//! no other wiring. Order of start: queue, plugins, ports, workers, their contexts, and only then
//! traffic. Order of stop: listeners, connections, contexts, queue, plugins.
//!
//! Must never: touch mail.
//!
//! **Diagnostics**: [`StartError`] says what keeps the server from starting and maps to an exit
//! code; a worker that panics is named and ends the process with 70 after the others drained.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use rohrpost_reactor::{Config, Pin, Reactor, SystemClock};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::blocking::{self, Job};
use crate::cli;
use crate::control::{self, ControlServer, Request};
use crate::delivery::{Pool, Store, StoreLimits};
use crate::limits::{Connections, MemoryBudget};
use crate::lock::{Lock, LockError};
use crate::log::{Level, Log, LogError, LogThread};
use crate::mailboxes::Mailboxes;
use crate::metrics::{Metrics, Number};
use crate::net::desk::{Desk, DeskInit, Mail, Question};
use crate::net::listener::{self, BindError, WorkerSockets};
use crate::plugin::view::Plugins;
use crate::queue::{
    DiskStorage, Ids, LogQueue, OpenError, Options, Queue, Recovered, Retry, TransactionId,
};
use crate::settings::{Pinning, PluginErrors, Settings};
use crate::worker::{Common, Report, Worker};

/// Mails that one worker reads back at a time.
const LOADING_MAX: usize = 64;
/// How long the last lines of the log may take to be written.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// How long the control socket waits for a worker's answer.
const ASK_PATIENCE: Duration = Duration::from_secs(5);
/// How often the status line moves.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long the disk may take at the end, beyond what connections took.
const QUEUE_PATIENCE: Duration = Duration::from_secs(30);

/// What keeps the server from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another server uses the queue, or its directory is not usable.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The queue cannot be opened.
    #[error("the queue cannot be opened: {0}")]
    Queue(#[from] OpenError),
    /// A plugin is not usable.
    #[error(transparent)]
    Plugins(#[from] rohrpost_abi::LoadError),
    /// A port cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The control socket cannot be opened.
    #[error(transparent)]
    Control(#[from] control::ControlError),
    /// A plugin kept a worker from starting (D-14).
    #[error("{0}")]
    Context(String),
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
            | StartError::Plugins(_)
            | StartError::Bind(_)
            | StartError::Control(_)
            | StartError::Context(_) => cli::EXIT_SETTINGS,
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// What reaches the main thread.
enum Event {
    Signal(i32),
    Stop,
    Reopen,
    WorkerLost(usize, String),
}

/// Runs the server until it is told to stop; returns the exit code.
///
/// # Errors
/// What keeps it from starting. Once it has started it ends with a code.
pub fn run(settings: Settings, warnings: &[String]) -> Result<u8, StartError> {
    raise_descriptor_limit();
    let (log, log_thread) = Log::start(&settings.logging.targets, settings.logging.level)?;
    for warning in warnings {
        log.warning("settings", warning);
    }
    let outcome = Server::start(settings, &log).and_then(|server| server.serve(&log));
    if let Err(error) = &outcome {
        log.critical("start", error);
    }
    finish_log(log_thread);
    outcome
}

fn finish_log(thread: Option<LogThread>) {
    if let Some(thread) = thread {
        // Nowhere is left to complain.
        let _ = thread.finish(LOG_PATIENCE);
    }
}

/// The soft limit is raised to the hard one; connection limits derive from it.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised the server works with fewer connections.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

struct Server {
    settings: Arc<Settings>,
    _lock: Lock,
    queue: Arc<LogQueue>,
    host: &'static rohrpost_abi::Host,
    metrics: Arc<Metrics>,
    mailboxes: Mailboxes,
    workers: Vec<JoinHandle<()>>,
    helper: JoinHandle<()>,
    reports: Receiver<Report>,
    addresses: Arc<[SocketAddr]>,
    events: (Sender<Event>, Receiver<Event>),
    control: ControlServer,
}

impl Server {
    fn start(settings: Settings, log: &Log) -> Result<Server, StartError> {
        let settings = Arc::new(settings);
        let lock = Lock::take(&settings.queue.directory)?;
        let mailboxes = Mailboxes::default();
        let (queue, recovered) = open_queue(&settings, &mailboxes, log)?;
        let host = load_plugins(&settings, &mailboxes, log)?;
        let threads = settings.smtp.threads as usize;
        let (addresses, sockets) = bind(&settings, threads)?;
        let addresses: Arc<[SocketAddr]> = addresses.into();
        // D-08: after everything that can fail for the administrator, before the workers.
        host.plugins().initialize();
        let metrics = Arc::new(Metrics::new(threads));
        let (jobs, jobs_taken) = blocking::channel();
        let helper = blocking::spawn(jobs_taken, queue.clone(), mailboxes.clone())
            .map_err(system("the helper thread cannot be started"))?;
        let (report, reports) = unbounded();
        let events = unbounded();
        let plan = Plan {
            settings: settings.clone(),
            log: log.clone(),
            metrics: metrics.clone(),
            host,
            budget: MemoryBudget::new(settings.general.memory_bytes_max, settings.smtp.threads),
            id_floor: recovered.id_max,
            jobs,
            listeners: addresses.clone(),
            common: Common {
                queue: queue.clone(),
                connections: Connections::new(settings.smtp.connection_bounds()),
                spares: Arc::default(),
                reports: report,
            },
            lost: events.0.clone(),
        };
        let workers = start_workers(&plan, sockets, &mailboxes)?;
        restore(recovered, &mailboxes, threads);
        let control = serve_control(&settings, &queue, &metrics, &mailboxes, &events.0)?;
        Ok(Server {
            settings,
            _lock: lock,
            queue,
            host,
            metrics,
            mailboxes,
            workers,
            helper,
            reports,
            addresses,
            events,
            control,
        })
    }

    /// From the first context to the last.
    fn serve(self, log: &Log) -> Result<u8, StartError> {
        let _watchdog = self.start_watchdog(log);
        if let Err(error) = self.await_contexts() {
            self.stop_workers();
            return Err(error);
        }
        (0..self.workers.len()).for_each(|worker| self.mailboxes.deliver(worker, Mail::Open));
        listen_to_signals(self.events.0.clone()).map_err(system("signals cannot be caught"))?;
        self.say_ready(log);
        let exit = self.watch(log);
        Ok(self.end(log, exit))
    }

    fn await_contexts(&self) -> Result<(), StartError> {
        // D-15: all of them, in every generation.
        for _ in 0..self.workers.len() {
            match self.reports.recv() {
                Ok(Report::Ready(_)) => {}
                Ok(Report::StartFailed(_, text)) => return Err(StartError::Context(text)),
                Ok(Report::Ended(_)) | Err(_) => {
                    return Err(StartError::Context(
                        "a worker ended during its start".into(),
                    ));
                }
            }
        }
        Ok(())
    }

    fn say_ready(&self, log: &Log) {
        let addresses: Vec<String> = self.addresses.iter().map(SocketAddr::to_string).collect();
        let addresses = addresses.join(",");
        let pid = std::process::id();
        println!("ready smtp={addresses} pid={pid}");
        let _ = std::io::stdout().flush();
        let plugins: Vec<&str> = self.host.plugins().names().collect();
        let plugins = if plugins.is_empty() {
            "none".into()
        } else {
            plugins.join(", ")
        };
        log.info(
            "start",
            format_args!("listening on {addresses}; plugins: {plugins}"),
        );
    }

    /// Waits for a reason to stop, and keeps the status line moving meanwhile.
    fn watch(&self, log: &Log) -> u8 {
        let mut line = StatusLine::new();
        loop {
            match self.events.1.recv_timeout(STATUS_EVERY) {
                Ok(Event::Signal(SIGHUP) | Event::Reopen) => log.reopen(),
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
                Err(RecvTimeoutError::Timeout) => line.show(&self.metrics, &self.queue.status()),
                Err(RecvTimeoutError::Disconnected) => return cli::EXIT_BUG,
            }
        }
    }

    fn end(self, log: &Log, exit: u8) -> u8 {
        let begun = Instant::now();
        let limit = self.settings.general.shutdown_timeout
            + self.settings.plugin.shutdown_timeout
            + QUEUE_PATIENCE;
        let drained = self.stop_workers_within(limit);
        self.control.stop();
        let queue = self.queue.shutdown(QUEUE_PATIENCE);
        let exit = match (drained, queue) {
            (true, Ok(())) => exit,
            (drained, outcome) => {
                if !drained {
                    log.critical(
                        "stop",
                        "a worker did not end in time; its connections are cut",
                    );
                }
                if let Err(error) = outcome {
                    log.critical("stop", error);
                }
                if exit == 0 { cli::EXIT_TRY_AGAIN } else { exit }
            }
        };
        if drained {
            // D-09: in reverse order; nothing may be called after it.
            self.host.plugins().cleanup();
            drop(self.workers);
            drop(self.helper);
        }
        log.info(
            "stop",
            format_args!("stopped after {} ms", begun.elapsed().as_millis()),
        );
        exit
    }

    fn stop_workers(&self) {
        (0..self.workers.len()).for_each(|worker| {
            let _ = self.mailboxes.offer(worker, Mail::Drain);
        });
    }

    fn stop_workers_within(&self, limit: Duration) -> bool {
        self.stop_workers();
        let end = Instant::now() + limit;
        let mut left = self
            .workers
            .iter()
            .filter(|worker| !worker.is_finished())
            .count();
        while left > 0 {
            match self.reports.recv_deadline(end) {
                Ok(Report::Ended(_)) => left -= 1,
                Ok(Report::Ready(_) | Report::StartFailed(..)) => {}
                Err(_) => break,
            }
            // A worker that panicked sends no report.
            left = left.min(
                self.workers
                    .iter()
                    .filter(|worker| !worker.is_finished())
                    .count(),
            );
        }
        self.workers.iter().all(JoinHandle::is_finished) || left == 0
    }

    fn start_watchdog(&self, log: &Log) -> Option<JoinHandle<()>> {
        let warning = self.settings.plugin.block_warning?;
        if self.host.plugins().is_empty() {
            return None;
        }
        crate::watchdog::spawn(self.host, self.workers.len(), warning, log.clone()).ok()
    }
}

/// What every worker is made from.
struct Plan {
    settings: Arc<Settings>,
    log: Log,
    metrics: Arc<Metrics>,
    host: &'static rohrpost_abi::Host,
    budget: Arc<MemoryBudget>,
    id_floor: Option<TransactionId>,
    jobs: Sender<Job>,
    listeners: Arc<[SocketAddr]>,
    common: Common,
    lost: Sender<Event>,
}

impl Plan {
    fn desk(&self, index: usize) -> Desk {
        let settings = &self.settings;
        let delivery = &settings.delivery;
        let seconds = |time: &Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let deliver_ms_max = delivery.lifetime.as_millis() as u64;
        let retry = Retry {
            intervals_s: delivery.retry_intervals.iter().map(seconds).collect(),
            attempts_max: delivery.attempts_max.map_or(0, std::num::NonZeroU32::get),
            deliver_ms_max,
        };
        let limits = StoreLimits {
            retry,
            deliver_ms_max,
            loading_max: LOADING_MAX,
        };
        let worker = u8::try_from(index).expect("smtp-threads is at most 256");
        let cell = rohrpost_abi::Worker::enter(worker).expect("each worker enters once");
        let retries = settings
            .plugin
            .retries_max
            .map_or(0, std::num::NonZeroU32::get);
        Desk::new(DeskInit {
            index,
            settings: settings.clone(),
            log: self.log.clone(),
            metrics: self.metrics.clone(),
            plugins: Plugins::new(self.host, cell, self.log.clone(), retries),
            memory: self.budget.share(),
            ids: Ids::new(worker, self.id_floor),
            store: Store::new(limits),
            pool: Pool::new(share(
                delivery.smarthost_connections_max,
                settings.smtp.threads,
                index,
            )),
            jobs: self.jobs.clone(),
            listeners: self.listeners.clone(),
        })
    }
}

/// The part of `total` that worker `index` of `workers` has, at least one.
fn share(total: u32, workers: u32, index: usize) -> usize {
    let (total, workers) = (total as usize, workers as usize);
    (total / workers + usize::from(index < total % workers)).max(1)
}

fn start_workers(
    plan: &Plan,
    sockets: Vec<WorkerSockets>,
    mailboxes: &Mailboxes,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let (made, senders) = unbounded();
    let pin = match plan.settings.smtp.pinning {
        Pinning::Auto => Pin::Auto,
        Pinning::Off => Pin::Off,
    };
    let count = sockets.len();
    let plan = Arc::new(plan.clone_parts());
    let mut threads = Vec::with_capacity(count);
    for (index, sockets) in sockets.into_iter().enumerate() {
        let (plan, made) = (plan.clone(), made.clone());
        let name = format!("worker-{index}");
        let thread = rohrpost_reactor::spawn(&name, index, pin, move |index| {
            let lost = plan.lost.clone();
            let work = std::panic::AssertUnwindSafe(|| run_worker(&plan, index, sockets, made));
            let why = match std::panic::catch_unwind(work) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic_text(&*panic),
            };
            // The supervisor outlives its workers.
            let _ = lost.send(Event::WorkerLost(index, why));
        });
        threads.push(thread.map_err(system("a worker cannot be started"))?);
    }
    drop(made);
    let mut boxes: Vec<_> = senders.iter().take(count).collect();
    if boxes.len() < count {
        return Err(StartError::Context(
            "a worker could not make its event loop".into(),
        ));
    }
    boxes.sort_by_key(|(index, _)| *index);
    mailboxes.fill(boxes.into_iter().map(|(_, sender)| sender).collect());
    Ok(threads)
}

fn run_worker(
    plan: &Plan,
    index: usize,
    sockets: WorkerSockets,
    made: Sender<(usize, rohrpost_reactor::Sender<Mail>)>,
) -> std::io::Result<()> {
    let mut io = Reactor::new(Config::default(), SystemClock::new())?;
    // The receiver waits for exactly one from each worker.
    let _ = made.send((index, io.sender()));
    drop(made);
    let mut worker = Worker::new(plan.desk(index), plan.common.clone(), sockets);
    worker.begin(&mut io);
    io.run(&mut worker)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

impl Plan {
    fn clone_parts(&self) -> Plan {
        Plan {
            settings: self.settings.clone(),
            log: self.log.clone(),
            metrics: self.metrics.clone(),
            host: self.host,
            budget: self.budget.clone(),
            id_floor: self.id_floor,
            jobs: self.jobs.clone(),
            listeners: self.listeners.clone(),
            common: self.common.clone(),
            lost: self.lost.clone(),
        }
    }
}

fn open_queue(
    settings: &Settings,
    mailboxes: &Mailboxes,
    log: &Log,
) -> Result<(Arc<LogQueue>, Recovered), StartError> {
    let options = Options {
        segment_bytes: settings.queue.segment_bytes_max,
        min_free_bytes: settings.queue.free_bytes_min,
        ..Options::default()
    };
    let storage = Arc::new(DiskStorage::new(&settings.queue.directory));
    let answers = mailboxes.clone();
    let notify = Box::new(move |worker, completion| {
        answers.deliver(worker, Mail::Committed(completion));
    });
    let (queue, recovered) = LogQueue::open(storage, options, notify)?;
    report_recovery(&recovered, log);
    Ok((Arc::new(queue), recovered))
}

fn report_recovery(recovered: &Recovered, log: &Log) {
    let report = &recovered.report;
    for damage in &report.damaged {
        log.critical("queue", damage);
    }
    if report.damaged_more > 0 {
        log.critical(
            "queue",
            format_args!("{} more damaged places", report.damaged_more),
        );
    }
    if report.torn_bytes > 0 {
        let bytes = report.torn_bytes;
        log.info(
            "queue",
            format_args!("{bytes} bytes were cut off by a crash; none was answered 250"),
        );
    }
    let mails: usize = recovered
        .waiting
        .iter()
        .map(|waiting| waiting.mails.len())
        .sum();
    log.info(
        "queue",
        format_args!("{mails} mails found in {} segments", report.segments),
    );
}

/// Mail belongs to the worker that its id names, or, after a change of `smtp-threads`, to another.
fn restore(recovered: Recovered, mailboxes: &Mailboxes, workers: usize) {
    let mut shares: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for waiting in recovered.waiting {
        shares[waiting.id.as_u64() as usize % 256 % workers].push(waiting);
    }
    for (worker, share) in shares.into_iter().enumerate() {
        if !share.is_empty() {
            mailboxes.deliver(worker, Mail::Restore(share));
        }
    }
}

fn load_plugins(
    settings: &Settings,
    mailboxes: &Mailboxes,
    log: &Log,
) -> Result<&'static rohrpost_abi::Host, StartError> {
    use rohrpost_abi::{Copies, HostInit, LoadOptions, OnError, PluginDirectory};
    let plugin = &settings.plugin;
    let path = plugin.directory.clone();
    let options = LoadOptions {
        // D-07: a default that is not there is no surprise; one that was asked for is.
        directory: if settings.is_set("plugin-directory") {
            PluginDirectory::Set(path)
        } else {
            PluginDirectory::Default(path)
        },
        extra_versions: plugin.api_versions.clone(),
        on_error: match plugin.errors {
            PluginErrors::Fatal => OnError::Refuse,
            PluginErrors::Skip => OnError::Skip,
        },
        copies: Copies::Memory,
    };
    let (plugins, skipped) = rohrpost_abi::Plugins::load(&options)?;
    for skipped in skipped {
        log.critical(
            "plugin",
            format_args!("left out (plugin-errors: skip): {}", skipped.error),
        );
    }
    let (lines, posts, log) = (log.clone(), mailboxes.clone(), log.clone());
    let host = rohrpost_abi::install(HostInit {
        plugins,
        log: Box::new(move |level, plugin, text| {
            lines.write(log_level(level), "plugin", format_args!("{plugin}: {text}"));
        }),
        post: Box::new(move |worker, posted| {
            if posts
                .offer(usize::from(worker), Mail::Posted(posted))
                .is_err()
            {
                log.limited(
                    "posts",
                    Level::Critical,
                    "plugin",
                    "a hand-back from another thread was lost: the worker's mailbox is full",
                );
            }
        }),
    });
    Ok(host.expect("a process starts one server"))
}

fn log_level(level: rohrpost_abi::Level) -> Level {
    match level {
        rohrpost_abi::Level::Critical => Level::Critical,
        rohrpost_abi::Level::Warning => Level::Warning,
        rohrpost_abi::Level::Info => Level::Info,
        rohrpost_abi::Level::Debug => Level::Debug,
    }
}

fn bind(
    settings: &Settings,
    workers: usize,
) -> Result<(Vec<SocketAddr>, Vec<WorkerSockets>), StartError> {
    use crate::settings::ListenIp;
    let smtp = &settings.smtp;
    let bound = listener::bind(&smtp.listen.addresses(), &smtp.ports, workers);
    match (&smtp.listen, bound) {
        // A system without IPv6 has no [::].
        (ListenIp::All, Err(error)) if error.is_without_ipv6() => {
            let v4 = [std::net::Ipv4Addr::UNSPECIFIED.into()];
            Ok(listener::bind(&v4, &smtp.ports, workers)?)
        }
        (_, bound) => Ok(bound?),
    }
}

fn listen_to_signals(events: Sender<Event>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let stops = AtomicU32::new(0);
            for signal in signals.forever() {
                if signal != SIGHUP && stops.fetch_add(1, Ordering::Relaxed) > 0 {
                    // The second one is final: mail that was answered 250 is on disk already.
                    std::process::exit(i32::from(cli::EXIT_TRY_AGAIN));
                }
                if events.send(Event::Signal(signal)).is_err() {
                    return;
                }
            }
        })?;
    Ok(())
}

fn serve_control(
    settings: &Settings,
    queue: &Arc<LogQueue>,
    metrics: &Arc<Metrics>,
    mailboxes: &Mailboxes,
    events: &Sender<Event>,
) -> Result<ControlServer, StartError> {
    let (queue, metrics) = (queue.clone(), metrics.clone());
    let (mailboxes, events) = (mailboxes.clone(), events.clone());
    let handler = move |request| answer(request, &*queue, &metrics, &mailboxes, &events);
    Ok(ControlServer::start(
        &settings.queue.directory,
        Box::new(handler),
    )?)
}

fn answer(
    request: Request,
    queue: &dyn Queue,
    metrics: &Metrics,
    mailboxes: &Mailboxes,
    events: &Sender<Event>,
) -> Result<Vec<Value>, String> {
    match request {
        Request::Status => Ok(vec![status(queue, metrics)]),
        Request::QueueCount => {
            let (queued, failed) = (metrics.sum(Number::Queued), metrics.sum(Number::Failed));
            Ok(vec![json!({ "queued": queued, "failed": failed })])
        }
        Request::QueueList { limit, after } => {
            let after = after
                .map(|id| id.parse())
                .transpose()
                .map_err(|e| format!("{e}"))?;
            let limit = limit.min(control::ROWS_MAX) as usize;
            let mut rows = ask_all(&Question::List { limit, after }, mailboxes)?;
            rows.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
            rows.truncate(limit);
            Ok(rows)
        }
        Request::QueueShow { id } => {
            let id = id.parse().map_err(|error| format!("{error}"))?;
            ask_all(&Question::Show(id), mailboxes)
        }
        Request::Reopen => {
            let _ = events.send(Event::Reopen);
            Ok(Vec::new())
        }
        Request::Stop => {
            let _ = events.send(Event::Stop);
            Ok(Vec::new())
        }
    }
}

fn ask_all(question: &Question, mailboxes: &Mailboxes) -> Result<Vec<Value>, String> {
    let (answers, taken) = unbounded();
    for worker in 0..mailboxes.len() {
        let asked = mailboxes.offer(worker, Mail::Ask(question.clone(), answers.clone()));
        asked.map_err(|_| format!("worker {worker} is too busy to answer"))?;
    }
    drop(answers);
    let end = Instant::now() + ASK_PATIENCE;
    let mut rows = Vec::new();
    for _ in 0..mailboxes.len() {
        let answer = taken.recv_deadline(end);
        rows.extend(answer.map_err(|_| "a worker did not answer in time".to_owned())?);
    }
    Ok(rows)
}

fn status(queue: &dyn Queue, metrics: &Metrics) -> Value {
    let log = queue.status();
    let mut status = json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "settles_unwritten": log.settles_unsynced,
        "queue": log,
        "live_bytes": crate::memory::live_bytes(),
    });
    for (name, value) in metrics.report() {
        status[name] = value.into();
    }
    status
}

/// The line that shows in a terminal that the server is at work.
struct StatusLine {
    shown: bool,
    accepted: u64,
    delivered: u64,
}

impl StatusLine {
    fn new() -> StatusLine {
        use std::io::IsTerminal;
        StatusLine {
            shown: std::io::stdout().is_terminal(),
            accepted: 0,
            delivered: 0,
        }
    }

    fn show(&mut self, metrics: &Metrics, queue: &crate::queue::Status) {
        if !self.shown {
            return;
        }
        let accepted = metrics.sum(Number::Accepted);
        let delivered = metrics.sum(Number::Delivered);
        let connections = metrics.sum(Number::IncomingConnections);
        let outgoing = metrics.sum(Number::OutgoingConnections);
        print!(
            "\r\x1b[Kconnections {connections} in, {outgoing} out | accepted {}/s, delivered {}/s | queued {} | held {} | settles unwritten {}",
            accepted - self.accepted,
            delivered - self.delivered,
            metrics.sum(Number::Queued),
            metrics.sum(Number::Held),
            queue.settles_unsynced,
        );
        let _ = std::io::stdout().flush();
        (self.accepted, self.delivered) = (accepted, delivered);
    }
}

/// The queue directory of a server, for those who ask it.
pub fn is_running(queue_directory: &Path) -> bool {
    Lock::is_taken(queue_directory)
}
