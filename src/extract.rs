//! `x-mq-*` fields: what a client writes into the header of a text to say how it wants it delivered, in
//! MailerQ's words.
//!
//! All of them are taken out of the text, in place, line by line up to the first empty one: also where
//! something else in the header is no field, for a password may stand behind it. They mean something only
//! from clients that may relay: a stranger must not steer our delivery, and what others wrote there is
//! nobody's wish.
//!
//! Must never: refuse a mail for what such a field says; a value that means nothing is passed over. Take
//! memory or time by how long a header is: one beyond [`HEADER_BYTES_MAX`] is refused.
//!
//! Diagnostics: [`Extracted::ignored`] names fields whose value was passed over, without the value: it may
//! be a password. [`TooLong`].

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use crate::header;
use crate::queue::{DsnNotify, MailDsn, Password, QueueWish, Ret, Smarthost, Wishes};
use crate::smtp::Address;

/// Octets of a header that holds such fields.
pub const HEADER_BYTES_MAX: usize = 1 << 20;
/// Fields that are followed; what comes after these is taken out all the same.
const FIELDS_MAX: usize = 1_000;
/// Octets of one value.
const VALUE_BYTES_MAX: usize = 8 << 10;
/// Times to wait that one message may name.
pub(crate) const RETRIES_MAX: usize = 100;
/// The longest of them: 30 days. The shortest is one second: none would be an endless loop.
pub(crate) const RETRY_S_MAX: u32 = 30 * 24 * 3600;
/// Tags and addresses of one message.
pub(crate) const TAGS_MAX: usize = 100;
/// Names of ignored fields that are said.
const IGNORED_MAX: usize = 10;
/// Names of custom properties that a result has for something else.
pub(crate) const RESERVED_IN_RESULTS: &[&str] = &[
    "mime",
    "mime-base64",
    "mime-omitted",
    "results",
    "attempts",
    "extracted",
    "connection",
    "recipient",
    "message-id",
    "hostname",
    "received",
    "queues",
    "nextattempt",
    "smarthost",
    "dsn",
    "tags",
];

/// What a text asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// What concerns the whole message.
    pub wishes: Wishes,
    /// The sender that counts instead.
    pub envelope: Option<Box<str>>,
    /// What is asked of notices; what is unsaid is left as it was, recipient by recipient.
    pub dsn: Option<MailDsn>,
    /// Fields whose value was passed over.
    pub ignored: Vec<Box<str>>,
}

/// The header is beyond [`HEADER_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its header is longer than {HEADER_BYTES_MAX} octets, with x-mq fields in it")]
pub struct TooLong;

/// Whether a text has any such field: one look at the first letters of each line of its header.
pub fn has_any(text: &[u8]) -> bool {
    header::lines(text).any(|line| is_ours(&text[line]))
}

