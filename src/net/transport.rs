//! One stream socket, non-blocking, in clear or under TLS: reads append to a buffer, writes say how far
//! they came.
//!
//! A driver need not know which of the two it is, but for two things: before TLS is there the
//! handshake must be driven to its end ([`Transport::handshake`]), and a socket that becomes
//! writable may have something of TLS' own to take ([`Transport::on_writable`]).
//!
//! Must never: interpret what it carries; report octets as moved that this process still holds.
//!
//! **Diagnostics**: a lost connection is [`Moved::Gone`] with the system's or TLS' reason; running
//! dry is no error.

use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::secure::Secure;

pub use super::secure::{Handshake, Secured};

/// How a read or write ended.
#[derive(Debug)]
pub enum Moved {
    /// That many octets moved; for a read, more may be waiting.
    Some(usize),
    /// That many octets moved, and the socket is dry or full: wait for the next event.
    Blocked(usize),
    /// A read met the end: the peer will send nothing more.
    End,
    /// The connection is lost.
    Gone(io::Error),
}

/// A stream in clear, or under TLS. What TLS needs is held apart, so that a plain one stays small.
#[derive(Debug)]
pub struct Transport {
    stream: TcpStream,
    secure: Option<Box<Secure>>,
}

impl Transport {
    /// Takes a connected or connecting stream and registers it for both directions, edge by edge.
    ///
    /// # Errors
    /// What the system said to the registration.
    pub fn register(stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Self> {
        // Replies are small and each is awaited: Nagle's delay would only add to the round trip.
        stream.set_nodelay(true)?;
        Self::register_accepted(stream, registry, token)
    }

    /// The same of a stream that one of our listeners gave, from which it has its options.
    ///
    /// # Errors
    /// What the system said to the registration.
    pub fn register_accepted(
        mut stream: TcpStream,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Transport { stream, secure: None })
    }

    /// Begins TLS as the server: from now on everything that the socket brings belongs to it. Drive
    /// [`handshake`](Self::handshake) before anything is read or written.
    ///
    /// # Errors
    /// `config` is not usable.
    pub fn start_server_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), rustls::Error> {
        let connection = ServerConnection::new(config)?;
        self.secure = Some(Box::new(Secure::new(connection.into())));
        Ok(())
    }

    /// Begins TLS as the client, towards a server of that name; otherwise as
    /// [`start_server_tls`](Self::start_server_tls).
    ///
    /// # Errors
    /// `config` is not usable.
    pub fn start_client_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(), rustls::Error> {
        let connection = ClientConnection::new(config, name)?;
        self.secure = Some(Box::new(Secure::new(connection.into())));
        Ok(())
    }

    /// Does as much of the handshake as the socket allows. `Done` at once on a plain stream and on one
    /// whose handshake is over.
    pub fn handshake(&mut self) -> Handshake {
        match &mut self.secure {
            None => Handshake::Done,
            Some(secure) => secure.handshake(&self.stream),
        }
    }

    /// Whether the stream is under TLS, and its handshake over.
    pub fn is_secure(&self) -> bool {
        self.secure.as_ref().is_some_and(|secure| secure.is_open())
    }

    /// The registered name of the cipher suite, once the stream [is secure](Self::is_secure).
    pub fn cipher(&self) -> Option<&'static str> {
        self.secure.as_ref()?.cipher()
    }

    /// What was agreed on, once the stream [is secure](Self::is_secure).
    pub fn secured(&self) -> Option<Secured> {
        self.secure.as_ref()?.secured()
    }

    /// What the peer proved itself with: its own certificate first. Empty in clear.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.secure.as_ref().map_or(&[], |secure| secure.peer_certificates())
    }

    /// The socket takes octets again: offers it what TLS has to say of its own. Costs nothing on a
    /// plain stream.
    pub fn on_writable(&mut self) {
        if let Some(secure) = &mut self.secure {
            // A connection that is lost says so to the next read.
            let _ = secure.send(&self.stream);
        }
    }

    /// Looks at the next octets of a plain stream, and leaves them there. 0 is the end.
    ///
    /// # Errors
    /// What the system said; `WouldBlock` where there are none yet.
    pub fn peek(&self, space: &mut [u8]) -> io::Result<usize> {
        self.stream.peek(space)
    }

    /// Takes as many octets as `space` has from a plain stream, after a [`peek`](Self::peek) has seen
    /// that they are there.
    ///
    /// # Errors
    /// What the system said.
    pub fn skip(&mut self, space: &mut [u8]) -> io::Result<()> {
        io::Read::read_exact(&mut self.stream, space)
    }

    /// Appends what is waiting to `buffer`, at most what fits its spare capacity.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> Moved {
        let room = buffer.capacity() - buffer.len();
        assert!(room > 0, "a read needs room");
        if let Some(secure) = &mut self.secure {
            return secure.read(&self.stream, buffer);
        }
        loop {
            match rustix::io::read(&self.stream, rustix::buffer::spare_capacity(buffer)) {
                Ok(0) => return Moved::End,
                // A short read means the socket is dry; the next octet makes a new edge. An end that
                // has been announced already makes none: whoever drives keeps that in mind.
                Ok(count) if count < room => return Moved::Blocked(count),
                Ok(count) => return Moved::Some(count),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Moved::Blocked(0),
                Err(error) => return Moved::Gone(error.into()),
            }
        }
    }

    /// Writes as much of `bytes` as the socket takes.
    pub fn write(&mut self, bytes: &[u8]) -> Moved {
        self.write_slices(&[IoSlice::new(bytes)])
    }

    /// Writes as much of `slices` as the socket takes in one call.
    ///
    /// Under TLS, octets that are encrypted and did not leave are not counted yet: the next call must
    /// begin with the same ones.
    pub fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Moved {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if let Some(secure) = &mut self.secure {
            return secure.write(&self.stream, slices, total);
        }
        loop {
            match self.stream.write_vectored(slices) {
                Ok(0) if total > 0 => return Moved::Gone(io::ErrorKind::WriteZero.into()),
                Ok(count) if count < total => return Moved::Blocked(count),
                Ok(count) => return Moved::Some(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Moved::Blocked(0);
                }
                Err(error) => return Moved::Gone(error),
            }
        }
    }

    /// The error that a connect or the peer left on the socket.
    pub fn take_error(&self) -> Option<io::Error> {
        self.stream.take_error().unwrap_or_else(Some)
    }

    /// Whether a connect has come through.
    pub fn connected(&self) -> bool {
        self.stream.peer_addr().is_ok()
    }

    /// Our end.
    pub fn local(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    /// Ends our direction: the peer reads what is under way and then the end.
    pub fn shut_write(&mut self) {
        self.say_goodbye();
        // The peer may have been faster; there is nothing left to do then.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends both directions, but keeps the descriptor, so that its number is not reused yet
    /// (D-4F).
    pub fn shut(&mut self) {
        self.say_goodbye();
        // The peer may have been faster; there is nothing left to do then.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// RFC 8446 6.1: whoever closes says so, or the peer could take it for a truncation.
    fn say_goodbye(&mut self) {
        if let Some(secure) = &mut self.secure {
            secure.close(&self.stream);
        }
    }

    /// The descriptor's number, for `getpeername` and the like by plugins.
    pub fn descriptor(&self) -> i32 {
        std::os::fd::AsRawFd::as_raw_fd(&self.stream)
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
