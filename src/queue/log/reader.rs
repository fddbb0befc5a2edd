//! Reading transactions back.
//!
//! Owns the way from an id to a transaction. Never writes; shares only the index with the commit
//! thread, and holds its lock for a look-up only.
//!
//! Diagnostics: [`ReadError`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::codec::Accept;
use super::index::Index;
use super::record::Place;
use super::recovery::{self, OpenError};
use super::scan::{Content, RecordError, read_record, read_record_part};
use super::segment::SegmentName;
use super::survey::Survey;
use crate::queue::engine::{ReadError, Recalled, Shelf};
use crate::queue::mail::{Attempt, Transaction, TransactionId};
use crate::queue::report::Recovered;
use crate::queue::storage::{Reader, Storage};

/// How often a record may move away while it is being read.
const MOVES_MAX: u32 = 8;

/// A log that is only read: what `rohrpost queue` uses when no server runs.
#[derive(Clone)]
pub struct LogReader {
    storage: Arc<dyn Storage>,
    index: Arc<Mutex<Index>>,
}

impl LogReader {
    /// Reads the log in `storage` and changes nothing. No server may be writing to it.
    ///
    /// # Errors
    /// [`OpenError::List`] and [`OpenError::Segment`].
    pub fn open(storage: Arc<dyn Storage>) -> Result<(Self, Recovered), OpenError> {
        let replay = recovery::replay(&*storage, &Survey::of(&*storage)?)?;
        let index = Arc::new(Mutex::new(replay.index));
        Ok((Self { storage, index }, replay.recovered))
    }

    pub(super) fn new(storage: Arc<dyn Storage>, index: Arc<Mutex<Index>>) -> Self {
        Self { storage, index }
    }

    /// See [`Queue::read`](crate::queue::Queue::read).
    pub fn read(&self, id: TransactionId) -> Result<Transaction, ReadError> {
        self.retry(id, |name, place| {
            let reader = self.storage.open(&name.to_string()).map_err(RecordError::Io)?;
            Ok(self.prune(transaction_of(read_record(&*reader, name, place)?)?.transaction))
        })
    }

    /// See [`Queue::recall`](crate::queue::Queue::recall).
    pub fn recall(
        &self,
        id: TransactionId,
        indexes: &[u16],
        body_bytes_max: usize,
    ) -> Result<Recalled, ReadError> {
        self.retry(id, |name, place| {
            let mut files = Files::new(self.storage.clone());
            let accept = transaction_of(files.read(name, place, body_bytes_max)?)?;
            self.with_attempts(accept, indexes, &mut files)
        })
    }

    /// See [`Queue::shelves`](crate::queue::Queue::shelves).
    pub fn shelves(&self) -> Vec<Shelf> {
        self.index().shelves.list()
    }

