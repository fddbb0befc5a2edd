//! The JSON of a result, in MailerQ's form: what the message said of itself, and how each attempt ended.
//!
//! Must never: say a password; carry more than [`MIME_BYTES_MAX`] octets of a text.
//!
//! Diagnostics: none.

use base64::Engine;
use serde_json::{Map, Value, json};

use crate::clock::utc_text;
use crate::properties::{self, Known};
use crate::queue::{Attempt, Mail, MailId, Transaction, Wishes};

use super::extracted::{HEADER_BYTES_MAX, extracted};

/// Octets of a text that a result may carry.
pub const MIME_BYTES_MAX: usize = 4 << 20;

/// Octets of a text that are needed to tell of a mail with these wishes.
pub fn text_bytes_needed(wishes: Option<&Wishes>) -> usize {
    match wishes.is_some_and(|wishes| wishes.keepmime) {
        true => MIME_BYTES_MAX + 1,
        false => HEADER_BYTES_MAX,
    }
}

/// The part of a result that is the message itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Original(Map<String, Value>);

impl Original {
    /// What `transaction` says of `mail`, which asks for `wishes` now, as it came to the server called
    /// `hostname`.
    pub fn of(
        transaction: &Transaction,
        mail: &Mail,
        wishes: Option<&Wishes>,
        hostname: &str,
    ) -> Self {
        let mut object = properties::object(&Known::of(transaction, mail, hostname), wishes);
        let mut add = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
        add("envelope", (&*mail.envelope).into());
        add("recipient", (&*mail.recipient).into());
        add("extracted", extracted(transaction, mail));
        for (name, value) in mime(transaction, mail, wishes) {
            add(name, value);
        }
        Self(object)
    }

    /// What is left to be said of a mail whose transaction cannot be read any more.
    pub fn lost(mail: MailId, envelope: &str, recipient: &str, received_ms: u64) -> Self {
        let object = json!({
            "envelope": envelope,
            "recipient": recipient,
            "message-id": mail.to_string(),
            "received": utc_text(received_ms),
        });
        let Value::Object(object) = object else { unreachable!("it is written as one above") };
        Self(object)
    }

    /// The whole result: the attempts that are known, oldest first, of `count` in all.
    pub fn with_attempts<'a>(
        mut self,
        attempts: impl Iterator<Item = &'a Attempt>,
        count: u32,
    ) -> Vec<u8> {
        let results: Vec<Value> = attempts.map(attempt).collect();
        self.0.insert("attempts".into(), count.into());
        self.0.insert("results".into(), results.into());
        serde_json::to_vec(&self.0).expect("a map with texts as keys is JSON")
    }
}

/// The text, where that was asked for: as it was sent, so with our Received field. JSON has no octets,
/// so what is no UTF-8 comes as base64.
fn mime(
    transaction: &Transaction,
    mail: &Mail,
    wishes: Option<&Wishes>,
) -> Vec<(&'static str, Value)> {
    let body = transaction.body(mail).map(|body| body.as_bytes());
    let Some(body) = body.filter(|_| wishes.is_some_and(|wishes| wishes.keepmime)) else {
        return Vec::new();
    };
    if body.len() > MIME_BYTES_MAX {
        return vec![("mime-omitted", true.into())];
    }
    let text = [&*transaction.trace, body].concat();
    match String::from_utf8(text) {
        Ok(text) => vec![("mime", text.into())],
        Err(error) => {
            let text = base64::engine::general_purpose::STANDARD.encode(error.as_bytes());
            vec![("mime-base64", text.into())]
        }
    }
}