fn is_ours(line: &[u8]) -> bool {
    line.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Octets of all wishes together; the rest of what may be kept is for what MAIL says.
pub(crate) const WISHES_BYTES_MAX: usize = Wishes::BYTES_MAX - 1024;

const PREFIX: &[u8] = b"x-mq-";

/// Takes all such fields out of a text. Returns what they ask for, if they are `honoured`; times are
/// counted from `now_ms`, unix milliseconds.
///
/// # Errors
/// [`TooLong`]; the text is as it was then. Without such fields no header is too long.
pub fn extract(
    text: &mut Vec<u8>,
    honoured: bool,
    now_ms: u64,
) -> Result<Option<Extracted>, TooLong> {
    if !has_any(text) {
        return Ok(None);
    }
    let end = header::lines(text).take_while(|line| line.start <= HEADER_BYTES_MAX).last();
    let end = end.map_or(0, |line| line.end);
    if end > HEADER_BYTES_MAX {
        return Err(TooLong);
    }
    let mut reader = Reader { now_ms, ..Reader::default() };
    let (mut to, mut from) = (0, 0);
    while from < end {
        let field_end = header::unfolded_end(text, from, end);
        if is_ours(&text[from..field_end]) {
            if honoured {
                reader.read(&text[from..field_end]);
            }
        } else {
            text.copy_within(from..field_end, to);
            to += field_end - from;
        }
        from = field_end;
    }
    text.copy_within(end.., to);
    text.truncate(text.len() - (end - to));
    Ok(honoured.then(|| reader.finish()))
}

/// Reads field by field.
#[derive(Default)]
struct Reader {
    now_ms: u64,
    fields: usize,
    found: Extracted,
    tags: Vec<Box<str>>,
    custom: Map<String, Value>,
    host: Option<Box<str>>,
    port: Option<u16>,
    username: Option<Box<str>>,
    password: Option<Password>,
}

impl Reader {
    /// One field of ours, with its lines as they are written.
    fn read(&mut self, lines: &[u8]) {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return self.ignore("(and more)");
        }
        // Without a colon even the name may be a password.
        let Some(field) = header::fields(lines).next() else {
            return self.ignore("(no field)");
        };
        let name = String::from_utf8_lossy(&field.name[PREFIX.len()..]).to_ascii_lowercase();
        let fits = field.value.len() <= VALUE_BYTES_MAX;
        if !fits || self.field(&name, field.text()).is_none() {
            self.ignore(if name.is_empty() { "(no name)" } else { &name });
        }
    }

    /// Keeps a name to be told, once.
    fn ignore(&mut self, name: &str) {
        let ignored = &mut self.found.ignored;
        let name: Box<str> = name.chars().take(64).collect::<String>().into();
        if ignored.len() < IGNORED_MAX && !ignored.contains(&name) {
            ignored.push(name);
        }
    }

    fn finish(self) -> Extracted {
        let Self { mut found, tags, custom, host, port, username, password, .. } = self;
        let wishes = &mut found.wishes;
        wishes.tags = tags.into();
        wishes.smarthost = host
            .map(|host| Box::new(Smarthost { host, port: port.unwrap_or(25), username, password }));
        if !custom.is_empty() {
            wishes.properties = Some(Value::from(custom).to_string().into());
        }
        // What may be long goes where all together is too long to be kept.
        if wishes.to_json().len() > WISHES_BYTES_MAX {
            (wishes.properties, wishes.tags) = (None, Box::default());
            found.ignored.push("*".into());
        }
        found
    }

    /// One field; `None` if its value means nothing here, or was given before.
    fn field(&mut self, name: &str, value: String) -> Option<()> {
        let wishes = &mut self.found.wishes;
        match name {
            "envelope" => set(&mut self.found.envelope, envelope(&value)?),
            "delayed" => set(&mut wishes.not_before_ms, moment(&value, self.now_ms)?),
            "maxdelivertime" => set(&mut wishes.deliver_until_ms, moment(&value, self.now_ms)?),
            "maxattempts" => set(&mut wishes.attempts_max, value.parse().ok()?),
            "retries" => set(&mut wishes.retries_s, retries(&value)?),
            "results-queue" => queue(&mut wishes.queues.results, value),
            "failure-queue" => queue(&mut wishes.queues.failure, value),
            "success-queue" => queue(&mut wishes.queues.success, value),
            "retry-queue" => queue(&mut wishes.queues.retry, value),
            "smarthost-hostname" | "smarthost-name" => set(&mut self.host, host(&value)?),
            "smarthost-port" => {
                set(&mut self.port, value.parse().ok().filter(|port: &u16| *port != 0)?)
            }
            "smarthost-username" => set(&mut self.username, plain(&value)?),
            "smarthost-password" => {
                let plain = plain(&value)?;
                set(&mut self.password, Password::new(plain.into()))
            }
            "dsn-notify" => {
                let notify = notify(&value)?;
                let dsn = self.found.dsn.get_or_insert_default();
                let first = dsn.notify == DsnNotify::UNSAID;
                first.then(|| dsn.notify = notify)
            }
            "dsn-orcpt" => {
                let fits = value.contains(';') && value.len() <= MailDsn::ORCPT_BYTES_MAX;
                let orcpt = plain(&value).filter(|_| fits)?;
                set(&mut self.found.dsn.get_or_insert_default().orcpt, orcpt)
            }
            "dsn-ret" => set(&mut wishes.dsn_ret, ret(&value)?),
            "dsn-envid" => {
                set(&mut wishes.dsn_envid, plain(&value).filter(|envid| envid.len() <= 100)?)
            }
            "keepmime" => {
                wishes.keepmime = truth(&value)?;
                Some(())
            }
            "tag" => {
                let room = self.tags.len() < TAGS_MAX && !value.is_empty();
                room.then(|| self.tags.push(value.into()))
            }
            "ip" => self.list("ips", value),
            "inlinecss" => {
                let inline = truth(&value)?;
                self.custom.insert(name.to_owned(), inline.into());
                Some(())
            }
            name if RESERVED_IN_RESULTS.contains(&name) || name.is_empty() => None,
            name => self.custom(name, value),
        }
    }

    fn list(&mut self, name: &str, value: String) -> Option<()> {
        let list = self.custom.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        match list {
            Value::Array(values) if values.len() < TAGS_MAX => values.push(value.into()),
            _ => return None,
        }
        Some(())
    }

    /// Given more than once it is a list.
    fn custom(&mut self, name: &str, value: String) -> Option<()> {
        match self.custom.get_mut(name) {
            None => drop(self.custom.insert(name.to_owned(), value.into())),
            Some(Value::Array(values)) if values.len() >= TAGS_MAX => return None,
            Some(Value::Array(values)) => values.push(value.into()),
            Some(first) => *first = Value::Array(vec![first.take(), value.into()]),
        }
        Some(())
    }
}

