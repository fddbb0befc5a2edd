//! The host: the process's one plugin table, and its ways out to log and mailboxes.
//!
//! Owns the crate's one static that is wiring. Calls without a token (`MQ_log`, NULL, foreign threads) have nothing
//! else to go by. Must never be replaced once installed: plugins hold what it gave out. Diagnostics:
//! [`AlreadyInstalled`]; what is said before installation goes to stderr.

use std::ffi::c_int;
use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Instant;

use thiserror::Error;

use crate::access;
use crate::call::{Current, Published};
use crate::image;
use crate::inbox::{Inbox, Wake};
use crate::metric::{PluginMetric, Registry};
use crate::misuse::{Meter, Misuse};
use crate::plugin::PluginIndex;
use crate::post::{Post, Posted, Posts};
use crate::setting::plugin_name as plugin_name_of_settings;
use crate::step::Verdict;
use crate::table::Plugins;
use crate::token::Token;

static HOST: OnceLock<Host> = OnceLock::new();

/// How many workers a token can tell apart.
pub const WORKERS_MAX: usize = 256;
/// How a plugin is called that is not known.
const UNKNOWN_PLUGIN: &str = "unknown plugin";

/// How bad it is. The first three are the header's `MQ_CRIT`, `MQ_WARN` and `MQ_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Somebody has to act.
    Critical,
    /// Something is wrong, and was dealt with.
    Warning,
    /// Worth knowing.
    Info,
    /// For those who write plugins.
    Debug,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Critical => "Critical",
            Level::Warning => "Warning",
            Level::Info => "Info",
            Level::Debug => "Debug",
        })
    }
}

/// Who says a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// A plugin, with `MQ_log` (D-B0).
    Plugin,
    /// The host, about a plugin.
    Host,
}

/// Takes one line for the application log: level, who says it, plugin, text without line ends. Called
/// on any thread, also right before an abort; must not block, and must not call plugins.
pub type LogSink = Box<dyn Fn(Level, Speaker, &str, &str) + Send + Sync>;

/// Tells a worker that hand-backs wait for its
/// [`Worker::apply_posted`](crate::Worker::apply_posted). Called on threads of plugins, once until the
/// worker came for them; must not block. May do nothing for a worker that will look in any case.
pub type PostSink = Box<dyn Fn(u8) + Send + Sync>;

/// What a host is made of.
pub struct HostInit {
    /// The plugins, the first of which are loaded and not yet initialized.
    pub plugins: Plugins,
    /// Where lines go.
    pub log: LogSink,
    /// Whom hand-backs from other threads wake.
    pub post: PostSink,
}

/// The installed host.
pub struct Host {
    plugins: Plugins,
    log: LogSink,
    post: PostSink,
    /// For misuse that no plugin can be named for.
    unknown: Meter,
    workers: Box<[WorkerEntry]>,
    started: Instant,
    metrics: Registry,
}

#[derive(Default)]
struct WorkerEntry {
    entered: AtomicBool,
    /// What the kernel calls its thread.
    thread: AtomicI32,
    published: Published,
    inbox: Inbox,
    posts: Posts,
}

/// One process has one host; there is one already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a plugin host is installed in this process already")]
pub struct AlreadyInstalled;

/// Makes `init` this process's host, for as long as the process lives.
pub fn install(init: HostInit) -> Result<&'static Host, AlreadyInstalled> {
    let HostInit { plugins, log, post } = init;
    let workers = (0..WORKERS_MAX).map(|_| WorkerEntry::default()).collect();
    let unknown = Meter::default();
    let host = Host {
        plugins,
        log,
        post,
        unknown,
        workers,
        started: Instant::now(),
        metrics: Registry::default(),
    };
    HOST.set(host).map_err(|_| AlreadyInstalled)?;
    Ok(HOST.get().expect("it was set above and is never taken"))
}

/// The installed host, if there is one.
pub fn installed() -> Option<&'static Host> {
    HOST.get()
}

/// A plugin's file name, also of one that is being loaded and of no table yet.
pub fn name_of(plugin: PluginIndex) -> Option<&'static str> {
    let loaded = installed().and_then(|host| host.plugins.name(plugin));
    loaded.or_else(|| image::plugin_name(plugin))
}

/// A plugin's name, or what to say in its place.
pub(crate) fn plugin_name(plugin: Option<PluginIndex>) -> &'static str {
    installed()
        .zip(plugin)
        .and_then(|(host, plugin)| host.plugins.name(plugin))
        .unwrap_or(UNKNOWN_PLUGIN)
}

