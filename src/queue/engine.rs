//! The queue's trait: what a worker hands over and what it is told afterwards.
//!
//! Owns the contract between the runtime and any engine. Must not name an engine, a file or a
//! thread: nothing above this file knows which engine runs.
//!
//! Diagnostics: a [`Refusal`] per transaction that is not ours, [`ReadError`] for a body that does
//! not come back, [`Status`] for whoever watches.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::mail::{Attempt, Transaction, TransactionId};

/// Keeps mail over a crash. One handle is shared by all workers.
pub trait Queue: Send + Sync {
    /// Takes a worker's batch. Never blocks on the disk; the answer is a [`Completion`] for
    /// `worker`, later and from another thread.
    ///
    /// What waits here is bounded by the caller: every accepted transaction holds a connection
    /// and its share of the memory budget until its completion.
    fn hand_over(&self, worker: usize, batch: Vec<Entry>);

    /// Reads a transaction back, with the mails that are not yet freed. Blocks on the disk, so
    /// only the helper thread may call it.
    fn read(&self, id: TransactionId) -> Result<Transaction, ReadError>;

    /// Reads mails of one transaction back with all that is known of their attempts. Bodies longer than
    /// `body_bytes_max` come as their first part, unchecked. Blocks on the disk, as [`Queue::read`].
    fn recall(
        &self,
        id: TransactionId,
        indexes: &[u16],
        body_bytes_max: usize,
    ) -> Result<Recalled, ReadError>;

    /// The named queues that hold something, by name.
    fn shelves(&self) -> Vec<Shelf>;

    /// Entries of one named queue after `after`, oldest first, at most `limit`: their ids, and the bytes
    /// that each takes on disk.
    fn shelved(
        &self,
        name: &str,
        after: Option<TransactionId>,
        limit: usize,
    ) -> Vec<(TransactionId, u32)>;

    /// [`Status::accepting`], without a lock: cheap enough for every MAIL command.
    fn accepting(&self) -> Accepting;

    /// [`Status::delivering`], without a lock.
    fn delivering(&self) -> bool;

    /// The state of the queue, for an operator; figures may be one batch apart.
    fn status(&self) -> Status;

    /// Makes everything handed over durable and stops the engine, within `patience`. What is
    /// handed over later is dropped without a completion: nobody may be answered 250 for it.
    fn shutdown(&self, patience: Duration) -> Result<(), ShutdownError>;
}

/// A transaction that was read back to tell of the end of some of its mails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// With those of the mails asked for that are not freed, and the first part of each long body.
    pub transaction: Transaction,
    /// For each of these mails its attempts: as many as the engine keeps, each with its number from 1,
    /// increasing.
    pub attempts: Vec<Vec<(u32, Attempt)>>,
}

/// A named queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shelf {
    /// Its name.
    pub name: Box<str>,
    /// How many entries it holds.
    pub entries: u64,
    /// The bytes that these take on disk.
    pub bytes: u64,
}

/// One thing to be made durable.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Take responsibility for a transaction; answered in [`Completion::accepted`]. One that is
    /// [internal](Transaction::is_internal) is written, as outcomes are, even while
    /// [`Refusal::Full`] is what clients hear.
    Accept(Arc<Transaction>),
    /// Record the outcome of an attempt; counted in [`Completion::settled`]. With the internal
    /// transactions right before it in the same batch it stands or falls as one, over any crash. For a mail that the
    /// queue does not hold (any more) this is counted and otherwise ignored.
    Settle(Attempt),
}

/// Why a transaction is not ours. Nothing of it will be delivered, except that a refusal followed
/// at once by a crash may leave it queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The disk is full or nearly so: 452.
    #[error("the queue's disk is full")]
    Full,
    /// The transaction exceeds what a record can hold, so trying again will not help: 552.
    #[error("the transaction is larger than the queue can hold")]
    TooLarge,
    /// The disk failed: 451.
    #[error("the queue could not be written")]
    Failed,
}

/// What became durable for one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// Each transaction of the batch, in the order handed over: durable, or refused.
    pub accepted: Vec<(TransactionId, Result<(), Refusal>)>,
    /// How many settles became durable; they do so in the order handed over.
    pub settled: usize,
}

/// Why a transaction could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The queue does not hold it: settled, never accepted, or lost to damage reported earlier.
    #[error("the queue holds no transaction {0}")]
    Unknown(TransactionId),
    /// Its record is damaged; trying again will not help. An operator should look at the disk.
    #[error("the record of transaction {0} is damaged")]
    Damaged(TransactionId),
    /// The disk did not answer; trying again may help.
    #[error("transaction {id} could not be read")]
    Io {
        /// Which.
        id: TransactionId,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why a shutdown was not clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShutdownError {
    /// The disk did not answer in time; the engine's thread is still at it.
    #[error("the queue did not come to rest in time")]
    TimedOut,
    /// The engine had stopped before.
    #[error("the queue had stopped before")]
    Stopped,
    /// The disk failed and these outcomes of attempts are not durable: that many mails may be
    /// delivered once more after a restart.
    #[error("{settles} outcomes of attempts could not be written")]
    Unwritten {
        /// How many.
        settles: u64,
    },
}

/// Whether transactions are taken at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accepting {
    /// They are.
    Yes,
    /// Refused with [`Refusal::Full`].
    Full,
    /// Refused with [`Refusal::Failed`].
    Failed,
}

/// The state of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether transactions are taken.
    pub accepting: Accepting,
    /// Whether deliveries should go on. False while the disk is away and the outcomes held in
    /// memory have reached their bound: what is delivered now might be delivered again.
    pub delivering: bool,
    /// Whether mail from before the start is still being read: it is neither delivered nor shown yet.
    pub recovering: bool,
    /// Outcomes handed over but not yet durable: the most mails that may be delivered twice if
    /// the process is killed now.
    pub settles_unsynced: u64,
    /// Transactions held.
    pub transactions: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Bytes on disk.
    pub total_bytes: u64,
    /// Of these, bytes of transactions still held.
    pub live_bytes: u64,
    /// Damaged places found, at the start and since.
    pub damaged: u64,
    /// Batches written since the start.
    pub commits: u64,
    /// Syncs since the start.
    pub syncs: u64,
    /// Transactions made durable since the start.
    pub accepted: u64,
    /// Transactions refused since the start.
    pub refused: u64,
    /// Transactions rewritten since the start, to free the segments they were in.
    pub rewritten: u64,
    /// The last failure, as a sentence.
    pub trouble: Option<String>,
}
