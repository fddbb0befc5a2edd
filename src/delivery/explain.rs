//! What a store says of its mails, and of where they go, to whoever asks.
//!
//! Must never: change anything.
//!
//! **Diagnostics**: none; a mail that is gone is absent.

use crate::queue::{Addresses, Attempt, MailId, TransactionId, Wishes};
use crate::results::ResultQueues;

use super::destinations::DestinationId;
use super::finish::Ended;
use super::held::Held;
use super::store::{Place, Store};
use super::target::Target;

/// One mail, explained.
#[derive(Clone, Debug, PartialEq)]
pub struct MailView {
    /// Its name.
    pub id: MailId,
    /// When it was received, unix milliseconds.
    pub received_ms: u64,
    /// Its sender's and its recipient's.
    pub addresses: Addresses,
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
        let held = self.held.get(id.transaction)?;
        held.wishes_of(held.find(id.index)?)
    }

    /// How many attempts of a mail there were before that of now; 0 for one that is not there.
    pub fn attempts(&self, id: MailId) -> u32 {
        let attempts = |held: &Held| Some(held.mails()[held.find(id.index)?].attempts);
        self.held.get(id.transaction).and_then(attempts).unwrap_or(0)
    }

    /// One mail, explained.
    pub fn view(&self, id: MailId) -> Option<MailView> {
        let held = self.held.get(id.transaction)?;
        let place = held.find(id.index)?;
        (held.mails()[place].place() != Place::Freed).then(|| view(id, held, place))
    }

    /// All mails of one transaction, explained.
    pub fn view_all(&self, id: TransactionId) -> Vec<MailView> {
        let mails = self.held.get(id).map(Held::mails).unwrap_or_default();
        mails.iter().filter_map(|mail| self.view(id.mail(mail.index))).collect()
    }

    /// Mails by id, those after `after` and at most `limit`.
    pub fn views(&self, after: Option<MailId>, limit: usize) -> Vec<MailView> {
        let from = after.map_or(TransactionId::from_u64(0), |after| after.transaction);
        let held = self.held.iter_from(from);
        held.flat_map(|(id, held)| (0..held.mails().len()).map(move |place| (id, held, place)))
            .filter(|(_, held, place)| held.mails()[*place].place() != Place::Freed)
            .map(|(id, held, place)| (id.mail(held.mails()[place].index), held, place))
            .filter(|(id, ..)| after.is_none_or(|after| *id > after))
            .take(limit)
            .map(|(id, held, place)| view(id, held, place))
            .collect()
    }
}

/// What is known of a mail that was freed, moved out: mail that arrives at once costs no copy.
pub(super) fn taken(id: MailId, held: &mut Held, place: usize) -> MailView {
    let (received_ms, body_bytes) = (held.received_ms, held.body_bytes());
    let wishes = held.wishes_of(place).cloned().map(Box::new);
    let mail = held.mail_mut(place);
    MailView {
        id,
        received_ms,
        addresses: std::mem::take(&mut mail.addresses),
        body_bytes,
        place: mail.place(),
        destination: mail.destination,
        attempts: mail.attempts,
        recent: mail.take_recent(),
        wishes,
    }
}

fn view(id: MailId, held: &Held, place: usize) -> MailView {
    let mail = &held.mails()[place];
    MailView {
        id,
        received_ms: held.received_ms,
        addresses: mail.addresses.clone(),
        body_bytes: held.body_bytes(),
        place: mail.place(),
        destination: mail.destination,
        attempts: mail.attempts,
        recent: mail.recent().to_vec(),
        wishes: held.wishes_of(place).cloned().map(Box::new),
    }
}
