//! TLS over one socket: ciphertext on one side, the buffers of a driver on the other.
//!
//! Owns the order of its own four flows: what the socket brings is decrypted as far as the driver has
//! room, and what the driver gives is encrypted a bounded piece at a time and counted when its
//! ciphertext has left. So "written" means the same as on a plain socket, and a driver that waits
//! for its last octets to leave before it closes does right in both.
//!
//! What is held is bounded: a piece of [`PIECE_BYTES`] on the way out, and on the way in one record
//! of 16 KiB and a part of the next.
//!
//! What is decrypted passes through buffers of rustls, which are freed and not wiped: of a password
//! under TLS a copy may be left in free memory until that is used again.
//!
//! Must never: hand out plaintext before the handshake is over; sleep on plaintext (a read that left
//! some is never [`Moved::Blocked`]).
//!
//! **Diagnostics**: [`Handshake::Failed`] and [`Moved::Gone`] carry TLS' own words; the peer gets the
//! alert that belongs to them if the socket takes it.

use std::io::{self, BufRead, IoSlice, Write};
use std::mem::MaybeUninit;

use mio::net::TcpStream;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, Connection, ProtocolVersion};

use super::transport::Moved;

/// Plaintext encrypted at a time: two full records. What a connection holds that its peer does not
/// read.
const PIECE_BYTES: usize = 32 * 1024;
/// Ciphertext taken from the socket at a time. rustls holds one record's worth of plaintext that did
/// not fit, so this is also the most that one piece may decrypt to.
const FILL_BYTES: usize = 16 * 1024;
/// Pieces of ciphertext that one read takes; a peer that keeps up must not make it endless.
const FILLS_MAX: usize = 8;

/// How far a handshake has come.
#[derive(Debug)]
pub enum Handshake {
    /// It is over, and the connection secure.
    Done,
    /// The socket is dry or full: wait for the next event.
    Blocked,
    /// The socket may bring more, after the others had their turn.
    More,
    /// It failed, and the connection is of no use any more.
    Failed(io::Error),
}

/// What a handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The registered name of the cipher suite.
    pub cipher: &'static str,
    /// The registered number of it.
    pub cipher_id: u16,
    /// The name that a client asked for (SNI); `None` if it did not, and on the client's side.
    pub server_name: Option<Box<str>>,
}

/// How sending ciphertext ended.
#[derive(Debug)]
pub(super) enum Sent {
    All,
    Blocked,
}

/// How filling from the socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    /// More may be waiting.
    Some,
    /// The socket is dry.
    Dry,
    /// The peer sends nothing more, or said so.
    End,
}

/// The state of TLS on one connection.
#[derive(Debug)]
pub(super) struct Secure {
    connection: Connection,
    /// Octets at the front of the driver's output that are encrypted, and not yet counted as written.
    claimed: usize,
    /// Why nothing more can be decrypted, once what came before it was handed out.
    broken: Option<rustls::Error>,
    /// The peer said that it will send nothing more.
    closed: bool,
}

impl Secure {
    pub(super) fn new(mut connection: Connection) -> Secure {
        connection.set_buffer_limit(Some(PIECE_BYTES));
        Secure { connection, claimed: 0, broken: None, closed: false }
    }

    pub(super) fn is_open(&self) -> bool {
        !self.connection.is_handshaking() && self.broken.is_none()
    }

