//! The JSON of a result, in MailerQ's form: what the message said of itself, and how each attempt ended.
//!
//! Must never: say a password; carry more than [`MIME_BYTES_MAX`] octets of a text.
//!
//! Diagnostics: none.

use base64::Engine;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::queue::{Attempt, DsnNotify, Mail, MailId, QueueWish, Ret, Transaction, Wishes};

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
    /// What `transaction` says of `mail`, as it came to the server called `hostname`.
    pub fn of(transaction: &Transaction, mail: &Mail, hostname: &str) -> Self {
        let wishes = transaction.wishes.as_deref();
        let mut object = wishes.and_then(custom).unwrap_or_default();
        let mut add = |name: &str, value: Value| {
            if value.is_null() {
                object.remove(name);
            } else {
                object.insert(name.to_owned(), value);
            }
        };
        add("envelope", (&*mail.envelope).into());
        add("recipient", (&*mail.recipient).into());
        add("message-id", transaction.id.mail(mail.index).to_string().into());
        add("hostname", hostname.into());
        add("received", time(transaction.received_ms).into());
        add("connection", connection(transaction));
        add("dsn", dsn(mail, wishes));
        add("extracted", extracted(transaction, mail));
        for (name, value) in wishes.map(properties).into_iter().flatten() {
            add(name, value);
        }
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
            "received": time(received_ms),
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

/// Properties that mean nothing to us.
fn custom(wishes: &Wishes) -> Option<Map<String, Value>> {
    serde_json::from_str(wishes.properties.as_deref()?).ok()
}

fn connection(transaction: &Transaction) -> Value {
    let origin = &transaction.origin;
    if transaction.is_internal() {
        return Value::Null;
    }
    let mut connection = json!({
        "local-ip": origin.local.ip().to_string(),
        "local-port": origin.local.port(),
        "remote-ip": origin.remote.ip().to_string(),
        "remote-port": origin.remote.port(),
        "secure": origin.secure,
    });
    if let Some(user) = &origin.user {
        connection["user"] = (&**user).into();
    }
    connection
}

fn dsn(mail: &Mail, wishes: Option<&Wishes>) -> Value {
    let mut object = Map::new();
    if let Some(dsn) = &mail.dsn {
        let names = [
            (DsnNotify::NEVER, "NEVER"),
            (DsnNotify::SUCCESS, "SUCCESS"),
            (DsnNotify::FAILURE, "FAILURE"),
            (DsnNotify::DELAY, "DELAY"),
        ];
        let said = names.into_iter().filter(|(bit, _)| dsn.notify.has(*bit));
        let said: Vec<&str> = said.map(|(_, name)| name).collect();
        if !said.is_empty() {
            object.insert("notify".into(), said.join(",").into());
        }
        object.extend(dsn.orcpt.as_deref().map(|orcpt| ("orcpt".into(), orcpt.into())));
    }
    let ret = wishes.and_then(|wishes| wishes.dsn_ret).map(|ret| match ret {
        Ret::Full => "FULL",
        Ret::Headers => "HDRS",
    });
    object.extend(ret.map(|ret| ("ret".into(), ret.into())));
    let envid = wishes.and_then(|wishes| wishes.dsn_envid.as_deref());
    object.extend(envid.map(|envid| ("envid".into(), envid.into())));
    if object.is_empty() { Value::Null } else { object.into() }
}

/// What the message asked for, under MailerQ's names.
fn properties(wishes: &Wishes) -> Vec<(&'static str, Value)> {
    let mut all: Vec<(&'static str, Value)> = Vec::new();
    let Wishes { retries_s, attempts_max, deliver_until_ms, not_before_ms, queues, .. } = wishes;
    all.extend(retries_s.as_deref().map(|retries| ("retries", retries.into())));
    all.extend(attempts_max.map(|max| ("maxattempts", max.into())));
    all.extend(deliver_until_ms.map(|until_ms| ("maxdelivertime", time(until_ms).into())));
    all.extend(not_before_ms.map(|at_ms| ("nextattempt", json!({ "time": time(at_ms) }))));
    let named = [
        ("results", &queues.results),
        ("success", &queues.success),
        ("failure", &queues.failure),
        ("retry", &queues.retry),
    ];
    let named: Map<String, Value> = named
        .into_iter()
        .filter_map(|(key, wish)| match wish {
            QueueWish::Setting => None,
            QueueWish::Off => Some((key.to_owned(), Value::Null)),
            QueueWish::Named(name) => Some((key.to_owned(), (&**name).into())),
        })
        .collect();
    if !named.is_empty() {
        all.push(("queues", named.into()));
    }
    if wishes.keepmime {
        all.push(("keepmime", true.into()));
    }
    if !wishes.tags.is_empty() {
        all.push(("tags", wishes.tags.iter().map(|tag| Value::from(&**tag)).collect()));
    }
    if let Some(smarthost) = &wishes.smarthost {
        let mut object = json!({ "hostname": smarthost.host, "port": smarthost.port });
        if let Some(username) = &smarthost.username {
            object["username"] = (&**username).into();
        }
        all.push(("smarthost", object));
    }
    all
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
    add("time", time(attempt.at_ms).into());
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

/// `YYYY-MM-DD HH:MM:SS` in UTC.
fn time(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
