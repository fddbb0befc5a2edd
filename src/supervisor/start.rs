//! The start: plugins, ports and workers, each made from the settings.
//!
//! **Diagnostics**: [`StartError`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, unbounded};
use rohrpost_abi::{Copies, LoadOptions, OnError, PluginDirectory, PluginIndex};
use rohrpost_reactor::{Config, Pin, Reactor, SystemClock};

use crate::auth::{self, Checks};
use crate::blocking::{self, Job, READS_MAX};
use crate::clock::Wall;
use crate::crashes::Crashes;
use crate::delivery::{Account, DestinationLimits, Destinations, NextHop, Store, StoreLimits};
use crate::limits::MemoryBudget;
use crate::log::{Level, Log};
use crate::logbook::{Logbook, LogbookThread};
use crate::mailboxes::Mailboxes;
use crate::metrics::Metrics;
use crate::net::desk::{Desk, DeskInit, Mail};
use crate::net::listener::{self, Entrance, WorkerSockets};
use crate::net::login::{self, Admission};
use crate::plugin::census::{Census, Tally};
use crate::plugin::view::Plugins;
use crate::queue::{Ids, LogQueue, Retry, TransactionId};
use crate::rolls::Rolls;
use crate::services::{self, Page, Services};
use crate::settings::{Pinning, PluginErrors, Settings};
use crate::tls::Tls;
use crate::worker::{Common, Doors, Worker, intervals_s};

use super::server::{Event, StartError, system};

/// What every worker is made from.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) settings: Arc<Settings>,
    pub(super) log: Log,
    pub(super) logbook: Logbook,
    pub(super) metrics: Arc<Metrics>,
    pub(super) census: Census,
    pub(super) host: &'static rohrpost_abi::Host,
    pub(super) tls: Arc<Tls>,
    pub(super) budget: Arc<MemoryBudget>,
    pub(super) id_floor: Option<TransactionId>,
    pub(super) jobs: Sender<Job>,
    pub(super) services: Services,
    pub(super) rolls: Arc<Rolls>,
    pub(super) checks: Checks,
    pub(super) listeners: Arc<[SocketAddr]>,
    pub(super) common: Common,
    pub(super) lost: Sender<Event>,
}

impl Plan {
    pub(super) fn desk(&self, index: usize) -> Desk {
        let settings = &self.settings;
        let delivery = &settings.delivery;
        let deliver_ms_max = delivery.lifetime.as_millis() as u64;
        let retry = Retry {
            intervals_s: intervals_s(&delivery.retry_intervals),
            attempts_max: delivery.attempts_max.map_or(0, std::num::NonZeroU32::get),
            deliver_ms_max,
        };
        let queues = settings.queue.result_queues();
        let limits = StoreLimits { retry, deliver_ms_max, loading_max: READS_MAX, queues };
        let worker = u8::try_from(index).expect("smtp-threads is at most 256");
        let cell = rohrpost_abi::Worker::enter(worker).expect("each worker enters once");
        let retries = settings.plugin.retries_max.map_or(0, std::num::NonZeroU32::get);
        let rolls = self.rolls.clone();
        cell.set_locals(Arc::new(move |address| rolls.locals.has(address)));
        let tally = Tally::new(self.census.clone(), index);
        let trace = settings.plugin.trace;
        let plugins = Plugins::new(self.host, cell, self.log.clone(), retries, trace, tally);
        let asks_plugins = login::asks_plugins(&plugins);
        let (rolls, checks) = (self.rolls.clone(), self.checks.clone());
        Desk::new(DeskInit {
            index,
            settings: settings.clone(),
            log: self.log.clone(),
            logbook: self.logbook.clone(),
            metrics: self.metrics.clone(),
            tls: self.tls.for_worker(),
            plugins,
            memory: self.budget.share(),
            ids: Ids::new(worker, self.id_floor),
            store: Store::new(limits, self.destinations(index)),
            jobs: self.jobs.clone(),
            services: self.services.clone(),
            admission: Admission::new(settings, rolls, checks, asks_plugins),
            listeners: self.listeners.clone(),
        })
    }
}

