//! The values of one line, as workers hand them over.
//!
//! Owns the names of variables and what each stands for. Values are copies, each at most
//! [`VALUE_BYTES_MAX`] long, so that lines that wait cost little and hold no mail.
//!
//! Diagnostics: none; a variable that has no value is empty.

use std::fmt::Write;

use crate::clock::Wall;
use crate::queue::{Attempt, MailId, Origin};

use super::template::Subject;

/// Octets of a text that comes from elsewhere.
const VALUE_BYTES_MAX: usize = 1024;

/// What a variable stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Date,
    Time,
    MessageId,
    Envelope,
    Recipient,
    Tags,
    /// A property of the mail that means nothing to us, by its names from the outside in.
    Property(Box<[Box<str>]>),
    Attempt,
    State,
    Result,
    Code,
    Status,
    Description,
    From,
    To,
    /// What is known of the connection, by its names.
    Fact(Box<[Box<str>]>),
    RemoteIp,
    RemotePort,
    LocalIp,
    LocalPort,
    Secure,
    User,
    Hostname,
    /// Whether it was recognised as a report; we recognise none.
    Report,
}

/// What results tell of the connection, beside the words of the attempt itself.
const FACTS: &[&str] =
    &["authentication", "certificate", "cipher", "dsn", "messages", "mta", "sent"];

impl Field {
    pub(super) fn named(subject: Subject, name: &str) -> Option<Self> {
        let shared = match name {
            "date" => Some(Self::Date),
            "time" => Some(Self::Time),
            _ => None,
        };
        shared.or_else(|| match subject {
            Subject::Sent => Self::of_sent(name),
            Subject::Received => Self::of_received(name),
        })
    }

    fn of_sent(name: &str) -> Option<Self> {
        Some(match name {
            "attempt" => Self::Attempt,
            "email.envelope" => Self::Envelope,
            "email.recipient" => Self::Recipient,
            "email.tags" => Self::Tags,
            "email.message_id" => Self::MessageId,
            "result.state" => Self::State,
            "result.result" => Self::Result,
            "result.code" => Self::Code,
            "result.status" => Self::Status,
            "result.description" => Self::Description,
            "result.from" => Self::From,
            "result.to" => Self::To,
            "result.time" => Self::Date,
            _ => {
                if let Some(path) = name.strip_prefix("email.") {
                    return Some(Self::Property(path.split('.').map(Box::from).collect()));
                }
                let path: Box<[Box<str>]> =
                    name.strip_prefix("result.")?.split('.').map(Box::from).collect();
                return FACTS.contains(&&*path[0]).then_some(Self::Fact(path));
            }
        })
    }

    fn of_received(name: &str) -> Option<Self> {
        Some(match name {
            "report" => Self::Report,
            "json.envelope" => Self::Envelope,
            "json.recipient" => Self::Recipient,
            "json.message_id" => Self::MessageId,
            "json.hostname" => Self::Hostname,
            "json.received" => Self::Date,
            "json.connection.remote_ip" => Self::RemoteIp,
            "json.connection.remote_port" => Self::RemotePort,
            "json.connection.local_ip" => Self::LocalIp,
            "json.connection.local_port" => Self::LocalPort,
            "json.connection.secure" => Self::Secure,
            "json.connection.user" => Self::User,
            _ => return None,
        })
    }

    /// The variables of a log, as a phrase.
    pub(super) const fn known(subject: Subject) -> &'static str {
        match subject {
            Subject::Sent => {
                "$date, $time, $attempt, $email.envelope, $email.recipient, $email.tags, \
                 $email.message_id and any property of the mail, and $result.state, result, code, \
                 status, description, from, to, mta, authentication, cipher, certificate, messages, \
                 sent, dsn"
            }
            Subject::Received => {
                "$date, $time, $report, $json.envelope, $json.recipient, $json.message_id, \
                 $json.hostname, $json.received, and $json.connection.remote_ip, remote_port, \
                 local_ip, local_port, secure, user"
            }
        }
    }
}

/// One line of either log.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Of the send log.
    Sent(Box<Sent>),
    /// Of the received log.
    Received(Box<Received>),
}

/// An attempt to deliver.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The attempt.
    pub attempt: Attempt,
    /// Which one of its mail it was.
    pub number: u32,
    /// The sender.
    pub envelope: Box<str>,
    /// The recipient.
    pub recipient: Box<str>,
    /// The mail's tags, with commas between them.
    pub tags: Box<str>,
    /// Properties of the mail, one JSON object; where the form names one.
    pub properties: Option<Box<str>>,
}

/// A mail that came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// When, unix time in milliseconds.
    pub at_ms: u64,
    /// Its name.
    pub mail: MailId,
    /// The sender.
    pub envelope: Box<str>,
    /// The recipient.
    pub recipient: Box<str>,
    /// Where it came from.
    pub origin: Origin,
    /// Who we were then, where the form names that.
    pub hostname: Option<Box<str>>,
}

