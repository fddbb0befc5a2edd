//! What the certificate of a next hop says, for result objects.
//!
//! Owns reading, not judging: whether it is to be trusted is decided by TLS. It comes from a stranger, so
//! everything that is kept of it is bounded.
//!
//! Must never: be asked where nobody wants to know.
//!
//! **Diagnostics**: `None` for octets that are no certificate.

use std::net::{Ipv4Addr, Ipv6Addr};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, KeyUsage};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::delivery::{Certificate, Name};

/// Octets of one text that is kept.
const TEXT_BYTES_MAX: usize = 256;
/// Alternative names that are kept; large sites have a hundred.
const ALT_NAMES_MAX: usize = 128;

/// Reads a certificate in DER. `verdict` is why it was not verified; `Ok` says that it was.
pub(super) fn read(der: &[u8], verdict: Result<(), &str>) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let (subject, issuer) = (certificate.subject(), certificate.issuer());
    let key_usage = certificate.key_usage().ok().flatten();
    let validity = certificate.validity();
    Some(Certificate {
        not_before_s: validity.not_before.timestamp(),
        not_after_s: validity.not_after.timestamp(),
        version: certificate.version().0.saturating_add(1),
        verified: verdict.is_ok(),
        result: verdict.err().unwrap_or("ok").into(),
        key_usage: key_usage.map(|usage| uses(usage.value)).unwrap_or_default(),
        self_signed: subject.as_raw() == issuer.as_raw(),
        subject: name(subject),
        issuer: name(issuer),
        alt_names: alt_names(&certificate),
    })
}

fn name(name: &X509Name<'_>) -> Name {
    Name {
        common: text(name.iter_common_name().next()),
        country: text(name.iter_country().next()),
        locality: text(name.iter_locality().next()),
        state: text(name.iter_state_or_province().next()),
        organization: text(name.iter_organization().next()),
    }
}

fn text(attribute: Option<&AttributeTypeAndValue<'_>>) -> Option<Box<str>> {
    Some(shown(attribute?.as_str().ok()?))
}

/// Cut, and without what could disturb a log or a terminal.
fn shown(text: &str) -> Box<str> {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// In the words of RFC 5280 4.2.1.3.
fn uses(usage: &KeyUsage) -> Vec<&'static str> {
    let all = [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ];
    all.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect()
}

fn alt_names(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let shown = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(shown(name)),
        GeneralName::IPAddress(octets) => address(octets),
        _ => None,
    });
    shown.take(ALT_NAMES_MAX).collect()
}

fn address(octets: &[u8]) -> Option<Box<str>> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(four).to_string().into());
    }
    let sixteen = <[u8; 16]>::try_from(octets).ok()?;
    Some(Ipv6Addr::from(sixteen).to_string().into())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, KeyUsagePurpose};

    use super::*;

    #[test]
    fn what_a_certificate_says_is_read() {
        let names = vec!["mx.example".to_owned(), "192.0.2.1".to_owned(), "2001:db8::1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        let long = "\u{e4}\u{7}".repeat(200);
        let parts = [
            (DnType::CommonName, "mx.example"),
            (DnType::CountryName, "NL"),
            (DnType::LocalityName, "Amsterdam"),
            (DnType::OrganizationName, &long),
        ];
        parts.into_iter().for_each(|(kind, text)| params.distinguished_name.push(kind, text));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();

        let read = read(made.der(), Err("expired")).unwrap();
        assert_eq!(read.not_before_s, 1_767_312_000);
        assert_eq!((read.version, read.self_signed, read.verified), (3, true, false));
        assert_eq!(&*read.result, "expired");
        assert_eq!(read.key_usage, ["digitalSignature", "cRLSign"]);
        assert_eq!(read.alt_names, ["mx.example", "192.0.2.1", "2001:db8::1"].map(Box::from));
        assert_eq!(read.subject, read.issuer);
        assert_eq!(read.subject.common.as_deref(), Some("mx.example"));
        assert_eq!((read.subject.country.as_deref(), &read.subject.state), (Some("NL"), &None));
        let organization = read.subject.organization.unwrap();
        assert!(organization.len() <= TEXT_BYTES_MAX && organization.starts_with("\u{e4}?\u{e4}?"));
    }

    #[test]
    fn octets_that_are_no_certificate_are_nothing() {
        for der in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", &[0x30; 4096]] {
            assert_eq!(read(der, Ok(())), None);
        }
    }
}