/// The first one holds.
fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    match place {
        Some(_) => None,
        None => {
            *place = Some(value);
            Some(())
        }
    }
}

fn queue(place: &mut QueueWish, name: String) -> Option<()> {
    if *place != QueueWish::Setting || !(name.is_empty() || QueueWish::is_name(&name)) {
        return None;
    }
    *place = QueueWish::from(Some(name.into()));
    Some(())
}

/// An address, with or without angle brackets; `<>` and nothing are the null sender.
fn envelope(value: &str) -> Option<Box<str>> {
    let bare = value.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(value);
    match bare {
        "" => Some(Box::default()),
        _ => Address::parse(bare).ok().map(|address| address.as_str().into()),
    }
}

/// A time in UTC (`2026-11-22 18:00:00`), or so many seconds from now.
pub(crate) fn moment(value: &str, now_ms: u64) -> Option<u64> {
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u32 = value.parse().ok()?;
        return Some(now_ms.saturating_add(u64::from(seconds) * 1000));
    }
    let time: DateTime = value.trim_end_matches('Z').parse().ok()?;
    let zoned = time.to_zoned(TimeZone::UTC).ok()?;
    u64::try_from(zoned.timestamp().as_millisecond()).ok()
}

fn retries(value: &str) -> Option<Box<[u32]>> {
    let times = value.split(',').map(str::trim).filter(|word| !word.is_empty());
    let times: Option<Vec<u32>> = times
        .map(|word| word.parse().ok().filter(|time| (1..=RETRY_S_MAX).contains(time)))
        .collect();
    times.filter(|times| (1..=RETRIES_MAX).contains(&times.len())).map(Box::from)
}

pub(crate) fn host(value: &str) -> Option<Box<str>> {
    let bare = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(value);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let name = !bare.is_empty() && bare.len() <= 253 && bare.bytes().all(plain);
    (name || bare.parse::<std::net::IpAddr>().is_ok()).then(|| bare.into())
}

/// Something without control characters.
pub(crate) fn plain(value: &str) -> Option<Box<str>> {
    (!value.is_empty() && !value.chars().any(char::is_control)).then(|| value.into())
}

pub(crate) fn notify(value: &str) -> Option<DsnNotify> {
    let mut notify = DsnNotify::UNSAID;
    for word in value.split(',').map(str::trim) {
        notify = notify.with(match word.to_ascii_uppercase().as_str() {
            "NEVER" => DsnNotify::NEVER,
            "SUCCESS" => DsnNotify::SUCCESS,
            "FAILURE" => DsnNotify::FAILURE,
            "DELAY" => DsnNotify::DELAY,
            _ => return None,
        });
    }
    DsnNotify::from_bits(notify.bits())
}

