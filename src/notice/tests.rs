//! Notices as whole messages, reviewed as files; and hostile texts, which may not shape them.
//!
//! `ROHRPOST_BLESS=1` writes the files anew. `tests/notices.rs` shows them to parsers of others.

use std::path::Path;

use crate::clock::Wall;
use crate::queue::{Attempt, DsnNotify, Mail, MailDsn, Next, TransactionId};
use crate::smtp::Address;
use crate::smtp::dsn::{Notify, Ret};

use super::wanted::{self, Occasion};
use super::*;

/// 2019-09-23 12:46:56 UTC.
const RECEIVED_MS: u64 = 1_569_242_816_000;
const HOUR_MS: u64 = 3_600_000;

fn attempt(next: Next, state: &str, result: &str, reply: (u16, &str, &str)) -> Attempt {
    let (code, status, description) = reply;
    Attempt {
        mail: TransactionId::from_u64(0x0123_4567_89ab_cdef).mail(0),
        at_ms: RECEIVED_MS + 5 * HOUR_MS,
        next,
        state: state.into(),
        result: result.into(),
        code,
        status: status.into(),
        description: description.into(),
        from: Some("192.0.2.1".parse().unwrap()),
        to: (code != 0).then(|| "192.0.2.25:25".parse().unwrap()),
        facts: None,
        extras: None,
    }
}

fn refused() -> Attempt {
    attempt(Next::Failed, "rcptto", "error", (550, "5.1.1", "No such user here"))
}

fn later() -> Attempt {
    let next = Next::Retry { not_before_ms: RECEIVED_MS + 6 * HOUR_MS };
    attempt(next, "rcptto", "error", (450, "4.2.0", "Come back later\nmuch later"))
}

fn case<'a>(kind: Kind, sender: &'a Address, outcome: &'a Attempt) -> Case<'a> {
    Case {
        kind,
        mail: outcome.mail,
        sender,
        recipient: "bob@example.net",
        orcpt: None,
        envid: None,
        smtputf8: false,
        received_ms: RECEIVED_MS,
        until_ms: RECEIVED_MS + 24 * HOUR_MS,
        attempts: 1,
        outcome,
        mta: None,
        before: None,
    }
}

fn written(case: &Case<'_>, excerpt: Option<&Excerpt>) -> Notice {
    let stationery = Stationery {
        hostname: "mx.example.org",
        id: "0CR6ZV2GWBC00",
        now_ms: RECEIVED_MS + 5 * HOUR_MS,
        boundary: "5f3b_1",
    };
    write(case, excerpt, &stationery, &mut Wall::utc())
}

fn alice() -> Address {
    Address::parse("alice@example.org").unwrap()
}

fn excerpt(ret: Ret, text: &str) -> Excerpt {
    Excerpt { ret, text: text.as_bytes().to_vec() }
}

const HEADER: &str = "Received: from a by mx.example.org; Mon, 23 Sep 2019 12:46:56 +0000\r\n\
                      From: Alice <alice@example.org>\r\nSubject: Hello\r\n";

/// Compares with the file of this name, or writes it.
fn review(name: &str, notice: &Notice) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/notice/golden").join(name);
    if std::env::var_os("ROHRPOST_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &notice.text).unwrap();
    }
    let known = std::fs::read(&path).unwrap_or_default();
    assert!(
        known == notice.text,
        "{name} differs (ROHRPOST_BLESS=1 writes it):\n{}",
        String::from_utf8_lossy(&notice.text)
    );
    check(notice);
}

/// What holds for every notice.
fn check(notice: &Notice) {
    let text = &notice.text;
    assert!(crate::smtp::is_crlf_only(text) && !text.contains(&0));
    assert_eq!(notice.eight_bit, !text.is_ascii());
    let longest = text.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
    assert!(longest <= Some(998), "{longest:?}");
}

#[test]
fn a_refusal_is_told_with_the_words_of_the_server() {
    let (alice, outcome) = (alice(), refused());
    let case = Case {
        orcpt: Some("rfc822;Bob+Alias@example.net"),
        envid: Some("QQ 314159"),
        ..case(Kind::Failed, &alice, &outcome)
    };
    review("failed.eml", &written(&case, Some(&excerpt(Ret::Headers, HEADER))));
}