fn attempt(attempt: &Attempt) -> Value {
    let facts = attempt.facts.as_deref().and_then(|facts| serde_json::from_str(facts).ok());
    let mut object: Map<String, Value> = facts.unwrap_or_default();
    let mut add = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    add("state", (&*attempt.state).into());
    add("result", (&*attempt.result).into());
    add("time", utc_text(attempt.at_ms).into());
    if let Some(from) = attempt.from {
        add("from", from.to_string().into());
    }
    if let Some(to) = attempt.to {
        add("to", to.ip().to_string().into());
    }
    if attempt.code != 0 {
        add("code", attempt.code.into());
    }
    if !attempt.status.is_empty() {
        add("status", (&*attempt.status).into());
    }
    if !attempt.description.is_empty() {
        add("description", (&*attempt.description).into());
    }
    if &*attempt.result != "accepted" {
        // Said of mail that arrived only.
        object.remove("dsn");
    }
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{
        Body, DsnNotify, MailDsn, Next, Origin, Password, QueueWish, QueueWishes, Ret, Smarthost,
        TransactionId,
    };

    /// Everything is asked for.
    fn wishes() -> Wishes {
        Wishes {
            retries_s: Some([60, 300].into()),
            attempts_max: Some(7),
            deliver_until_ms: Some(1_000_000_000_000),
            not_before_ms: Some(1_000_000_001_000),
            queues: QueueWishes {
                results: QueueWish::Off,
                retry: QueueWish::Named("again".into()),
                ..QueueWishes::default()
            },
            keepmime: true,
            tags: ["a".into()].into(),
            smarthost: Some(Box::new(Smarthost {
                host: "relay.example".into(),
                port: 587,
                username: Some("user".into()),
                password: Some(Password::new("hush".into())),
            })),
            properties: Some(r#"{"customer":12,"envelope":"forged"}"#.into()),
            dsn_ret: Some(Ret::Full),
            dsn_envid: Some("QQ".into()),
        }
    }

    fn transaction(text: &[u8], wishes: Option<Wishes>) -> Transaction {
        let address = "192.0.2.1:1025".parse().unwrap();
        let mail = Mail {
            index: 3,
            envelope: "a@example.org".into(),
            recipient: "b@example.net".into(),
            body: 0,
            dsn: Some(Box::new(MailDsn {
                notify: DsnNotify::SUCCESS.with(DsnNotify::DELAY),
                orcpt: Some("rfc822;c@example.net".into()),
            })),
            extras: None,
        };
        Transaction {
            id: TransactionId::from_u64(1),
            received_ms: 1_000_000_000_000,
            mails: vec![mail],
            bodies: vec![Body::try_from([text, b"\0"].concat()).unwrap()],
            trace: (*b"Received: here\r\n").into(),
            origin: Origin {
                remote: address,
                local: address,
                helo: "client.example".into(),
                user: Some("alice".into()),
                secure: true,
                authenticated: true,
            },
            eight_bit: false,
            smtputf8: false,
            wishes: wishes.map(Box::new),
            shelf: None,
        }
    }

    fn ended(result: &str, facts: Option<&str>) -> Attempt {
        Attempt {
            mail: TransactionId::from_u64(1).mail(3),
            at_ms: 1_000_000_000_000,
            next: Next::Delivered,
            state: "message".into(),
            result: result.into(),
            code: 250,
            status: "2.0.0".into(),
            description: "taken".into(),
            from: Some("192.0.2.7".parse().unwrap()),
            to: Some("[2001:db8::1]:25".parse().unwrap()),
            facts: facts.map(Box::from),
            extras: None,
        }
    }

    fn object(transaction: &Transaction, attempts: &[Attempt]) -> Value {
        let mail = &transaction.mails[0];
        let original = Original::of(transaction, mail, transaction.wishes_of(mail), "mx.example");
        serde_json::from_slice(&original.with_attempts(attempts.iter(), 9)).unwrap()
    }

    #[test]
    fn a_message_is_told_of_under_the_names_of_mailerq_and_without_its_password() {
        let found = object(&transaction(b"Subject: s\r\n\r\nbody\r\n", Some(wishes())), &[]);
        let expected = json!({
            "envelope": "a@example.org",
            "recipient": "b@example.net",
            "message-id": "0000000000001-3",
            "hostname": "mx.example",
            "received": "2001-09-09 01:46:40",
            "connection": {
                "local-ip": "192.0.2.1", "local-port": 1025,
                "remote-ip": "192.0.2.1", "remote-port": 1025,
                "secure": true, "user": "alice",
            },
            "dsn": { "notify": "SUCCESS,DELAY", "orcpt": "rfc822;c@example.net", "ret": "FULL", "envid": "QQ" },
            "retries": [60, 300],
            "maxattempts": 7,
            "maxdelivertime": "2001-09-09 01:46:40",
            "nextattempt": { "time": "2001-09-09 01:46:41" },
            "queues": { "results": null, "retry": "again" },
            "keepmime": true,
            "tags": ["a"],
            "smarthost": { "hostname": "relay.example", "port": 587, "username": "user" },
            "customer": 12,
            "mime": "Received: here\r\nSubject: s\r\n\r\nbody\r\n",
            "extracted": {
                "to": [], "subject": "s", "headers": { "Subject": "s" },
                "envelope": { "local": "a", "domain": "example.org" },
                "recipient": { "local": "b", "domain": "example.net" },
            },
            "attempts": 9,
            "results": [],
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_text_that_is_no_utf_8_or_too_long_is_told_of_otherwise() {
        let keep = Wishes { keepmime: true, ..Wishes::default() };
        let found = object(&transaction(b"\xff\r\n", Some(keep.clone())), &[]);
        assert_eq!(
            (&found["mime-base64"], found.get("mime")),
            (&json!("UmVjZWl2ZWQ6IGhlcmUNCv8NCg=="), None)
        );
        let long = vec![b'x'; MIME_BYTES_MAX + 1];
        let found = object(&transaction(&long, Some(keep)), &[]);
        assert_eq!((&found["mime-omitted"], found.get("mime")), (&true.into(), None));
        let found = object(&transaction(b"x", None), &[]);
        assert_eq!((found.get("mime"), found.get("tags")), (None, None));
    }

    #[test]
    fn attempts_carry_what_is_known_of_their_connection() {
        let facts = r#"{"dsn":true,"mta":"mx","cipher":{"name":"c"}}"#;
        let attempts = [
            ended("error", Some(facts)),
            ended("accepted", Some(facts)),
            ended("lost", Some("[]")),
        ];
        let found = object(&transaction(b"", None), &attempts);
        let results = found["results"].as_array().unwrap();
        assert_eq!((results[0].get("dsn"), &results[1]["dsn"]), (None, &true.into()));
        assert_eq!(
            (&results[0]["mta"], &results[0]["cipher"]["name"]),
            (&"mx".into(), &"c".into())
        );
        assert_eq!(
            (&results[0]["from"], &results[0]["to"]),
            (&"192.0.2.7".into(), &"2001:db8::1".into())
        );
        assert_eq!((&results[2]["code"], &results[2]["result"]), (&250.into(), &"lost".into()));
    }
}
