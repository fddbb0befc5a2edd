//! What a server stands on before it reads a mail: its lock, its ports, its keys and its users.
//!
//! Opened with the rights of whoever starts the server, which end here (`user`).
//!
//! Must never: run anything that is not ours.
//!
//! **Diagnostics**: [`StartError`].

use std::net::SocketAddr;
use std::sync::Arc;

use crate::lock::Lock;
use crate::net::listener;
use crate::rolls::Rolls;
use crate::settings::Settings;
use crate::tls::Tls;
use crate::worker::Doors;

use super::rights::Rights;
use super::server::StartError;
use super::start::{Bound, bind};

/// Where the server listens.
pub(super) struct Addresses {
    pub(super) clear: Vec<SocketAddr>,
    pub(super) secure: Vec<SocketAddr>,
    /// Where numbers are shown.
    pub(super) metrics: Option<SocketAddr>,
}

impl Addresses {
    pub(super) fn all(&self) -> Arc<[SocketAddr]> {
        self.clear.iter().chain(&self.secure).copied().collect()
    }
}

/// As the line that says `ready` has it.
impl std::fmt::Display for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "smtp={}", list(&self.clear))?;
        if !self.secure.is_empty() {
            write!(f, " smtps={}", list(&self.secure))?;
        }
        if let Some(address) = self.metrics {
            write!(f, " metrics={address}")?;
        }
        Ok(())
    }
}

/// Addresses as a line has them.
pub(super) fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    texts.join(",")
}

/// All that needs the rights of the one who starts the server.
pub(super) struct Ground {
    pub(super) lock: Lock,
    pub(super) addresses: Addresses,
    /// One share for each worker.
    pub(super) doors: Vec<Doors>,
    /// For numbers, where they are shown.
    pub(super) metrics_socket: Option<std::net::TcpListener>,
    pub(super) tls: Arc<Tls>,
    pub(super) rolls: Arc<Rolls>,
}

impl Ground {
    /// Takes all of it, and gives up the rights.
    ///
    /// # Errors
    /// What cannot be opened, or rights that stay.
    pub(super) fn take(settings: &Settings, rights: Rights) -> Result<Ground, StartError> {
        // Before the ports: it names the process that has them.
        let lock = rights.as_user(|| Lock::take(&settings.queue.directory))??;
        let Bound { clear, secure, doors } = bind(settings, settings.smtp.threads as usize)?;
        let (metrics, metrics_socket) =
            settings.general.metrics.map(listener::bind_one).transpose()?.unzip();
        // Keys and hashes of passwords are not for everybody's eyes, perhaps not for the user's.
        let tls = Arc::new(Tls::load(&settings.tls.files())?);
        let rolls = Arc::new(Rolls::load(&settings.smtp)?);
        // D-08: everything from here on, plugins above all, runs without the rights of root.
        rights.give_up()?;
        let addresses = Addresses { clear, secure, metrics };
        Ok(Ground { lock, addresses, doors, metrics_socket, tls, rolls })
    }
}
