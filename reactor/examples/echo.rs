//! Owns: a whole server on the reactor: what comes in goes out again, on one or more pinned
//! workers, and who is silent for too long is shown out.
//!
//! ```text
//! cargo run --example echo -- [workers] [idle seconds]     then: nc 127.0.0.1 <the port it prints>
//! ```
//!
//! Worker 0 owns the listener and hands connections round through the mailboxes, so that the
//! example shows each part at work. A server in earnest gives each worker a listener of its own.
//!
//! Must never: block in a callback; read without end from one peer while others wait.
//!
//! Diagnostics: a connection that fails is dropped; a worker that fails ends the process.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use rohrpost_reactor::{
    Config, Handler, Io, Key, Pending, Pin, Reactor, Readiness, Ready, Sender, Slab, SystemClock,
    TimerKey, WatchKey, processors, spawn,
};

/// The listener's token. Connections have generations, and 2^31 of them is more than an example
/// sees.
const LISTENER: Token = Token(1 << 63);

/// Connections taken from the backlog in one turn.
const TURN_ACCEPTS_MAX: usize = 64;

/// How long to leave the backlog alone after a failure.
const ACCEPT_RETRY_MS: u64 = 100;

/// Bytes taken from one connection in one turn.
const TURN_BYTES_MAX: usize = 64 * 1024;

/// Bytes that wait for a peer who does not read. Then no more is taken from it.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// Connections of one worker. More are closed at the door.
const CONNECTIONS_MAX: usize = 10_000;

/// What a timer is for.
enum Alarm {
    /// The connection was silent for too long.
    Idle(Key),
    /// Look into the backlog again.
    Accept,
}

struct Connection {
    stream: TcpStream,
    idle: TimerKey,
    output: VecDeque<u8>,
    /// The peer sends no more; when its output is gone, so is the connection.
    ended: bool,
    /// Whether it is on the list of those to flush.
    unflushed: bool,
}

struct Echo {
    listener: Option<TcpListener>,
    workers: Vec<Sender<TcpStream>>,
    next_worker: usize,
    connections: Slab<Connection>,
    unflushed: Vec<Key>,
    idle_ms_max: u64,
}