#[test]
fn what_aged_out_is_told_with_the_last_words_that_were_heard() {
    let (alice, before) = (alice(), later());
    let outcome = attempt(Next::Removed, "process", "timeout", (0, "", "max-delivertime is over"));
    let case = Case { attempts: 7, before: Some(&before), ..case(Kind::Failed, &alice, &outcome) };
    review("aged-out.eml", &written(&case, Some(&excerpt(Ret::Headers, HEADER))));
}

#[test]
fn a_delay_says_when_it_is_tried_again_and_until_when() {
    let (alice, outcome) = (alice(), later());
    let next_ms = RECEIVED_MS + 6 * HOUR_MS;
    let case = Case { attempts: 5, ..case(Kind::Delayed { next_ms }, &alice, &outcome) };
    review("delayed.eml", &written(&case, Some(&excerpt(Ret::Headers, HEADER))));
}

/// RFC 3461 5.2.2, 6.2.7.2.
#[test]
fn a_mail_that_leaves_the_world_of_dsn_was_relayed() {
    let alice = alice();
    let outcome = attempt(Next::Delivered, "message", "accepted", (250, "2.0.0", "Ok: queued"));
    let case = case(Kind::Relayed, &alice, &outcome);
    let whole = format!("{HEADER}\r\nText.\r\n");
    review("relayed.eml", &written(&case, Some(&excerpt(Ret::Full, &whole))));
}

/// RFC 6533.
#[test]
fn a_sender_of_utf8_gets_parts_that_hold_it() {
    let sender = Address::parse("älice@exämple.org").unwrap();
    let outcome = attempt(Next::Failed, "mailfrom", "error", (553, "5.6.7", "No SMTPUTF8 höre"));
    let case = Case {
        recipient: "bøb@example.net",
        smtputf8: true,
        ..case(Kind::Failed, &sender, &outcome)
    };
    let header = "From: älice@exämple.org\r\nSubject: Grüße\r\n";
    let notice = written(&case, Some(&excerpt(Ret::Headers, header)));
    assert!(notice.smtputf8);
    review("utf8.eml", &notice);
    let ascii = alice();
    let notice = written(&Case { sender: &ascii, ..case }, Some(&excerpt(Ret::Headers, header)));
    assert!(!notice.smtputf8 && notice.eight_bit, "UTF-8 in parts alone needs no SMTPUTF8");
}

#[test]
fn octets_of_an_old_mail_come_back_as_they_were() {
    let (alice, outcome) = (alice(), refused());
    let text = Excerpt { ret: Ret::Headers, text: b"Subject: Gr\xfc\xdfe\r\n".to_vec() };
    let notice = written(&case(Kind::Failed, &alice, &outcome), Some(&text));
    assert!(notice.eight_bit && !notice.smtputf8);
    assert!(memchr::memmem::find(&notice.text, b"Transfer-Encoding: 8bit").is_some());
    check(&notice);
}

