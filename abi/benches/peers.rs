//! How does the event loop of a worker compare with what plugin authors know: a bare epoll loop, libev and
//! tokio?
//!
//! - A step that a plugin holds is handed back by the callback of an eventfd's watch: the whole way, from
//!   the hook through the reactor to the verdict.
//! - One of a million timers is given another time.
//!
//! The contenders take turns in one run, in short blocks, and the shortest block of each counts: so it is
//! ratios that are shown, and a machine that does something else as well spoils few of them.
//!
//! Diagnostics: libev is the one that `tests/tools/fetch.sh` unpacks; without it the run ends and says so.

use std::env;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd, FromRawFd as _, RawFd};
use std::path::{Path, PathBuf};
use std::process::{self, Command as Process};
use std::time::Instant;

use libloading::{Library, Symbol};
use rohrpost_abi::{
    Command, ConnectionId, ConnectionInit, ContextStep, Copies, Direction, Hook, HostInit,
    LoadOptions, OnError, PluginDirectory, Plugins, Step, Verdict, WatchId, Worker,
};
use rohrpost_reactor::{
    Config, Handler, Interest, Pending, Reactor, Readiness, Ready, SystemClock, TimerKey, WatchKey,
    Wheel,
};
use tokio::io::unix::AsyncFd;

/// Holds every connection, and hands it back when its descriptor is ready.
const PLUGIN: &str = r#"
#include <mailerq.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
static int fd;
static MQ_Connection *held;
static void on_ready(MQ_IOWatcher *watcher, int ready, int events, void *data) {
    uint64_t value;
    (void)watcher; (void)events; (void)data;
    if (read(ready, &value, sizeof value) != sizeof value) abort();
    MQ_continue(held);
}
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
MQ_EXPORT void mq_context_initialize(MQ_Context *context) {
    fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    MQ_ioWatch(context, fd, MQ_READ, on_ready, 0);
}
MQ_EXPORT bool mq_smtp_in_connect(MQ_Context *context, MQ_Connection *connection) {
    uint64_t one = 1;
    (void)context;
    held = connection;
    if (write(fd, &one, sizeof one) != sizeof one) abort();
    return true;
}
"#;

const TIMERS: i64 = 1_000_000;
/// Five minutes, as the time-outs of SMTP are.
const SPREAD_MS: u64 = 300_000;
/// Turns that each contender takes, and rounds in a turn.
const BLOCKS: usize = 300;
const HANDOVERS: i64 = 1_000;
const REARMS: i64 = 100_000;

fn main() {
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("peers-{}", process::id()));
    fs::create_dir_all(&folder).expect("the target directory is writable");
    let peers = Peers::compile(&folder);
    handovers(&peers, &folder);
    rearms(&peers);
    fs::remove_dir_all(folder).expect("it is ours");
}

/// `peers.c`, with libev in it.
struct Peers(Library);

impl Peers {
    fn compile(folder: &Path) -> Peers {
        let tools = env::var_os("ROHRPOST_TOOLS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools"),
            PathBuf::from,
        );
        let unpacked = tools.join("deb/libraries/usr");
        let libraries = fs::read_dir(unpacked.join("lib")).into_iter().flatten().flatten();
        let mut found = libraries.map(|entry| entry.path().join("libev.so.4"));
        let Some(library) = found.find(|library| library.exists()) else {
            panic!("no libev below {}: run tests/tools/fetch.sh once", unpacked.display());
        };
        let object = folder.join("peers.so");
        let mut gcc = Process::new("gcc");
        gcc.args(["-O2", "-shared", "-fPIC", "-isystem"]).arg(unpacked.join("include"));
        gcc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers.c")).arg(&library);
        let place = library.parent().expect("a file is in a folder").display();
        gcc.arg(format!("-Wl,-rpath,{place}")).arg("-o").arg(&object);
        assert!(gcc.status().expect("gcc runs").success());
        // SAFETY: neither peers.c nor libev has a constructor that does anything.
        let library = unsafe { Library::new(object) };
        Peers(library.expect("it loads"))
    }

    fn run(&self, function: &str, rounds: i64) -> f64 {
        // SAFETY: the caller names one of the two functions of peers.c that have this prototype.
        let function = unsafe { self.0.get(function) };
        let function: Symbol<'_, unsafe extern "C" fn(i64) -> f64> = function.expect("it has it");
        // SAFETY: it may be called with any number of rounds.
        unsafe { function(rounds) }
    }

    fn arm(&self, which: Which) {
        // SAFETY: the type below is its prototype in peers.c.
        let function = unsafe { self.0.get("libev_arm") };
        let function: Symbol<'_, unsafe extern "C" fn(i64, i32)> = function.expect("it has it");
        // SAFETY: no timers are armed, for they are disarmed before this is called again.
        unsafe { function(TIMERS, which as i32) };
    }

    fn rearm(&self, which: Which) -> f64 {
        // SAFETY: the type below is its prototype in peers.c.
        let function = unsafe { self.0.get("libev_rearm") };
        let function: Symbol<'_, unsafe extern "C" fn(i64, i32) -> f64> =
            function.expect("it has it");
        // SAFETY: timers are armed.
        unsafe { function(REARMS, which as i32) }
    }

    fn disarm(&self) {
        // SAFETY: the type below is its prototype in peers.c.
        let function = unsafe { self.0.get("libev_disarm") };
        let function: Symbol<'_, unsafe extern "C" fn()> = function.expect("it has it");
        // SAFETY: timers are armed, and not touched again.
        unsafe { function() };
    }
}

