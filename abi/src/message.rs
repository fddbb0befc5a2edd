//! Messages: what a plugin may read and change of one.
//!
//! Owns the edits until the worker takes them, and with them the life of every returned string
//! (D-60). Must never change what it was given: bodies are shared. Diagnostics: none.

use std::ffi::CStr;

use crate::decision::Docket;
use crate::id::ConnectionId;
use crate::json::{Described, Json, JsonEdits};
use crate::note::Notes;
use crate::plugin::PluginIndex;
use crate::text::Text;

/// How long an address may be that a plugin sets. Longer ones are refused: no queue could hold them.
pub(crate) const ADDRESS_BYTES_MAX: usize = 64 * 1024;
/// How long MIME data may be that a plugin sets.
pub(crate) const MIME_BYTES_MAX: usize = 1 << 30;

/// Whose the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A client's.
    Incoming,
    /// Ours.
    Outgoing,
}

/// What a message is when its chain begins.
#[derive(Clone, Debug, Default)]
pub struct MessageInit<'a> {
    /// The sender; empty for the null sender, `None` if there is none. Copied.
    pub envelope: Option<&'a [u8]>,
    /// The recipient. Copied.
    pub recipient: Option<&'a [u8]>,
    /// Its name in the queue.
    pub id: Option<MessageLabel>,
    /// How often it was tried before, and this time; 0 for an incoming one.
    pub attempt: u32,
    /// The MIME data. Shared. `None` for an outgoing message: plugins see only what one of them has
    /// set (D-67).
    pub mime: Option<Text>,
    /// What was noted on it before.
    pub notes: Notes,
    /// What it is as JSON; without that, an object has no more members than the values above.
    pub json: Option<Described>,
    /// What plugins have said of the recipient before, with `MQ_setLocal` (D-71).
    pub local: Option<bool>,
}

/// The name of a mail, written when a plugin asks for it.
#[derive(Clone, Copy, Debug)]
pub struct MessageLabel {
    /// The message.
    pub message: u64,
    /// Which of its recipients.
    pub recipient: u16,
    /// How the two are written.
    pub write: fn(u64, u16) -> String,
}

/// What plugins made of one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Edit {
    /// Nothing, or they took it back.
    #[default]
    Unchanged,
    /// There is to be none. Incoming messages only (D-64).
    Removed,
    /// The last value set (D-69).
    Set(Text),
}

/// What plugins made of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageEdits {
    /// The sender; `Set` to nothing is the null sender.
    pub envelope: Edit,
    /// The recipient.
    pub recipient: Edit,
    /// The MIME data.
    pub mime: Edit,
    /// What plugins said with `MQ_setLocal`; incoming messages only (D-70).
    pub local: Option<bool>,
    /// Its JSON object, if a plugin asked for one, whether it was changed or not.
    pub json: Option<Box<JsonEdits>>,
    /// All notes on it, if plugins set any or took any away.
    pub notes: Option<Notes>,
    /// The plugin that did so last.
    pub noted_by: Option<PluginIndex>,
}

/// Which of a message's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Envelope,
    Recipient,
    Mime,
}

impl Part {
    /// In the order of their numbers.
    pub(crate) const ALL: [Part; 3] = [Part::Envelope, Part::Recipient, Part::Mime];

    /// The property of a message's JSON.
    pub(crate) const fn key(self) -> &'static CStr {
        match self {
            Part::Envelope => c"envelope",
            Part::Recipient => c"recipient",
            Part::Mime => c"mime",
        }
    }

    /// The same.
    pub(crate) fn name(self) -> &'static str {
        self.key().to_str().expect("it is ASCII")
    }

    pub(crate) const fn bytes_max(self) -> usize {
        match self {
            Part::Envelope | Part::Recipient => ADDRESS_BYTES_MAX,
            Part::Mime => MIME_BYTES_MAX,
        }
    }
}

#[derive(Debug, Default)]
struct Value {
    own: Option<Text>,
    edit: Edit,
}

impl Value {
    /// Copies what there is, into memory that is there already.
    fn refill(&mut self, own: Option<&[u8]>) {
        match (own, &mut self.own) {
            (Some(bytes), Some(text)) => text.refill(bytes),
            (Some(bytes), place) => *place = Some(Text::refillable(bytes)),
            (None, place) => *place = None,
        }
    }

    fn text(&self) -> Option<&Text> {
        match &self.edit {
            Edit::Unchanged => self.own.as_ref(),
            Edit::Removed => None,
            Edit::Set(text) => Some(text),
        }
    }
}

/// A message that plugins are shown; between [`Message::end`] and the next [`Message::begin`] nothing but
/// memory.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) connection: ConnectionId,
    pub(crate) direction: Direction,
    pub(crate) attempt: u32,
    label: Option<MessageLabel>,
    /// The copy of it that plugins were given.
    id: Option<Text>,
    envelope: Value,
    recipient: Value,
    mime: Value,
    local: Option<bool>,
    notes: Notes,
    /// The plugin that changed them last, if any did.
    noted_by: Option<PluginIndex>,
    pub(crate) described: Option<Described>,
    /// Only if a plugin asked.
    pub(crate) json: Option<Box<Json>>,
    /// A library works on its object at this moment: what runs in there may not look at it.
    pub(crate) json_busy: bool,
    /// What plugins decided of it.
    pub(crate) docket: Docket,
    /// How far it came, once that is known.
    pub(crate) state: Option<Text>,
    /// It was said of this message, not of the address of RCPT.
    local_is_new: bool,
}

