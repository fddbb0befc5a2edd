//! What a service manager is told: ready, reloading, stopping, alive (`sd_notify(3)`).
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is sent. Alive (`WATCHDOG_USEC`) means that
//! the loop of every worker has turned lately: each turns once a second at least, unless a plugin
//! blocks it, or a bug does.
//!
//! Must never: keep the server from working because nobody listens.
//!
//! **Diagnostics**: none; whoever is not told restarts the server, and says so.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::metrics::{Metrics, Number};

/// A manager that wants a sign more often than this cannot be told from a stall: the workers turn
/// once a second when they have nothing to do.
const SIGN_EVERY_MIN: Duration = Duration::from_secs(2);

/// Tells the service manager, if there is one.
pub(super) struct Readiness {
    /// How often it wants a sign of life; `None` for never.
    patience: Option<Duration>,
    signed: Instant,
    /// The turns of each worker, and when they last grew.
    turns: Vec<(u64, Instant)>,
}

impl Readiness {
    /// Nothing is sent yet.
    pub(super) fn new(workers: usize) -> Readiness {
        let now = Instant::now();
        let patience = sd_notify::watchdog_enabled().map(|time| time.max(SIGN_EVERY_MIN));
        Readiness { patience, signed: now, turns: vec![(0, now); workers] }
    }

    /// Every port is open.
    pub(super) fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload begins; [`Readiness::ready`] ends it.
    pub(super) fn reloading(&self) {
        let now = NotifyState::monotonic_usec_now();
        let states = [Some(NotifyState::Reloading), now.ok()];
        tell(&states.into_iter().flatten().collect::<Vec<_>>());
    }

    /// What the server is about.
    pub(super) fn status(&self, status: &str) {
        tell(&[NotifyState::Status(status)]);
    }

    /// The server drains and then ends.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// To be called once a second: gives the sign of life that is due, if all workers are alive.
    pub(super) fn look(&mut self, metrics: &Metrics) {
        let Some(patience) = self.patience else { return };
        let now = Instant::now();
        let alive = self.are_alive(metrics, now, patience);
        if alive && now - self.signed >= patience / 3 {
            self.signed = now;
            tell(&[NotifyState::Watchdog]);
        }
    }

    fn are_alive(&mut self, metrics: &Metrics, now: Instant, patience: Duration) -> bool {
        for (worker, seen) in self.turns.iter_mut().enumerate() {
            let turns = metrics.worker(worker).value(Number::Turns);
            if turns != seen.0 {
                *seen = (turns, now);
            }
        }
        self.turns.iter().all(|(_, grown)| now - *grown < patience)
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // A manager that does not listen will do what it does with those who say nothing.
    let _ = sd_notify::notify(states);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_does_not_turn_is_not_alive() {
        let metrics = Metrics::new(2);
        let mut readiness = Readiness::new(2);
        let begun = Instant::now();
        let patience = Duration::from_secs(10);
        let turn = |worker: usize| metrics.worker(worker).add(Number::Turns, 1);
        turn(0);
        turn(1);
        assert!(readiness.are_alive(&metrics, begun, patience));
        turn(0);
        assert!(readiness.are_alive(&metrics, begun + Duration::from_secs(9), patience));
        turn(0);
        assert!(!readiness.are_alive(&metrics, begun + Duration::from_secs(11), patience));
        turn(1);
        assert!(readiness.are_alive(&metrics, begun + Duration::from_secs(12), patience));
    }
}
