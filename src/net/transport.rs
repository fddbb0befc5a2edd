//! One stream socket, non-blocking: reads append to a buffer, writes say how far they came.
//!
//! Must never: interpret what it carries.
//!
//! **Diagnostics**: a lost connection is [`Moved::Gone`] with the system's reason; running dry is
//! no error.

use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

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

/// A plain stream; TLS will be its second form.
#[derive(Debug)]
pub struct Transport {
    stream: TcpStream,
}

impl Transport {
    /// Takes a connected or connecting stream and registers it for both directions, edge by edge.
    ///
    /// # Errors
    /// What the system said to the registration.
    pub fn register(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Self> {
        // Replies are small and each is awaited: Nagle's delay would only add to the round trip.
        stream.set_nodelay(true)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Transport { stream })
    }

    /// Appends what is waiting to `buffer`, at most what fits its spare capacity.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> Moved {
        let room = buffer.capacity() - buffer.len();
        assert!(room > 0, "a read needs room");
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
    pub fn write_slices(&mut self, slices: &[IoSlice<'_>]) -> Moved {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
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
        // The peer may have been faster; there is nothing left to do then.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends both directions, but keeps the descriptor, so that its number is not reused yet
    /// (D-4F).
    pub fn shut(&mut self) {
        // The peer may have been faster; there is nothing left to do then.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The descriptor's number, for `getpeername` and the like by plugins.
    pub fn descriptor(&self) -> i32 {
        std::os::fd::AsRawFd::as_raw_fd(&self.stream)
    }
}
