//! What an outgoing connection tells of itself, for result objects and the send log.
//!
//! Must never: be asked where nobody wants to know.
//!
//! **Diagnostics**: none.

use crate::delivery::Facts;
use crate::queue::Transaction;

use super::desk::Desk;
use super::outgoing::Outgoing;

impl Outgoing {
    /// What is known now, if somebody wants it.
    pub(super) fn facts(&self, transaction: &Transaction, desk: &Desk) -> Option<Box<Facts>> {
        (desk.facts_wanted || desk.wants_facts(transaction)).then(|| {
            Box::new(Facts {
                mta: self.session.far_name().cloned(),
                authentication: self.session.mechanism().map(|mechanism| mechanism.name()),
                cipher: None,
                certificate: None,
                messages: self.messages,
                sent_connection_bytes: self.tally.connection_bytes,
                sent_data_bytes: self.tally.text_bytes,
                dsn: self.session.extensions().dsn,
            })
        })
    }
}
