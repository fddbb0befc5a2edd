//! The start of a log: what has to be known before the first record is written, and what may come later.
//!
//! Owns the order of the two. The newest segment says where writing goes on, so mail is taken as soon as
//! that one is read; what is waiting in all the others is found meanwhile ([`Reading`]) and put before what
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

/// What is to be read of a log, or has been.
pub(super) struct Reading {
    storage: Arc<dyn Storage>,
    survey: Survey,
    /// There already, where the newest segment did not say enough.
    replay: Option<Replay>,
    id_max: Option<TransactionId>,
}

impl Reading {
    /// The largest id of any transaction so far.
    pub(super) fn id_max(&self) -> Option<TransactionId> {
        self.id_max
    }

    /// Bytes that are still to be read.
    pub(super) fn bytes(&self) -> u64 {
        if self.replay.is_some() { 0 } else { self.survey.bytes() }
    }

    /// Reads it.
    pub(super) fn replay(self) -> Result<Replay, OpenError> {
        match self.replay {
            Some(replay) => Ok(replay),
            None => recovery::replay(&*self.storage, &self.survey),
        }
    }
}

/// Opens the log in `storage` as far as has to be done before anything is written.
pub(super) fn start(storage: Arc<dyn Storage>, options: Options) -> Result<Start, OpenError> {
    let survey = Survey::of(&*storage)?;
    let (tail, replay) = match recovery::tail(&*storage, &survey)? {
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
    let id_max = tail.id_max;
    let next_number = survey.next_number();
    let reading = Reading { storage: Arc::clone(&storage), survey, replay, id_max };
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
