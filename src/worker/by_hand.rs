//! What an operator asks a worker to do with single mails.
//!
//! Must never: look at more mails at once than the bounds say.
//!
//! **Diagnostics**: the answer counts what was done.

use serde_json::{Value, json};

use crate::control::Which;
use crate::net::desk::Io;
use crate::queue::{MailId, TransactionId};

use super::turn::Worker;

/// Scheduled mails that are looked at in one call.
const HASTENED_AT_ONCE: usize = 10_000;
/// Mails of a transaction that are removed in one call; more are removed when asked again.
const REMOVED_AT_ONCE: usize = 1_000;

impl Worker {
    /// Removes mails of this worker: one row that counts them, and those that are under way.
    pub(super) fn remove_by_hand(&mut self, ids: &[String], io: &Io) -> Vec<Value> {
        let now = self.desk.now(io);
        let (mut removed, mut busy) = (0, 0);
        for id in self.named(ids).into_iter().take(REMOVED_AT_ONCE) {
            match self.desk.store.remove(id, now) {
                Some(ended) => {
                    self.desk.settle_removed(ended);
                    removed += 1;
                }
                None => busy += u64::from(self.desk.store.view(id).is_some()),
            }
        }
        vec![json!({ "removed": removed, "under-way": busy })]
    }

    /// Makes waiting mails of this worker due now: one row that counts them, and says where to go on.
    pub(super) fn retry_by_hand(
        &mut self,
        which: &Which,
        before: Option<(u64, MailId)>,
        io: &Io,
    ) -> Vec<Value> {
        let now = self.desk.now(io);
        let store = &mut self.desk.store;
        let (count, next) = match which {
            Which::All => store.hasten_some(before, HASTENED_AT_ONCE, |_| true, now),
            Which::RecipientDomain(domain) => {
                let within = |recipient: &str| {
                    let found = recipient.rsplit_once('@').map_or("", |(_, domain)| domain);
                    found.eq_ignore_ascii_case(domain)
                };
                store.hasten_some(before, HASTENED_AT_ONCE, within, now)
            }
            Which::Ids(ids) => {
                let named = self.named(ids);
                let store = &mut self.desk.store;
                (named.into_iter().filter(|id| store.hasten(*id, now)).count(), None)
            }
        };
        let next = next.map(|(due_ms, id)| json!([due_ms, id.to_string()]));
        vec![json!({ "retried": count, "next": next })]
    }

    /// The mails that these ids mean, each alone or all of a transaction.
    fn named(&self, ids: &[String]) -> Vec<MailId> {
        let mut named = Vec::new();
        for id in ids {
            if let Ok(transaction) = id.parse::<TransactionId>() {
                named.extend(self.desk.store.mails(transaction));
            } else if let Ok(mail) = id.parse::<MailId>() {
                named.push(mail);
            }
        }
        named
    }
}
