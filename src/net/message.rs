//! A message between its final dot and the disk: draft, plugin edits, transaction.
//!
//! Must never: hold a text without its reservation of the memory budget.
//!
//! **Diagnostics**: [`EditProblem`] when a plugin leaves a mail that cannot be published (D-63).

use std::mem;
use std::sync::Arc;

use rohrpost_abi::{
    ConnectionId, Described, Edit, Exhausted, MessageId, MessageInit, MessageLabel, Notes, Text,
};

use crate::clock::Wall;
use crate::extract::{self, Extracted, TooLong};
use crate::limits::Share;
use crate::notice::wanted;
use crate::plugin::view::Plugins;
use crate::properties::Taken;
use crate::queue::{
    Body, DsnNotify, Extras, Mail, MailDsn, NO_BODY, Origin, Transaction, TransactionId, Wishes,
};
use crate::smtp::command::{BodyKind, MailFrom, RcptTo};
use crate::smtp::server::{Protocol, Received};
use crate::smtp::trace::Trace;
use crate::smtp::{Address, Fixed, Memory, answer, is_crlf_only};

use super::desk::Desk;
use super::extras::{self, BadJson};

/// More Received fields than this are taken for a loop (554 5.4.6). RFC 5321 6.3 asks for at least
/// 100 to be allowed where counting is all there is; real paths are far shorter.
const RECEIVED_FIELDS_MAX: usize = 50;

/// A sender and the recipients that were accepted so far.
#[derive(Debug)]
pub struct Draft {
    from: MailFrom,
    /// The sender is filled in when the text is there.
    mails: Vec<Mail>,
    locals: Locals,
    proposed: Option<Proposed>,
    /// Recipients that were answered as accepted, and get nothing (D-73).
    dropped: usize,
    /// So it is with all of them.
    all_dropped: bool,
}

/// What plugins said of the recipients at RCPT, for their message hooks (D-71): by [`Mail::index`], of
/// those alone that anything was said of.
type Locals = Vec<(u16, bool)>;

/// A recipient that plugins are asked about.
#[derive(Debug)]
struct Proposed {
    to: RcptTo,
    /// The client could send to anybody when it named it.
    relayed: bool,
    /// If it is one, it gets nothing.
    dropped: bool,
}

impl Draft {
    /// A transaction that MAIL has begun.
    pub fn new(from: MailFrom) -> Draft {
        Draft {
            from,
            mails: Vec::new(),
            locals: Vec::new(),
            proposed: None,
            dropped: 0,
            all_dropped: false,
        }
    }

    /// A recipient that plugins are asked about; `relayed` is whether the client may send to anybody.
    pub fn propose(&mut self, to: RcptTo, relayed: bool) {
        let dropped = self.all_dropped;
        self.proposed = Some(Proposed { to, relayed, dropped });
    }

    /// The recipient that plugins are asked about, and whether the client could send to anybody then.
    pub fn proposed(&self) -> Option<(&Address, bool)> {
        self.proposed.as_ref().map(|proposed| (&proposed.to.address, proposed.relayed))
    }

    /// The proposed recipient is one; `local` is what plugins said of it (D-71).
    pub fn accept(&mut self, local: Option<bool>) {
        if let Some(Proposed { mut to, dropped, .. }) = self.proposed.take() {
            if dropped {
                self.dropped += 1;
                return;
            }
            let dsn = wanted::of_recipient(&mut to);
            let index = u16::try_from(self.mails.len()).expect("recipients_max is below 65536");
            if self.mails.is_empty() {
                // Most have no second one.
                self.mails.reserve_exact(1);
            }
            self.mails.push(Mail {
                index,
                envelope: Box::default(),
                recipient: to.address.into_text(),
                body: 0,
                dsn,
                extras: None,
            });
            self.locals.extend(local.map(|local| (index, local)));
        }
    }

    /// The proposed recipient is none.
    pub fn refuse(&mut self) {
        self.proposed = None;
    }

    /// The proposed recipient, if it is one, is answered so and gets nothing (D-73).
    pub fn drop_one(&mut self) {
        if let Some(proposed) = &mut self.proposed {
            proposed.dropped = true;
        }
    }

    /// All recipients are answered as such, and get nothing.
    pub fn drop_all(&mut self) {
        self.all_dropped = true;
    }

