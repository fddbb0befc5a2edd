//! Giving space back: removing segments that are done with, and rewriting what blocks them.
//!
//! Owns when survivors are rewritten and when a segment goes. Segments go in order, oldest first,
//! so that no settle goes before what it settles. Mail that is settled soon is written once: nothing
//! is rewritten before the dead bytes exceed the live ones by two segments, or at all where the disk
//! runs short.
//!
//! Diagnostics: a survivor that does not read back is damage, counted and dropped; one that reads back
//! and has no record stays where it is, and its segment with it; a disk that does not answer pauses
//! rewriting. Segments with damage are kept under another name, up to
//! [`QUARANTINED_MAX`].

use super::codec::Unfit;
use super::history::ATTEMPTS_KEPT_MAX;
use super::index::HeldMail;
use super::journal::{Journal, State};
use super::reader::Files;
use super::record::Place;
use super::scan::{Content, RecordError};
use super::segment::{Location, QUARANTINE, Segment, SegmentName};
use crate::queue::mail::{Transaction, TransactionId};

/// After so many bytes a batch takes no further survivor.
pub(super) const REWRITE_BYTES_MAX: u64 = 1 << 20;
/// Most survivors of one batch.
const REWRITE_COUNT_MAX: usize = 256;
/// How long rewriting rests after a failure.
const PAUSE_MS: u64 = 10_000;
/// Most damaged segments that are kept for whoever wants to look at them.
const QUARANTINED_MAX: usize = 8;

/// How far rewriting has come.
#[derive(Default)]
pub(super) struct Compaction {
    /// How many of the oldest segment's accept records were looked at.
    from: usize,
    /// The same when the batch under way is durable.
    next: usize,
    /// When to go on after a failure.
    rest_until_ms: u64,
    /// The oldest segment that counts, as written but not yet durable.
    release: Option<u64>,
}

/// A transaction that was rewritten.
pub(super) struct Move {
    id: TransactionId,
    to: Location,
}

/// What is to be rewritten.
struct Survivor {
    id: TransactionId,
    location: Location,
    mails: Vec<HeldMail>,
}

impl Journal {
    /// When there is space to be given back.
    pub(super) fn compaction_due(&self, now_ms: u64) -> Option<u64> {
        if self.removable() > 0 && self.compaction.release.is_none() {
            return Some(now_ms);
        }
        self.is_wasteful().then_some(now_ms.max(self.compaction.rest_until_ms))
    }

    /// Too much of the log is dead, and the oldest segment is in the way.
    fn is_wasteful(&self) -> bool {
        let live = self.segments.live_bytes();
        let dead = self.segments.total_bytes() - live;
        let blocked = self.segments.list().len() > 1 && self.segments.list()[0].live > 0;
        let slack = if self.space.is_short() { 0 } else { 2 * self.options.segment_bytes };
        self.whole && blocked && dead > live + slack
    }

    /// How many of the oldest segments hold nothing that is needed. The head is never one.
    fn removable(&self) -> usize {
        let State::Open(head) = &self.state else {
            return 0;
        };
        if !self.whole {
            return 0;
        }
        let done = |segment: &&Segment| segment.live == 0 && segment.name != head.name();
        self.segments.list().iter().take_while(done).count()
    }

    /// Announces a removal. It happens when the announcement is durable: a crash may undo one
    /// removal and keep another, and mail in the first must not come back.
    pub(super) fn add_release(&mut self) {
        let removable = self.removable();
        if removable == 0 {
            return;
        }
        // The head is never removable, so one remains.
        let oldest = self.segments.list()[removable].name.number;
        if self.compaction.release != Some(oldest) {
            self.batch.add_release(oldest);
            self.compaction.release = Some(oldest);
        }
    }

    pub(super) fn on_release_durable(&mut self) {
        let Some(oldest) = self.compaction.release.take() else {
            return;
        };
        self.oldest = oldest;
        (self.compaction.from, self.compaction.next) = (0, 0);
        while let Some(segment) = self.segments.pop_before(oldest) {
            assert!(segment.live == 0, "a released segment holds nothing that is needed");
            self.index().remove_segment(segment.name);
            self.discard(&segment);
        }
    }

    fn discard(&self, segment: &Segment) {
        let name = segment.name.to_string();
        let kept = || {
            let names = self.storage.list().unwrap_or_default();
            names.iter().filter(|name| name.ends_with(QUARANTINE)).count()
        };
        let outcome = match segment.damaged && kept() < QUARANTINED_MAX {
            true => self.storage.rename(&name, &segment.name.quarantine()),
            false => self.storage.remove(&name),
        };
        if let Err(error) = outcome {
            // It is released all the same; the next start removes it.
            self.gauges.trouble("a segment could not be removed", &error);
        }
    }

