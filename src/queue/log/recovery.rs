//! What a start makes of the segments on disk.
//!
//! Owns the replay: records in the order written, each outcome applied to what came before. Must
//! not change anything on disk; a damaged place costs what was written there and nothing else.
//! Replaying the same bytes twice gives the same result.
//!
//! Diagnostics: [`OpenError`] when nothing can be said about the mail that is there (the operator
//! must act); everything less is in the [`Report`].

use std::collections::HashSet;
use std::io;

use super::accepted::Accepted;
use super::backlog::Backlog;
use super::codec::Settle;
use super::index::{Held, HeldMail, Index};
use super::record::Place;
use super::scan::{Content, End, Found, Scan};
use super::segment::{Location, Segment, SegmentName, Segments};
use super::survey::{self, File, Survey};
use crate::queue::few::Few;
use crate::queue::mail::{MailId, TransactionId};
use crate::queue::report::{Damage, DamageReason, Recovered, Report, WaitingMail};
use crate::queue::storage::Storage;

/// Most places of damage that a report lists one by one.
const DAMAGED_LISTED_MAX: usize = 1000;

/// Why a queue could not be opened. Nothing of it was changed; the operator must act.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory could not be read.
    #[error("the queue directory could not be read")]
    List(#[source] io::Error),
    /// A segment could not be opened, so the mail in it is unknown.
    #[error("segment {name} of the queue could not be opened")]
    Segment {
        /// Its file name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// What was read could not be made durable, so nothing may rest on it.
    #[error("segment {name} of the queue could not be synced")]
    Sync {
        /// Its file name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server stopped before all of it was read.
    #[error("the queue was shut down before it was read")]
    Stopped,
    /// The commit thread could not be started.
    #[error("the commit thread could not be started")]
    Thread(#[source] io::Error),
}

/// A queue as it was left.
pub(super) struct Replay {
    pub(super) index: Index,
    pub(super) segments: Segments,
    pub(super) recovered: Recovered,
    pub(super) tail: Tail,
    /// Segments that are longer than what counts of them, and how much does.
    pub(super) excess: Vec<(SegmentName, u64)>,
    /// Files of segments that are done with and still there.
    pub(super) stale: Vec<SegmentName>,
}

/// Reads the segments that a survey found.
pub(super) fn replay(storage: &dyn Storage, survey: &Survey) -> Result<Replay, OpenError> {
    let mut state = State::default();
    for at in 0..survey.files().len() {
        state.read_file(storage, survey, at)?;
    }
    Ok(state.finish(survey))
}

/// What the next segment has to know of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// The last segment that counts and how many of its bytes do.
    pub(super) previous: (u64, u64),
    /// Segments below this number are done with.
    pub(super) oldest: u64,
    /// The largest id of any transaction so far.
    pub(super) id_max: Option<TransactionId>,
}

/// The tail of a log, told by its newest segment alone: how it begins says what it knew of those before.
/// `None` where that does not read back, so that all of them have to be read.
pub(super) fn tail(storage: &dyn Storage, survey: &Survey) -> Result<Option<Tail>, OpenError> {
    let files = survey.files();
    let Some(at) = files.iter().position(|file| file.name.number == survey.newest()) else {
        return Ok(files.is_empty().then(Tail::default));
    };
    if files[at].opening.is_none() {
        return Ok(None);
    }
    let mut state = State::default();
    state.read_file(storage, survey, at)?;
    // A disk that gave its first record a moment ago may not do so again.
    let tail = state.tail();
    Ok((tail.previous.0 == survey.newest()).then_some(tail))
}

/// The replay so far.
#[derive(Default)]
struct State {
    index: Index,
    backlog: Backlog,
    segments: Segments,
    report: Report,
    id_max: Option<TransactionId>,
    oldest: u64,
    previous: (u64, u64),
    excess: Vec<(SegmentName, u64)>,
    /// Transactions that count only if the outcome that is to follow does.
    companions: Vec<(Location, Accepted)>,
}

impl State {
    fn tail(&self) -> Tail {
        Tail { previous: self.previous, oldest: self.oldest, id_max: self.id_max }
    }

    fn read_file(
        &mut self,
        storage: &dyn Storage,
        survey: &Survey,
        at: usize,
    ) -> Result<(), OpenError> {
        let File { name, bytes, .. } = survey.files()[at];
        let reader = survey::open_file(storage, name)?;
        let end = match name.number >= survey.newest() {
            true => End::Newest,
            false => End::Sealed,
        };
        let seal = survey.seal(name.number);
        let limit = bytes.min(seal.unwrap_or(u64::MAX));
        self.segments.push(name);
        self.report.segments += 1;
        self.report.bytes += limit;
        let mut scan = Scan::new(name, reader, limit, end);
        let mut torn = 0;
        while let Some(found) = scan.next() {
            match found {
                Found::Record(location, content) => {
                    self.report.records += 1;
                    self.previous = (name.number, limit);
                    self.apply(location, content);
                }
                Found::Damage(damage) => {
                    self.drop_companions();
                    self.on_damage(damage);
                }
                Found::Torn(bytes) => torn = bytes,
            }
        }
        self.drop_companions();
        self.report.torn_bytes += torn;
        if let Some(seal) = seal.filter(|&seal| seal > limit) {
            self.on_truncated(name.number, limit, seal);
        }
        if self.previous.0 == name.number {
            self.previous.1 = limit - torn;
        }
        self.segments.on_length(name.number, bytes);
        if bytes > limit - torn {
            self.excess.push((name, limit - torn));
        }
        Ok(())
    }

    fn on_damage(&mut self, damage: Damage) {
        self.segments.on_damaged(damage.segment);
        match self.report.damaged.len() < DAMAGED_LISTED_MAX {
            true => self.report.damaged.push(damage),
            false => self.report.damaged_more += 1,
        }
    }

    /// A segment has `bytes` of the `seal` it had when it was sealed.
    fn on_truncated(&mut self, segment: u64, bytes: u64, seal: u64) {
        let missing = seal - bytes;
        match self.report.damaged.last_mut() {
            // The record that was cut has been reported as such.
            Some(last) if last.segment == segment && last.reason == DamageReason::Truncated => {
                last.length += missing;
            }
            Some(_) | None => self.on_damage(Damage {
                segment,
                offset: bytes,
                length: missing,
                reason: DamageReason::Truncated,
            }),
        }
    }

    fn apply(&mut self, location: Location, content: Content<Accepted>) {
        if !matches!(content, Content::Outcome(..) | Content::Companion(_)) {
            self.drop_companions();
        }
        match content {
            Content::Companion(accept) => {
                self.see(accept.waiting.id);
                self.companions.push((location, accept));
            }
            Content::Outcome(count, settle) => {
                let companions = std::mem::take(&mut self.companions);
                // Otherwise one of them is damaged, or was never written: nothing of it happened.
                if companions.len() == usize::from(count) {
                    companions.into_iter().for_each(|(at, accept)| self.on_accept(at, accept));
                    self.on_settle(location.place, settle);
                }
            }
            Content::Opening(opening) => {
                self.id_max = self.id_max.max(opening.id_max);
                self.on_release(opening.oldest);
            }
            Content::Release(oldest) => self.on_release(oldest),
            Content::Accept(accept) => self.on_accept(location, accept),
            Content::Settle(settle) => self.on_settle(location.place, settle),
            Content::Void(ids) => ids.into_iter().for_each(|id| self.on_void(id)),
        }
    }

    /// What was to tell of an outcome that did not come about.
    fn drop_companions(&mut self) {
        self.companions.clear();
    }

    fn see(&mut self, id: TransactionId) {
        self.id_max = self.id_max.max(Some(id));
    }

    /// A segment that was done with is still there, with mail that was settled in a segment that is
    /// not: a crash may undo one removal and keep another.
    fn on_release(&mut self, oldest: u64) {
        self.oldest = self.oldest.max(oldest);
        let late = |segment: &Segment| segment.name.number < oldest && segment.live > 0;
        if self.segments.list().iter().any(late) {
            self.index.before(oldest).into_iter().for_each(|id| self.forget(id));
        }
    }

    fn on_void(&mut self, id: TransactionId) {
        self.see(id);
        self.forget(id);
    }

    fn forget(&mut self, id: TransactionId) {
        if let Some(held) = self.index.forget(id) {
            self.segments.on_freed(held.location());
            self.backlog.remove(id);
        }
    }

    /// The later record of a transaction wins: it was rewritten.
    fn on_accept(&mut self, location: Location, accepted: Accepted) {
        let Accepted { waiting, shelf } = accepted;
        self.see(waiting.id);
        self.segments.on_placed(waiting.id, location);
        let mail = |mail: &WaitingMail| HeldMail {
            index: mail.index,
            attempts: mail.attempts,
            outcomes: Vec::new(),
        };
        let name = shelf.as_deref().map(|name| self.index.shelves.name(name));
        let held = Held::new(location, waiting.mails.iter().map(mail), name);
        if let Some(before) = self.index.hold(waiting.id, held) {
            self.segments.on_freed(before.location());
        }
        match shelf {
            None => self.backlog.insert(waiting),
            Some(_) => self.backlog.remove(waiting.id),
        }
    }

    fn on_settle(&mut self, place: Place, settle: Settle) {
        let Settle { mut attempt, number } = settle;
        let mail = attempt.mail;
        self.see(mail.transaction);
        if attempt.next.frees() {
            if let Some(location) = self.index.free(mail) {
                self.segments.on_freed(location);
                self.backlog.remove(mail.transaction);
            } else if let Some((mails, at)) = self.find(mail) {
                mails.remove(at);
            }
            return;
        }
        self.index.on_outcome_found(mail, number, place);
        if let Some((mails, at)) = self.find(mail) {
            mails[at].attempts = number;
            if let Some(extras) = attempt.extras.take() {
                mails[at].extras = Some(extras);
            }
            mails[at].last = Some(Box::new(attempt));
        }
    }

    /// Where among the mails of its transaction one is that was not freed.
    fn find(&mut self, mail: MailId) -> Option<(&mut Few<WaitingMail>, usize)> {
        let mails = &mut self.backlog.get_mut(mail.transaction)?.mails;
        let at = mails.binary_search_by_key(&mail.index, |mail| mail.index).ok()?;
        Some((mails, at))
    }

    fn finish(mut self, survey: &Survey) -> Replay {
        let tail = self.tail();
        let oldest = self.oldest;
        let mut stale = Vec::new();
        while let Some(segment) = self.segments.pop_before(oldest) {
            stale.push(segment.name);
        }
        self.excess.retain(|(name, _)| name.number >= oldest);
        self.report.damaged.retain(|damage| damage.segment >= oldest);
        self.find_missing(survey);
        for segment in self.segments.list() {
            self.index.add_segment(segment.name);
        }
        let waiting = self.backlog.into_sorted();
        Replay {
            index: self.index,
            segments: self.segments,
            recovered: Recovered { waiting, report: self.report, id_max: self.id_max },
            tail,
            excess: self.excess,
            stale,
        }
    }

    /// A segment that a later one names, that is not done with, and that is not there.
    fn find_missing(&mut self, survey: &Survey) {
        let present: HashSet<u64> =
            self.segments.list().iter().map(|segment| segment.name.number).collect();
        for opening in survey.files().iter().filter_map(|file| file.opening) {
            let named = opening.previous;
            if named != 0 && named >= self.oldest && !present.contains(&named) {
                self.on_damage(Damage {
                    segment: named,
                    offset: 0,
                    length: opening.previous_bytes,
                    reason: DamageReason::Missing,
                });
            }
        }
    }
}