/// Lets contenders take turns, and shows the shortest block of each beside that of the first.
fn compare(title: &str, contenders: &mut [(&str, &mut dyn FnMut() -> f64)]) {
    let mut best = vec![f64::INFINITY; contenders.len()];
    for _ in 0..BLOCKS {
        for ((_, contender), best) in contenders.iter_mut().zip(&mut best) {
            *best = best.min(contender());
        }
    }
    println!("{title}");
    for ((name, _), time) in contenders.iter().zip(&best) {
        println!("  {name:<36} {time:8.1} ns   {:5.2} x", time / best[0]);
    }
}

// ---- Hand-overs -----------------------------------------------------------------------------------------

/// A worker with one connection, whose step begins again as soon as it was handed back.
struct Driver {
    worker: Worker,
    connection: ConnectionId,
    commands: Vec<Command>,
    left: i64,
}

type Io = Reactor<(), WatchId, ()>;

impl Driver {
    fn hold(&mut self, io: &mut Io) {
        let asked = self.worker.ask(self.connection, 0, &Step::Connect);
        let returned = asked.and_then(|asked| asked.returned);
        assert!(returned.is_some_and(|returned| returned.took_control));
        self.obey(io);
    }

    /// As the worker's desk does.
    fn obey(&mut self, io: &mut Io) {
        let mut commands = std::mem::take(&mut self.commands);
        self.worker.take_commands(&mut commands);
        for command in commands.drain(..) {
            match command {
                Command::Watch { watch, fd, interest } => {
                    let interest = Interest::from_bits(interest).expect("it has a bit");
                    io.watch(fd, interest, watch).expect("there is room");
                }
                Command::Resume { connection } => {
                    assert_eq!(self.worker.take_verdict(connection), Some(Verdict::Continue));
                    self.left -= 1;
                }
                other => panic!("this plugin asks for nothing else: {other:?}"),
            }
        }
        self.commands = commands;
    }
}

impl Handler for Driver {
    type Timer = ();
    type Watch = WatchId;
    type Mail = ();

    fn on_timer(&mut self, _: &mut Io, _: TimerKey, (): ()) {}

    fn on_watch(&mut self, io: &mut Io, _: WatchKey, watch: WatchId, ready: Ready) {
        self.worker.fire_watch(watch, ready.interest().bits());
        self.obey(io);
    }

    fn on_socket(&mut self, _: &mut Io, _: mio::Token, _: Readiness) {}
    fn on_mail(&mut self, _: &mut Io, (): ()) {}

    fn resume(&mut self, _: &mut Io) -> bool {
        false
    }

    fn commit(&mut self, _: &mut Io) {}

    fn flush(&mut self, io: &mut Io) {
        match self.left {
            0 => io.stop(),
            _ => self.hold(io),
        }
    }

    fn pending(&self) -> Pending {
        Pending::NONE
    }
}

fn load(folder: &Path) -> Plugins {
    let folder = folder.join("plugins");
    fs::create_dir(&folder).expect("the target directory is writable");
    let source = folder.join("holds.c");
    fs::write(&source, PLUGIN).expect("the target directory is writable");
    let mut gcc = Process::new("gcc");
    gcc.args(["-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-I"]);
    gcc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include")).arg("-o");
    assert!(gcc.arg(folder.join("holds.so")).arg(&source).status().expect("gcc runs").success());
    let options = LoadOptions {
        directory: PluginDirectory::Set(folder.clone()),
        copies: Copies::Directory(folder),
        extra_versions: Vec::new(),
        on_error: OnError::Refuse,
    };
    Plugins::load(&options).expect("it loads").0
}