/// RFC 3463 3, RFC 3464 2.3.4.
#[test]
fn the_status_has_the_class_of_the_action() {
    let retry = Next::Retry { not_before_ms: 0 };
    let delayed = Kind::Delayed { next_ms: 0 };
    let rows = [
        ("refused", Kind::Failed, Next::Failed, "rcptto", "error", (550, "5.1.1"), 1, "5.1.1"),
        ("no status", Kind::Failed, Next::Failed, "rcptto", "error", (550, ""), 1, "5.0.0"),
        ("odd status", Kind::Failed, Next::Failed, "data", "error", (554, "2.0.0"), 1, "5.0.0"),
        ("gave up", Kind::Failed, Next::Failed, "rcptto", "error", (450, "4.7.1"), 5, "5.4.7"),
        ("gave up at once", Kind::Failed, Next::Failed, "data", "error", (451, ""), 1, "5.4.7"),
        ("silent", Kind::Failed, Next::Failed, "message", "timeout", (0, ""), 1, "5.4.7"),
        ("aged", Kind::Failed, Next::Removed, "process", "timeout", (0, ""), 0, "5.4.7"),
        ("not kept", Kind::Failed, Next::Removed, "rcptto", "error", (550, "5.1.1"), 1, "5.1.1"),
        ("no route", Kind::Failed, Next::Failed, "dns", "error", (0, "5.1.2"), 1, "5.1.2"),
        ("a loop", Kind::Failed, Next::Failed, "connect", "error", (0, ""), 1, "5.4.4"),
        ("text lost", Kind::Failed, Next::Failed, "storage", "error", (0, ""), 1, "5.3.0"),
        ("bad address", Kind::Failed, Next::Failed, "process", "invalid", (0, ""), 1, "5.1.0"),
        (
            "a plugin's word",
            Kind::Failed,
            Next::Failed,
            "data",
            "plugin",
            (550, "5.7.9"),
            1,
            "5.7.9",
        ),
        ("put off too often", Kind::Failed, Next::Failed, "data", "plugin", (0, ""), 1, "5.4.7"),
        ("delayed", delayed, retry, "rcptto", "error", (450, "4.2.2"), 3, "4.2.2"),
        ("delayed, no status", delayed, retry, "rcptto", "error", (450, ""), 3, "4.0.0"),
        ("nobody answers", delayed, retry, "connect", "timeout", (0, ""), 3, "4.4.1"),
        (
            "relayed",
            Kind::Relayed,
            Next::Delivered,
            "message",
            "accepted",
            (250, "2.6.0"),
            1,
            "2.6.0",
        ),
        (
            "relayed, bare",
            Kind::Relayed,
            Next::Delivered,
            "message",
            "accepted",
            (250, ""),
            1,
            "2.0.0",
        ),
    ];
    let alice = alice();
    for (name, kind, next, state, result, (code, status), attempts, expected) in rows {
        let outcome = attempt(next, state, result, (code, status, "text"));
        let case = Case { attempts, ..case(kind, &alice, &outcome) };
        assert_eq!(case.status().to_string(), expected, "{name}");
    }
}

/// The far end must not be said to have said what a plugin here did.
#[test]
fn the_words_of_a_plugin_are_our_own() {
    let alice = alice();
    for (result, remote) in [("plugin", false), ("error", true)] {
        let outcome = attempt(Next::Failed, "data", result, (550, "5.7.1", "not this one"));
        let notice = written(&case(Kind::Failed, &alice, &outcome), None);
        let text = String::from_utf8(notice.text).unwrap();
        let said = |start: &str| text.lines().any(|line| line.starts_with(start));
        assert_eq!(said("Remote-MTA: "), remote, "{text}");
        assert_eq!(said("Diagnostic-Code: smtp; 550 5.7.1 not this one"), remote, "{text}");
        assert_eq!(said("Diagnostic-Code: X-Rohrpost; 550 5.7.1 not this one"), !remote, "{text}");
    }
}

/// Texts of strangers: the server's words, the names that a sender chose, what a plugin made of the
/// recipient, the header of the mail.
#[test]
fn nothing_that_strangers_say_becomes_structure() {
    let alice = alice();
    let long = "x".repeat(5000);
    let hostile = [
        "a\r\nStatus: 2.0.0",
        "a\n\nFinal-Recipient: rfc822; other@example.net\n",
        "a\r\n\r\n--5f3b_1--\r\n",
        "a\0b\u{1b}[31m\u{202e}c",
        "\r\n.\r\n",
        &long,
        "\u{e4}\u{f6}\u{fc}",
        "",
    ];
    for text in hostile {
        let outcome = attempt(Next::Failed, "rcptto", "error", (550, "5.1.1", text));
        for smtputf8 in [false, true] {
            let case = Case {
                recipient: text,
                orcpt: Some(text),
                envid: Some(text),
                smtputf8,
                ..case(Kind::Failed, &alice, &outcome)
            };
            let notice = written(&case, None);
            check(&notice);
            let shown = String::from_utf8_lossy(&notice.text);
            let lines = |start: &str| shown.lines().filter(|line| line.starts_with(start)).count();
            assert_eq!(lines("Status: "), 1, "{text:?}");
            assert_eq!(lines("Final-Recipient: "), 1, "{text:?}");
            assert_eq!(lines("--5f3b_1"), 3, "{text:?}");
            assert!(notice.text.len() < 20_000);
        }
    }
}

