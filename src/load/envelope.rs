//! MAIL and RCPT of each message.
//!
//! Recipients are numbered through all messages, so that domains take turns. **Diagnostics**: none.

use std::io::Write;

/// From whom and to whom messages go.
#[derive(Debug)]
pub(super) struct Envelope {
    mail: String,
    local: String,
    domain: String,
    recipients: u32,
    domains: u32,
}

impl Envelope {
    /// `from` may be empty; `to` has an `@`. Several recipients of a message have numbered local parts,
    /// several domains are numbered subdomains.
    pub(super) fn new(from: &str, to: &str, recipients: u32, domains: u32) -> Envelope {
        let (local, domain) = to.rsplit_once('@').unwrap_or((to, "localhost"));
        Envelope {
            mail: format!("MAIL FROM:<{from}>\r\n"),
            local: local.to_owned(),
            domain: domain.to_owned(),
            recipients,
            domains,
        }
    }

    /// How many recipients each message has.
    pub(super) fn recipients(&self) -> u32 {
        self.recipients
    }

    /// MAIL, the same for all.
    pub(super) fn mail(&self) -> &[u8] {
        self.mail.as_bytes()
    }

    /// Appends the RCPT of a message, counted from 0.
    pub(super) fn push_rcpt(&self, message: u64, index: u32, out: &mut Vec<u8>) {
        let Envelope { local, domain, .. } = self;
        out.extend_from_slice(b"RCPT TO:<");
        out.extend_from_slice(local.as_bytes());
        if self.recipients > 1 {
            let _ = write!(out, "{}", index + 1);
        }
        out.push(b'@');
        if self.domains > 1 {
            let number = message.wrapping_mul(self.recipients.into()).wrapping_add(index.into());
            // Writing to memory cannot fail.
            let _ = write!(out, "{}.", number % u64::from(self.domains) + 1);
        }
        out.extend_from_slice(domain.as_bytes());
        out.extend_from_slice(b">\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipients(envelope: &Envelope, message: u64) -> String {
        let mut out = Vec::new();
        (0..envelope.recipients()).for_each(|index| envelope.push_rcpt(message, index, &mut out));
        String::from_utf8(out).unwrap().replace("\r\n", " ").replace("RCPT TO:", "")
    }

    #[test]
    fn what_there_is_one_of_is_not_numbered() {
        let plain = Envelope::new("", "a@b.example", 1, 1);
        assert_eq!(plain.mail(), b"MAIL FROM:<>\r\n");
        assert_eq!(recipients(&plain, 7), "<a@b.example> ");
        let many = Envelope::new("s@b.example", "a@b.example", 2, 1);
        assert_eq!(recipients(&many, 7), "<a1@b.example> <a2@b.example> ");
    }

    #[test]
    fn domains_take_turns_over_all_messages() {
        let envelope = Envelope::new("", "a@b.example", 2, 3);
        assert_eq!(recipients(&envelope, 0), "<a1@1.b.example> <a2@2.b.example> ");
        assert_eq!(recipients(&envelope, 1), "<a1@3.b.example> <a2@1.b.example> ");
        let single = Envelope::new("", "a@b.example", 1, 3);
        assert_eq!(recipients(&single, 5), "<a@3.b.example> ");
    }
}
