//! What the JSON of a message asks for after plugins have changed it.
//!
//! Must never: pass over a known property that means nothing, as fields of a text are; a plugin is told
//! (D-63).
//!
//! Diagnostics: [`Invalid`].

use serde_json::{Map, Value};

use crate::extract::{
    self, RESERVED_IN_RESULTS, RETRIES_MAX, RETRY_S_MAX, TAGS_MAX, WISHES_BYTES_MAX,
};
use crate::queue::{DsnNotify, MailDsn, Password, QueueWish, Smarthost, Wishes};

/// What a mail asks for by its JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// In place of all that was asked for before.
    pub wishes: Wishes,
    /// The same, of notices about the recipient.
    pub dsn: Option<Box<MailDsn>>,
}

/// Why a JSON cannot be followed (D-63).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A known property has a value that means nothing.
    #[error("its property {0} means nothing")]
    Property(Box<str>),
    /// Together they are more than a queue keeps.
    #[error("its properties are longer than {WISHES_BYTES_MAX} octets")]
    TooLong,
}

/// What `members`, names and JSON texts, ask for, where they differ from what was `shown`; `before` is
/// what was asked for until now. Times may count from `now_ms`, unix milliseconds.
///
/// # Errors
/// [`Invalid`].
pub fn changed(
    shown: &Map<String, Value>,
    members: &[(Box<str>, Box<str>)],
    before: Option<&Wishes>,
    now_ms: u64,
) -> Result<Option<Read>, Invalid> {
    let mut found = Map::new();
    for (name, text) in members {
        let value = serde_json::from_str(text).map_err(|_| Invalid::Property(shortened(name)))?;
        found.insert(name.to_string(), value);
    }
    if found == *shown {
        return Ok(None);
    }
    let mut reader = Reader { before, now_ms, read: Read::default(), custom: Map::new() };
    for (name, value) in found {
        let kept = value.is_null() && is_known(&name);
        if !kept && reader.property(&name, value).is_none() {
            return Err(Invalid::Property(shortened(&name)));
        }
    }
    reader.finish().map(Some)
}

/// As much of a name as is logged.
fn shortened(name: &str) -> Box<str> {
    name.chars().take(64).collect::<String>().into()
}

/// A known property that is null is as one that is not there; a custom one is kept.
fn is_known(name: &str) -> bool {
    const KNOWN: &[&str] = &[
        "retries",
        "maxattempts",
        "maxdelivertime",
        "nextattempt",
        "delayed",
        "queues",
        "keepmime",
        "tags",
        "smarthost",
        "dsn",
    ];
    KNOWN.contains(&name)
}

struct Reader<'a> {
    before: Option<&'a Wishes>,
    now_ms: u64,
    read: Read,
    custom: Map<String, Value>,
}

