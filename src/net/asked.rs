//! The plugins are asked about an outgoing mail, between its 354 and its text (D-80).
//!
//! **Diagnostics**: a mail that is held too long is taken back (D-27) and logged.

use rohrpost_abi::{ConnectionId, Edit, Exhausted, Hook, MessageId, MessageInit, Step};

use crate::metrics::Number;
use crate::plugin::chain::{Chain, Verdict};
use crate::plugin::failure::OnFailure;
use crate::plugin::view::Walk;
use crate::queue::{Body, Mail};

use super::desk::{Desk, Io};
use super::message::repaired;

/// One mail on its way through the plugins.
#[derive(Debug)]
pub(super) struct Asked {
    plugin: ConnectionId,
    chain: Chain,
    message: MessageId,
    held_ms: u64,
    /// How long the holder wants to hold it at most.
    hold_ms: Option<u64>,
}

/// What asking came to.
#[derive(Debug)]
pub(super) enum Answer {
    /// A plugin holds the mail.
    Held,
    /// A plugin says that it failed, and the settings do not let that pass.
    Failed,
    /// The text that plugins made; `None` is the stored one.
    Text(Option<Body>),
}

impl Asked {
    /// Shows a mail to the plugins of `connection`; they see no text but one that they made (D-67).
    pub(super) fn new(
        mail: Option<&Mail>,
        plugin: ConnectionId,
        desk: &Desk,
    ) -> Result<Asked, Exhausted> {
        let init = MessageInit {
            envelope: mail.map(|mail| mail.envelope.as_bytes()),
            recipient: mail.map(|mail| mail.recipient.as_bytes()),
            mime: None,
            ..MessageInit::default()
        };
        let message = desk.plugins.cell.open_message(plugin, init)?;
        Ok(Asked {
            plugin,
            chain: desk.plugins.chain(Hook::OutData),
            message,
            held_ms: 0,
            hold_ms: None,
        })
    }

    /// Asks on, as far as it goes now. [`Answer::Text`] ends it: then nothing is left to be closed.
    pub(super) fn walk(&mut self, desk: &mut Desk, io: &mut Io) -> Answer {
        let step = Step::OutData(self.message);
        let mut walked = desk.plugins.walk(&mut self.chain, self.plugin, step);
        while walked == Walk::Answered && desk.settings.plugin.failure == OnFailure::Accept {
            self.chain.on_pass();
            walked = desk.plugins.walk(&mut self.chain, self.plugin, step);
        }
        desk.apply_commands(io);
        match walked {
            Walk::Held => {
                desk.numbers().add(Number::Held, 1);
                self.held_ms = io.now_ms();
                self.hold_ms = desk.plugins.cell.hold_timeout_ms(self.plugin);
                Answer::Held
            }
            // Of an outgoing step nothing else can be said.
            Walk::Answered => Answer::Failed,
            Walk::Done => {
                let edits = desk.plugins.cell.close_message(self.message);
                // D-6E: addresses are out already, so only the text can still be changed.
                Answer::Text(match edits.mime {
                    Edit::Set(text) => Some(repaired(&text)),
                    Edit::Unchanged | Edit::Removed => None,
                })
            }
        }
    }

    /// The holder handed back, if it is so.
    pub(super) fn on_resume(&mut self, desk: &Desk) {
        if desk.plugins.resume(&mut self.chain, self.plugin) {
            desk.numbers().sub(Number::Held, 1);
        }
    }

    /// Whether a plugin holds the mail.
    pub(super) fn is_held(&self) -> bool {
        self.chain.is_held()
    }

    /// When the holder's time is over; `None` where it has no end or nobody holds.
    pub(super) fn deadline_ms(&self, desk: &Desk) -> Option<u64> {
        let most = desk.settings.plugin.hold_timeout.map(|most| most.as_millis() as u64);
        let hold_ms = most.into_iter().chain(self.hold_ms).min().filter(|_| self.is_held())?;
        Some(self.held_ms + hold_ms)
    }

    /// The holder's time is over: it is told, if it wants that; whether it hands back then.
    pub(super) fn expire(&self, desk: &mut Desk, io: &mut Io) -> bool {
        let released = desk.plugins.expire(self.plugin);
        desk.apply_commands(io);
        released
    }

    /// D-27: takes the mail back, whoever has it.
    pub(super) fn revoke(self, why: &str, desk: &mut Desk) {
        if desk.plugins.revoke(self.plugin, Hook::OutData, why) {
            desk.count(Number::Revoked);
        }
        if self.chain.is_held() {
            desk.numbers().sub(Number::Held, 1);
        }
        self.close(desk);
    }

    /// D-27: takes the mail back, and the next plugin is asked (`plugin-failure: accept`).
    pub(super) fn pass_over(&mut self, why: &str, desk: &mut Desk) {
        if desk.plugins.revoke(self.plugin, Hook::OutData, why) {
            desk.count(Number::Revoked);
            desk.numbers().sub(Number::Held, 1);
            self.chain.on_verdict(Verdict::Continue);
        }
    }

    /// Nobody is asked any more.
    pub(super) fn close(self, desk: &Desk) {
        desk.plugins.cell.close_message(self.message);
    }
}
