//! The start of a log: what has to be known before the first record is written, and what may come later.
//!
//! Owns the order of the two. The newest segment says where writing goes on, so mail is taken as soon as
//! that one is read; what is waiting in all the others is found meanwhile ([`Unread`]) and put before what
//! has come in since ([`Journal::absorb`]). Must not tell a worker of mail that the journal does not hold
//! yet: its outcomes would be lost.
//!
//! Diagnostics: [`OpenError`].

use std::sync::{Arc, Mutex};

use super::gauges::Gauges;
use super::index::Index;
use super::journal::{Journal, Options};
use super::reader::LogReader;
use super::recovery::{self, OpenError, Replay};
use super::survey::Survey;
use crate::queue::mail::TransactionId;
use crate::queue::report::Recovered;
use crate::queue::storage::Storage;

/// A log that can be written to, and what is still to be read of it.
pub(super) struct Start {
    pub(super) journal: Journal,
    pub(super) reader: LogReader,
    pub(super) gauges: Arc<Gauges>,
    pub(super) reading: Reading,
}

/// What is waiting in a log.
pub(super) enum Reading {
    /// It was read.
    Done(Box<Replay>),
    /// It is to be read yet.
    Open(Unread),
}

/// The segments of a log of which only the newest was read.
pub(super) struct Unread {
    storage: Arc<dyn Storage>,
    survey: Survey,
    /// The largest id of any transaction so far.
    pub(super) id_max: Option<TransactionId>,
}

impl Unread {
    /// Bytes of the segments.
    pub(super) fn bytes(&self) -> u64 {
        self.survey.bytes()
    }

    /// Reads them.
    pub(super) fn replay(&self) -> Result<Replay, OpenError> {
        recovery::replay(&*self.storage, &self.survey)
    }
}

/// Opens the log in `storage` as far as has to be done before anything is written. One of at most `bytes_max`
/// bytes is read whole, and so is one whose newest segment does not say enough.
pub(super) fn start(
    storage: Arc<dyn Storage>,
    options: Options,
    bytes_max: u64,
) -> Result<Start, OpenError> {
    let survey = Survey::of(&*storage)?;
    let long = survey.bytes() > bytes_max;
    let (tail, replay) = match if long { recovery::tail(&*storage, &survey)? } else { None } {
        Some(tail) => (tail, None),
        None => {
            let replay = recovery::replay(&*storage, &survey)?;
            (replay.tail, Some(replay))
        }
    };
    for file in survey.files().iter().rev() {
        // What a killed server wrote but did not sync was read just now, and mail that is
        // thereby settled will not be tried again. So it must not vanish any more.
        let name = file.name.to_string();
        storage.sync(&name).map_err(|source| OpenError::Sync { name, source })?;
        if file.name.number <= tail.previous.0 {
            break;
        }
    }
    let gauges = Arc::new(Gauges::new());
    let index = Arc::new(Mutex::new(Index::default()));
    let reader = LogReader::new(Arc::clone(&storage), Arc::clone(&index));
    let next_number = survey.next_number();
    let reading = match replay {
        Some(replay) => Reading::Done(Box::new(replay)),
        None => {
            let id_max = tail.id_max;
            Reading::Open(Unread { storage: Arc::clone(&storage), survey, id_max })
        }
    };
    let journal = Journal::new(storage, options, tail, next_number, index, Arc::clone(&gauges));
    Ok(Start { journal, reader, gauges, reading })
}

impl Journal {
    /// Takes over what was found in the segments that were there before, and gives back space in which
    /// nothing counts.
    pub(super) fn absorb(&mut self, replay: Replay) -> Recovered {
        let Replay { index, mut segments, recovered, excess, stale, tail: _ } = replay;
        for (name, bytes) in excess {
            // It may be what fills the disk. If it stays, the next start tries again.
            if self.storage.truncate(&name.to_string(), bytes).is_ok() {
                segments.on_length(name.number, bytes);
            }
        }
        for name in stale {
            // Once more than needed is no failure: the next start tries again.
            let _ = self.storage.remove(&name.to_string());
        }
        self.segments.go_on_from(segments);
        self.index().go_on_from(index);
        let report = &recovered.report;
        self.gauges.count_damage(report.damaged.len() as u64 + report.damaged_more);
        self.whole = true;
        self.publish();
        recovered
    }
}
