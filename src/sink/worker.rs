//! The sink's workers, one unless told otherwise: a listener, its connections, a clock.
//!
//! **Diagnostics**: [`SinkError`] when it cannot listen or write its dump.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::net::TcpListener;
use mio::{Interest, Token};
use rohrpost_reactor::{
    Config, Handler, Key, Pending, Pin, Reactor, Readiness, Ready, Slab, SystemClock, TimerKey,
    WatchKey,
};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::Sink;
use crate::net::listener::{self, BindError};
use crate::net::transport::Transport;
use crate::smtp::server::Options;

use super::connection::{Bar, Connection, Io};
use super::output::Output;

/// The largest mail that a sink takes.
const MESSAGE_BYTES_MAX: u64 = 1 << 30;
/// How often the count is shown, and signals are looked at.
const TICK_MS: u64 = 200;
/// Octets of the read buffer that all connections share.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Why a sink ends early.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system refused something, such as a write to the dump file.
    #[error("the sink failed: {0}")]
    Io(#[from] io::Error),
}

impl SinkError {
    /// The exit code: 78 where the address is to be mended, else 75.
    pub fn exit(&self) -> u8 {
        match self {
            SinkError::Bind(_) => crate::cli::EXIT_SETTINGS,
            SinkError::Io(_) => crate::cli::EXIT_TRY_AGAIN,
        }
    }
}

/// What a timer of the sink is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum SinkTimer {
    Answer(Key),
    Tick,
}

/// Dice for refusals with a chance; the same at every start, so that runs can be compared.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn strikes(&mut self, percent: u8) -> bool {
        // Xorshift: enough to spread refusals, and it needs no source of randomness.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % 100 < u64::from(percent)
    }
}

struct Worker {
    listener: TcpListener,
    listener_key: Key,
    connections: Slab<Option<Connection>>,
    options: Arc<Options>,
    bar: Bar,
    stop: Arc<AtomicBool>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// See [`SinkError`].
pub fn run(sink: &Sink) -> Result<(), SinkError> {
    let threads = sink.threads as usize;
    let (addresses, sockets) = listener::bind(&[sink.listen.ip()], &[sink.listen.port()], threads)?;
    let stop = Arc::<AtomicBool>::default();
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut workers = Vec::new();
    for socket in sockets.into_iter().flatten() {
        let mut io: Io = Reactor::new(Config::default(), SystemClock::new())?;
        workers.push((Worker::new(sink.clone(), socket, Arc::clone(&stop), &mut io)?, io));
    }
    writeln!(io::stdout(), "ready sink={} pid={}", addresses[0], std::process::id())?;
    io::stdout().flush()?;
    let started = workers.into_iter().enumerate().map(|(index, (mut worker, mut io))| {
        rohrpost_reactor::spawn("sink", index, Pin::Off, move |_| worker.work(&mut io))
    });
    // All are started before the first is waited for. One that fails ends the others.
    let started = started.collect::<io::Result<Vec<_>>>()?;
    let ended = started.into_iter().map(|thread| {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked").into()))
    });
    ended.collect::<Vec<_>>().into_iter().collect()
}

/// Runs on a thread of its own, for as long as the process does; says nothing, and returns where it
/// listens.
///
/// # Errors
/// See [`SinkError`].
pub(crate) fn spawn(sink: Sink) -> Result<SocketAddr, SinkError> {
    let (addresses, mut sockets) = listener::bind(&[sink.listen.ip()], &[sink.listen.port()], 1)?;
    let socket = sockets.remove(0).remove(0);
    let mut io: Io = Reactor::new(Config::default(), SystemClock::new())?;
    let mut worker = Worker::new(sink, socket, Arc::default(), &mut io)?;
    // An error ends it, and whoever delivers to it notices that.
    let run = move || drop(io.run(&mut worker));
    std::thread::Builder::new().name("sink".to_owned()).spawn(run)?;
    Ok(addresses[0])
}

impl Worker {
    /// Runs until it is told to stop, or fails; then no other goes on either.
    fn work(&mut self, io: &mut Io) -> Result<(), SinkError> {
        let ran = io.run(self);
        self.stop.store(true, Ordering::Relaxed);
        ran?;
        self.bar.output.finish()?;
        self.bar.failure.take().map_or(Ok(()), |failure| Err(failure.into()))
    }

