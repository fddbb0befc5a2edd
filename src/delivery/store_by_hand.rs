//! What an operator does with single mails: remove them, or have them tried now.
//!
//! Must never: touch a mail that is under way; it ends by its own deadlines.

use super::*;

impl Store {
    /// Frees a mail that is not under way. Returns what settles it; `None` for one that is not there, or
    /// is being delivered or read.
    pub fn remove(&mut self, id: MailId, now: Now) -> Option<Ended> {
        let (held, place) = find(&mut self.held, id)?;
        match held.mails()[place].place() {
            Place::Ready | Place::Waiting(_) | Place::Failed => {}
            Place::Loading | Place::Active | Place::Freed => return None,
        }
        let attempt = Attempt {
            mail: id,
            at_ms: now.unix_ms,
            next: Next::Removed,
            state: "process".into(),
            result: "error".into(),
            code: 0,
            status: "".into(),
            description: "removed by hand".into(),
            from: None,
            to: None,
            facts: None,
            extras: None,
        };
        self.apply(id, attempt, now)
    }

    /// The mails of a transaction that are not freed.
    pub fn mails(&self, id: TransactionId) -> Vec<MailId> {
        let held = self.held.get(id);
        let mails = held.map(Held::mails).unwrap_or_default().iter();
        mails.filter(|mail| mail.place() != Place::Freed).map(|mail| id.mail(mail.index)).collect()
    }

    /// Makes a waiting mail due now; whether it waited.
    pub fn hasten(&mut self, id: MailId, now: Now) -> bool {
        let Some((held, place)) = find(&mut self.held, id) else {
            return false;
        };
        let Place::Waiting(due_ms) = held.mails()[place].place() else {
            return false;
        };
        if due_ms > now.mono_ms && self.schedule.remove(due_ms, id) {
            held.move_to(place, Place::Waiting(now.mono_ms));
            self.schedule.insert(now.mono_ms, id);
        }
        true
    }

    /// Looks at some of the scheduled mails, the latest due first, those due before `before`, and makes
    /// the waiting ones that `wanted` says due now. Returns how many, and where to go on if that was not
    /// all.
    pub fn hasten_some(
        &mut self,
        before: Option<(u64, MailId)>,
        limit: usize,
        wanted: impl Fn(&str) -> bool,
        now: Now,
    ) -> (usize, Option<(u64, MailId)>) {
        let some = self.schedule.latest(before, limit);
        let last = some.last().copied().filter(|(due_ms, _)| *due_ms > now.mono_ms);
        let next = last.filter(|_| some.len() == limit);
        let mut count = 0;
        for (due_ms, id) in some {
            let recipient = find(&mut self.held, id)
                .map(|(held, place)| wanted(held.mails()[place].addresses.recipient()))
                .unwrap_or(false);
            count += usize::from(due_ms > now.mono_ms && recipient && self.hasten(id, now));
        }
        (count, next)
    }
}