    /// Whether nobody will get anything, whoever is accepted.
    pub fn is_dropped(&self) -> bool {
        self.all_dropped
    }

    /// Whether the client wants to be answered in UTF-8 (RFC 6531).
    pub fn speaks_utf8(&self) -> bool {
        self.from.smtputf8
    }
}

/// Why a message is refused before any plugin sees it.
#[derive(Debug)]
pub struct Refused {
    /// What the client hears.
    pub reply: Fixed,
    /// The reservation to give back.
    pub reserved: usize,
}

/// Why the edits of a plugin cannot be published (D-63).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditProblem {
    /// The recipient was taken away.
    #[error("a plugin left it without a recipient")]
    NoRecipient,
    /// There is no room for the text that a plugin made.
    #[error("what a plugin made is more than memory-limit leaves")]
    NoMemory,
    /// Its JSON says no mail.
    #[error(transparent)]
    Json(#[from] BadJson),
    /// What is kept of all recipients beside the text would not fit into the record.
    #[error(
        "with what the plugin {plugin} made of a recipient, that of all recipients is more than the {} \
         octets that are kept of one message",
        Extras::BYTES_MAX
    )]
    TooManyExtras {
        /// Whose notes or JSON it was.
        plugin: &'static str,
    },
}

impl EditProblem {
    /// What the client hears.
    pub fn reply(&self) -> Fixed {
        match self {
            EditProblem::NoRecipient | EditProblem::Json(_) | EditProblem::TooManyExtras { .. } => {
                answer::LOCAL_ERROR
            }
            EditProblem::NoMemory => answer::NO_MEMORY,
        }
    }
}

/// A complete message, recipient by recipient on its way through the plugins.
#[derive(Debug)]
pub struct Message {
    /// Without its address, which the mails have.
    from: MailFrom,
    mails: Vec<Mail>,
    locals: Locals,
    bodies: Vec<Body>,
    protocol: Protocol,
    reserved: usize,
    /// The recipient whose chain runs next, or runs.
    next: usize,
    open: Option<MessageId>,
    /// Given when it is asked for, or when the message is finished.
    id: Option<TransactionId>,
    /// Recipients that the client hears of: those who get nothing, too.
    answered: usize,
    wishes: Option<Box<Wishes>>,
    /// Bytes of what plugins made of the recipients so far, beside addresses and text.
    extras_bytes: usize,
    /// What is told of it as JSON, and with that its name; only where a plugin can ask.
    taken: Option<Arc<Taken>>,
}

/// What the queue is to keep.
#[derive(Debug)]
pub struct Finished {
    /// The transaction.
    pub transaction: Transaction,
    /// Octets of the memory budget that come with it.
    pub reserved: usize,
}

impl Message {
    /// Joins a draft with its text.
    ///
    /// # Errors
    /// A mail loop (RFC 5321 6.3).
    pub fn new(mut draft: Draft, received: Received) -> Result<Message, Refused> {
        let reserved = received.reserved;
        if received.received_fields > RECEIVED_FIELDS_MAX {
            return Err(Refused { reply: answer::MAIL_LOOP, reserved });
        }
        let body = Body::try_from(received.body.into_vec_with_nul())
            .expect("a received body keeps one zero past its end");
        let answered = draft.mails.len() + draft.dropped;
        let envelope = mem::replace(&mut draft.from.address, Address::null()).into_text();
        if let Some((last, others)) = draft.mails.split_last_mut() {
            others.iter_mut().for_each(|mail| mail.envelope = envelope.clone());
            last.envelope = envelope;
        }
        Ok(Message {
            from: draft.from,
            mails: draft.mails,
            locals: draft.locals,
            bodies: vec![body],
            protocol: received.protocol,
            reserved,
            next: 0,
            open: None,
            id: None,
            answered,
            wishes: None,
            extras_bytes: 0,
            taken: None,
        })
    }