/// A text at most [`VALUE_BYTES_MAX`] long.
pub(super) fn capped<'a, T: From<&'a str>>(text: &'a str) -> T {
    text[..text.floor_char_boundary(VALUE_BYTES_MAX)].into()
}

impl Entry {
    /// Octets that it holds, roughly.
    pub(super) fn bytes(&self) -> usize {
        let fixed = 512;
        fixed
            + match self {
                Self::Sent(sent) => {
                    let Attempt { description, facts, .. } = &sent.attempt;
                    let texts = [&sent.envelope, &sent.recipient, &sent.tags, description];
                    let more = [facts, &sent.properties].into_iter().flatten();
                    texts.into_iter().chain(more).map(|text| text.len()).sum::<usize>()
                }
                Self::Received(received) => {
                    let origin = &received.origin;
                    let user = origin.user.as_ref().map_or(0, |user| user.len());
                    let hostname = received.hostname.as_ref().map_or(0, |name| name.len());
                    let addresses = received.envelope.len() + received.recipient.len();
                    addresses + origin.helo.len() + user + hostname
                }
            }
    }

    pub(super) fn at_ms(&self) -> u64 {
        match self {
            Self::Sent(sent) => sent.attempt.at_ms,
            Self::Received(received) => received.at_ms,
        }
    }

    /// Appends the value of a variable, as it is.
    pub(super) fn put(&self, field: &Field, wall: &mut Wall, out: &mut String) {
        match (field, self) {
            (Field::Date, _) => out.push_str(wall.stamp(self.at_ms())),
            (Field::Time, _) => put(out, self.at_ms() / 1000),
            (_, Self::Sent(sent)) => sent.put(field, out),
            (_, Self::Received(received)) => received.put(field, out),
        }
    }
}

impl Sent {
    fn put(&self, field: &Field, out: &mut String) {
        let attempt = &self.attempt;
        match field {
            Field::MessageId => put(out, attempt.mail),
            Field::Envelope => out.push_str(&self.envelope),
            Field::Recipient => out.push_str(&self.recipient),
            Field::Tags => out.push_str(&self.tags),
            Field::Attempt => put(out, self.number),
            Field::State => out.push_str(&attempt.state),
            Field::Result => out.push_str(&attempt.result),
            Field::Code if attempt.code == 0 => {}
            Field::Code => put(out, attempt.code),
            Field::Status => out.push_str(&attempt.status),
            Field::Description => out.push_str(&attempt.description),
            Field::From => attempt.from.into_iter().for_each(|from| put(out, from)),
            Field::To => attempt.to.into_iter().for_each(|to| put(out, to.ip())),
            Field::Property(path) => put_json(out, self.properties.as_deref(), path),
            Field::Fact(path) => put_json(out, attempt.facts.as_deref(), path),
            Field::Date | Field::Time => unreachable!("every entry has them"),
            Field::RemoteIp
            | Field::RemotePort
            | Field::LocalIp
            | Field::LocalPort
            | Field::Secure
            | Field::User
            | Field::Hostname
            | Field::Report => unreachable!("the send log has no such variable"),
        }
    }
}

impl Received {
    fn put(&self, field: &Field, out: &mut String) {
        let origin = &self.origin;
        match field {
            Field::MessageId => put(out, self.mail),
            Field::Envelope => out.push_str(&self.envelope),
            Field::Recipient => out.push_str(&self.recipient),
            Field::RemoteIp => put(out, origin.remote.ip()),
            Field::RemotePort => put(out, origin.remote.port()),
            Field::LocalIp => put(out, origin.local.ip()),
            Field::LocalPort => put(out, origin.local.port()),
            Field::Secure => put(out, origin.secure),
            Field::User => origin.user.iter().for_each(|user| out.push_str(user)),
            Field::Hostname => self.hostname.iter().for_each(|name| out.push_str(name)),
            Field::Report => {}
            Field::Date | Field::Time => unreachable!("every entry has them"),
            Field::Tags
            | Field::Property(_)
            | Field::Attempt
            | Field::State
            | Field::Result
            | Field::Code
            | Field::Status
            | Field::Description
            | Field::From
            | Field::To
            | Field::Fact(_) => unreachable!("the received log has no such variable"),
        }
    }
}

fn put(out: &mut String, value: impl std::fmt::Display) {
    // A string takes all that is written.
    let _ = write!(out, "{value}");
}

/// Appends the value at a path of a JSON object: texts as they are, others as JSON. Names are compared as
/// forms write them, with `_` for `-`.
fn put_json(out: &mut String, object: Option<&str>, path: &[Box<str>]) {
    let object = object.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let is = |known: &str, name: &str| known == name || known.replace('-', "_") == name;
    let value = path.iter().try_fold(object, |value, name| {
        let value = value?;
        let found = value.as_object()?.iter().find(|(known, _)| is(known, name));
        Some(found.map(|(_, value)| value.clone()))
    });
    match value.flatten() {
        None | Some(serde_json::Value::Null) => {}
        Some(serde_json::Value::String(text)) => out.push_str(&text),
        Some(other) => put(out, other),
    }
}
