//! Reading transactions back.
//!
//! Owns the way from an id to a transaction. Never writes; shares only the index with the commit
//! thread, and holds its lock for a look-up only.
//!
//! Diagnostics: [`ReadError`].

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};

use super::index::Index;
use super::record::Place;
use super::recovery::{self, OpenError};
use super::scan::{Content, RecordError, read_record};
use super::segment::SegmentName;
use crate::queue::engine::ReadError;
use crate::queue::mail::{Transaction, TransactionId};
use crate::queue::report::Recovered;
use crate::queue::storage::Storage;

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
        let replay = recovery::replay(&storage)?;
        let index = Arc::new(Mutex::new(replay.index));
        Ok((Self { storage, index }, replay.recovered))
    }

    pub(super) fn new(storage: Arc<dyn Storage>, index: Arc<Mutex<Index>>) -> Self {
        Self { storage, index }
    }

    /// See [`Queue::read`](crate::queue::Queue::read).
    pub fn read(&self, id: TransactionId) -> Result<Transaction, ReadError> {
        for _ in 0..MOVES_MAX {
            let (name, place) = self.locate(id)?;
            match self.read_at(name, place) {
                Ok(transaction) => return Ok(self.prune(transaction)),
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
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let place = index.held.get(&id).ok_or(ReadError::Unknown(id))?.location.place;
        let name = index.segment(place.segment).ok_or(ReadError::Unknown(id))?;
        Ok((name, place))
    }

    fn read_at(&self, name: SegmentName, place: Place) -> Result<Transaction, RecordError> {
        let reader = self.storage.open(&name.to_string()).map_err(RecordError::Io)?;
        match read_record(&*reader, name, place)? {
            Content::Accept(accept) => Ok(accept.transaction),
            Content::Opening(_) | Content::Settle(_) | Content::Void(_) | Content::Release(_) => {
                Err(RecordError::Damaged)
            }
        }
    }

    /// Leaves out the mails that were freed since the record was written.
    fn prune(&self, mut transaction: Transaction) -> Transaction {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = index.held.get(&transaction.id) {
            transaction.mails.retain(|mail| held.find(mail.index).is_some());
        }
        transaction
    }
}
