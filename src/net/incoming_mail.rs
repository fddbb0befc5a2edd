//! A transaction of an incoming connection: who may send to whom, and its message on the way from the final
//! dot to the disk.
//!
//! Must never: hold a text without its reservation, or let a recipient pass that nobody may send to.
//!
//! **Diagnostics**: a message that is refused for what a plugin made of it, and `x-mq` fields that mean
//! nothing, are logged, rate-limited.

use rohrpost_abi::Hook;

use crate::extract::TooLong;
use crate::queue::{Accepting, Origin};
use crate::smtp::server::Decision;
use crate::smtp::{Fixed, answer};

use super::desk::{Desk, Io};
use super::incoming::{Incoming, Stage};
use super::message::{Draft, Finished, Message};
use super::step::Step;

impl Incoming {
    /// What plugins said of the address that the step showed.
    pub(super) fn end_address(&self, desk: &Desk) -> Option<bool> {
        self.plugin.and_then(|plugin| desk.plugins.cell.end_address(plugin))
    }

    /// Plugins have seen a recipient: it is one if the client may send to it. What they say of the client
    /// can add to that at once, and takes away from the next recipient on.
    pub(super) fn finish_recipient(&mut self, desk: &mut Desk, io: &Io) {
        let local = self.end_address(desk);
        let proposed = self.draft.as_ref().and_then(Draft::proposed);
        let is_welcome = |(to, relayed): (&crate::smtp::Address, bool)| {
            relayed || self.is_relayed(desk) || local.unwrap_or_else(|| desk.admission.is_local(to))
        };
        if !proposed.is_some_and(is_welcome) {
            let refusal = desk.admission.refusal();
            return self.decide(Decision::Refuse(refusal.into()), desk, io);
        }
        if let Some(draft) = &mut self.draft {
            draft.accept(local);
        }
        self.decide(Decision::Accept, desk, io);
    }

    /// Whether plugins have said that the client may send to the recipient that they are shown.
    pub(super) fn is_welcomed(&self, desk: &Desk) -> bool {
        let local = self.plugin.and_then(|plugin| desk.plugins.cell.said_local(plugin));
        local == Some(true) || self.is_relayed(desk)
    }

    /// Whether the client may send to anybody.
    pub(super) fn is_relayed(&self, desk: &Desk) -> bool {
        let trusted = desk.admission.trusts(&desk.settings.smtp, self.trusted_address());
        trusted || self.is_authenticated(desk)
    }

    /// What the text asks for counts only from clients that may send to anybody.
    pub(super) fn extract(&self, message: &mut Message, desk: &Desk) -> Result<(), TooLong> {
        if !desk.settings.smtp.extract {
            return Ok(());
        }
        let ignored = message.extract(self.is_relayed(desk))?;
        if !ignored.is_empty() {
            let names = ignored.join(", ");
            let text =
                format_args!("{}: x-mq fields whose value means nothing: {names}", self.remote);
            desk.log.limited("x-mq", crate::log::Level::Warning, "smtp", text);
        }
        Ok(())
    }

    /// One chain per recipient, in their order (D-43); then the whole goes to the disk.
    pub(super) fn next_message(&mut self, mut message: Box<Message>, desk: &mut Desk, io: &mut Io) {
        let asks = desk.plugins.asks(self.plugin, Hook::Message);
        if let Some(plugin) = self.plugin
            && asks
            && message.has_next()
        {
            if desk.plugins.ask_json(plugin) {
                message.describe(|desk| self.origin(desk), desk);
            }
            match message.open(desk, plugin) {
                Ok(id) => self.begin(Step::Message(message, id), desk, io),
                Err(error) => {
                    let reply = answer::LOCAL_ERROR;
                    self.refuse_message(*message, reply, &error.to_string(), desk, io);
                }
            }
            return;
        }
        if message.is_empty() {
            return self.pretend(*message, desk, io);
        }
        let answered = message.answered();
        let cipher = self.transport.cipher();
        let Finished { transaction, reserved } = message.finish(self.origin(desk), cipher, desk);
        let id = desk.commit(transaction, reserved, self.key);
        self.stage = Stage::Commit(id, answered);
        self.stage_ms = io.now_ms();
    }

    pub(super) fn origin(&self, desk: &Desk) -> Origin {
        Origin {
            remote: self.remote,
            local: self.local,
            helo: self.session.hello().map(|hello| hello.name.clone()).unwrap_or_default(),
            user: self.user(desk),
            secure: self.session.is_secure(),
            authenticated: self.is_authenticated(desk),
        }
    }

    pub(super) fn refuse_message(
        &mut self,
        message: Message,
        reply: Fixed,
        why: &str,
        desk: &mut Desk,
        io: &Io,
    ) {
        let text = format_args!("a message was refused: {why}");
        desk.log.limited("plugin-edit", crate::log::Level::Warning, "plugin", text);
        self.drop_message(message, desk);
        self.decide(Decision::Refuse(reply.into()), desk, io);
    }

    pub(super) fn drop_message(&mut self, message: Message, desk: &mut Desk) {
        let reserved = message.discard(&desk.plugins);
        desk.release(reserved);
    }
}

/// What a client hears at MAIL while the queue takes nothing.
pub(super) fn not_accepting(desk: &Desk) -> Option<Fixed> {
    match desk.accepting {
        // The received log is far behind.
        Accepting::Yes if !desk.settlements.has_room_for_lines() => Some(answer::STORAGE_FULL),
        Accepting::Yes => None,
        Accepting::Full => Some(answer::STORAGE_FULL),
        Accepting::Failed => Some(answer::LOCAL_ERROR),
    }
}