impl Plan {
    fn destinations(&self, index: usize) -> Destinations {
        let delivery = &self.settings.delivery;
        let share = |total| share(total, self.settings.smtp.threads, index);
        let limits = DestinationLimits {
            domain_connections_max: share(delivery.domain_connections_max),
            smarthost_connections_max: share(delivery.smarthost_connections_max),
            look_ups_max: share(self.settings.dns.look_ups_max),
        };
        let smarthost = delivery.smarthost.as_ref().map(|host| NextHop {
            host: host.to_string(),
            port: delivery.smarthost_port,
            account: Account::OfSettings,
        });
        // Chance spreads load, and no more: the time is as good a seed as any.
        let seed = crate::clock::Wall::now_ms() << 8 | index as u64;
        Destinations::new(limits, smarthost, seed)
    }
}

/// The look-ups that all workers may have open at a time.
fn look_ups_max(settings: &Settings) -> usize {
    let workers = settings.smtp.threads;
    (0..workers as usize).map(|index| share(settings.dns.look_ups_max, workers, index)).sum()
}

/// The part of `total` that worker `index` of `workers` has, at least one.
fn share(total: u32, workers: u32, index: usize) -> usize {
    let (total, workers) = (total as usize, workers as usize);
    (total / workers + usize::from(index < total % workers)).max(1)
}

/// The threads that wait on behalf of the workers, and the ways to them.
pub(super) struct Aides {
    pub(super) jobs: Sender<Job>,
    pub(super) checks: Checks,
    pub(super) services: Services,
    pub(super) helper: JoinHandle<()>,
    pub(super) verifier: JoinHandle<()>,
}

impl Aides {
    pub(super) fn start(
        settings: &Arc<Settings>,
        listeners: Arc<[SocketAddr]>,
        queue: &Arc<LogQueue>,
        mailboxes: &Mailboxes,
        page: Option<Page>,
        log: &Log,
    ) -> Result<Aides, StartError> {
        let (checks, checks_taken) = auth::verifier::channel();
        let verifier = auth::verifier::spawn(checks_taken, mailboxes.clone())
            .map_err(system("the thread that checks passwords cannot be started"))?;
        let (jobs, jobs_taken) = blocking::channel(settings.smtp.threads as usize);
        let helper = blocking::spawn(jobs_taken, queue.clone(), mailboxes.clone())
            .map_err(system("the helper thread cannot be started"))?;
        let queries = rohrpost_abi::QUERIES_MAX * settings.smtp.threads as usize;
        let look_ups = look_ups_max(settings) + queries;
        let (settings, mailboxes) = (settings.clone(), mailboxes.clone());
        let log = log.clone();
        let (services, _) = services::spawn(settings, listeners, look_ups, mailboxes, page, log)
            .map_err(system("the services thread cannot be started"))?;
        Ok(Aides { jobs, checks, services, helper, verifier })
    }
}