impl Reader<'_> {
    /// One property; `None` if its value means nothing.
    fn property(&mut self, name: &str, value: Value) -> Option<()> {
        let wishes = &mut self.read.wishes;
        match name {
            "retries" => wishes.retries_s = Some(retries(&value)?),
            "maxattempts" => wishes.attempts_max = Some(whole(&value)?),
            "maxdelivertime" => {
                wishes.deliver_until_ms = Some(extract::moment(value.as_str()?, self.now_ms)?);
            }
            "nextattempt" => {
                // One without a time asks for nothing.
                let time = value.as_object()?.get("time").filter(|time| !time.is_null());
                if let Some(time) = time {
                    wishes.not_before_ms = Some(extract::moment(time.as_str()?, self.now_ms)?);
                }
            }
            "delayed" => {
                wishes.not_before_ms = Some(extract::moment(value.as_str()?, self.now_ms)?);
            }
            "queues" => self.queues(value.as_object()?)?,
            "keepmime" => wishes.keepmime = value.as_bool()?,
            "tags" => wishes.tags = tags(&value)?,
            "smarthost" => {
                let smarthost = self.smarthost(value.as_object()?)?;
                self.read.wishes.smarthost = Some(Box::new(smarthost));
            }
            "dsn" => self.dsn(value.as_object()?)?,
            // What is known of it is not its to say, and results have these for something else.
            name if RESERVED_IN_RESULTS.contains(&name) => {}
            name => drop(self.custom.insert(name.to_owned(), value)),
        }
        Some(())
    }

    fn queues(&mut self, queues: &Map<String, Value>) -> Option<()> {
        for (key, value) in queues {
            let wishes = &mut self.read.wishes.queues;
            let place = match &**key {
                "results" => &mut wishes.results,
                "success" => &mut wishes.success,
                "failure" => &mut wishes.failure,
                "retry" => &mut wishes.retry,
                // MailerQ's queue of notices: here they are mail like any other.
                _ => continue,
            };
            *place = match value {
                Value::Null => QueueWish::Off,
                Value::String(name) if name.is_empty() => QueueWish::Off,
                Value::String(name) if QueueWish::is_name(name) => {
                    QueueWish::Named(name.as_str().into())
                }
                _ => return None,
            };
        }
        Some(())
    }

    fn smarthost(&self, object: &Map<String, Value>) -> Option<Smarthost> {
        let text = |key: &str| match object.get(key) {
            None | Some(Value::Null) => Some(None),
            Some(value) => extract::plain(value.as_str()?).map(Some),
        };
        let host = object.get("hostname").or_else(|| object.get("name"))?;
        let host = extract::host(host.as_str()?)?;
        let port = match object.get("port") {
            None | Some(Value::Null) => 25,
            Some(port) => whole(port).filter(|port: &u32| *port != 0)?.try_into().ok()?,
        };
        let username = text("username")?;
        let password = text("password")?.map(|text| Password::new(text.into()));
        let found = Smarthost { host, port, username, password };
        // It is not shown, so it cannot come back.
        let before = self.before.and_then(|wishes| wishes.smarthost.as_deref());
        let same = before.filter(|before| {
            (&before.host, before.port, &before.username)
                == (&found.host, found.port, &found.username)
        });
        let password = found.password.or_else(|| same.and_then(|same| same.password.clone()));
        Some(Smarthost { password, ..found })
    }

    fn dsn(&mut self, object: &Map<String, Value>) -> Option<()> {
        let mut dsn = MailDsn::default();
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            match &**key {
                "notify" => dsn.notify = extract::notify(&words(value)?)?,
                "orcpt" => {
                    let orcpt = extract::plain(value.as_str()?)?;
                    let fits = orcpt.contains(';') && orcpt.len() <= MailDsn::ORCPT_BYTES_MAX;
                    dsn.orcpt = Some(orcpt).filter(|_| fits).map(Some)?;
                }
                "ret" => self.read.wishes.dsn_ret = Some(extract::ret(value.as_str()?)?),
                "envid" => {
                    let envid = extract::plain(value.as_str()?).filter(|envid| envid.len() <= 100);
                    self.read.wishes.dsn_envid = Some(envid?);
                }
                _ => {}
            }
        }
        let said = dsn.notify != DsnNotify::UNSAID || dsn.orcpt.is_some();
        self.read.dsn = said.then(|| Box::new(dsn));
        Some(())
    }

    fn finish(self) -> Result<Read, Invalid> {
        let Self { mut read, custom, .. } = self;
        if !custom.is_empty() {
            read.wishes.properties = Some(Value::from(custom).to_string().into());
        }
        match read.wishes.to_json().len() <= WISHES_BYTES_MAX {
            true => Ok(read),
            false => Err(Invalid::TooLong),
        }
    }
}

