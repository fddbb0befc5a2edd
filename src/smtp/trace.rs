//! Our own Received field (RFC 5321 4.4), made once a transaction and kept apart from its text.
//!
//! Must never: let what a client said break out of the field.
//!
//! **Diagnostics**: none; what cannot stand in the field becomes `?`.

use std::borrow::Cow;
use std::io::Write;
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
        let Trace { hostname, protocol, cipher, id, date, .. } = *self;
        let (helo, address) = (harmless(self.helo), Literal::of(self.remote.to_canonical()));
        let tls = cipher.map_or(["", ""], |cipher| ["\r\n\ttls ", cipher]);
        let texts = [
            "Received: from ",
            &helo,
            " ([",
            address.as_str(),
            "])\r\n\tby ",
            hostname,
            " (Rohrpost) with ",
            protocol,
            " id ",
            id,
            tls[0],
            tls[1],
            ";\r\n\t",
            date,
            "\r\n",
        ];
        // Exactly as long as it is: nothing is moved when it is boxed.
        let mut field = String::with_capacity(texts.iter().map(|text| text.len()).sum());
        texts.iter().for_each(|text| field.push_str(text));
        field.into_bytes().into()
    }
}

/// An address as it stands in a literal (RFC 5321 4.1.3: one of IPv6 carries its tag), without a string.
struct Literal {
    octets: [u8; LITERAL_BYTES_MAX],
    length: usize,
}

/// The tag, eight groups of four digits, and what is between them.
const LITERAL_BYTES_MAX: usize = 5 + 8 * 4 + 7;

impl Literal {
    fn of(address: IpAddr) -> Literal {
        let mut octets = [0; LITERAL_BYTES_MAX];
        let mut room = &mut octets[..];
        let written = match address {
            // Not by its Display, which can pad, and takes some 1,400 instructions for that.
            IpAddr::V4(address) => {
                let mut digits = itoa::Buffer::new();
                address.octets().into_iter().enumerate().try_for_each(|(place, octet)| {
                    room.write_all(if place > 0 { b"." } else { b"" })?;
                    room.write_all(digits.format(octet).as_bytes())
                })
            }
            IpAddr::V6(address) => write!(room, "IPv6:{address}"),
        };
        written.expect("the longest address has room");
        let length = LITERAL_BYTES_MAX - room.len();
        Literal { octets, length }
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.octets[..self.length]).expect("an address is ASCII")
    }
}

/// Only what a domain or an address literal is made of: no comment, no fold, no second clause.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmless = |character: char| {
        matches!(character,
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' | ':' | '[' | ']')
    };
    match text.bytes().all(|byte| is_harmless(char::from(byte))) {
        true => text.into(),
        false => text.chars().map(|c| if is_harmless(c) { c } else { '?' }).collect(),
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