    /// Adds survivors of the oldest segment to the batch, if there is need.
    pub(super) fn add_survivors(&mut self, now_ms: u64) -> Vec<Move> {
        self.compaction.next = self.compaction.from;
        if !self.is_wasteful() || now_ms < self.compaction.rest_until_ms {
            return Vec::new();
        }
        let mut moves = Vec::new();
        let mut files = Files::new(self.storage.clone());
        let start = self.batch.bytes();
        let (oldest, mut at) = (self.segments.list()[0].name.number, self.compaction.from);
        while moves.len() < REWRITE_COUNT_MAX && self.batch.bytes() - start < REWRITE_BYTES_MAX {
            let Some(&id) = self.segments.list()[0].accepts.get(at) else {
                break;
            };
            at += 1;
            let Some(survivor) = self.survivor(id, oldest) else {
                continue;
            };
            match self.rewrite(&survivor, &mut files) {
                Ok(Ok(to)) => moves.push(Move { id, to }),
                // Its segment stays for its sake.
                Ok(Err(unfit)) => self.gauges.trouble("mail could not be rewritten", &unfit),
                Err(RecordError::Damaged) => self.drop_damaged(&survivor),
                Err(RecordError::Io(error)) => {
                    self.gauges.trouble("mail could not be rewritten", &error);
                    self.on_compaction_failed(now_ms);
                    at -= 1;
                    break;
                }
            }
        }
        self.compaction.next = at;
        if moves.is_empty() && at == self.segments.list()[0].accepts.len() {
            // What is left could not be read in this pass.
            self.compaction.next = 0;
            self.compaction.rest_until_ms = now_ms + PAUSE_MS;
        }
        moves
    }

    fn survivor(&self, id: TransactionId, oldest: u64) -> Option<Survivor> {
        if self.unsynced.waits(id) {
            // Written anew it would count outcomes that are not written.
            return None;
        }
        let index = self.index();
        let held = index.get(id).filter(|held| held.location().place.segment == oldest)?;
        Some(Survivor { id, location: held.location(), mails: held.mails() })
    }

    /// Adds it to the batch, with the changes since. What has no record as it is now is no damage: it still
    /// reads back.
    fn rewrite(
        &mut self,
        survivor: &Survivor,
        files: &mut Files,
    ) -> Result<Result<Location, Unfit>, RecordError> {
        let place = survivor.location.place;
        let content = files.read(self.segment_name(place)?, place, usize::MAX)?;
        let (Content::Accept(mut accept) | Content::Companion(mut accept)) = content else {
            return Err(RecordError::Damaged);
        };
        let mut histories = Vec::with_capacity(survivor.mails.len());
        for mail in &survivor.mails {
            let mails = &accept.transaction.mails;
            let at = mails.binary_search_by_key(&mail.index, |mail| mail.index);
            let at = at.map_err(|_| RecordError::Damaged)?;
            let mut history = std::mem::take(&mut accept.histories[at]);
            for &place in &mail.outcomes {
                if let Some((number, mut attempt)) =
                    files.read_attempt(self.segment_name(place)?, place)?
                {
                    // The latest are the mail's own from now on.
                    if let Some(extras) = attempt.extras.take() {
                        accept.transaction.mails[at].extras = Some(extras);
                    }
                    history.add(number, attempt);
                }
            }
            history.attempts = mail.attempts;
            histories.push(history);
        }
        keep(&mut accept.transaction, &survivor.mails);
        // Without any attempt it fits, as whoever accepted it and its changes saw to.
        let mut added = Err(Unfit::TooLarge(survivor.id));
        for kept in [ATTEMPTS_KEPT_MAX, 8, 1, 0] {
            histories.iter_mut().for_each(|history| history.trim(kept));
            added = self.batch.add_accept(&accept.transaction, &histories, u64::MAX);
            if !matches!(added, Err(Unfit::TooLarge(_))) {
                break;
            }
        }
        Ok(added)
    }

    fn segment_name(&self, place: Place) -> Result<SegmentName, RecordError> {
        self.index().segment(place.segment).ok_or(RecordError::Damaged)
    }

    fn drop_damaged(&mut self, survivor: &Survivor) {
        self.gauges.trouble("mail was lost", &format!("the record of {} is damaged", survivor.id));
        self.gauges.count_damage(1);
        self.index().forget(survivor.id);
        self.segments.on_freed(survivor.location);
        self.segments.on_damaged(survivor.location.place.segment);
    }

    /// The rewritten records are durable: they count from now on.
    pub(super) fn on_moved(&mut self, moves: Vec<Move>) {
        self.compaction.from = self.compaction.next;
        self.gauges.count_rewritten(moves.len() as u64);
        for Move { id, to } in moves {
            let from = self.index().on_moved(id, to);
            // It may have been settled by an entry of the same batch.
            let Some(from) = from else {
                continue;
            };
            self.segments.on_freed(from);
            self.segments.on_placed(id, to);
        }
    }

    /// What was announced or rewritten did not become durable, or could not be read.
    pub(super) fn on_compaction_failed(&mut self, now_ms: u64) {
        self.compaction.release = None;
        self.compaction.rest_until_ms = now_ms + PAUSE_MS;
    }
}

/// Leaves only `mails` in the transaction.
fn keep(transaction: &mut Transaction, mails: &[HeldMail]) {
    let kept = |index| mails.binary_search_by_key(&index, |mail| mail.index).is_ok();
    transaction.mails.retain(|mail| kept(mail.index));
}
