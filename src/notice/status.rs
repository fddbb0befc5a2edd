//! The part of a notice that programs read (RFC 3464 2; RFC 6533 4).
//!
//! Owns the fields and their order. Every value passes through `field`.
//!
//! Diagnostics: none.

use crate::clock::Wall;
use crate::smtp::dsn;

use super::case::{Case, Kind};
use super::field::{Charset, clean, push};

/// The part's text, lines with CRLF.
pub(super) fn write(case: &Case<'_>, hostname: &str, wall: &mut Wall) -> String {
    let charset = charset(case);
    let mut out = String::new();
    // RFC 3464 2.2: what holds for the message.
    if let Some(envid) = case.envid {
        push(&mut out, "Original-Envelope-Id", &clean(envid, charset));
    }
    push(&mut out, "Reporting-MTA", &format!("dns; {}", clean(hostname, charset)));
    push(&mut out, "Arrival-Date", wall.date(case.received_ms));
    out.push_str("\r\n");
    // RFC 3464 2.3: what holds for the recipient.
    if let Some((kind, address)) = case.orcpt.and_then(|orcpt| orcpt.split_once(';'))
        && dsn::is_type(kind)
    {
        push(&mut out, "Original-Recipient", &format!("{kind}; {}", clean(address, charset)));
    }
    push(&mut out, "Final-Recipient", &final_recipient(case, charset));
    push(&mut out, "Action", action(case.kind));
    push(&mut out, "Status", &case.status().to_string());
    let words = case.words();
    if let Some(remote) = words.to.filter(|_| !case.is_ours()) {
        let name = case.mta().map_or_else(|| literal(remote.ip()), str::to_owned);
        push(&mut out, "Remote-MTA", &format!("dns; {}", clean(&name, charset)));
    }
    push(&mut out, "Diagnostic-Code", &diagnostic(case, charset));
    push(&mut out, "Last-Attempt-Date", wall.date(words.at_ms));
    if let Kind::Delayed { .. } = case.kind {
        push(&mut out, "Will-Retry-Until", wall.date(case.until_ms));
    }
    out
}

/// RFC 6533 4: a sender of SMTPUTF8 gets a part that may hold UTF-8.
pub(super) fn charset(case: &Case<'_>) -> Charset {
    if case.smtputf8 { Charset::Utf8 } else { Charset::Ascii }
}

fn final_recipient(case: &Case<'_>, charset: Charset) -> String {
    match (case.recipient.is_ascii(), charset) {
        (true, _) => format!("rfc822; {}", clean(case.recipient, charset)),
        (false, Charset::Utf8) => format!("utf-8; {}", clean(case.recipient, charset)),
        // RFC 6533 3: `utf-8-addr-unitext`, for those who cannot read the characters.
        (false, Charset::Ascii) => {
            let escape = |char: char| match char {
                c if c.is_ascii() => c.to_string(),
                c => format!("\\x{{{:X}}}", u32::from(c)),
            };
            let escaped: String =
                clean(case.recipient, Charset::Utf8).chars().map(escape).collect();
            format!("utf-8; {}", clean(&escaped, charset))
        }
    }
}

const fn action(kind: Kind) -> &'static str {
    match kind {
        Kind::Failed => "failed",
        Kind::Delayed { .. } => "delayed",
        Kind::Relayed => "relayed",
    }
}

/// RFC 3464 2.3.6: the words of the other side, or our own under a type of our own.
fn diagnostic(case: &Case<'_>, charset: Charset) -> String {
    let words = case.words();
    let text = clean(&words.description, charset);
    match words.code {
        0 => format!("X-Rohrpost; {}", clean(&format!("{}: {text}", words.state), charset)),
        code if case.is_ours() => {
            format!("X-Rohrpost; {code} {}", with_status(&words.status, &text))
        }
        code => format!("smtp; {code} {}", with_status(&words.status, &text)),
    }
}

/// A reply's text with its status in front, once.
pub(super) fn with_status(status: &str, text: &str) -> String {
    if status.is_empty() || text.starts_with(status) {
        return text.to_owned();
    }
    format!("{status} {text}")
}

/// An address as mail has it (RFC 5321 4.1.3).
pub(super) fn literal(address: std::net::IpAddr) -> String {
    match address.to_canonical() {
        std::net::IpAddr::V4(address) => format!("[{address}]"),
        std::net::IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}
