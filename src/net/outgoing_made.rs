//! What plugins have made of a mail while it was on its way out, beside its addresses and text: it is
//! kept with the end of this attempt, for results and later attempts.
//!
//! Must never: change what goes over the wire (D-63).
//!
//! **Diagnostics**: JSON that says no mail is logged with plugin and property; what plugins changed in it
//! is not kept. So it is with more than a record of the message has room for.

use crate::log::Level;
use crate::properties::Stored;

use super::desk::{Desk, Io};
use super::extras;
use super::outgoing::Outgoing;

impl Outgoing {
    /// To be called before the mail under way is let go. Once more does no harm.
    pub(super) fn keep_made(&mut self, desk: &mut Desk, io: &Io) {
        let (Some(message), Some(current)) = (self.message, &mut self.current) else { return };
        let Some(made) = desk.plugins.cell.made(message) else { return };
        let (id, transaction) = (current.id, &current.transaction);
        let Some(mail) = transaction.mail(id.index) else { return };
        let read = made.json.as_deref().map(|json| {
            let stored = Stored::new(transaction, &desk.settings.smtp.hostname);
            let before = transaction.wishes_of(mail);
            extras::read_json(json, &stored.shown(id.index), before, &desk.plugins)
        });
        let wishes = match read.transpose() {
            Ok(read) => read.flatten().map(|read| read.wishes),
            Err(bad) => {
                let text = format_args!("mail {id}: {bad}; what was changed in it is not kept");
                desk.log.limited("plugin-json", Level::Warning, "plugin", text);
                None
            }
        };
        let extras = extras::joined(mail.extras.as_deref(), wishes, made.notes.as_ref());
        if extras == mail.extras {
            return;
        }
        let now = desk.now(io);
        match desk.store.change(id, extras.unwrap_or_default(), transaction, now) {
            Ok(changed) => current.transaction = changed,
            Err(error) => {
                let text = format_args!("mail {id}: {error}; what was changed of it is not kept");
                desk.log.limited("plugin-extras", Level::Warning, "plugin", text);
            }
        }
    }
}
