//! What one outgoing connection has carried, for whoever wants to know it of an attempt.
//!
//! Must never: cost more than a few additions where nobody asks.
//!
//! **Diagnostics**: none.

use std::sync::Arc;

use crate::delivery::Certificate;

use super::text::Written;

/// Octets that were sent, and what is known of whom they were sent to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// On the connection, before encryption.
    pub(super) connection_bytes: u64,
    /// Of the text of the last mail, before stuffing.
    pub(super) text_bytes: u64,
    /// The far end's certificate, once somebody has asked.
    pub(super) certificate: Option<Arc<Certificate>>,
}

impl Tally {
    /// A mail is begun.
    pub(super) fn on_start(&mut self) {
        self.text_bytes = 0;
    }

    /// Commands went out.
    pub(super) fn on_sent(&mut self, count: usize) {
        self.connection_bytes += count as u64;
    }

    /// Text went out, of which `octets` are out now.
    pub(super) fn on_text(&mut self, written: Written, octets: usize) {
        self.connection_bytes += (written.head + written.text) as u64;
        self.text_bytes = octets as u64;
    }
}