    /// See [`Queue::shelved`](crate::queue::Queue::shelved).
    pub fn shelved(
        &self,
        name: &str,
        after: Option<TransactionId>,
        limit: usize,
    ) -> Vec<(TransactionId, u32)> {
        self.index().shelves.ids(name, after, limit)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the record of a transaction, wherever it moves to meanwhile.
    fn retry<T>(
        &self,
        id: TransactionId,
        mut read: impl FnMut(SegmentName, Place) -> Result<T, RecordError>,
    ) -> Result<T, ReadError> {
        for _ in 0..MOVES_MAX {
            let (name, place) = self.locate(id)?;
            match read(name, place) {
                Ok(found) => return Ok(found),
                Err(RecordError::Damaged) => return Err(ReadError::Damaged(id)),
                // The segment was removed after the look-up, so the record is elsewhere now.
                Err(RecordError::Io(error))
                    if error.kind() == ErrorKind::NotFound && self.locate(id)?.1 != place => {}
                Err(RecordError::Io(source)) => return Err(ReadError::Io { id, source }),
            }
        }
        let source = std::io::Error::other("its record moved again and again");
        Err(ReadError::Io { id, source })
    }

    fn locate(&self, id: TransactionId) -> Result<(SegmentName, Place), ReadError> {
        let index = self.index();
        let place = index.get(id).ok_or(ReadError::Unknown(id))?.location().place;
        let name = index.segment(place.segment).ok_or(ReadError::Unknown(id))?;
        Ok((name, place))
    }

    /// Leaves the mails that are asked for, each with its attempts: those in the record, and what was
    /// written since.
    fn with_attempts(
        &self,
        accept: Accept,
        indexes: &[u16],
        files: &mut Files,
    ) -> Result<Recalled, RecordError> {
        let Accept { mut transaction, mut histories, .. } = accept;
        let mut attempts = Vec::with_capacity(indexes.len());
        for (mail, history) in transaction.mails.iter().zip(&mut histories) {
            let outcomes = self.outcomes(transaction.id, mail.index);
            let Some(outcomes) = outcomes.filter(|_| indexes.contains(&mail.index)) else {
                continue;
            };
            for (name, place) in outcomes {
                match files.read_attempt(name, place) {
                    Ok(Some((number, attempt))) => history.add(number, attempt),
                    Ok(None) => {}
                    // Segments go when what they held was rewritten, and then this is in the record.
                    Err(RecordError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            attempts.push((mail.index, std::mem::take(&mut history.kept)));
        }
        let asked = |index: u16| attempts.binary_search_by_key(&index, |(index, _)| *index).is_ok();
        transaction.mails.retain(|mail| asked(mail.index));
        let attempts = attempts.into_iter().map(|(_, kept)| kept).collect();
        Ok(Recalled { transaction, attempts })
    }

    /// Where the outcomes of a mail are; none for one that is freed.
    fn outcomes(&self, id: TransactionId, mail: u16) -> Option<Vec<(SegmentName, Place)>> {
        let index = self.index();
        let outcomes = index.get(id)?.outcomes(mail)?.into_iter();
        Some(outcomes.filter_map(|place| Some((index.segment(place.segment)?, place))).collect())
    }

    /// Leaves out the mails that were freed since the record was written.
    fn prune(&self, mut transaction: Transaction) -> Transaction {
        let index = self.index();
        if let Some(held) = index.get(transaction.id) {
            transaction.mails.retain(|mail| held.has(mail.index));
        }
        transaction
    }
}

fn transaction_of(content: Content) -> Result<Accept, RecordError> {
    match content {
        Content::Accept(accept) | Content::Companion(accept) => Ok(accept),
        Content::Opening(_)
        | Content::Settle(_)
        | Content::Outcome(..)
        | Content::Void(_)
        | Content::Release(_) => Err(RecordError::Damaged),
    }
}

/// Segments that are open while several of their records are read.
pub(super) struct Files {
    storage: Arc<dyn Storage>,
    open: HashMap<u64, Box<dyn Reader>>,
}

impl Files {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, open: HashMap::new() }
    }

    /// See [`read_record_part`].
    pub(super) fn read(
        &mut self,
        name: SegmentName,
        place: Place,
        body_bytes_max: usize,
    ) -> Result<Content, RecordError> {
        let reader = match self.open.entry(name.number) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(self.storage.open(&name.to_string()).map_err(RecordError::Io)?)
            }
        };
        read_record_part(&**reader, name, place, body_bytes_max)
    }

    /// The attempt that is written at `place`, with its number. A damaged one costs itself only.
    pub(super) fn read_attempt(
        &mut self,
        name: SegmentName,
        place: Place,
    ) -> Result<Option<(u32, Attempt)>, RecordError> {
        match self.read(name, place, 0) {
            Ok(Content::Settle(settle) | Content::Outcome(_, settle)) => {
                Ok(Some((settle.number, settle.attempt)))
            }
            Ok(_) | Err(RecordError::Damaged) => Ok(None),
            Err(RecordError::Io(error)) => Err(RecordError::Io(error)),
        }
    }
}
