//! What plugins have of the loop beyond MailerQ's interface: the event loop that a plugin brought along
//! (`MQ_ev`), timers that repeat, callbacks that threads posted, questions to name servers.
//!
//! Must never: cost anything on a worker on which no plugin asked; call a plugin from where its own
//! commands are applied.
//!
//! **Diagnostics**: none; those of the loop itself are the plugin interface's.

use std::io;
use std::time::Duration;

use rohrpost_abi::{ForeignLoop, QueryAnswer, QueryId, RecordKind};
use rohrpost_reactor::{Source, Waiter, Woken};

use super::desk::{Desk, Io, POSTED_PER_LOOK};

/// libev's loop of one worker.
#[derive(Debug)]
pub struct Foreign(ForeignLoop);

impl Foreign {
    /// The reactor sleeps in `foreign` from now on.
    pub fn new(foreign: ForeignLoop) -> Foreign {
        Foreign(foreign)
    }

    /// Where to wait; `None` when a plugin has destroyed it: then the reactor waits by itself again.
    pub fn waiter(&mut self) -> Option<&mut dyn Waiter> {
        self.0.is_alive().then_some(self as &mut dyn Waiter)
    }
}

impl Waiter for Foreign {
    fn wait(&mut self, source: Source<'_>, timeout: Option<Duration>) -> io::Result<Woken> {
        match self.0.wait(source.fd, source.generation, timeout) {
            true => Ok(Woken::BySource),
            false => Ok(Woken::Otherwise),
        }
    }
}

/// A timer that fires over and over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeat {
    /// When it fires next.
    pub(super) due_ms: u64,
    /// At least 1.
    pub(super) interval_ms: u64,
}

impl Repeat {
    /// It has fired: the next time that lies ahead. Those that were missed are left out.
    pub(super) fn go_on(&mut self, now_ms: u64) {
        let behind_ms = now_ms.saturating_sub(self.due_ms);
        let steps = behind_ms / self.interval_ms + 1;
        self.due_ms = self.due_ms.saturating_add(self.interval_ms.saturating_mul(steps));
    }
}

impl Desk {
    /// Runs callbacks that threads of plugins posted, some of them.
    pub(super) fn run_posts(&mut self, io: &mut Io) {
        for _ in 0..POSTED_PER_LOOK {
            if !self.plugins.run_post() {
                break;
            }
        }
        self.apply_commands(io);
    }

    /// Passes a plugin's question on. One that cannot be asked is answered in the verdict phase: no
    /// plugin is called while commands are applied.
    pub(super) fn resolve(&mut self, query: QueryId, name: &[u8], kind: RecordKind) {
        if let Err(status) = self.services.resolve(self.index, query, name, kind) {
            self.answered.push_back((query, QueryAnswer::without_records(status)));
        }
    }

    /// Name servers have answered.
    pub fn on_query_answered(&mut self, io: &mut Io, query: QueryId, answer: &QueryAnswer) {
        self.plugins.fire_query(query, answer);
        self.apply_commands(io);
    }

    /// Tells one answer that was there at once; false if there is none.
    pub fn tell_answer(&mut self, io: &mut Io) -> bool {
        let Some((query, answer)) = self.answered.pop_front() else { return false };
        self.on_query_answered(io, query, &answer);
        true
    }

    /// How many of those there are.
    pub fn untold_answers(&self) -> usize {
        self.answered.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeating_timer_keeps_its_beat_and_leaves_out_what_it_missed() {
        let mut repeat = Repeat { due_ms: 1_000, interval_ms: 10 };
        for (now_ms, due_ms) in
            [(1_000, 1_010), (1_013, 1_020), (1_020, 1_030), (1_057, 1_060), (1_069, 1_070)]
        {
            repeat.go_on(now_ms);
            assert_eq!(repeat.due_ms, due_ms, "at {now_ms}");
        }
        let mut odd = Repeat { due_ms: u64::MAX - 1, interval_ms: u64::MAX };
        odd.go_on(u64::MAX - 1);
        assert_eq!(odd.due_ms, u64::MAX);
    }
}
