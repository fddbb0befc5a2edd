//! A notice as a message (RFC 6522: multipart/report; RFC 3464; RFC 6533 for UTF-8).
//!
//! Owns the header and the order of the parts. Every text of strangers in it was cleaned by `field`, or
//! stands in a part of its own behind a boundary that nobody can guess.
//!
//! Diagnostics: none.

use mail_builder::MessageBuilder;
use mail_builder::headers::content_type::ContentType;
use mail_builder::headers::raw::Raw;
use mail_builder::headers::text::Text;
use mail_builder::mime::MimePart;

use crate::clock::Wall;
use crate::smtp::dsn::Ret;

use super::case::Case;
use super::excerpt::Excerpt;
use super::field::Charset;
use super::{human, status};

/// What every notice of a server has in common, and what makes this one unlike others.
#[derive(Debug)]
pub struct Stationery<'a> {
    /// The server's name.
    pub hostname: &'a str,
    /// The notice's own name, unique on this server: a queue id.
    pub id: &'a str,
    /// When it is written, unix time in milliseconds.
    pub now_ms: u64,
    /// What divides its parts; [`mail_builder::mime::make_boundary`] makes good ones.
    pub boundary: &'a str,
}

/// A message that is ready to be queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Header and parts, lines with CRLF.
    pub text: Vec<u8>,
    /// Whether it holds octets beyond ASCII (RFC 6152).
    pub eight_bit: bool,
    /// Whether its header holds UTF-8 (RFC 6531).
    pub smtputf8: bool,
}

/// Writes a notice, with what comes back of the mail if that could be had.
pub fn write(
    case: &Case<'_>,
    excerpt: Option<&Excerpt>,
    stationery: &Stationery<'_>,
    wall: &mut Wall,
) -> Notice {
    let hostname = stationery.hostname;
    let text = human::write(case, hostname, wall);
    let status = status::write(case, hostname, wall);
    let mut parts = vec![
        MimePart::new(ContentType::new("text/plain").attribute("charset", "utf-8"), text),
        status_part(status, status::charset(case)),
    ];
    parts.extend(excerpt.map(|excerpt| excerpt_part(case, excerpt)));
    let content_type = ContentType::new("multipart/report")
        .attribute("report-type", "delivery-status")
        .attribute("boundary", stationery.boundary.to_owned());
    let message = MessageBuilder::new()
        .header("Date", Raw::new(wall.date(stationery.now_ms).to_owned()))
        .header("From", Raw::new(format!("Mail Delivery System <MAILER-DAEMON@{hostname}>")))
        .header("To", Raw::new(format!("<{}>", case.sender)))
        .header("Subject", Text::new(human::subject(case)))
        .header("Message-ID", Raw::new(format!("<{}@{hostname}>", stationery.id)))
        // RFC 3834 5: no machine shall answer it.
        .header("Auto-Submitted", Raw::new("auto-replied"))
        .body(MimePart::new(content_type, parts));
    let mut text = Vec::new();
    message.serialize(&mut text);
    let eight_bit = !text.is_ascii();
    Notice { text, eight_bit, smtputf8: !case.sender.is_ascii() }
}

/// RFC 3464 2.1: `message/delivery-status` is ASCII. RFC 6533 4, 6: the other one is sent as it is too,
/// which parsers understand better than an encoding; it needs 8BITMIME, and no SMTPUTF8.
fn status_part(status: String, charset: Charset) -> MimePart<'static> {
    let kind = match charset {
        Charset::Ascii => "message/delivery-status",
        Charset::Utf8 => "message/global-delivery-status",
    };
    let encoding = encoding_of(status.as_bytes());
    MimePart::new(ContentType::new(kind), status.into_bytes()).transfer_encoding(encoding)
}

fn encoding_of(octets: &[u8]) -> &'static str {
    if octets.is_ascii() { "7bit" } else { "8bit" }
}

fn excerpt_part<'a>(case: &Case<'_>, excerpt: &'a Excerpt) -> MimePart<'a> {
    let (plain, global) = match excerpt.ret {
        Ret::Headers => ("text/rfc822-headers", "message/global-headers"),
        Ret::Full => ("message/rfc822", "message/global"),
    };
    let kind = if case.smtputf8 && !excerpt.text.is_ascii() { global } else { plain };
    let encoding = encoding_of(&excerpt.text);
    MimePart::new(ContentType::new(kind), &*excerpt.text).transfer_encoding(encoding)
}