pub(super) fn start_workers(
    plan: &Plan,
    doors: Vec<Doors>,
    mailboxes: &Mailboxes,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let (made, senders) = unbounded();
    let pin = match plan.settings.smtp.pinning {
        Pinning::Auto => Pin::Auto,
        Pinning::Off => Pin::Off,
    };
    let count = doors.len();
    let plan = Arc::new(plan.clone());
    let mut threads = Vec::with_capacity(count);
    for (index, doors) in doors.into_iter().enumerate() {
        let (plan, made) = (plan.clone(), made.clone());
        let name = format!("worker-{index}");
        let thread = rohrpost_reactor::spawn(&name, index, pin, move |index| {
            let lost = plan.lost.clone();
            let work = std::panic::AssertUnwindSafe(|| run_worker(&plan, index, doors, made));
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
        return Err(StartError::Context("a worker could not make its event loop".into()));
    }
    boxes.sort_by_key(|(index, _)| *index);
    mailboxes.fill(boxes.into_iter().map(|(_, sender)| sender).collect());
    // Contexts are being initialised already, and what was handed back before this woke nobody.
    (0..count).for_each(|worker| mailboxes.deliver(worker, Mail::Posted));
    Ok(threads)
}

fn run_worker(
    plan: &Plan,
    index: usize,
    doors: Doors,
    made: Sender<(usize, rohrpost_reactor::Sender<Mail>)>,
) -> std::io::Result<()> {
    let config = Config { watches_max: rohrpost_abi::WATCHES_MAX, ..Config::default() };
    let mut io = Reactor::new(config, SystemClock::new())?;
    // The receiver waits for exactly one from each worker.
    let _ = made.send((index, io.sender()));
    drop(made);
    let mut worker = Worker::new(plan.desk(index), plan.common.clone(), doors);
    worker.begin(&mut io);
    io.run(&mut worker)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// Tells of earlier crashes, refuses to go on when one plugin makes too many, and has those to come
/// written down.
pub(super) fn watch_crashes(settings: &Settings, log: &Log) -> Result<(), StartError> {
    let directory = &settings.plugin.directory;
    let unkept = |error| {
        let text = format_args!("crashes cannot be written down in the queue directory: {error}");
        log.warning("start", text);
    };
    let file = match Crashes::open(&settings.queue.directory) {
        Ok(mut crashes) => {
            let telling = crashes.tell(directory, log).unwrap_or_else(|error| {
                unkept(error);
                None
            });
            let limit = settings.plugin.crashes_max.map(|limit| limit.get() as usize);
            let now_s = Wall::now_ms() / 1000;
            let found = limit.and_then(|limit| crashes.find_loop(limit, now_s, directory));
            if let Some(found) = found {
                // There is no hurry any more, and it says what is to be mended.
                drop(telling.map(JoinHandle::join));
                return Err(found.into());
            }
            Some(crashes.into_file())
        }
        Err(error) => {
            unkept(error);
            None
        }
    };
    rohrpost_abi::report_crashes(file).map_err(system("signals cannot be handled"))
}

/// Opens the send log and the received log, where they are kept.
pub(super) fn open_logbook(
    settings: &Settings,
    mailboxes: &Mailboxes,
    log: &Log,
) -> Result<(Logbook, Option<LogbookThread>), StartError> {
    let pages = (settings.records.sent(), settings.records.received());
    let workers = settings.smtp.threads as usize;
    let answers = mailboxes.clone();
    let notify = move |worker| {
        // A worker whose mailbox is full is awake, and tries again in each turn.
        let _ = answers.offer(worker, Mail::LogRoom);
    };
    Ok(Logbook::start(pages, workers, log.clone(), notify)?)
}

/// Loads the plugins that the settings name; those left out are logged.
pub(super) fn open_plugins(
    settings: &Settings,
    log: &Log,
) -> Result<rohrpost_abi::Plugins, StartError> {
    let (plugins, skipped) = rohrpost_abi::Plugins::load(&plugin_options(settings))?;
    for skipped in skipped {
        log.critical("plugin", format_args!("left out (plugin-errors: skip): {}", skipped.error));
    }
    let set = plugins.set();
    misspelt(&plugins, set.plugins()).for_each(|text| log.warning("plugin", text));
    Ok(plugins)
}

/// What is said of exports that look like hooks and are none.
pub(super) fn misspelt<'a>(
    plugins: &'a rohrpost_abi::Plugins,
    among: &'a [PluginIndex],
) -> impl Iterator<Item = String> + 'a {
    among.iter().filter(|plugin| !plugins.unknown_exports(**plugin).is_empty()).map(|plugin| {
        format!(
            "{}: never called, since there is no such hook: {}; `rohrpost plugin check` says which is meant",
            plugins.name(*plugin).unwrap_or("a plugin"),
            plugins.unknown_exports(*plugin).join(", ")
        )
    })
}

/// Where plugins are, and how they are loaded.
pub(super) fn plugin_options(settings: &Settings) -> LoadOptions {
    let plugin = &settings.plugin;
    let path = plugin.directory.clone();
    LoadOptions {
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
    }
}

pub(super) fn load_plugins(
    settings: &Settings,
    mailboxes: &Mailboxes,
    log: &Log,
) -> Result<&'static rohrpost_abi::Host, StartError> {
    use rohrpost_abi::{HostInit, Speaker};
    let plugins = open_plugins(settings, log)?;
    let (lines, posts) = (log.clone(), mailboxes.clone());
    let log_name = settings.plugin.log_name;
    let host = rohrpost_abi::install(HostInit {
        plugins,
        log: Box::new(move |level, speaker, plugin, text| {
            let level = log_level(level);
            match (speaker, log_name) {
                // D-B0: MailerQ's line, of which programs that read logs know the tag.
                (Speaker::Plugin, false) => lines.write(level, "plugin", text),
                (Speaker::Plugin, true) => {
                    lines.write(level, "plugin", format_args!("({plugin}) {text}"));
                }
                (Speaker::Host, _) => {
                    lines.write(level, "plugin", format_args!("{plugin}: {text}"))
                }
            }
        }),
        post: Box::new(move |worker| {
            // A worker whose mailbox is full is awake, and looks at the end of each turn.
            let _ = posts.offer(usize::from(worker), Mail::Posted);
        }),
    });
    Ok(host.expect("a process starts one server"))
}