    /// Takes `x-mq-*` fields out of the text (D-44: before its recipients' chains). They count if they
    /// are `honoured`. Returns those whose value means nothing.
    ///
    /// # Errors
    /// Such fields are in a header that is too long to be looked through.
    pub fn extract(&mut self, honoured: bool) -> Result<Vec<Box<str>>, TooLong> {
        if !extract::has_any(self.bodies[0].as_bytes()) {
            return Ok(Vec::new());
        }
        let mut found = Ok(None);
        let now_ms = Wall::now_ms();
        self.bodies[0].edit(|text| found = extract::extract(text, honoured, now_ms));
        let Some(Extracted { wishes, envelope, dsn, mut ignored }) = found? else {
            return Ok(Vec::new());
        };
        for mail in &mut self.mails {
            if let Some(envelope) = &envelope {
                mail.envelope.clone_from(envelope);
            }
        }
        if let Some(dsn) = dsn
            && !join_dsn(&mut self.mails, &dsn)
        {
            ignored.push("dsn-orcpt".into());
        }
        self.wishes = (!wishes.is_empty()).then(|| Box::new(wishes));
        Ok(ignored)
    }

    /// The text with the zero past its end (D-41).
    pub fn text_with_nul(&self) -> &[u8] {
        self.bodies[0].as_bytes_with_nul()
    }

    /// Whether a recipient's chain has not run.
    pub fn has_next(&self) -> bool {
        self.next < self.mails.len()
    }

    /// Names and dates the message, so that plugins can be told of it as JSON; `origin` is where it came
    /// from.
    pub fn describe(&mut self, origin: impl FnOnce(&Desk) -> Origin, desk: &mut Desk) {
        if self.taken.is_some() {
            return;
        }
        let received_ms = Wall::now_ms();
        let mut wishes = self.wishes.clone();
        wanted::add_to(&mut wishes, &mut self.from.clone());
        self.taken = Some(Arc::new(Taken {
            id: self.id(desk),
            received_ms,
            origin: origin(desk),
            hostname: desk.settings.smtp.hostname.as_str().into(),
            wishes,
            dsns: self
                .mails
                .iter()
                .filter_map(|mail| Some((mail.index, mail.dsn.clone()?)))
                .collect(),
        }));
    }

    /// What a plugin sees of the recipient whose turn it is; the same for the whole chain.
    ///
    /// # Errors
    /// When the tokens of this worker are used up.
    pub fn open(
        &mut self,
        desk: &mut Desk,
        connection: ConnectionId,
    ) -> Result<MessageId, Exhausted> {
        if let Some(id) = self.open {
            return Ok(id);
        }
        let message = self.id(desk);
        let mail = &self.mails[self.next];
        let init = MessageInit {
            envelope: Some(mail.envelope.as_bytes()),
            recipient: Some(mail.recipient.as_bytes()),
            // Shared by all recipients; a setter makes a copy (D-43).
            mime: self.bodies.first().map(shared),
            local: self.local(mail.index),
            id: Some(label(message, mail.index)),
            attempt: 0,
            json: self.taken.clone().map(|by| Described { by, mail: mail.index }),
            notes: Notes::default(),
        };
        let id = desk.plugins.cell.open_message(connection, init)?;
        self.open = Some(id);
        Ok(id)
    }

    /// Reads back what plugins changed.
    ///
    /// # Errors
    /// When the mail cannot be published as it is now (D-63).
    pub fn close(&mut self, plugins: &Plugins, memory: &mut Share) -> Result<(), EditProblem> {
        let Some(id) = self.open.take() else {
            return Ok(());
        };
        let edits = plugins.cell.close_message(id);
        let mail = &mut self.mails[self.next];
        self.next += 1;
        apply(&mut mail.envelope, &edits.envelope);
        apply(&mut mail.recipient, &edits.recipient);
        let mut wishes = None;
        if let (Some(json), Some(taken)) = (&edits.json, &self.taken) {
            let shown = taken.shown(mail.index);
            let read = extras::read_json(json, &shown, taken.wishes.as_deref(), plugins)?;
            if let Some(read) = read {
                mail.dsn = read.dsn;
                wishes = Some(read.wishes);
            }
        }
        if mail.recipient.is_empty() {
            return Err(match &edits.json {
                Some(json) => BadJson::without_recipient(json, plugins).into(),
                None => EditProblem::NoRecipient,
            });
        }
        mail.extras = extras::joined(mail.extras.as_deref(), wishes, edits.notes.as_ref());
        if let Some(extras) = &mail.extras {
            let bytes = extras.bytes();
            self.extras_bytes += bytes;
            if self.extras_bytes > Extras::BYTES_MAX {
                let asked = edits.json.as_ref().map(|json| json.plugin);
                let plugin = edits.noted_by.or(asked);
                let plugin = plugin.map_or("unknown", |plugin| plugins.name(plugin));
                return Err(EditProblem::TooManyExtras { plugin });
            }
            if !Memory::reserve(memory, bytes) {
                return Err(EditProblem::NoMemory);
            }
            self.reserved += bytes;
        }
        match edits.mime {
            Edit::Unchanged => {}
            Edit::Removed => mail.body = NO_BODY,
            Edit::Set(text) => {
                let body = repaired(&text);
                let bytes = body.as_bytes().len();
                if !Memory::reserve(memory, bytes) {
                    return Err(EditProblem::NoMemory);
                }
                self.reserved += bytes;
                mail.body = u16::try_from(self.bodies.len()).expect("one text a recipient at most");
                self.bodies.push(body);
            }
        }
        Ok(())
    }

