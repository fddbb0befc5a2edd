//! The thread that computes the hashes of passwords, for all workers.
//!
//! Of its own, and not the helper: a hash takes tens of milliseconds, and texts that are read back must
//! not wait behind a few hundred of them. One thread, so that guessing passwords takes one CPU at most.
//!
//! Must never: keep a password longer than its hash takes.
//!
//! **Diagnostics**: none; a full queue is the worker's to answer (454).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use rohrpost_reactor::Key;

use crate::limits::network_of;
use crate::mailboxes::Mailboxes;
use crate::net::desk::Mail;
use crate::smtp::sasl::Secret;

use super::hash::Hash;
use super::logins::Meaning;

/// Checks that may wait, of all workers together. Behind so many hashes of usual cost the last one waits
/// for two seconds, and behind the costliest ones for less than a client has patience.
pub const CHECKS_MAX: usize = 64;

/// Of these, the checks of one address, or of one /64 of IPv6, the one that is computed included: nobody
/// alone can keep everybody else out.
pub const NETWORK_CHECKS_MAX: usize = CHECKS_MAX / 8;

/// One password to be checked. Answered by [`Mail::Verified`].
#[derive(Debug)]
pub struct Check {
    /// The worker that asks.
    pub worker: usize,
    /// For which connection. It has one check at a time.
    pub connection: Key,
    /// What the password is hashed like.
    pub hash: Arc<Hash>,
    /// What it says whether they match.
    pub meaning: Meaning,
    /// What the client gave.
    pub password: Secret,
}

/// The workers' way to the thread.
#[derive(Clone, Debug)]
pub struct Checks {
    waiting: Sender<Waiting>,
    networks: Arc<Networks>,
}

/// A check and the place that it takes.
#[derive(Debug)]
pub struct Waiting {
    check: Check,
    place: Place,
}

impl Checks {
    /// Has a password checked for this client; `false` if there are too many, of its own network or of
    /// all.
    pub fn begin(&self, client: IpAddr, check: Check) -> bool {
        let Some(place) = Networks::take(&self.networks, network_of(client)) else {
            return false;
        };
        self.waiting.try_send(Waiting { check, place }).is_ok()
    }
}

/// How many checks of each network are under way. Only those with any are here, and all together are no
/// more than wait and one. Locked once a login.
#[derive(Debug, Default)]
struct Networks(Mutex<HashMap<IpAddr, usize>>);

impl Networks {
    fn take(networks: &Arc<Networks>, network: IpAddr) -> Option<Place> {
        let mut counts = networks.lock();
        let count = counts.entry(network).or_insert(0);
        if *count >= NETWORK_CHECKS_MAX {
            return None;
        }
        *count += 1;
        Some(Place { networks: networks.clone(), network })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing panics between two states of a count, so a poisoned table is still right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One check of a network, counted while this lives.
#[derive(Debug)]
struct Place {
    networks: Arc<Networks>,
    network: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.networks.lock().entry(self.network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The way to the thread, before it runs.
pub fn channel() -> (Checks, Receiver<Waiting>) {
    let (waiting, taken) = bounded(CHECKS_MAX);
    (Checks { waiting, networks: Arc::default() }, taken)
}

/// Starts the thread; it ends when all [`Checks`] are gone.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(taken: Receiver<Waiting>, mailboxes: Mailboxes) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("verifier".into()).spawn(move || {
        for Waiting { check, place } in taken {
            let Check { worker, connection, hash, meaning, password } = check;
            let matches = matches(&hash, password);
            // Before the answer, which the next try may follow.
            drop(place);
            mailboxes.deliver(worker, Mail::Verified(connection, meaning.is_good(matches)));
        }
    })
}

/// A panic in here is a bug, but one hash that cannot be computed must not keep all others waiting.
fn matches(hash: &Hash, password: Secret) -> bool {
    let compute = std::panic::AssertUnwindSafe(|| hash.matches(password.as_bytes()));
    std::panic::catch_unwind(compute).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> Check {
        let hash = "$5$rounds=1000$Uo1jr3bXz2rg$1rF0Hn6P8K.7vbmD.1OTqkIKow8ylsOn9ByxUQlxXpz";
        Check {
            worker: 0,
            connection: Key::from(mio::Token(0)),
            hash: Arc::new(Hash::parse(hash).unwrap()),
            meaning: Meaning::Proof,
            password: Secret::copy_from(b"geheim"),
        }
    }

    #[test]
    fn one_network_leaves_room_for_others() {
        let (checks, taken) = channel();
        let ask = |client: &str| checks.begin(client.parse().unwrap(), check());
        for host in 0..NETWORK_CHECKS_MAX {
            assert!(ask("192.0.2.1") && ask(&format!("2001:db8::{host}")));
        }
        for client in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::ffff"] {
            assert!(!ask(client), "{client}");
        }
        assert!(ask("192.0.2.2") && ask("2001:db8:0:1::1"));
        // One of the first network is done.
        let first = taken.recv().unwrap();
        assert_eq!(first.place.network, IpAddr::from([192, 0, 2, 1]));
        assert!(!ask("192.0.2.1"), "it is under way until it is done");
        drop(first);
        assert!(ask("192.0.2.1") && !ask("192.0.2.1"));
    }

    #[test]
    fn all_networks_together_have_a_bound_and_leave_nothing_behind() {
        let (checks, taken) = channel();
        let ask = |host: usize| checks.begin(IpAddr::from([192, 0, 2, host as u8]), check());
        assert_eq!((0..200).filter(|host| ask(*host)).count(), CHECKS_MAX);
        assert_eq!(checks.networks.lock().len(), CHECKS_MAX);
        assert_eq!(taken.try_iter().count(), CHECKS_MAX);
        assert!(checks.networks.lock().is_empty());
    }
}
