//! What plugins have made of a mail beside its addresses and its text: from the plugin interface into the
//! queue, and back.
//!
//! Must never: make anything for a mail of which plugins changed nothing.
//!
//! **Diagnostics**: [`BadJson`] names plugin and property (D-63).

use std::sync::Arc;

use rohrpost_abi::{ConnectionId, Described, JsonEdits, Notes};
use serde_json::{Map, Value};

use crate::clock::Wall;
use crate::plugin::view::Plugins;
use crate::properties::{self, Read, Stored};
use crate::queue::{Extras, Mail, MailNotes, Transaction, Wishes};

use super::desk::Desk;

/// The JSON of a mail that a plugin left in a state in which it says no mail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the JSON that {plugin} left does not say a mail: {why}")]
pub struct BadJson {
    /// The plugin that asked for it last.
    pub plugin: &'static str,
    /// What is wrong, with the property.
    pub why: String,
}

impl BadJson {
    pub(super) fn without_recipient(edits: &JsonEdits, plugins: &Plugins) -> Self {
        let why = "its property recipient is missing".to_owned();
        Self { plugin: plugins.name(edits.plugin), why }
    }
}

/// What the JSON that plugins left asks for, if anything else than what was `shown`.
///
/// # Errors
/// [`BadJson`].
pub(super) fn read_json(
    edits: &JsonEdits,
    shown: &Map<String, Value>,
    before: Option<&Wishes>,
    plugins: &Plugins,
) -> Result<Option<Read>, BadJson> {
    let bad = |why: String| BadJson { plugin: plugins.name(edits.plugin), why };
    if let Some(problem) = edits.problem {
        return Err(bad(problem.to_string()));
    }
    properties::changed(shown, &edits.members, before, Wall::now_ms())
        .map_err(|invalid| bad(invalid.to_string()))
}

/// What is kept of a mail from now on: wishes and notes in place of those that it had, where there are
/// new ones.
pub(super) fn joined(
    before: Option<&Extras>,
    wishes: Option<Wishes>,
    notes: Option<&Notes>,
) -> Option<Arc<Extras>> {
    let mut extras = before.cloned().unwrap_or_default();
    if let Some(wishes) = wishes {
        extras.wishes = Some(Box::new(wishes));
    }
    if let Some(notes) = notes {
        extras.notes = kept(notes);
    }
    (!extras.is_empty()).then(|| Arc::new(extras))
}

fn kept(notes: &Notes) -> MailNotes {
    let mut kept = MailNotes::default();
    for (name, value) in notes.iter() {
        // Their bounds are the same.
        let _ = kept.set(name, value);
    }
    kept
}

/// The notes on a mail out of the queue, as plugins see them.
pub(super) fn noted(mail: &Mail) -> Notes {
    let mut notes = Notes::default();
    for (name, value) in mail.extras.iter().flat_map(|extras| extras.notes.iter()) {
        // Their bounds are the same.
        let _ = notes.set(name, Some(value));
    }
    notes
}

/// What tells of a mail out of the queue as JSON; nothing where no plugin can ask.
pub(super) fn described(
    plugin: ConnectionId,
    transaction: &Arc<Transaction>,
    mail: u16,
    desk: &Desk,
) -> Option<Described> {
    let told = || Stored::new(transaction, &desk.settings.smtp.hostname);
    desk.plugins.ask_json(plugin).then(|| Described { by: Arc::new(told()), mail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_have_the_same_bounds_on_both_sides() {
        let bounds = (Notes::COUNT_MAX, Notes::NAME_BYTES_MAX, Notes::BYTES_MAX);
        let kept = (MailNotes::COUNT_MAX, MailNotes::NAME_BYTES_MAX, MailNotes::BYTES_MAX);
        assert_eq!(bounds, kept);
    }

    #[test]
    fn what_was_not_changed_stays_and_nothing_is_nothing() {
        let mut notes = Notes::default();
        assert!(notes.set("a", Some(b"1")));
        assert_eq!(joined(None, None, None), None);
        let noted = joined(None, None, Some(&notes)).unwrap();
        let wishes = Wishes { keepmime: true, ..Wishes::default() };
        let both = joined(Some(&noted), Some(wishes), None).unwrap();
        assert_eq!(both.notes, noted.notes);
        assert!(both.wishes.as_ref().is_some_and(|wishes| wishes.keepmime));
        assert_eq!(joined(Some(&noted), None, Some(&Notes::default())), None);
    }
}