    /// Drops the mail whose chain runs (D-73).
    pub fn drop_one(&mut self, plugins: &Plugins) {
        if let Some(id) = self.open.take() {
            plugins.cell.close_message(id);
        }
        self.mails.remove(self.next);
    }

    fn local(&self, index: u16) -> Option<bool> {
        let place = self.locals.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(self.locals[place].1)
    }

    /// Whether nobody is left to get it.
    pub fn is_empty(&self) -> bool {
        self.mails.is_empty()
    }

    /// Recipients that the client hears of.
    pub fn answered(&self) -> usize {
        self.answered
    }

    /// Whether the client wants to be answered in UTF-8 (RFC 6531).
    pub fn speaks_utf8(&self) -> bool {
        self.from.smtputf8
    }

    /// The name of the message, once it has been asked for.
    pub fn id(&mut self, desk: &mut Desk) -> TransactionId {
        *self.id.get_or_insert_with(|| desk.ids.next_id(Wall::now_ms() * 1000))
    }

    /// The transaction, named and dated; `cipher` is that of TLS, if it came under TLS.
    pub fn finish(mut self, origin: Origin, cipher: Option<&str>, desk: &mut Desk) -> Finished {
        let received_ms = self.taken.as_ref().map_or_else(Wall::now_ms, |taken| taken.received_ms);
        let id = self.id(desk);
        // A plugin may have taken the login back since the text came.
        let authenticated = self.protocol.authenticated && origin.authenticated;
        let protocol = Protocol { authenticated, ..self.protocol }.keyword();
        let shown_id = id.shown();
        let trace = Trace {
            helo: &origin.helo,
            remote: origin.remote.ip(),
            hostname: &desk.settings.smtp.hostname,
            protocol,
            cipher,
            id: shown_id.as_str(),
            date: desk.wall.date(received_ms),
        }
        .to_field();
        let mut wishes = self.wishes.take();
        wanted::add_to(&mut wishes, &mut self.from);
        let transaction = Transaction {
            id,
            received_ms,
            mails: self.mails,
            bodies: self.bodies,
            trace,
            origin,
            eight_bit: self.from.body == BodyKind::EightBit,
            smtputf8: self.from.smtputf8,
            wishes,
            shelf: None,
        };
        Finished { transaction, reserved: self.reserved }
    }

    /// Gives up the message; returns the reservation to give back.
    pub fn discard(mut self, plugins: &Plugins) -> usize {
        if let Some(id) = self.open.take() {
            plugins.cell.close_message(id);
        }
        self.reserved
    }
}

/// Puts what a text asks of notices in place of what RCPT said, part by part. An original recipient is
/// that of one recipient (RFC 3461 4.2): `false` if it was passed over because there are more.
fn join_dsn(mails: &mut [Mail], asked: &MailDsn) -> bool {
    let orcpt = asked.orcpt.as_ref().filter(|_| mails.len() == 1);
    for mail in &mut *mails {
        if asked.notify != DsnNotify::UNSAID {
            mail.dsn.get_or_insert_default().notify = asked.notify;
        }
        if let Some(orcpt) = orcpt {
            mail.dsn.get_or_insert_default().orcpt = Some(orcpt.clone());
        }
    }
    asked.orcpt.is_none() || orcpt.is_some()
}