/// What a plugin is called in the names of its settings and metrics.
pub(crate) fn setting_name(plugin: PluginIndex) -> String {
    plugin_name_of_settings(plugin_name(Some(plugin)))
}

/// Sends one line of the host's own to the log, or to stderr while there is no host.
pub(crate) fn log(level: Level, plugin: Option<PluginIndex>, text: &str) {
    say(level, Speaker::Host, plugin, text);
}

/// Sends one line to the log, or to stderr while there is no host.
pub(crate) fn say(level: Level, speaker: Speaker, plugin: Option<PluginIndex>, text: &str) {
    let name = plugin_name(plugin);
    match installed() {
        Some(host) => (host.log)(level, speaker, name, text),
        // Nothing is left to do about a closed stderr.
        None => drop(writeln!(io::stderr(), "rohrpost: [{level}] {name}: {text}")),
    }
}

impl Host {
    /// The plugins.
    pub fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// What plugins count, by name.
    pub fn plugin_metrics(&self) -> Vec<PluginMetric> {
        self.metrics.read()
    }

    pub(crate) fn metrics(&self) -> &Registry {
        &self.metrics
    }

    /// The call into plugin code that runs on `worker` at this moment. Any thread may look; a watchdog
    /// that sees one [`sequence`](Current::sequence) twice knows that the call has not returned between.
    pub fn current(&self, worker: u8) -> Option<Current> {
        self.workers[usize::from(worker)].published.word().current()
    }

    /// How many calls of `plugin` were refused or ignored so far.
    pub fn misuses(&self, plugin: PluginIndex) -> u64 {
        self.meter(Some(plugin)).count.load(Ordering::Relaxed)
    }

    /// The same, for calls that no plugin can be named for.
    pub fn misuses_of_unknown(&self) -> u64 {
        self.meter(None).count.load(Ordering::Relaxed)
    }

    pub(crate) fn meter(&self, plugin: Option<PluginIndex>) -> &Meter {
        plugin
            .and_then(|plugin| self.plugins.find(plugin))
            .map_or(&self.unknown, |plugin| &plugin.meter)
    }

    /// Read only when a misuse is reported, never on the way of mail.
    pub(crate) fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    pub(crate) fn published(&self, worker: u8) -> &Published {
        &self.workers[usize::from(worker)].published
    }

    /// Claims an index for this thread; false if it was claimed before.
    pub(crate) fn claim(&self, worker: u8) -> bool {
        let entry = &self.workers[usize::from(worker)];
        let claimed = !entry.entered.swap(true, Ordering::AcqRel);
        if claimed {
            // SAFETY: takes nothing.
            entry.thread.store(unsafe { libc::gettid() }, Ordering::Release);
        }
        claimed
    }

    /// The kernel's number of a worker's thread; 0 for none.
    pub(crate) fn thread(&self, worker: u8) -> c_int {
        self.workers[usize::from(worker)].thread.load(Ordering::Acquire)
    }

    /// Was this index ever claimed?
    pub(crate) fn knows(&self, worker: u8) -> bool {
        self.workers[usize::from(worker)].entered.load(Ordering::Acquire)
    }

    pub(crate) fn inbox(&self, worker: u8) -> &Inbox {
        &self.workers[usize::from(worker)].inbox
    }

    pub(crate) fn posts(&self, worker: u8) -> &Posts {
        &self.workers[usize::from(worker)].posts
    }

    /// Leaves a callback for a worker to run; false where nothing is run (any more).
    pub(crate) fn run_later(&self, worker: u8, post: Post) -> Result<bool, Misuse> {
        match self.posts(worker).put(post)? {
            Posted::Closed => Ok(false),
            Posted::Taken(Wake::No) => Ok(true),
            Posted::Taken(Wake::Yes) => {
                (self.post)(worker);
                Ok(true)
            }
        }
    }

    /// Leaves a hand-back for the worker whose context it names.
    pub(crate) fn post(&self, context: Token, verdict: Verdict) -> Result<(), Misuse> {
        let worker = context.worker();
        let put = self.inbox(worker).put(context, verdict)?;
        match put.wake {
            Wake::No => {}
            Wake::Yes => (self.post)(worker),
        }
        if let Some(displaced) = put.displaced {
            access::report_displaced(displaced);
        }
        Ok(())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("plugins", &self.plugins).finish_non_exhaustive()
    }
}