fn whole(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

fn retries(value: &Value) -> Option<Box<[u32]>> {
    let times = value.as_array().filter(|times| (1..=RETRIES_MAX).contains(&times.len()))?;
    times.iter().map(|time| whole(time).filter(|time| (1..=RETRY_S_MAX).contains(time))).collect()
}

fn tags(value: &Value) -> Option<Box<[Box<str>]>> {
    let tags = value.as_array().filter(|tags| tags.len() <= TAGS_MAX)?;
    tags.iter().map(|tag| tag.as_str().filter(|tag| !tag.is_empty()).map(Box::from)).collect()
}

/// A text of words between commas, or the list of them.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(words) => Some(words.clone()),
        Value::Array(words) => {
            let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
            words.map(|words| words.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::properties::{Known, object};
    use crate::queue::{QueueWishes, Ret, TransactionId};

    const NOW_MS: u64 = 1_000_000_000_000;

    fn wishes() -> Wishes {
        Wishes {
            retries_s: Some([60, 300].into()),
            attempts_max: Some(7),
            deliver_until_ms: Some(NOW_MS),
            not_before_ms: Some(NOW_MS + 1_000),
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
            properties: Some(r#"{"customer":12,"nothing":null}"#.into()),
            dsn_ret: Some(Ret::Full),
            dsn_envid: Some("QQ".into()),
        }
    }

    fn dsn() -> MailDsn {
        let notify = DsnNotify::SUCCESS.with(DsnNotify::DELAY);
        MailDsn { notify, orcpt: Some("rfc822;c@example.net".into()) }
    }

    fn shown() -> Map<String, Value> {
        let dsn = dsn();
        let known = Known {
            id: TransactionId::from_u64(1).mail(0),
            received_ms: NOW_MS,
            origin: None,
            hostname: "mx.example",
            dsn: Some(&dsn),
        };
        object(&known, Some(&wishes()))
    }

    fn read(object: &Map<String, Value>) -> Result<Option<Read>, Invalid> {
        let members: Vec<(Box<str>, Box<str>)> = object
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.to_string().into()))
            .collect();
        changed(&shown(), &members, Some(&wishes()), NOW_MS)
    }

    #[test]
    fn what_is_told_reads_back_and_what_is_not_changed_is_nothing() {
        assert_eq!(read(&shown()), Ok(None));
        let mut object = shown();
        assert!(!Value::from(object.clone()).to_string().contains("hush"), "it shows no password");
        object.insert("new".into(), json!({ "a": [1] }));
        let read = read(&object).unwrap().unwrap();
        let properties = read.wishes.properties.clone().unwrap();
        let properties: Value = serde_json::from_str(&properties).unwrap();
        assert_eq!(properties, json!({ "customer": 12, "nothing": null, "new": { "a": [1] } }));
        let rest = Wishes { properties: wishes().properties, ..read.wishes };
        assert_eq!((rest, read.dsn.as_deref()), (wishes(), Some(&dsn())), "with its password");
    }

    #[test]
    fn a_property_that_is_gone_or_null_asks_for_nothing() {
        for null in [false, true] {
            let mut object = shown();
            for (name, value) in &mut object {
                *value = if is_known(name) { Value::Null } else { value.take() };
            }
            if !null {
                object.retain(|_, value| !value.is_null());
            }
            let read = read(&object).unwrap().unwrap();
            assert_eq!(read.dsn, None);
            let properties = read.wishes.properties.clone();
            let rest = Wishes { properties: None, ..read.wishes };
            assert!(rest.is_empty() && properties.unwrap().contains("customer"), "{null}");
        }
    }

    #[test]
    fn d_63_a_known_property_that_means_nothing_is_named() {
        let rows = [
            ("retries", json!([])),
            ("retries", json!([0])),
            ("retries", json!(["60"])),
            ("retries", json!(vec![1; 101])),
            ("maxattempts", json!(-1)),
            ("maxattempts", json!(1.5)),
            ("maxdelivertime", json!(5)),
            ("maxdelivertime", json!("tomorrow")),
            ("nextattempt", json!("2001-09-09 01:46:40")),
            ("nextattempt", json!({ "time": 5 })),
            ("delayed", json!("")),
            ("queues", json!([])),
            ("queues", json!({ "results": "two words" })),
            ("queues", json!({ "results": 1 })),
            ("keepmime", json!("yes")),
            ("tags", json!("a")),
            ("tags", json!([""])),
            ("smarthost", json!({})),
            ("smarthost", json!({ "hostname": "a b" })),
            ("smarthost", json!({ "hostname": "a", "port": 65536 })),
            ("smarthost", json!({ "hostname": "a", "port": 0 })),
            ("smarthost", json!({ "hostname": "a", "password": "a\nb" })),
            ("dsn", json!("NEVER")),
            ("dsn", json!({ "notify": "NEVER,SUCCESS" })),
            ("dsn", json!({ "orcpt": "nothing" })),
            ("dsn", json!({ "ret": "ALL" })),
        ];
        for (name, value) in rows {
            let mut object = shown();
            object.insert(name.into(), value.clone());
            assert_eq!(read(&object), Err(Invalid::Property(name.into())), "{name}: {value}");
        }
        let members = [("deep".into(), "[".repeat(200).into())];
        let deep = changed(&shown(), &members, None, NOW_MS);
        assert_eq!(deep, Err(Invalid::Property("deep".into())));
        let mut object = shown();
        object.insert("long".into(), "x".repeat(WISHES_BYTES_MAX).into());
        assert_eq!(read(&object), Err(Invalid::TooLong));
    }

    #[test]
    fn what_a_mail_cannot_say_of_itself_is_passed_over() {
        let mut object = shown();
        for name in ["message-id", "connection", "results", "extracted", "attempts", "mime-base64"]
        {
            object.insert(name.into(), "forged".into());
        }
        object.insert("dsn".into(), json!({ "notify": ["success", "DELAY"], "mta": "x" }));
        let read = read(&object).unwrap().unwrap();
        assert_eq!(read.wishes.properties, wishes().properties);
        assert_eq!(read.dsn.unwrap().notify, dsn().notify);
    }

    /// Whatever a plugin writes: it is named, or can be kept, and reads back as it was understood.
    #[test]
    fn any_value_of_any_property_is_named_or_kept() {
        let mut dice = crate::queue::Dice::from_environment();
        let names = [
            "retries",
            "maxattempts",
            "maxdelivertime",
            "nextattempt",
            "delayed",
            "queues",
            "keepmime",
            "tags",
            "smarthost",
            "dsn",
            "results",
            "customer",
            "",
            "time",
            "hostname",
            "port",
            "notify",
            "orcpt",
            "ret",
            "envid",
            "success",
            "username",
            "password",
        ];
        let mut kept = 0;
        for _ in 0..20_000 {
            let mut object = shown();
            for _ in 0..=dice.below(3) {
                let name = names[dice.below(names.len() as u64) as usize];
                object.insert(name.into(), any(&mut dice, &names, 3));
            }
            if let Ok(Some(read)) = read(&object) {
                kept += 1;
                let again = Wishes::from_json(&read.wishes.to_json());
                assert_eq!(again, Some(read.wishes), "{object:?}");
            }
        }
        assert!(kept > 1_000, "{kept}");
    }

    fn any(dice: &mut crate::queue::Dice, names: &[&str], depth: u64) -> Value {
        match dice.below(if depth == 0 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => (dice.below(2) == 0).into(),
            2 => dice.below(70_000).into(),
            3 => (dice.next() as f64 / 7.0).into(),
            4 => {
                let texts = [
                    "",
                    "a",
                    "2001-09-09 01:46:40",
                    "relay.example",
                    "NEVER",
                    "success,delay",
                    "rfc822;a@b",
                    "FULL",
                    "two words",
                    "\0\n",
                    "60",
                ];
                texts[dice.below(texts.len() as u64) as usize].into()
            }
            5 => (0..dice.below(4)).map(|_| any(dice, names, depth - 1)).collect(),
            _ => {
                let mut object = Map::new();
                for _ in 0..dice.below(4) {
                    let name = names[dice.below(names.len() as u64) as usize];
                    object.insert(name.into(), any(dice, names, depth - 1));
                }
                object.into()
            }
        }
    }

    #[test]
    fn a_password_goes_where_the_host_is_another() {
        let mut object = shown();
        object["smarthost"]["hostname"] = "other.example".into();
        let other = read(&object).unwrap().unwrap().wishes.smarthost.unwrap();
        assert_eq!((&*other.host, other.password), ("other.example", None));
        object["smarthost"]["password"] = "new".into();
        let other = read(&object).unwrap().unwrap().wishes.smarthost.unwrap();
        assert_eq!(other.password, Some(Password::new("new".into())));
    }
}
