//! Counters and gauges: one block per worker, written by its owner only, read by anybody.
//!
//! Each block has cache lines of its own, and a write is a plain store: no lock and no shared
//! cache line is touched per message. Must never: know what a number means to a mail.
//!
//! **Diagnostics**: none; a number that is off is a bug of whoever counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! numbers {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal,)*) => {
        /// What is counted. Counters only grow within the life of a process; gauges move.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Number { $($(#[doc = $doc])* $name,)* }

        impl Number {
            /// Every number, in the order in which they are shown.
            pub const ALL: &[Number] = &[$(Number::$name,)*];

            /// The name in the status report.
            pub fn name(self) -> &'static str {
                match self { $(Number::$name => $text,)* }
            }

            /// What it counts, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Number::$name => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

numbers! {
    /// Gauge: open incoming connections.
    IncomingConnections = "incoming_connections",
    /// Gauge: open outgoing connections, connecting ones included.
    OutgoingConnections = "outgoing_connections",
    /// Gauge: destinations that mail waits or connections are open for; each worker counts its own.
    Destinations = "destinations",
    /// Gauge: steps that a plugin holds.
    Held = "held",
    /// Gauge: mails that are owned and neither delivered nor removed.
    Queued = "queued",
    /// Gauge: of these, failed for good and kept until they age out.
    Failed = "failed",
    /// Gauge: of these, due now: ready for a connection, being read back, or being sent.
    UnderWay = "under_way",
    /// Gauge: accepted transactions whose commit is under way.
    Committing = "committing",
    /// Gauge: octets of mail in memory.
    MemoryUsed = "memory_used",
    /// Connections accepted since the start.
    Connected = "connected",
    /// Connections refused by a limit (421 or 554 before the banner).
    Turned = "turned_away",
    /// Mails (one per recipient) that became durable since the start, and so ours.
    Accepted = "accepted",
    /// Commands and messages that were refused by the host, a plugin or its deadline, or the queue.
    Refused = "refused",
    /// Mails (one per recipient) that plugins had dropped, and clients were told are accepted.
    Discarded = "discarded",
    /// Mails whose final 250 from the next hop was received.
    Delivered = "delivered",
    /// Attempts that ended in a temporary failure, the last ones before giving up included.
    Retried = "retried",
    /// Mails that failed for good.
    Bounced = "bounced",
    /// Mails that were removed because max-delivertime was over.
    Aged = "aged",
    /// Notices to senders that were written since the start.
    Notices = "notices",
    /// Results that were put into named queues since the start.
    Results = "results",
    /// Gauge: attempts that ended and are not recorded yet: a notice or the send log holds them up.
    Settling = "settling",
    /// Plugin holds that ran into plugin-timeout.
    Revoked = "plugin_revoked",
    /// Logins that were successful.
    LoggedIn = "logged_in",
    /// Logins that were refused.
    LoginsFailed = "logins_failed",
    /// Passwords that were given away to be hashed, those of unknown users included.
    PasswordsHashed = "passwords_hashed",
    /// Turns of the worker's loop.
    Turns = "turns",
}

/// The numbers of one worker.
#[repr(align(128))]
#[derive(Debug)]
pub struct WorkerMetrics([AtomicU64; Number::ALL.len()]);

impl Default for WorkerMetrics {
    fn default() -> WorkerMetrics {
        WorkerMetrics([const { AtomicU64::new(0) }; Number::ALL.len()])
    }
}

impl WorkerMetrics {
    /// Adds to a counter or gauge. Only the owning worker may call this: the store is plain.
    pub fn add(&self, number: Number, amount: u64) {
        let cell = &self.0[number as usize];
        cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Takes from a gauge; only the owning worker may.
    pub fn sub(&self, number: Number, amount: u64) {
        let cell = &self.0[number as usize];
        cell.store(cell.load(Relaxed).wrapping_sub(amount), Relaxed);
    }

    /// Sets a gauge; only the owning worker may.
    pub fn set(&self, number: Number, value: u64) {
        self.0[number as usize].store(value, Relaxed);
    }

    /// Reads a number, from any thread.
    pub fn value(&self, number: Number) -> u64 {
        self.0[number as usize].load(Relaxed)
    }
}

/// The numbers of all workers.
#[derive(Debug)]
pub struct Metrics(Box<[WorkerMetrics]>);

impl Metrics {
    /// Blocks for `workers` workers, all zero.
    pub fn new(workers: usize) -> Metrics {
        Metrics((0..workers).map(|_| WorkerMetrics::default()).collect())
    }

    /// The block of one worker.
    pub fn worker(&self, index: usize) -> &WorkerMetrics {
        &self.0[index]
    }

    /// One number, added up over the workers.
    pub fn sum(&self, number: Number) -> u64 {
        self.0.iter().map(|worker| worker.value(number)).sum()
    }

    /// All numbers, added up, by name.
    pub fn report(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Number::ALL.iter().map(|&number| (number.name(), self.sum(number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_run_over_workers_and_names_are_unique() {
        let metrics = Metrics::new(2);
        metrics.worker(0).add(Number::Accepted, 2);
        metrics.worker(1).add(Number::Accepted, 3);
        metrics.worker(1).sub(Number::Accepted, 1);
        assert_eq!(metrics.sum(Number::Accepted), 4);
        let names: std::collections::HashSet<_> = metrics.report().map(|(name, _)| name).collect();
        assert_eq!(names.len(), Number::ALL.len());
    }
}
