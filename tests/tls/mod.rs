//! TLS on connections that bring mail, and the PROXY protocol before it, over the whole program.
//!
//! **Diagnostics**: a dialogue that goes wrong panics with its transcript.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::support::{Authority, Certificate, Server, ServerBuilder, SmtpClient};

mod attack;
mod foreign;
mod handshake;
mod proxy;
mod renewal;

/// A mail text.
const TEXT: &[u8] = b"Subject: x\r\n\r\ntext\r\n";
/// Whom our certificates are for.
const NAME: &str = "mx.example.org";

/// A server that is not started yet, with certificates and whoever trusts them.
struct Stage {
    plan: ServerBuilder,
    authority: Authority,
    certificate: Certificate,
    trusted: Arc<ClientConfig>,
}

impl Stage {
    /// One certificate, for [`NAME`], and a port for either way in.
    fn new() -> Stage {
        let plan = Server::builder();
        let authority = Authority::new();
        let certificate = authority.certify(plan.directory(), &[NAME]);
        let plan = plan
            .setting("smtp-certificate", certificate.chain.display())
            .setting("smtp-key", certificate.key.display())
            .setting("smtp-secure-port", 0)
            .setting("smtp-hostname", NAME);
        let trusted = authority.trusted();
        Stage { plan, authority, certificate, trusted }
    }

    fn setting(mut self, key: &str, value: impl ToString) -> Stage {
        self.plan = self.plan.setting(key, value);
        self
    }

    /// A client that has done STARTTLS, and said EHLO again.
    fn starttls(&self, server: &Server) -> SmtpClient {
        let client = SmtpClient::hello(server.smtp()).unwrap();
        introduced(client.starttls(&self.trusted, NAME).unwrap())
    }

    /// A client that has begun with TLS, read the banner and said EHLO.
    fn implicit(&self, server: &Server) -> SmtpClient {
        let client = SmtpClient::connect(server.smtps()).unwrap();
        let mut client = client.handshake(&self.trusted, NAME).unwrap();
        client.reply().unwrap().require(220).unwrap();
        introduced(client)
    }
}

fn introduced(mut client: SmtpClient) -> SmtpClient {
    client.command("EHLO client.example").unwrap().require(250).unwrap();
    client
}

/// What EHLO offers.
fn offers(client: &mut SmtpClient) -> Vec<String> {
    client.command("EHLO client.example").unwrap().require(250).unwrap().lines
}