fn driver(folder: &Path) -> Driver {
    let init = HostInit {
        plugins: load(folder),
        log: Box::new(|level, _, plugin, text| panic!("[{level}] {plugin}: {text}")),
        post: Box::new(|_| {}),
    };
    rohrpost_abi::install(init).expect("the first of this process");
    let mut worker = Worker::enter(0).expect("the first of this process");
    let set = worker.set().clone();
    for plugin in set.with(Hook::ContextInitialize) {
        worker.call_context(*plugin, ContextStep::Initialize);
    }
    let init = ConnectionInit {
        fd: 0,
        direction: Direction::Incoming,
        secure: false,
        authenticated: false,
    };
    let connection = worker.open_connection(init).expect("there is room");
    Driver { worker, connection, commands: Vec::new(), left: 0 }
}

fn handovers(peers: &Peers, folder: &Path) {
    let mut driver = driver(folder);
    let mut io = Io::new(Config::default(), SystemClock::new()).expect("the system has a poll");
    driver.obey(&mut io);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.expect("the system has a poll");
    compare(
        "hand-over through the watch of an eventfd",
        &mut [
            ("bare epoll loop", &mut || peers.run("epoll_handovers", HANDOVERS)),
            ("Rohrpost", &mut || ours(&mut driver, &mut io)),
            ("libev", &mut || peers.run("libev_handovers", HANDOVERS)),
            ("tokio AsyncFd", &mut || runtime.block_on(tokios())),
        ],
    );
}

fn ours(driver: &mut Driver, io: &mut Io) -> f64 {
    driver.left = HANDOVERS;
    let start = Instant::now();
    driver.hold(io);
    while driver.left > 0 {
        io.turn(driver).expect("the poll works");
    }
    start.elapsed().as_nanos() as f64 / HANDOVERS as f64
}

/// An eventfd.
struct Event(File);

impl Event {
    fn new() -> Event {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        assert!(fd >= 0, "the system has an eventfd");
        // SAFETY: it was made above, and is nobody else's.
        Event(unsafe { File::from_raw_fd(fd) })
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

async fn tokios() -> f64 {
    // SAFETY: an event has one descriptor, and keeps it open until it is dropped.
    let watched = unsafe { AsyncFd::register(Event::new()) };
    let watched = watched.expect("it can be watched");
    let start = Instant::now();
    for _ in 0..HANDOVERS {
        (&watched.get_ref().0).write_all(&1_u64.to_ne_bytes()).expect("it has room");
        let mut guard = watched.readable().await.expect("it is watched");
        (&guard.get_inner().0).read_exact(&mut [0; 8]).expect("it is ready");
        guard.clear_ready();
    }
    start.elapsed().as_nanos() as f64 / HANDOVERS as f64
}

// ---- Timers ---------------------------------------------------------------------------------------------

/// A cheap sequence without pattern (an xorshift), the same as in `peers.c`.
fn draw(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn rearms(peers: &Peers) {
    for (which, title) in [
        (Which::AnyToAny, "re-arm any of a million timers for any time in five minutes"),
        (Which::AnyOff, "put any of a million timers off, to five minutes from now"),
        (Which::EachOff, "put a million timers off in turn, to the same time"),
    ] {
        peers.arm(which);
        let mut wheel = Timers::armed(which);
        compare(
            title,
            &mut [("libev", &mut || peers.rearm(which)), ("Rohrpost", &mut || wheel.rearm(which))],
        );
        peers.disarm();
    }
}

/// Which timers are given which times; the numbers of `peers.c`.
#[derive(Clone, Copy)]
enum Which {
    AnyToAny,
    AnyOff,
    EachOff,
}

struct Timers {
    wheel: Wheel<u64>,
    keys: Vec<TimerKey>,
    state: u64,
    next: usize,
}

impl Timers {
    fn armed(which: Which) -> Timers {
        let (mut wheel, mut state) = (Wheel::new(0), 88_172_645_463_325_252);
        let keys = (0..TIMERS as u64).map(|id| {
            let deadline_ms = match which {
                Which::AnyToAny | Which::AnyOff => 1 + draw(&mut state) % SPREAD_MS,
                Which::EachOff => SPREAD_MS,
            };
            wheel.arm(deadline_ms, id)
        });
        let keys = keys.collect();
        Timers { wheel, keys, state, next: 0 }
    }

    fn rearm(&mut self, which: Which) -> f64 {
        let start = Instant::now();
        for _ in 0..REARMS {
            self.next += 1;
            let at = match which {
                Which::AnyToAny | Which::AnyOff => draw(&mut self.state) as usize,
                Which::EachOff => self.next,
            };
            let deadline_ms = match which {
                Which::AnyToAny => 1 + draw(&mut self.state) % SPREAD_MS,
                Which::AnyOff => SPREAD_MS + self.next as u64 / 100,
                Which::EachOff => SPREAD_MS,
            };
            assert!(self.wheel.rearm(self.keys[at % self.keys.len()], deadline_ms));
        }
        start.elapsed().as_nanos() as f64 / REARMS as f64
    }
}
