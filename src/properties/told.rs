//! The JSON of a message, in MailerQ's form: what is known of it, and what it asks for.
//!
//! Diagnostics: none.

use serde_json::{Map, Value, json};

use crate::clock::utc_text;
use crate::queue::{DsnNotify, Mail, MailDsn, MailId, Origin, QueueWish, Ret, Transaction, Wishes};

/// What is known of a message beside what it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The mail's name.
    pub id: MailId,
    /// When it was received, unix time in milliseconds.
    pub received_ms: u64,
    /// Where it came from; absent where this server wrote it.
    pub origin: Option<&'a Origin>,
    /// How this server was called.
    pub hostname: &'a str,
    /// What is asked of notices about the recipient.
    pub dsn: Option<&'a MailDsn>,
}

impl<'a> Known<'a> {
    /// What is known of a mail in the queue of the server called `hostname`.
    pub fn of(transaction: &'a Transaction, mail: &'a Mail, hostname: &'a str) -> Self {
        Self {
            id: transaction.id.mail(mail.index),
            received_ms: transaction.received_ms,
            origin: (!transaction.is_internal()).then_some(&transaction.origin),
            hostname,
            dsn: mail.dsn.as_deref(),
        }
    }
}

/// All of that as one object, without addresses and text. What is known stands above custom properties
/// of the same name.
pub fn object(known: &Known<'_>, wishes: Option<&Wishes>) -> Map<String, Value> {
    let mut object = wishes.and_then(custom).unwrap_or_default();
    let mut add = |name: &str, value: Value| {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.to_owned(), value);
        }
    };
    add("message-id", known.id.to_string().into());
    add("hostname", known.hostname.into());
    add("received", utc_text(known.received_ms).into());
    add("connection", known.origin.map_or(Value::Null, connection));
    add("dsn", dsn(known.dsn, wishes));
    for (name, value) in wishes.map(properties).into_iter().flatten() {
        add(name, value);
    }
    object
}

/// Properties that mean nothing to us.
fn custom(wishes: &Wishes) -> Option<Map<String, Value>> {
    serde_json::from_str(wishes.properties.as_deref()?).ok()
}

fn connection(origin: &Origin) -> Value {
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

fn dsn(dsn: Option<&MailDsn>, wishes: Option<&Wishes>) -> Value {
    let mut object = Map::new();
    if let Some(dsn) = dsn {
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
    all.extend(deliver_until_ms.map(|until_ms| ("maxdelivertime", utc_text(until_ms).into())));
    all.extend(not_before_ms.map(|at_ms| ("nextattempt", json!({ "time": utc_text(at_ms) }))));
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
