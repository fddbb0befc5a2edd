//! Our own Received field (RFC 5321 4.4), made once a transaction and kept apart from its text.
//!
//! Must never: let what a client said break out of the field.
//!
//! **Diagnostics**: none; what cannot stand in the field becomes `?`.

use std::fmt::Write;
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
    /// The whole field with its CRLF. Put together by hand, since every message has one.
    pub fn to_field(&self) -> Box<[u8]> {
        let Trace { helo, hostname, protocol, cipher, id, date, .. } = *self;
        let texts = [helo, hostname, protocol, cipher.unwrap_or_default(), id, date];
        let length: usize = texts.iter().map(|text| text.len()).sum();
        let mut field = String::with_capacity(length + FRAME_BYTES_MAX);
        field.push_str("Received: from ");
        field.extend(helo.chars().map(harmless));
        field.push_str(" ([");
        push_address(&mut field, self.remote.to_canonical());
        for (before, text) in
            [("])\r\n\tby ", hostname), (" (Rohrpost) with ", protocol), (" id ", id)]
        {
            field.push_str(before);
            field.push_str(text);
        }
        if let Some(cipher) = cipher {
            field.push_str("\r\n\ttls ");
            field.push_str(cipher);
        }
        field.push_str(";\r\n\t");
        field.push_str(date);
        field.push_str("\r\n");
        field.into_bytes().into()
    }
}

/// What stands between the texts, with an address of the longest kind.
const FRAME_BYTES_MAX: usize = 128;

/// RFC 5321 4.1.3: an IPv6 literal carries its tag.
fn push_address(field: &mut String, address: IpAddr) {
    match address {
        // Not by its Display, which can pad, and takes some 1,400 instructions for that.
        IpAddr::V4(address) => {
            let mut digits = itoa::Buffer::new();
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    field.push('.');
                }
                field.push_str(digits.format(octet));
            }
        }
        IpAddr::V6(address) => {
            let written = write!(field, "IPv6:{address}");
            written.expect("a string has room");
        }
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
        for address in ["0.9.10.99", "100.199.200.255"] {
            assert!(field("c", address).contains(&format!("([{address}])")), "{address}");
        }
    }

    #[test]
    fn a_greeting_cannot_forge_a_clause_or_a_header() {
        let forged = field("x) by evil (\r\nSubject: hi;", "192.0.2.1");
        assert_eq!(forged.lines().count(), 3);
        assert!(forged.starts_with("Received: from x??by?evil????Subject:?hi? ("), "{forged}");
    }
}