#[test]
fn who_hears_what_of_a_settled_attempt() {
    let retry = Next::Retry { not_before_ms: 1 };
    let at = |next, hours| Attempt { next, at_ms: RECEIVED_MS + hours * HOUR_MS, ..refused() };
    let delayed = Some(Kind::Delayed { next_ms: 1 });
    let rows = [
        ("refused", at(Next::Failed, 0), None, false, Some(Kind::Failed)),
        ("aged out", at(Next::Removed, 24), Some(at(retry, 20)), false, Some(Kind::Failed)),
        ("aged out untried", at(Next::Removed, 24), None, false, Some(Kind::Failed)),
        ("failed before", at(Next::Removed, 24), Some(at(Next::Failed, 20)), false, None),
        ("arrived", at(Next::Delivered, 0), None, false, Some(Kind::Relayed)),
        ("arrived where they tell", at(Next::Delivered, 0), None, true, None),
        ("early", at(retry, 3), None, false, None),
        ("late", at(retry, 4), None, false, delayed),
        ("late for the first time", at(retry, 5), Some(at(retry, 3)), false, delayed),
        ("late again", at(retry, 9), Some(at(retry, 4)), false, None),
    ];
    for (name, attempt, before, hop_tells, expected) in rows {
        let occasion = Occasion {
            envelope: "alice@example.org",
            attempt: &attempt,
            before: before.as_ref(),
            received_ms: RECEIVED_MS,
            delay_ms: 4 * HOUR_MS,
            hop_tells,
        };
        assert_eq!(occasion.kind(), expected, "{name}");
        // RFC 3461 6.1: nobody is there to be told.
        assert_eq!(Occasion { envelope: "", ..occasion }.kind(), None, "{name}");
    }
}

/// RFC 3464 2.3.5: by its name where it gave one, which may be anything.
#[test]
fn the_other_side_is_named_as_it_names_itself() {
    let (alice, outcome, before) = (alice(), refused(), later());
    let named = |mta, outcome, before| {
        let case = Case { mta, before, ..case(Kind::Failed, &alice, outcome) };
        let text = String::from_utf8(written(&case, None).text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Remote-MTA: dns; "));
        line.unwrap().to_owned()
    };
    assert_eq!(named(Some("mx.example.net"), &outcome, None), "mx.example.net");
    let address = "[192.0.2.25]";
    for mta in [None, Some("***"), Some("mx; x"), Some("a@b"), Some("b\u{fc}cher.example")] {
        assert_eq!(named(mta, &outcome, None), address, "{mta:?}");
    }
    let aged = attempt(Next::Removed, "process", "timeout", (0, "", ""));
    assert_eq!(named(Some("mx.example.net"), &aged, Some(&before)), address, "who said it before");
}

#[test]
fn a_text_that_could_not_be_read_is_no_attempt_to_tell_of() {
    let retry = Next::Retry { not_before_ms: 1 };
    let rows = [
        (retry, "storage", true),
        (retry, "connect", false),
        (retry, "dns", false),
        (Next::Failed, "storage", false),
    ];
    for (next, state, untried) in rows {
        let attempt = attempt(next, state, "error", (0, "", ""));
        assert_eq!(wanted::is_untried(&attempt), untried, "{next:?} {state}");
    }
}

/// RFC 3461 4.1, 5.2.1: the wish of a recipient holds, else the default.
#[test]
fn wishes_hold_and_silence_takes_the_default() {
    let mail = |notify: Option<DsnNotify>| Mail {
        index: 0,
        envelope: "alice@example.org".into(),
        recipient: "bob@example.net".into(),
        body: 0,
        dsn: notify.map(|notify| Box::new(MailDsn { notify, orcpt: None })),
        extras: None,
    };
    let default = Notify { success: false, failure: true, delay: false };
    let told = |notify| {
        let notify = wanted::notify_of(&mail(notify), default);
        let kinds = [Kind::Relayed, Kind::Failed, Kind::Delayed { next_ms: 0 }];
        kinds.map(|kind| wanted::wants(notify, kind))
    };
    assert_eq!(told(None), [false, true, false]);
    assert_eq!(told(Some(DsnNotify::UNSAID)), [false, true, false]);
    assert_eq!(told(Some(DsnNotify::NEVER)), [false; 3]);
    assert_eq!(told(Some(DsnNotify::SUCCESS)), [true, false, false]);
    assert_eq!(told(Some(DsnNotify::FAILURE.with(DsnNotify::DELAY))), [false, true, true]);
}
