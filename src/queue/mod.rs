//! The queue: mail that Rohrpost has taken responsibility for, and when each of it is due.
//!
//! Owns the [`Queue`] trait with what crosses it, the [`LogQueue`] engine behind it, the
//! [`Storage`] that engine stands on, and the pure [`Schedule`]. Knows nothing of SMTP sessions,
//! the reactor or plugins; nothing above the trait knows which engine runs.
//!
//! Diagnostics: refusals and read errors name who must act; damage found on disk is listed in a
//! [`Report`], never silently skipped.

#[cfg(test)]
mod dice;
mod engine;
mod extras;
mod few;
pub mod fuzz;
mod ledger;
mod log;
mod mail;
mod memory;
mod report;
mod schedule;
mod storage;
mod wishes;

#[cfg(test)]
pub(crate) use dice::Dice;
pub use engine::{
    Accepting, Completion, Entry, Queue, ReadError, Recalled, Refusal, Shelf, ShutdownError, Status,
};
pub use extras::{Extras, MailNotes};
pub use few::Few;
pub use ledger::Ledger;
pub use log::bench;
pub(crate) use log::is_file_of_queue;
pub use log::{Backlog, LogQueue, LogReader, Notify, OpenError, Options, Unread};
pub use mail::{
    Addresses, Attempt, Body, BodyError, IdError, Ids, Mail, MailId, NO_BODY, Next, Origin,
    ShownId, Transaction, TransactionId,
};
pub use memory::{Fault, Loss, MemoryStorage};
pub use report::{Damage, DamageReason, Recovered, Report, Waiting, WaitingMail};
pub use schedule::{Retrial, Retry, Schedule};
pub use storage::{Appender, DiskStorage, Reader, Storage};
pub use wishes::{DsnNotify, MailDsn, Password, QueueWish, QueueWishes, Ret, Smarthost, Wishes};
