//! Our own Received field (RFC 5321 4.4), made once a transaction and kept apart from its text.
//!
//! Must never: let what a client said break out of the field.
//!
//! **Diagnostics**: none; what cannot stand in the field becomes `?`.

use std::net::IpAddr;

/// What the field says.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// The name that the client gave in EHLO.
    pub helo: &'a str,
    /// The client's address.
    pub remote: IpAddr,
    /// Our name.
    pub hostname: &'a str,
    /// The `with` keyword (RFC 3848).
    pub protocol: &'a str,
    /// The cipher suite of TLS, if it was active (RFC 8314 4.3).
    pub cipher: Option<&'a str>,
    /// The name of the transaction.
    pub id: &'a str,
    /// The date (RFC 5322 3.3).
    pub date: &'a str,
}

impl Trace<'_> {
    /// The whole field with its CRLF.
    pub fn to_field(&self) -> Box<[u8]> {
        let helo: String = self.helo.chars().map(harmless).collect();
        // RFC 5321 4.1.3: an IPv6 literal carries its tag.
        let remote = match self.remote.to_canonical() {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        let Trace { hostname, protocol, id, date, .. } = self;
        let tls = self.cipher.map(|cipher| format!("\r\n\ttls {cipher}")).unwrap_or_default();
        format!(
            "Received: from {helo} ({remote})\r\n\tby {hostname} (Rohrpost) with {protocol} id {id}{tls};\r\n\t{date}\r\n"
        )
        .into_bytes()
        .into()
    }
}

/// Only what a domain or an address literal is made of: no comment, no fold, no second clause.
fn harmless(character: char) -> char {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' | ':' | '[' | ']' => character,
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(helo: &str, remote: &str) -> String {
        let trace = Trace {
            helo,
            remote: remote.parse().unwrap(),
            hostname: "mx.example",
            protocol: "ESMTP",
            cipher: None,
            id: "0000000000001",
            date: "Mon, 23 Sep 2019 12:46:56 +0000",
        };
        String::from_utf8(trace.to_field().into_vec()).unwrap()
    }

    #[test]
    fn rfc_5321_4_4_the_field_names_both_ends_and_the_date() {
        assert_eq!(
            field("client.example", "192.0.2.1"),
            "Received: from client.example ([192.0.2.1])\r\n\
             \tby mx.example (Rohrpost) with ESMTP id 0000000000001;\r\n\
             \tMon, 23 Sep 2019 12:46:56 +0000\r\n"
        );
        assert!(field("c", "2001:db8::1").contains("([IPv6:2001:db8::1])"));
        assert!(field("c", "::ffff:192.0.2.1").contains("([192.0.2.1])"));
    }

    #[test]
    fn a_greeting_cannot_forge_a_clause_or_a_header() {
        let forged = field("x) by evil (\r\nSubject: hi;", "192.0.2.1");
        assert_eq!(forged.lines().count(), 3);
        assert!(forged.starts_with("Received: from x??by?evil????Subject:?hi? ("), "{forged}");
    }
}