    pub(super) fn handshake(&mut self, stream: &TcpStream) -> Handshake {
        for _ in 0..FILLS_MAX {
            if let Err(error) = self.send(stream) {
                return Handshake::Failed(error);
            }
            if !self.connection.is_handshaking() {
                // What is left to send goes with the first octets of the driver.
                return Handshake::Done;
            }
            let filled = match self.fill(stream, FILL_BYTES, None) {
                Ok(filled) => filled,
                Err(error) => return Handshake::Failed(error),
            };
            if let Some(error) = &self.broken {
                return Handshake::Failed(tls_error(error));
            }
            match filled {
                _ if !self.connection.is_handshaking() => return Handshake::Done,
                Filled::Some => {}
                Filled::Dry => return Handshake::Blocked,
                Filled::End => return Handshake::Failed(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Handshake::More
    }

    /// Appends plaintext to the spare room of `buffer`.
    pub(super) fn read(&mut self, stream: &TcpStream, buffer: &mut Vec<u8>) -> Moved {
        let begun = buffer.len();
        let mut filled = Filled::Some;
        for fills in 0..=FILLS_MAX {
            self.hand_out(buffer);
            let count = buffer.len() - begun;
            let room = buffer.capacity() - buffer.len();
            if room == 0 {
                // There may be plaintext that did not fit.
                return Moved::Some(count);
            }
            match (&self.broken, filled) {
                // What came before the fault or the end counts; the next read finds it again.
                (Some(_), _) | (None, Filled::End) if count > 0 => return Moved::Some(count),
                (Some(error), _) => return Moved::Gone(tls_error(error)),
                (None, Filled::End) => return Moved::End,
                (None, Filled::Dry) => return Moved::Blocked(count),
                (None, Filled::Some) if fills == FILLS_MAX => return Moved::Some(count),
                (None, Filled::Some) => {}
            }
            filled = match self.fill(stream, room.min(FILL_BYTES), Some(buffer)) {
                Ok(filled) => filled,
                Err(_) if buffer.len() > begun => return Moved::Some(buffer.len() - begun),
                Err(error) => return Moved::Gone(error),
            };
        }
        Moved::Some(buffer.len() - begun)
    }

    /// Encrypts a piece of `slices` and sends it; counts it once all of its ciphertext has left.
    pub(super) fn write(
        &mut self,
        stream: &TcpStream,
        slices: &[IoSlice<'_>],
        total: usize,
    ) -> Moved {
        assert!(self.claimed <= total, "octets that were begun are offered again");
        if self.claimed == 0 && total > 0 {
            match self.connection.writer().write_vectored(slices) {
                Ok(count) => self.claimed = count,
                Err(error) => return Moved::Gone(error),
            }
        }
        match self.send(stream) {
            Ok(Sent::All) => Moved::Some(std::mem::take(&mut self.claimed)),
            Ok(Sent::Blocked) => Moved::Blocked(0),
            Err(error) => Moved::Gone(error),
        }
    }

    /// Sends what ciphertext there is.
    pub(super) fn send(&mut self, mut stream: &TcpStream) -> io::Result<Sent> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Sent::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Sent::All)
    }

    /// Says that nothing more will be sent, if the socket takes it.
    pub(super) fn close(&mut self, stream: &TcpStream) {
        if !self.connection.is_handshaking() {
            self.connection.send_close_notify();
        }
        // There is nobody left to tell.
        let _ = self.send(stream);
    }

    pub(super) fn cipher(&self) -> Option<&'static str> {
        self.suite().map(cipher_name)
    }

    fn suite(&self) -> Option<CipherSuite> {
        let suite = self.connection.negotiated_cipher_suite().filter(|_| self.is_open())?;
        Some(suite.suite())
    }

    /// What the peer proved itself with: its own certificate first. Empty before it did.
    pub(super) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }

    pub(super) fn secured(&self) -> Option<Secured> {
        let server_name = match &self.connection {
            Connection::Server(server) => server.server_name().map(Box::from),
            Connection::Client(_) => None,
        };
        let suite = self.suite()?;
        Some(Secured {
            version: version_name(self.connection.protocol_version()),
            cipher: cipher_name(suite),
            cipher_id: suite.into(),
            server_name,
        })
    }

    /// Moves plaintext into the spare room of `buffer`.
    fn hand_out(&mut self, buffer: &mut Vec<u8>) {
        let mut reader = self.connection.reader();
        loop {
            let room = buffer.capacity() - buffer.len();
            // An error says that there is nothing now, or will be nothing more: `fill` knows which.
            let Ok(plaintext) = reader.fill_buf() else { return };
            let count = plaintext.len().min(room);
            if count == 0 {
                return;
            }
            buffer.extend_from_slice(&plaintext[..count]);
            reader.consume(count);
        }
    }

    /// Takes at most `bytes_max` of ciphertext from the socket, in one call, and decrypts it; plaintext
    /// goes to `buffer` as it comes.
    fn fill(
        &mut self,
        stream: &TcpStream,
        bytes_max: usize,
        mut buffer: Option<&mut Vec<u8>>,
    ) -> io::Result<Filled> {
        if self.broken.is_some() || self.closed {
            return Ok(Filled::End);
        }
        let mut space = [MaybeUninit::<u8>::uninit(); FILL_BYTES];
        let bytes_max = bytes_max.min(FILL_BYTES);
        let ciphertext = match rustix::io::read(stream, &mut space[..bytes_max]) {
            Ok(([], _)) => return Ok(Filled::End),
            Ok((ciphertext, _)) => ciphertext,
            Err(rustix::io::Errno::INTR) => return Ok(Filled::Some),
            Err(rustix::io::Errno::AGAIN) => return Ok(Filled::Dry),
            Err(error) => return Err(error.into()),
        };
        let mut filled = if ciphertext.len() < bytes_max { Filled::Dry } else { Filled::Some };
        let mut rest: &[u8] = ciphertext;
        while !rest.is_empty() && !self.closed {
            // It takes some each time: what it had was processed, and what it decrypted handed out.
            if self.connection.read_tls(&mut rest)? == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match self.connection.process_new_packets() {
                Ok(state) => self.closed = state.peer_has_closed(),
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            }
            if let Some(buffer) = &mut buffer {
                self.hand_out(buffer);
            }
        }
        // Tickets, key updates and alerts are TLS' own answers to what came.
        let sent = self.send(stream);
        if self.broken.is_some() || self.closed {
            filled = Filled::End;
        } else {
            sent?;
        }
        Ok(filled)
    }
}

fn tls_error(error: &rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}

fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLS",
    }
}

/// As IANA has it; rustls marks those of TLS 1.3 in a way of its own.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}
