//! What a store says of its mails, and of where they go, to whoever asks.
//!
//! Must never: change anything.
//!
//! **Diagnostics**: none; a mail that is gone is absent.

use crate::queue::{Attempt, MailId, TransactionId, Wishes};
use crate::results::ResultQueues;

use super::destinations::DestinationId;
use super::finish::Ended;
use super::store::{Held, Place, Store};
use super::target::Target;

/// One mail, explained.
#[derive(Clone, Debug, PartialEq)]
pub struct MailView {
    /// Its name.
    pub id: MailId,
    /// When it was received, unix milliseconds.
    pub received_ms: u64,
    /// Sender; empty is the null sender.
    pub envelope: Box<str>,
    /// Recipient.
    pub recipient: Box<str>,
    /// Octets of its transaction's texts.
    pub body_bytes: u64,
    /// What it waits for.
    pub place: Place,
    /// Where it goes; of use while it is ready, loading or active.
    pub destination: DestinationId,
    /// How many attempts there were.
    pub attempts: u32,
    /// The latest of them, oldest first.
    pub recent: Vec<Attempt>,
    /// What it asks for itself.
    pub wishes: Option<Box<Wishes>>,
}

/// One destination, explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationView {
    /// Where the mails go.
    pub target: Target,
    /// Mails that are ready, being read back, or under way.
    pub mails: usize,
    /// Of these, those that wait for a connection; at most, some may be gone.
    pub ready: usize,
    /// Connections, opening ones included.
    pub connections: usize,
    /// Of these, those without mail.
    pub idle: usize,
    /// Of these, those that are not greeted yet.
    pub opening: usize,
    /// Whether its route is being looked up, or waits for that; `None` with a route that serves.
    pub look_up: Option<LookUp>,
    /// Why the last connection or look-up failed, until one succeeds.
    pub trouble: Option<String>,
    /// When it is tried again, on the monotonic clock.
    pub back_at_ms: Option<u64>,
    /// Whether it waits for connections or memory that others use.
    pub starved: bool,
}

/// What a destination without a route waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookUp {
    /// A place among the look-ups.
    Waiting,
    /// The answer.
    Asked,
}

impl Store {
    /// The mail of an attempt that ended, with the attempts before that one; their number counts it.
    pub fn mail_of(&self, ended: &mut Ended) -> Option<MailView> {
        if let Some(freed) = ended.freed.take() {
            return Some(freed);
        }
        let mut view = self.view(ended.attempt.mail)?;
        view.recent.pop();
        Some(view)
    }

    /// Where the settings send results.
    pub fn queues(&self) -> &ResultQueues {
        &self.limits.queues
    }

    /// What a mail asks for itself.
    pub fn wishes(&self, id: MailId) -> Option<&Wishes> {
        let held = self.held.get(&id.transaction)?;
        let place = held.mails.binary_search_by_key(&id.index, |mail| mail.index).ok()?;
        held.wishes_of(place)
    }

    /// How many attempts of a mail there were before that of now; 0 for one that is not there.
    pub fn attempts(&self, id: MailId) -> u32 {
        let mails = self.held.get(&id.transaction).map(|held| &*held.mails).unwrap_or_default();
        let place = mails.binary_search_by_key(&id.index, |mail| mail.index);
        place.map_or(0, |place| mails[place].attempts)
    }

    /// One mail, explained.
    pub fn view(&self, id: MailId) -> Option<MailView> {
        let held = self.held.get(&id.transaction)?;
        let place = held.mails.binary_search_by_key(&id.index, |mail| mail.index).ok()?;
        let mail = &held.mails[place];
        (mail.place != Place::Freed).then(|| view(id, held, place))
    }

    /// All mails of one transaction, explained.
    pub fn view_all(&self, id: TransactionId) -> Vec<MailView> {
        let mails = self.held.get(&id).map(|held| &*held.mails).unwrap_or_default();
        mails.iter().filter_map(|mail| self.view(id.mail(mail.index))).collect()
    }

    /// Mails by id, those after `after` and at most `limit`.
    pub fn views(&self, after: Option<MailId>, limit: usize) -> Vec<MailView> {
        let mut ids: Vec<MailId> = self
            .held
            .iter()
            .flat_map(|(id, held)| held.mails.iter().map(move |mail| (*id, mail)))
            .filter(|(_, mail)| mail.place != Place::Freed)
            .map(|(id, mail)| id.mail(mail.index))
            .filter(|&id| after.is_none_or(|after| id > after))
            .collect();
        if limit < ids.len() {
            ids.select_nth_unstable(limit);
            ids.truncate(limit);
        }
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.view(id)).collect()
    }
}

/// What is known of a mail that was freed, moved out: mail that arrives at once costs no copy.
pub(super) fn taken(id: MailId, held: &mut Held, place: usize) -> MailView {
    let (received_ms, body_bytes) = (held.received_ms, held.body_bytes);
    let wishes = held.wishes_of(place).cloned().map(Box::new);
    let mail = &mut held.mails[place];
    MailView {
        id,
        received_ms,
        envelope: std::mem::take(&mut mail.envelope),
        recipient: std::mem::take(&mut mail.recipient),
        body_bytes,
        place: mail.place,
        destination: mail.destination,
        attempts: mail.attempts,
        recent: std::mem::take(&mut mail.recent),
        wishes,
    }
}

fn view(id: MailId, held: &Held, place: usize) -> MailView {
    let mail = &held.mails[place];
    MailView {
        id,
        received_ms: held.received_ms,
        envelope: mail.envelope.clone(),
        recipient: mail.recipient.clone(),
        body_bytes: held.body_bytes,
        place: mail.place,
        destination: mail.destination,
        attempts: mail.attempts,
        recent: mail.recent.clone(),
        wishes: held.wishes_of(place).cloned().map(Box::new),
    }
}
