//! What is sent, to whom and how often: made ready before the clock starts, and shared by all threads.
//!
//! Threads write to two counters of it only: one where they draw numbers of messages, one that says how
//! many connections of `--idle` are open.
//!
//! **Diagnostics**: [`PlanError`]: a host that is not found, a password that cannot be read.

use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use zeroize::Zeroizing;

use super::envelope::Envelope;
use super::letter::Letters;
use super::pace::Pace;
use crate::cli::{Extent, Flight, Load, LoadTls, LoginFile, Share};
use crate::clock::Wall;
use crate::smtp::client::{Credentials, Login, Options, Security};
use crate::tls;

/// What EHLO calls us.
const NAME: &str = "load.localhost";
/// Octets of a password file: room for tokens that some services use as a password.
const PASSWORD_BYTES_MAX: u64 = 16 * 1024;

/// Why a load cannot begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    /// The host's address is not known.
    #[error("cannot find {target}: {source}")]
    Resolve { target: String, source: io::Error },
    /// The host has no address.
    #[error("{target} has no address")]
    NoAddress { target: String },
    /// TLS needs a name that a certificate can be for.
    #[error("no server of TLS can be called {host}: give a host name or an address")]
    Name { host: String },
    /// The password is not there.
    #[error("cannot read the password from {}: {source}", file.display())]
    Password { file: PathBuf, source: io::Error },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::LoadError),
}

/// All that threads need to know.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) target: String,
    pub(super) address: SocketAddr,
    pub(super) connections: u32,
    /// Threads, none of which is without a connection.
    pub(super) threads: u32,
    pub(super) extent: Extent,
    pub(super) sizes: Vec<Share>,
    pub(super) letters: Letters,
    pub(super) envelope: Envelope,
    pub(super) flight: Flight,
    pub(super) per_connection: Option<u64>,
    /// How a connection begins.
    pub(super) options: Options,
    /// Whom to shake hands with.
    pub(super) name: Option<ServerName<'static>>,
    pub(super) rate: Option<u32>,
    pub(super) timeout_ms: u64,
    pub(super) idle: bool,
    /// The number of the next message, for all threads.
    drawn: AtomicU64,
    /// Connections that are open and held (`--idle`).
    held: AtomicU32,
}

impl Plan {
    /// Looks the host up and makes all that is sent.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub(super) fn of(load: &Load) -> Result<Plan, PlanError> {
        let address = address(&load.target)?;
        let connections = match (load.extent, load.idle) {
            // More would have nothing to send.
            (Extent::Messages(count), false) => {
                load.connections.min(u32::try_from(count).unwrap_or(u32::MAX))
            }
            (Extent::Messages(_), true) | (Extent::Time(_), _) => load.connections,
        };
        let mut options = Options::new(NAME);
        options.security = match load.tls {
            LoadTls::Off => Security::Clear,
            LoadTls::StartTls => Security::Required,
            LoadTls::Implicit => Security::Implicit,
        };
        options.login = load.login.as_ref().map(|login| login_of(login, address)).transpose()?;
        let name = match load.tls {
            LoadTls::Off => None,
            LoadTls::StartTls | LoadTls::Implicit => Some(name_of(&load.target)?),
        };
        Ok(Plan {
            target: load.target.clone(),
            address,
            connections,
            threads: load.threads.min(connections),
            extent: load.extent,
            letters: Letters::new(&header(load), &load.sizes, load.flight),
            sizes: load.sizes.clone(),
            envelope: Envelope::new(&load.from, &load.to, load.recipients, load.domains),
            flight: load.flight,
            per_connection: load.per_connection,
            options,
            name,
            rate: load.rate,
            timeout_ms: u64::try_from(load.timeout.as_millis()).unwrap_or(u64::MAX),
            idle: load.idle,
            drawn: AtomicU64::new(0),
            held: AtomicU32::new(0),
        })
    }

    /// How many connections thread `index` has.
    pub(super) fn share(&self, index: u32) -> u32 {
        self.connections / self.threads + u32::from(index < self.connections % self.threads)
    }

    /// When the messages of thread `index` are due; `None` where replies set the pace.
    pub(super) fn pace(&self, index: u32) -> Option<Pace> {
        self.rate.map(|rate| Pace::new(rate, self.extent, index, self.threads))
    }

    /// What a thread shakes hands with; its sessions are its own, so that threads share no lock.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(super) fn tls(&self) -> Result<Option<Arc<ClientConfig>>, tls::LoadError> {
        self.name.as_ref().map(|_| tls::unverified().map(Arc::new)).transpose()
    }

    /// Draws the number of a message; `None` when all are drawn.
    pub(super) fn draw(&self) -> Option<u64> {
        self.has_more().then(|| self.drawn.fetch_add(1, Ordering::Relaxed)).filter(|number| {
            // Others may have drawn in between.
            self.is_within(*number)
        })
    }

    /// Whether there are messages to be drawn.
    pub(super) fn has_more(&self) -> bool {
        self.is_within(self.drawn.load(Ordering::Relaxed))
    }

    fn is_within(&self, number: u64) -> bool {
        match self.extent {
            Extent::Messages(count) => number < count,
            Extent::Time(_) => true,
        }
    }

    /// One more connection of `--idle` is open; whether it is the last.
    pub(super) fn hold(&self) -> bool {
        self.held.fetch_add(1, Ordering::Relaxed) + 1 == self.connections
    }
}

fn address(target: &str) -> Result<SocketAddr, PlanError> {
    let found = target.to_socket_addrs();
    let mut found =
        found.map_err(|source| PlanError::Resolve { target: target.to_owned(), source })?;
    found.next().ok_or_else(|| PlanError::NoAddress { target: target.to_owned() })
}

fn name_of(target: &str) -> Result<ServerName<'static>, PlanError> {
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    ServerName::try_from(host.to_owned()).map_err(|_| PlanError::Name { host: host.to_owned() })
}

fn login_of(login: &LoginFile, address: SocketAddr) -> Result<Login, PlanError> {
    let password = password(&login.password_file)
        .map_err(|source| PlanError::Password { file: login.password_file.clone(), source })?;
    Ok(Login {
        credentials: Arc::new(Credentials::new(&*login.user, &**password)),
        in_clear: address.ip().is_loopback(),
    })
}

/// The first line of a file.
fn password(file: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(PASSWORD_BYTES_MAX as usize + 1));
    File::open(file)?.take(PASSWORD_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(io::Error::other("it has more than 16 KiB"));
    }
    let line = text.lines().next().filter(|line| !line.is_empty());
    let line = line.ok_or_else(|| io::Error::other("its first line is empty"))?;
    if line.contains('\0') {
        return Err(io::Error::other("the password holds a NUL, which no login can carry"));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// What a mail has at its front, so that no server has to add it.
fn header(load: &Load) -> String {
    let date = Wall::utc().date(Wall::now_ms()).to_owned();
    let from = if load.from.is_empty() { "postmaster@load.example" } else { &load.from };
    let (to, id) = (&load.to, Wall::now_ms());
    format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: Load\r\nDate: {date}\r\n\
         Message-ID: <{id}@load.example>\r\n\r\n"
    )
}