impl Echo {
    fn accept(&mut self, io: &mut Io<Self>) {
        let Some(listener) = &self.listener else {
            return;
        };
        for _ in 0..TURN_ACCEPTS_MAX {
            match listener.accept() {
                Ok((stream, _)) => {
                    let worker = &self.workers[self.next_worker];
                    self.next_worker = (self.next_worker + 1) % self.workers.len();
                    // A full mailbox: the worker is overloaded, the connection is closed by being
                    // dropped.
                    let _ = worker.send(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // No descriptors, most likely: the others wait in the backlog until some are
                    // free.
                    io.arm(io.deadline_after(ACCEPT_RETRY_MS), Alarm::Accept);
                    return;
                }
            }
        }
        io.again(LISTENER);
    }

    /// Takes what the peer sent, within bounds.
    fn read(&mut self, io: &mut Io<Self>, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut buffer = [0; 16 * 1024];
        let mut taken = 0;
        while connection.output.len() < OUTPUT_BYTES_MAX && !connection.ended {
            match connection.stream.read(&mut buffer) {
                Ok(0) => connection.ended = true,
                Ok(count) => {
                    connection.output.extend(&buffer[..count]);
                    taken += count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.close(io, key),
            }
            if taken >= TURN_BYTES_MAX {
                // The edge is used up, so ask to be called again instead of waiting for another.
                io.again(key.into());
                break;
            }
        }
        if taken > 0 {
            io.rearm(connection.idle, io.deadline_after(self.idle_ms_max));
        }
        self.mark_unflushed(key);
    }

    fn mark_unflushed(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.unflushed, true)
        {
            self.unflushed.push(key);
        }
    }

    /// Offers all output to the socket; closes the connection at its end.
    fn write(&mut self, io: &mut Io<Self>, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.unflushed = false;
        let full = connection.output.len() >= OUTPUT_BYTES_MAX;
        while !connection.output.is_empty() {
            match connection.stream.write(connection.output.as_slices().0) {
                Ok(count) => drop(connection.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.close(io, key),
            }
        }
        if connection.ended && connection.output.is_empty() {
            self.close(io, key);
        } else if full && connection.output.len() < OUTPUT_BYTES_MAX {
            // Reading had stopped for want of room, without using up its edge.
            io.again(key.into());
        }
    }

    fn close(&mut self, io: &mut Io<Self>, key: Key) {
        if let Some(mut connection) = self.connections.remove(key) {
            io.cancel(connection.idle);
            // Closing the socket, which follows, would do the same.
            let _ = io.registry().deregister(&mut connection.stream);
        }
    }
}

impl Handler for Echo {
    type Timer = Alarm;
    type Watch = ();
    type Mail = TcpStream;

    fn on_timer(&mut self, io: &mut Io<Self>, _: TimerKey, alarm: Alarm) {
        match alarm {
            Alarm::Idle(key) => self.close(io, key),
            Alarm::Accept => self.accept(io),
        }
    }

    fn on_watch(&mut self, _: &mut Io<Self>, _: WatchKey, (): (), _: Ready) {}

    fn on_socket(&mut self, io: &mut Io<Self>, token: Token, readiness: Readiness) {
        if token == LISTENER {
            return self.accept(io);
        }
        let key = Key::from(token);
        if readiness.gone() {
            return self.close(io, key);
        }
        if readiness.readable() || readiness.again() {
            self.read(io, key);
        }
        if readiness.writable() {
            self.mark_unflushed(key);
        }
    }

    fn on_mail(&mut self, io: &mut Io<Self>, mut stream: TcpStream) {
        if self.connections.len() >= CONNECTIONS_MAX {
            return;
        }
        let idle_deadline_ms = io.deadline_after(self.idle_ms_max);
        let mut registered = Ok(());
        let key = self.connections.insert_with(|key| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            registered = io.registry().register(&mut stream, key.into(), interest);
            let idle = io.arm(idle_deadline_ms, Alarm::Idle(key));
            Connection { stream, idle, output: VecDeque::new(), ended: false, unflushed: false }
        });
        if registered.is_err() {
            self.close(io, key);
        }
    }

    fn resume(&mut self, _: &mut Io<Self>) -> bool {
        false
    }

    fn commit(&mut self, _: &mut Io<Self>) {}

    fn flush(&mut self, io: &mut Io<Self>) {
        while let Some(key) = self.unflushed.pop() {
            self.write(io, key);
        }
    }

    fn pending(&self) -> Pending {
        Pending { unflushed: self.unflushed.len(), ..Pending::NONE }
    }
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let workers = arguments.next().and_then(Result::ok).unwrap_or(processors() as u64).max(1);
    let idle_seconds = arguments.next().and_then(Result::ok).unwrap_or(60);
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("echo on {} with {workers} workers", listener.local_addr()?);

    let mut reactors = Vec::new();
    for _ in 0..workers {
        reactors.push(Reactor::new(Config::default(), SystemClock::new())?);
    }
    let senders: Vec<_> = reactors.iter().map(Reactor::sender).collect();
    reactors[0].registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut listener = Some(listener);
    let mut threads = Vec::new();
    for (index, mut reactor) in reactors.into_iter().enumerate() {
        let mut echo = Echo {
            listener: listener.take(),
            workers: senders.clone(),
            next_worker: 0,
            connections: Slab::new(),
            unflushed: Vec::new(),
            idle_ms_max: idle_seconds.saturating_mul(1000),
        };
        let name = format!("echo-{index}");
        threads.push(spawn(&name, index, Pin::Auto, move |_| reactor.run(&mut echo))?);
    }
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a worker panicked"))??;
    }
    Ok(())
}
