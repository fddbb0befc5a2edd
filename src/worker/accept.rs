//! Taking connections: listeners, limits, and what is said to those who cannot stay.
//!
//! Must never: let a client wait in the backlog without a word because something has run out.
//!
//! **Diagnostics**: every reason to turn somebody away is answered, counted and, rate-limited, logged.

use std::io::{self, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use rohrpost_reactor::Key;

use crate::log::Level;
use crate::metrics::Number;
use crate::net::desk::{Io, Mood};
use crate::net::incoming::{Arrival, Incoming, Keep};
use crate::net::listener::{BACKLOG, Entrance};
use crate::net::transport::Transport;
use crate::smtp::{Fixed, answer};

use super::turn::{Connection, Worker};

/// Connections taken from one listener in one turn.
const ACCEPTS_MAX: usize = 64;

impl Worker {
    /// Every worker is ready: listeners are registered, mail that was found is delivered.
    pub(super) fn open(&mut self, io: &mut Io) {
        self.desk.mood = Mood::Open;
        for (socket, entrance) in std::mem::take(&mut self.doors) {
            if let Err(error) = self.listen(socket, entrance, io) {
                self.desk.log.critical("smtp", format_args!("a listener was lost: {error}"));
            }
        }
    }

    pub(super) fn listen(
        &mut self,
        socket: std::net::TcpListener,
        entrance: Entrance,
        io: &mut Io,
    ) -> io::Result<()> {
        let address = socket.local_addr()?;
        let listener = TcpListener::from_std(socket);
        let key = self.connections.insert(Connection::Listener(listener, address, entrance));
        let Some(Connection::Listener(listener, ..)) = self.connections.get_mut(key) else {
            unreachable!("it was inserted as one")
        };
        io.registry().register(listener, Token::from(key), Interest::READABLE)
    }

    /// Takes some clients of the backlog; whether it is empty, or as good as that for now.
    pub(super) fn accept(&mut self, key: Key, io: &mut Io) -> bool {
        self.common.spares.fill();
        for _ in 0..ACCEPTS_MAX {
            let Some(Connection::Listener(listener, local, entrance)) = self.connections.get(key)
            else {
                return true;
            };
            let (local, entrance) = (*local, *entrance);
            match listener.accept() {
                Ok((stream, remote)) => self.arrive(stream, remote, local, entrance, io),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if is_out_of_descriptors(&error) => {
                    self.turn_some_away(key);
                    return true;
                }
                // The client was faster than we: it has gone already.
                Err(_) => {}
            }
        }
        false
    }

    /// No descriptor is left: gives up a spare one, and with it takes one client after the other
    /// and says why it cannot stay. Otherwise they would wait in the backlog without a word.
    pub(super) fn turn_some_away(&mut self, key: Key) {
        self.desk.log.limited(
            "descriptors",
            Level::Critical,
            "smtp",
            "no file descriptor is left; clients are answered 421 (raise LimitNOFILE or lower smtp-connections)",
        );
        let (common, connections) = (&self.common, &self.connections);
        let mut turned = 0;
        common.spares.without_one(|| {
            while turned < ACCEPTS_MAX as u64
                && let Some(Connection::Listener(listener, _, entrance)) = connections.get(key)
                && let Ok((stream, _)) = listener.accept()
            {
                turn_away(stream, *entrance, answer::NO_DESCRIPTORS);
                turned += 1;
            }
        });
        self.desk.numbers().add(Number::Turned, turned);
        // The edge is used up; the next tick looks again.
        self.accept_again.push(key);
    }

    pub(super) fn arrive(
        &mut self,
        stream: TcpStream,
        remote: SocketAddr,
        local: SocketAddr,
        entrance: Entrance,
        io: &mut Io,
    ) {
        if !self.desk.mood.takes() {
            self.desk.count(Number::Turned);
            let reply = match self.desk.mood {
                Mood::Emptying => answer::NOT_NOW,
                Mood::Starting | Mood::Open | Mood::Draining => answer::SHUTTING_DOWN,
            };
            return turn_away(stream, entrance, reply);
        }
        if !self.desk.settings.smtp.clients.contains(remote.ip()) {
            self.desk.count(Number::Turned);
            return turn_away(stream, entrance, answer::CLIENT_REFUSED);
        }
        // D-51: a proxy's own address is nobody's limit; that of its client is, once it is known.
        let proxied = self.desk.settings.smtp.proxies.contains(remote.ip());
        let connections = &self.common.connections;
        let permit = match proxied {
            true => connections.accept_unnamed(),
            false => connections.accept(remote.ip()),
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(limit) => {
                self.desk.count(Number::Turned);
                let text = format_args!("{} is turned away: {limit}", remote.ip());
                self.desk.log.limited("connections", Level::Warning, "smtp", text);
                return turn_away(stream, entrance, answer::TOO_MANY_CONNECTIONS);
            }
        };
        self.desk.count(Number::Connected);
        // With a listener on all addresses the client decides which of them it meets.
        let local = match local.ip().is_unspecified() {
            true => stream.local_addr().unwrap_or(local),
            false => local,
        };
        let options = self.options.clone();
        let key = self.connections.insert(Connection::Opening);
        match Transport::register_accepted(stream, io.registry(), Token::from(key)) {
            Ok(transport) => {
                let arrival =
                    Arrival { transport, remote, local, entrance, proxied, permit, options };
                let incoming = Incoming::new(arrival, &mut self.desk, io, key);
                self.put(key, Connection::Incoming(Box::new(incoming)), io);
            }
            Err(error) => {
                self.connections.remove(key);
                let text = format_args!("a connection could not be registered: {error}");
                self.desk.log.limited("register", Level::Warning, "smtp", text);
            }
        }
    }

    /// Puts a connection in its place and lets it begin.
    pub(super) fn put(&mut self, key: Key, connection: Connection, io: &mut Io) {
        if let Some(place) = self.connections.get_mut(key) {
            *place = connection;
        }
        self.with(key, io, |connection, desk, io| match connection {
            Connection::Incoming(incoming) => incoming.drive(desk, io),
            Connection::Outgoing(outgoing) => outgoing.drive(desk, io),
            Connection::Opening | Connection::Listener(..) => Keep::Yes,
        });
    }

    /// Clients in the backlog are told before the socket closes.
    pub(super) fn close_listeners(&mut self, io: &mut Io) {
        for key in self.keys() {
            if matches!(self.connections.get(key), Some(Connection::Listener(..))) {
                let rounds = BACKLOG as usize / ACCEPTS_MAX + 1;
                let _ = (0..rounds).any(|_| self.accept(key, io));
                self.connections.remove(key);
            }
        }
        self.doors.clear();
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Says why and closes; a client that does not read it loses nothing. One that expects TLS would not
/// understand it.
fn turn_away(mut stream: TcpStream, entrance: Entrance, reply: Fixed) {
    match entrance {
        Entrance::Clear => drop(stream.write(reply.as_bytes())),
        Entrance::Secure => {}
    }
}
