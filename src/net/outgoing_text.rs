//! What goes out on an outgoing connection, the text of a mail above all: when, how, and how long it may
//! take; and whether a connection that ended meanwhile says anything about the mail.
//!
//! A small text goes out together with its envelope (BDAT) where that costs nothing: the far end offers
//! CHUNKING and PIPELINING, no plugin is to be asked between a 354 and the reply to the text (D-80), and the
//! connection is known to be alive. Then a mail takes one round trip in place of two. A large one goes by
//! DATA: a far end that refuses the recipient should not have to read it first.
//!
//! Must never: send a text ahead over a connection that has rested: whether it arrived could not be told
//! from its end.
//!
//! **Diagnostics**: none of its own.

use std::sync::Arc;

use mio::Token;
use rohrpost_abi::Hook;

use crate::delivery::Finish;
use crate::queue::{Body, Transaction};
use crate::smtp::client::{Problem, Stage};

use super::desk::{Desk, Io};
use super::outgoing::Outgoing;
use super::text::{Sent, TextOut};
use super::transport::Moved;

/// The largest text that goes ahead of the replies: what a refusal may waste.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

impl Outgoing {
    /// The text as a chunk, if it may go ahead of the replies to its envelope.
    pub(super) fn text_ahead(
        &self,
        transaction: &Arc<Transaction>,
        body: Option<&Body>,
        desk: &Desk,
    ) -> Option<TextOut> {
        let may = desk.settings.hop.chunking
            && self.session.takes_chunk()
            && !self.reuse.is_rested()
            && !self.asks(Hook::OutData, desk)
            && !self.asks(Hook::OutSent, desk);
        if !may {
            return None;
        }
        let text = match &self.made {
            Some(made) => TextOut::made(transaction.clone(), made.clone()),
            None => TextOut::stored(transaction.clone(), body?.clone()),
        };
        let text = text.into_chunk();
        (text.octets() <= AHEAD_BYTES_MAX).then_some(text)
    }

    /// The far end waits for the text: the stored one, or the one that plugins made.
    pub(super) fn send_text(&mut self, made: Option<Body>, desk: &mut Desk, io: &Io) {
        let Some(current) = &self.current else { return };
        let transaction = current.transaction.clone();
        let stored = transaction.mail(current.id.index).and_then(|mail| transaction.body(mail));
        let text = match (made, stored) {
            (Some(made), _) => TextOut::made(transaction.clone(), made),
            (None, Some(stored)) => TextOut::stored(transaction.clone(), stored.clone()),
            (None, None) => {
                self.session.abandon();
                self.finish(Finish::no_text(), desk, io);
                self.over = true;
                return;
            }
        };
        if self.session.begin_body() {
            self.begin_text(text, desk, io);
        }
    }

    /// The text goes out from now on.
    pub(super) fn begin_text(&mut self, text: TextOut, desk: &Desk, io: &Io) {
        let now_ms = io.now_ms();
        let block_ms = desk.settings.delivery.data_timeout.as_millis() as u64;
        self.text_until_ms = now_ms.saturating_add(block_ms).saturating_add(text.patience_ms());
        self.stage_ms = now_ms;
        self.text = Some(text);
    }

    /// Offers the socket what there is: commands, and behind them the text.
    pub(super) fn write(&mut self, desk: &mut Desk, io: &mut Io) {
        match &mut self.text {
            None if self.session.output().is_empty() => {}
            None => match self.transport.write(self.session.output()) {
                Moved::Some(count) => {
                    self.tally.on_sent(count);
                    self.session.consume_output(count);
                }
                Moved::Blocked(count) => {
                    self.writable = false;
                    self.tally.on_sent(count);
                    self.session.consume_output(count);
                }
                Moved::End | Moved::Gone(_) => return self.on_deaf(),
            },
            Some(text) => {
                let (sent, written) = text.write(self.session.output(), &mut self.transport);
                self.session.consume_output(written.head);
                self.tally.on_text(written, text.sent_octets());
                if written.text > 0 {
                    self.stage_ms = io.now_ms();
                }
                match sent {
                    Sent::All => {
                        self.text = None;
                        self.session.end_body();
                        self.on_text_out(desk);
                    }
                    Sent::Blocked => self.writable = false,
                    Sent::Gone => self.on_deaf(),
                    // A far end that keeps up must not make this phase endless.
                    Sent::Some => io.again(Token::from(self.key)),
                }
            }
        }
        if let Some(plugin) = self.plugin {
            let space = rohrpost_abi::OUTPUT_BYTES_MAX.saturating_sub(self.session.output().len());
            desk.plugins.cell.set_output_space(plugin, space);
        }
    }

    /// Whether octets of the text of the mail under way are out, asked for or ahead of the replies.
    pub(super) fn has_text_out(&self) -> bool {
        self.tally.text_bytes > 0
    }

    /// How far the mail under way came, where the replies came as far as `stage`: its text may have gone
    /// ahead of them.
    pub(super) fn came_to(&self, stage: Stage) -> Stage {
        reached(stage, self.has_text_out(), self.text.is_some())
    }

    /// Whether the connection ended with nothing known of the mail under way. Where its text went ahead the
    /// far end may have taken it without a word.
    pub(super) fn is_outworn(&self, stage: Stage, problem: Problem) -> bool {
        !self.has_text_out() && self.reuse.is_outworn(stage, problem)
    }
}

/// How far a mail came, by its replies and by its text: whether any of that is out, and whether some is left.
fn reached(stage: Stage, text_out: bool, text_left: bool) -> Stage {
    match stage {
        Stage::Mail | Stage::Rcpt if text_out && !text_left => Stage::FinalDot,
        Stage::Mail | Stage::Rcpt if text_out => Stage::Body,
        // The replies are faster than the text.
        Stage::FinalDot if text_left => Stage::Body,
        _ => stage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_went_ahead_is_further_than_its_replies() {
        let rows = [
            (Stage::Mail, false, false, Stage::Mail),
            (Stage::Mail, false, true, Stage::Mail),
            (Stage::Mail, true, true, Stage::Body),
            (Stage::Rcpt, true, true, Stage::Body),
            (Stage::Mail, true, false, Stage::FinalDot),
            (Stage::Rcpt, true, false, Stage::FinalDot),
            (Stage::FinalDot, true, true, Stage::Body),
            (Stage::FinalDot, true, false, Stage::FinalDot),
            (Stage::Body, true, true, Stage::Body),
        ];
        for (stage, text_out, text_left, expected) in rows {
            assert_eq!(reached(stage, text_out, text_left), expected, "{stage:?}");
        }
    }
}