/// The name of a mail, for plugins that ask for it.
pub fn label(message: TransactionId, recipient: u16) -> MessageLabel {
    MessageLabel {
        message: message.as_u64(),
        recipient,
        write: |message, recipient| TransactionId::from_u64(message).mail(recipient).to_string(),
    }
}

/// The same bytes as plugins may hold them.
pub fn shared(body: &Body) -> Text {
    Text::from_terminated(Arc::clone(body.shared())).expect("a body keeps one zero past its end")
}

/// A plugin's text with its line ends mended (D-6B): a CR or LF that stands alone becomes CRLF, so
/// that nothing it says can smuggle.
pub fn repaired(text: &Text) -> Body {
    let mut bytes = if is_crlf_only(text.as_bytes()) {
        text.clone().into_vec()
    } else {
        with_crlf(text.as_bytes())
    };
    bytes.push(0);
    Body::try_from(bytes).expect("the zero was put there")
}

fn with_crlf(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + text.len() / 16 + 1);
    while let Some(end) = memchr::memchr2(b'\r', b'\n', text) {
        bytes.extend_from_slice(&text[..end]);
        bytes.extend_from_slice(b"\r\n");
        let length = if text[end..].starts_with(b"\r\n") { 2 } else { 1 };
        text = &text[end + length..];
    }
    bytes.extend_from_slice(text);
    bytes
}

fn apply(address: &mut Box<str>, edit: &Edit) {
    match edit {
        Edit::Unchanged => {}
        Edit::Removed => *address = Box::default(),
        Edit::Set(text) => *address = String::from_utf8_lossy(text.as_bytes()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_6b_every_line_end_of_a_plugin_becomes_crlf() {
        let rows: &[(&[u8], &[u8])] = &[
            (b"", b""),
            (b"a\r\nb\r\n", b"a\r\nb\r\n"),
            (b"a\nb\n", b"a\r\nb\r\n"),
            (b"a\rb", b"a\r\nb"),
            (b"a\n.\nb", b"a\r\n.\r\nb"),
            (b"\r\r\n\n", b"\r\n\r\n\r\n"),
        ];
        for (text, expected) in rows {
            let body = repaired(&Text::copy_from(text));
            assert_eq!(body.as_bytes(), *expected, "{}", text.escape_ascii());
        }
    }

    /// RFC 3461 4.1, 4.2: what a field does not say stays as RCPT has it.
    #[test]
    fn what_a_text_asks_of_notices_is_joined_with_what_rcpt_did() {
        let orcpt = |name: &str| Some(format!("rfc822;{name}@example.org").into());
        let of = |notify, orcpt| MailDsn { notify, orcpt };
        let (never, delay) = (DsnNotify::NEVER, DsnNotify::DELAY);
        let said = [of(never, orcpt("a")), of(DsnNotify::UNSAID, orcpt("b"))];
        let joined = |count: usize, asked: MailDsn| {
            let mail = |(dsn, index): (&MailDsn, u16)| Mail {
                index,
                envelope: "".into(),
                recipient: "b@example.net".into(),
                body: 0,
                dsn: Some(Box::new(dsn.clone())),
                extras: None,
            };
            let mut mails: Vec<Mail> = said[..count].iter().zip(0..).map(mail).collect();
            let all = join_dsn(&mut mails, &asked);
            (all, mails.into_iter().map(|mail| *mail.dsn.unwrap()).collect::<Vec<_>>())
        };
        let named = of(DsnNotify::UNSAID, orcpt("c"));
        assert_eq!(joined(1, named.clone()), (true, vec![of(never, orcpt("c"))]));
        assert_eq!(joined(2, named), (false, said.to_vec()), "it would be that of both");
        let both = vec![of(delay, orcpt("a")), of(delay, orcpt("b"))];
        assert_eq!(joined(2, of(delay, None)), (true, both));
        let mut unsaid = [Mail {
            index: 0,
            envelope: "".into(),
            recipient: "b@example.net".into(),
            body: 0,
            dsn: None,
            extras: None,
        }];
        assert!(join_dsn(&mut unsaid, &of(never, None)));
        assert_eq!(unsaid[0].dsn.as_deref(), Some(&of(never, None)));
    }
}