impl Message {
    /// Nothing but memory, for [`Message::begin`].
    #[cold]
    pub(crate) fn blank(connection: ConnectionId) -> Message {
        Message {
            connection,
            direction: Direction::Incoming,
            attempt: 0,
            label: None,
            id: None,
            envelope: Value::default(),
            recipient: Value::default(),
            mime: Value::default(),
            notes: Notes::default(),
            noted_by: None,
            described: None,
            json: None,
            json_busy: false,
            docket: Docket::default(),
            state: None,
            local: None,
            local_is_new: false,
        }
    }

    /// What it is from now on. It is blank, or has ended.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        connection: ConnectionId,
        direction: Direction,
        init: MessageInit<'_>,
    ) {
        self.connection = connection;
        self.direction = direction;
        self.attempt = init.attempt;
        self.label = init.id;
        self.envelope.refill(init.envelope);
        self.recipient.refill(init.recipient);
        self.mime.own = init.mime;
        self.notes = init.notes;
        self.described = init.json;
        self.local = init.local;
    }

    /// Its chain is over: what plugins made of it. Nothing is kept but the memory of its addresses.
    #[inline]
    pub(crate) fn end(&mut self) -> MessageEdits {
        let Message {
            connection: _,
            direction: _,
            attempt: _,
            label: _,
            id,
            envelope,
            recipient,
            mime,
            local,
            notes,
            noted_by,
            described,
            json,
            json_busy,
            docket,
            state,
            local_is_new,
        } = self;
        (*id, *described, *json, *state, mime.own) = (None, None, None, None, None);
        (*json_busy, *local_is_new) = (false, false);
        docket.clear();
        let noted_by = noted_by.take();
        let notes = std::mem::take(notes);
        MessageEdits {
            envelope: std::mem::take(&mut envelope.edit),
            recipient: std::mem::take(&mut recipient.edit),
            mime: std::mem::take(&mut mime.edit),
            local: local.take(),
            json: None,
            notes: noted_by.is_some().then_some(notes),
            noted_by,
        }
    }

    /// Its name in the queue; stays where it is.
    pub(crate) fn id_text(&mut self) -> Option<&Text> {
        let MessageLabel { message, recipient, write } = self.label?;
        Some(self.id.get_or_insert_with(|| Text::copy_from(write(message, recipient).as_bytes())))
    }

    /// Stays where it is until the next [`Message::set`].
    pub(crate) fn text(&self, part: Part) -> Option<&Text> {
        self.value(part).text()
    }

    /// `None`: a plugin passed NULL.
    pub(crate) fn set(&mut self, part: Part, text: Option<Text>) {
        let edit = match text {
            Some(text) if part == Part::Envelope || !text.as_bytes().is_empty() => Edit::Set(text),
            // D-64
            Some(_) | None => match self.direction {
                Direction::Incoming => Edit::Removed,
                Direction::Outgoing => Edit::Unchanged,
            },
        };
        if part == Part::Recipient {
            self.local = self.local.filter(|_| self.local_is_new);
        }
        match part {
            Part::Envelope => self.envelope.edit = edit,
            Part::Recipient => self.recipient.edit = edit,
            Part::Mime => self.mime.edit = edit,
        }
    }

    /// What plugins made of it so far.
    pub(crate) fn edits(&self) -> MessageEdits {
        MessageEdits {
            envelope: self.envelope.edit.clone(),
            recipient: self.recipient.edit.clone(),
            mime: self.mime.edit.clone(),
            local: self.local,
            json: None,
            notes: None,
            noted_by: None,
        }
    }

    pub(crate) const fn direction(&self) -> Direction {
        self.direction
    }

    /// All notes on it, if plugins set any or took any away.
    pub(crate) fn changed_notes(&self) -> Option<&Notes> {
        self.noted_by.is_some().then_some(&self.notes)
    }

    pub(crate) const fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Whoever asks for them may change them.
    pub(crate) fn notes_mut(&mut self, plugin: PluginIndex) -> &mut Notes {
        self.noted_by = Some(plugin);
        &mut self.notes
    }

    /// What plugins said with `MQ_setLocal`.
    pub(crate) fn local(&self) -> Option<bool> {
        self.local
    }

    /// D-70: an outgoing message is on its way already, so there it means nothing.
    pub(crate) fn set_local(&mut self, local: bool) {
        match self.direction {
            Direction::Incoming => {
                self.local = Some(local);
                self.local_is_new = true;
            }
            Direction::Outgoing => {}
        }
    }

    fn value(&self, part: Part) -> &Value {
        match part {
            Part::Envelope => &self.envelope,
            Part::Recipient => &self.recipient,
            Part::Mime => &self.mime,
        }
    }
}
