//! The text of a mail on an outgoing connection: when it goes, how, and how long it may take; and whether
//! a connection that ended meanwhile says anything about the mail.
//!
//! A small text goes out together with its envelope (BDAT) where that costs nothing: the far end offers
//! CHUNKING and PIPELINING, no plugin is to be asked between a 354 and the text (D-80), and the
//! connection is known to be alive. Then a mail takes one round trip in place of two. A large one goes by
//! DATA: a far end that refuses the recipient should not have to read it first.
//!
//! Must never: send a text ahead over a connection that has rested: whether it arrived could not be told
//! from its end.
//!
//! **Diagnostics**: none of its own.

use std::sync::Arc;

use rohrpost_abi::Hook;

use crate::queue::{Body, Transaction};
use crate::smtp::client::{Problem, Stage};

use super::desk::{Desk, Io};
use super::outgoing::Outgoing;
use super::text::TextOut;

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
            && desk.plugins.with(Hook::OutData).is_empty();
        let body = body.filter(|_| may)?;
        let text = TextOut::stored(transaction.clone(), body.clone()).into_chunk();
        (text.octets() <= AHEAD_BYTES_MAX).then_some(text)
    }

    /// The text goes out from now on.
    pub(super) fn begin_text(&mut self, text: TextOut, desk: &Desk, io: &Io) {
        let now_ms = io.now_ms();
        let block_ms = desk.settings.delivery.data_timeout.as_millis() as u64;
        self.text_until_ms = now_ms.saturating_add(block_ms).saturating_add(text.patience_ms());
        self.stage_ms = now_ms;
        self.text = Some(text);
    }

    /// Whether the connection ended with nothing said about the mail under way.
    pub(super) fn is_outworn(&self, stage: Stage, problem: Problem) -> bool {
        self.reuse.is_outworn(stage, problem)
    }
}