/// Tells the plugins what the administrator says to them, and has them begin (D-08).
///
/// # Errors
/// When one of them does not want to, or cannot be told.
pub(super) fn initialize_plugins(
    host: &rohrpost_abi::Host,
    settings: &Settings,
) -> Result<(), StartError> {
    let plugins = host.plugins();
    let set = plugins.set();
    plugins.configure(set.plugins(), &plugins.settings(settings.own.rows())?);
    plugins.initialize(&set)?;
    Ok(())
}

fn log_level(level: rohrpost_abi::Level) -> Level {
    match level {
        rohrpost_abi::Level::Critical => Level::Critical,
        rohrpost_abi::Level::Warning => Level::Warning,
        rohrpost_abi::Level::Info => Level::Info,
        rohrpost_abi::Level::Debug => Level::Debug,
    }
}

/// Every port, with how clients come in there.
pub(super) struct Bound {
    /// In clear.
    pub(super) clear: Vec<SocketAddr>,
    /// With TLS from the first octet.
    pub(super) secure: Vec<SocketAddr>,
    /// One share for each worker.
    pub(super) doors: Vec<Doors>,
}

pub(super) fn bind(settings: &Settings, workers: usize) -> Result<Bound, StartError> {
    let mut doors: Vec<Doors> = (0..workers).map(|_| Vec::new()).collect();
    let mut open = |ports: &[u16], entrance| -> Result<Vec<SocketAddr>, StartError> {
        let (addresses, sockets) = bind_all(settings, ports, workers)?;
        for (doors, sockets) in doors.iter_mut().zip(sockets) {
            doors.extend(sockets.into_iter().map(|socket| (socket, entrance)));
        }
        Ok(addresses)
    };
    let clear = open(&settings.smtp.ports, Entrance::Clear)?;
    let secure = open(settings.tls.secure_ports(), Entrance::Secure)?;
    Ok(Bound { clear, secure, doors })
}

fn bind_all(
    settings: &Settings,
    ports: &[u16],
    workers: usize,
) -> Result<(Vec<SocketAddr>, Vec<WorkerSockets>), StartError> {
    use crate::settings::ListenIp;
    let listen = &settings.smtp.listen;
    let bound = listener::bind(&listen.addresses(), ports, workers);
    match (listen, bound) {
        // A system without IPv6 has no [::].
        (ListenIp::All, Err(error)) if error.is_without_ipv6() => {
            let v4 = [std::net::Ipv4Addr::UNSPECIFIED.into()];
            Ok(listener::bind(&v4, ports, workers)?)
        }
        (_, bound) => Ok(bound?),
    }
}
