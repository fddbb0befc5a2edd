//! What an outgoing connection tells of itself, for result objects and the send log.
//!
//! Must never: be asked where nobody wants to know.
//!
//! **Diagnostics**: none.

use std::sync::Arc;

use crate::delivery::{Certificate, Cipher, Facts, Fate};
use crate::queue::{MailId, Transaction};

use super::certificate;
use super::desk::Desk;
use super::outgoing::Outgoing;
use super::transport::Secured;

impl Outgoing {
    /// What is known now, if somebody wants it.
    pub(super) fn facts(
        &mut self,
        id: MailId,
        transaction: &Transaction,
        desk: &Desk,
    ) -> Option<Box<Facts>> {
        if !desk.wants_facts(transaction, id) {
            return None;
        }
        Some(Box::new(Facts {
            mta: self.session.far_name().cloned(),
            authentication: self.session.mechanism().map(|mechanism| mechanism.name()),
            cipher: self.transport.secured().map(|secured| cipher(&secured)),
            certificate: self.certificate(desk),
            messages: self.messages,
            sent_connection_bytes: self.tally.connection_bytes,
            sent_data_bytes: self.tally.text_bytes,
            dsn: self.session.extensions().dsn,
            plugin: self.decided.clone(),
        }))
    }

    /// What the notice of a mail that was not taken needs, whoever else wants more.
    pub(super) fn facts_of_failure(&self, fate: Fate) -> Option<Box<Facts>> {
        let mta = self.session.far_name().filter(|_| fate != Fate::Delivered)?.clone();
        Some(Box::new(Facts { mta: Some(mta), ..Facts::default() }))
    }

    /// The far end's certificate; read once, and shared by all mails of the connection.
    fn certificate(&mut self, desk: &Desk) -> Option<Arc<Certificate>> {
        if self.tally.certificate.is_none() {
            let certificates = self.transport.peer_certificates();
            let own = certificates.first()?;
            let name = self.guard.name();
            let verdict = name.map_or_else(
                || Err("no certificate can be for this host".to_owned()),
                |name| desk.tls.client.judge(certificates, name),
            );
            let read = certificate::read(own, verdict.as_ref().copied().map_err(String::as_str));
            self.tally.certificate = Some(Arc::new(read?));
        }
        self.tally.certificate.clone()
    }
}

fn cipher(secured: &Secured) -> Cipher {
    let Secured { version, cipher, cipher_id, .. } = *secured;
    // AES-128 is the only one of rustls' whose key has not 256 bits.
    let bits = if cipher.contains("AES_128") { 128 } else { 256 };
    Cipher { name: cipher, version, bits, id: cipher_id }
}