pub(crate) fn ret(value: &str) -> Option<Ret> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Some(Ret::Full),
        "HDRS" => Some(Ret::Headers),
        _ => None,
    }
}

fn truth(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}

/// Body of the fuzz target: whatever the header says, the rest of the text stays as it is, no line of ours
/// is left, and what is asked for can be kept.
pub fn fuzz(data: &[u8]) {
    let expected = without_ours(data);
    assert_eq!(has_any(data), expected != data, "a field is found by its first letters");
    let mut text = data.to_vec();
    let extracted = extract(&mut text, true, 0);
    if extracted == Err(TooLong) {
        assert!(text == data && data.len() > HEADER_BYTES_MAX, "it is refused as it is");
        return;
    }
    assert_eq!(text, expected, "only fields of ours go");
    if let Ok(Some(Extracted { wishes, .. })) = extracted {
        let json = wishes.to_json();
        assert_eq!(Wishes::from_json(&json), Some(wishes), "it can be kept");
    }
    let mut stranger = data.to_vec();
    assert_eq!(extract(&mut stranger, false, 0), Ok(None), "a stranger asks for nothing");
    assert_eq!(stranger, expected);
}

/// The rule itself, for [`fuzz`], made of nothing that [`extract`] is made of: up to the first empty line,
/// lines of ours go, and with them those that go on with a blank.
fn without_ours(data: &[u8]) -> Vec<u8> {
    let (mut kept, mut goes, mut body) = (Vec::new(), false, false);
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        body |= matches!(line, b"\n" | b"\r\n");
        goes = match line.first() {
            _ if body => false,
            Some(b' ' | b'\t') => goes,
            _ => line.to_ascii_lowercase().starts_with(b"x-mq-"),
        };
        if !goes {
            kept.extend_from_slice(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Dice;

    const NOW_MS: u64 = 1_000_000_000_000;

    fn asked(header: &str) -> (Extracted, Vec<u8>) {
        let mut text = format!("From: a\r\n{header}To: b\r\n\r\nx-mq-tag: body\r\n").into_bytes();
        let found = extract(&mut text, true, NOW_MS).unwrap().unwrap_or_default();
        (found, text)
    }

    #[test]
    fn every_field_of_mailerq_is_read_and_taken_out() {
        let (found, text) = asked(
            "X-MQ-Envelope: <bounce@example.org>\r\nx-mq-delayed: 2001-09-09 01:46:50\r\n\
             x-mq-maxdelivertime: 3600\r\nx-mq-maxattempts: 7\r\nx-mq-retries: 60, 300\r\n\
             x-mq-results-queue: r\r\nx-mq-success-queue:\r\nx-mq-failure-queue: f\r\n\
             x-mq-retry-queue: again\r\nx-mq-smarthost-hostname: relay.example\r\n\
             x-mq-smarthost-port: 587\r\nx-mq-smarthost-username: user\r\n\
             x-mq-smarthost-password: pass\r\nx-mq-dsn-notify: success, delay\r\n\
             x-mq-dsn-ret: hdrs\r\nx-mq-dsn-orcpt: rfc822;c@example.org\r\n\
             x-mq-dsn-envid: QQ31\r\nx-mq-keepmime: 1\r\nx-mq-tag: one\r\nx-mq-tag: t\u{fc}\r\n\
             x-mq-ip: 192.0.2.1\r\nx-mq-ip: 192.0.2.2\r\nx-mq-pool: p\r\nx-mq-inlinecss: true\r\n\
             x-mq-Customer: folded\r\n\tvalue\r\n",
        );
        assert_eq!(text, b"From: a\r\nTo: b\r\n\r\nx-mq-tag: body\r\n");
        assert_eq!(found.ignored, []);
        assert_eq!(found.envelope.as_deref(), Some("bounce@example.org"));
        let dsn = found.dsn.unwrap();
        assert_eq!(dsn.notify, DsnNotify::SUCCESS.with(DsnNotify::DELAY));
        assert_eq!(dsn.orcpt.as_deref(), Some("rfc822;c@example.org"));
        let wishes = found.wishes;
        assert_eq!(wishes.not_before_ms, Some(NOW_MS + 10_000));
        assert_eq!(wishes.deliver_until_ms, Some(NOW_MS + 3_600_000));
        assert_eq!(wishes.attempts_max, Some(7));
        assert_eq!(wishes.retries_s.as_deref(), Some(&[60, 300][..]));
        let queues = &wishes.queues;
        assert_eq!((queues.results.or(None), queues.success.or(Some("s"))), (Some("r"), None));
        assert_eq!((queues.failure.or(None), queues.retry.or(None)), (Some("f"), Some("again")));
        let smarthost = wishes.smarthost.as_deref().unwrap();
        assert_eq!((&*smarthost.host, smarthost.port), ("relay.example", 587));
        assert_eq!(smarthost.password.as_ref().map(Password::expose), Some("pass"));
        assert_eq!(
            (wishes.dsn_ret, wishes.dsn_envid.as_deref()),
            (Some(Ret::Headers), Some("QQ31"))
        );
        assert_eq!((wishes.keepmime, &*wishes.tags), (true, &["one".into(), "t\u{fc}".into()][..]));
        let custom: Value = serde_json::from_str(wishes.properties.as_deref().unwrap()).unwrap();
        let expected = serde_json::json!({
            "ips": ["192.0.2.1", "192.0.2.2"],
            "pool": "p",
            "inlinecss": true,
            "customer": "folded\tvalue",
        });
        assert_eq!(custom, expected);
    }

    #[test]
    fn a_value_that_means_nothing_is_passed_over_and_the_field_is_gone() {
        let rows = [
            "envelope: not an address",
            "delayed: tomorrow",
            "maxdelivertime: 99999999999999999999",
            "maxattempts: -1",
            "retries: 1,x",
            "retries: 0",
            "retries: 60,0",
            "retries:",
            "results-queue: two words",
            "smarthost-hostname: a b",
            "smarthost-port: 0",
            "dsn-notify: NEVER,SUCCESS",
            "dsn-ret: ALL",
            "dsn-orcpt: nothing",
            "keepmime: perhaps",
            "tag:",
            "mime: x",
            ": x",
            ": x\r\nx-mq-: y",
            "smarthost-password geheim",
            "smarthost-password\u{fc}: geheim",
            "smarthost password: geheim",
        ];
        for row in rows {
            let (found, text) = asked(&format!("x-mq-{row}\r\n"));
            assert_eq!(text, b"From: a\r\nTo: b\r\n\r\nx-mq-tag: body\r\n", "{row}");
            assert_eq!(found.ignored.len(), 1, "{row}");
            let name = &*found.ignored[0];
            assert!(!name.is_empty() && !name.contains("geheim"), "{row}: {name}");
            let left = Extracted { ignored: Vec::new(), ..found };
            assert_eq!(left, Extracted::default(), "{row}");
        }
    }

    #[test]
    fn of_two_the_first_holds_and_too_much_is_dropped() {
        let (found, _) = asked("x-mq-maxattempts: 1\r\nx-mq-maxattempts: 2\r\n");
        assert_eq!((found.wishes.attempts_max, found.ignored.len()), (Some(1), 1));
        let many: String =
            (0..200).map(|at| format!("x-mq-c{at}: {}\r\n", "x".repeat(500))).collect();
        let (found, text) = asked(&format!("x-mq-maxattempts: 3\r\n{many}"));
        assert_eq!((found.wishes.attempts_max, found.wishes.properties), (Some(3), None));
        assert!(text.len() < 100);
    }

    /// What is no field ends no header: a password may stand behind it.
    #[test]
    fn no_line_of_ours_is_left_behind_one_that_is_no_field() {
        let rows = [
            "From a@example.org Sun Nov 22 20:00:00 2026\r\n",
            "\u{fc}ber: x\r\n",
            "an unfolded line\r\n",
            ": x\r\n",
            " \r\n",
            "A: b\r\n \r\n",
        ];
        for row in rows {
            let ours = "x-mq-smarthost-password: geheim\r\nX-MQ-tag: a\r\n b\r\n";
            for honoured in [true, false] {
                let mut text = format!("{row}{ours}To: b\r\n\r\nx-mq-tag: body\r\n").into_bytes();
                let found = extract(&mut text, honoured, NOW_MS).unwrap();
                let left = String::from_utf8(text).unwrap();
                assert_eq!(left, format!("{row}To: b\r\n\r\nx-mq-tag: body\r\n"), "{row}");
                let tags = found.map(|found| found.wishes.tags);
                assert_eq!(tags, honoured.then(|| ["a b".into()].into()), "{row}");
            }
        }
    }

    /// What is taken out costs neither memory nor time by its length: a header of many is refused.
    #[test]
    fn a_header_of_more_than_its_bound_is_refused_where_fields_of_ours_are_in_it() {
        let line = b"x-mq-:\r\n";
        let full = line.repeat(HEADER_BYTES_MAX / line.len());
        for honoured in [true, false] {
            let mut text = [&full[..], b"\r\nbody"].concat();
            let found = extract(&mut text, honoured, 0).unwrap();
            assert_eq!(text, b"\r\nbody");
            let ignored = found.map(|found| found.ignored);
            let told = ["(no name)".into(), "(and more)".into()];
            assert_eq!(ignored, honoured.then(|| told.into()));
            let long = [&full[..], b"a\r\n\r\nbody"].concat();
            let mut text = long.clone();
            assert_eq!(extract(&mut text, honoured, 0), Err(TooLong));
            assert_eq!(text, long);
        }
        let others = b"A: b\r\n".repeat(HEADER_BYTES_MAX);
        assert_eq!(extract(&mut others.clone(), true, 0), Ok(None), "nothing of ours is in it");
        let mut behind = [&others[..], b"x-mq-tag: a\r\n\r\n"].concat();
        assert_eq!(extract(&mut behind, true, 0), Err(TooLong), "behind all of them");
    }

    #[test]
    fn what_is_too_long_or_too_much_is_told() {
        let (found, _) = asked(&format!("x-mq-tag: {}\r\n", "x".repeat(VALUE_BYTES_MAX + 1)));
        assert_eq!((&*found.wishes.tags, &*found.ignored), (&[][..], &["tag".into()][..]));
        let (found, _) = asked(&"x-mq-tag: x\r\n".repeat(FIELDS_MAX + 1));
        assert_eq!(found.ignored, ["tag".into(), "(and more)".into()]);
    }

    #[test]
    fn a_header_without_such_fields_is_not_touched() {
        for text in ["", "A: b", "X-Mailer: m\r\n\r\nx-mq-tag: b\r\n", "\r\nx-mq-tag: b\r\n"] {
            assert!(!has_any(text.as_bytes()), "{text}");
        }
        assert!(has_any(b"x-MQ-tag: a") && has_any(b"A: b\r\nX-mq-tag: a\r\n\r\n"));
    }

    #[test]
    fn exercises_fuzz() {
        let mut dice = Dice::from_environment();
        let pieces: [&[u8]; 14] = [
            b"x-mq-tag: a",
            b"X-Mq-Retries: 1,2",
            b"\r\n",
            b"\r\n ",
            b": ",
            b"\n",
            b"From: b\r\n",
            b"x-mq-",
            b"\xff",
            b"x-mq-envelope: <>",
            b"\0",
            b"x-mq-queue-\xc3\xbc: 1",
            b"no field\r\n",
            b"\r\nX-MQ-smarthost-password: a\r\n\tb",
        ];
        for _ in 0..20_000 {
            let count = dice.below(14);
            let text: Vec<u8> = (0..count)
                .flat_map(|_| pieces[dice.below(pieces.len() as u64) as usize])
                .copied()
                .collect();
            fuzz(&text);
        }
    }
}