    fn new(
        sink: Sink,
        socket: std::net::TcpListener,
        stop: Arc<AtomicBool>,
        io: &mut Io,
    ) -> io::Result<Worker> {
        let mut connections = Slab::new();
        let listener_key = connections.insert(None);
        let mut listener = TcpListener::from_std(socket);
        io.registry().register(&mut listener, Token::from(listener_key), Interest::READABLE)?;
        io.arm(io.now_ms() + TICK_MS, SinkTimer::Tick);
        let options = Options {
            size_max: MESSAGE_BYTES_MAX,
            recipients_max: 50_000,
            errors_max: u32::MAX,
            // What it throws away nobody hears of.
            dsn: false,
            ..Options::new("sink.localhost")
        };
        let bar = Bar {
            output: Output::new(&sink)?,
            sink,
            chance: Chance(0x9e37_79b9_7f4a_7c15),
            scratch: Vec::with_capacity(SCRATCH_BYTES),
            dirty: Default::default(),
            failure: None,
        };
        Ok(Worker { listener, listener_key, connections, options: Arc::new(options), bar, stop })
    }

    fn accept(&mut self, io: &mut Io) {
        while let Ok((stream, _)) = self.listener.accept() {
            let key = self.connections.insert(None);
            let Ok(transport) = Transport::register(stream, io.registry(), Token::from(key)) else {
                self.connections.remove(key);
                continue;
            };
            let connection = Connection::new(transport, self.options.clone(), &mut self.bar, key);
            if let Some(place) = self.connections.get_mut(key) {
                *place = Some(connection);
            }
            self.with(key, io, |connection, bar, io| connection.drive(bar, io));
        }
    }

    fn with(
        &mut self,
        key: Key,
        io: &mut Io,
        work: impl FnOnce(&mut Connection, &mut Bar, &mut Io) -> bool,
    ) {
        if let Some(Some(connection)) = self.connections.get_mut(key)
            && !work(connection, &mut self.bar, io)
        {
            self.connections.remove(key);
        }
    }
}

impl Handler for Worker {
    type Timer = SinkTimer;
    type Watch = ();
    type Mail = ();

    fn on_timer(&mut self, io: &mut Io, _: TimerKey, timer: SinkTimer) {
        match timer {
            SinkTimer::Answer(key) => {
                self.with(key, io, |connection, bar, io| connection.on_timer(bar, io));
            }
            SinkTimer::Tick => {
                io.arm(io.now_ms() + TICK_MS, SinkTimer::Tick);
                self.bar.output.tick(self.connections.len() - 1);
                // After a failed accept there is no other edge until the next client comes.
                self.accept(io);
                if self.stop.load(Ordering::Relaxed) {
                    io.stop();
                }
            }
        }
    }

    fn on_watch(&mut self, _: &mut Io, _: WatchKey, (): (), _: Ready) {}

    fn on_socket(&mut self, io: &mut Io, token: Token, ready: Readiness) {
        let key = Key::from(token);
        if key == self.listener_key {
            return self.accept(io);
        }
        self.with(key, io, |connection, bar, io| connection.on_ready(ready, bar, io));
    }

    fn on_mail(&mut self, _: &mut Io, (): ()) {}

    fn resume(&mut self, _: &mut Io) -> bool {
        false
    }

    fn commit(&mut self, io: &mut Io) {
        // Written down before it is answered, so that a count never falls behind an answer.
        if let Err(error) = self.bar.output.flush() {
            self.bar.failure = Some(error);
            io.stop();
        }
    }

    fn flush(&mut self, io: &mut Io) {
        while let Some(key) = self.bar.dirty.pop_front() {
            self.with(key, io, |connection, bar, io| connection.flush(bar, io));
        }
        if let Err(error) = self.bar.output.flush() {
            self.bar.failure = Some(error);
            io.stop();
        }
    }

    fn pending(&self) -> Pending {
        Pending { unflushed: self.bar.dirty.len(), ..Pending::NONE }
    }
}
