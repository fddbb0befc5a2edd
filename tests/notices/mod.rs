//! Notices to senders, by the whole program: which mail calls for one, what it says, and that neither a
//! crash nor a missing text loses it.
//!
//! What a notice says is read by parsers of others (`tests/python/notices.py`). **Diagnostics**: a notice
//! that does not come in time panics with the recipient that it was awaited for.

mod relay;

use std::path::{Path, PathBuf};

use serde_json::Value;

use self::relay::{Relay, Taken};
use crate::support::{PATIENCE, Server, ServerBuilder, SmtpClient, Tool, eventually, fresh_port};

const TEXT: &[u8] =
    b"From: Alice <alice@example.org>\r\nSubject: For Bob\r\n\r\nThe text itself.\r\n";

/// A server as it is set up where nobody set anything about notices.
fn plan(relay: &Relay) -> ServerBuilder {
    let plan =
        Server::builder().smarthost(relay.address()).setting("smtp-hostname", "mx.example.org");
    plan.setting("dsn-notify", "FAILURE").setting("retry-interval", 1)
}

/// Sends one mail with parameters of MAIL and RCPT; it must be taken.
fn send(server: &Server, mail: &str, rcpt: &str) {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    for (command, code) in [(format!("MAIL FROM:{mail}"), 250), (format!("RCPT TO:{rcpt}"), 250)] {
        client.command(&command).unwrap().require(code).unwrap();
    }
    client.command("DATA").unwrap().require(354).unwrap();
    client.send(TEXT).unwrap();
    client.command(".").unwrap().require(250).unwrap();
}

/// The one notice to `sender`, as it came to the relay.
fn notice_to(relay: &Relay, sender: &str) -> Taken {
    eventually(&format!("a notice to {sender}"), PATIENCE, || relay.taken_by(sender).pop())
}

/// What the parsers of others find in messages.
fn parsed(texts: &[(&Path, &str)]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut tool = Tool::python("notices.py");
    for (name, text) in texts {
        let path = folder.path().join(name.file_name().unwrap());
        std::fs::write(&path, text).unwrap();
        tool = tool.arg(path);
    }
    let found = tool.run(PATIENCE);
    found.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn parsed_one(notice: &Taken) -> Value {
    parsed(&[(Path::new("notice.eml"), &notice.text)]).remove(0)
}

/// The server has nothing left to do but to keep what failed.
fn await_rest(server: &Server, failed: u64) {
    eventually("a server at rest", PATIENCE, || {
        let status = server.status();
        let counts = ["queued", "failed", "committing", "settling"].map(|name| status.count(name));
        (counts == [failed, failed, 0, 0]).then_some(())
    });
}

/// RFC 3464, RFC 3461 6: who, why, in whose words, and the names that the sender gave.
#[test]
fn a_refusal_comes_back_with_its_reason() {
    let relay = Relay::start(&[]);
    let server = plan(&relay).start();
    send(
        &server,
        "<alice@example.org> ENVID=QQ+2B1 RET=HDRS",
        "<refused@example.net> ORCPT=rfc822;Refused+2Bx@example.net",
    );
    let notice = notice_to(&relay, "alice@example.org");
    assert_eq!(notice.commands[0], "MAIL FROM:<>");
    let parsed = parsed_one(&notice);
    assert_eq!(parsed["to"], "alice@example.org");
    assert_eq!(parsed["from"], "Mail Delivery System <MAILER-DAEMON@mx.example.org>");
    assert_eq!(parsed["auto-submitted"], "auto-replied");
    assert_eq!(parsed["message"]["Reporting-MTA"], "dns; mx.example.org");
    assert_eq!(parsed["message"]["Original-Envelope-Id"], "QQ+1");
    let recipient = &parsed["recipient"];
    assert_eq!(recipient["Original-Recipient"], "rfc822; Refused+x@example.net");
    assert_eq!(recipient["Final-Recipient"], "rfc822; refused@example.net");
    assert_eq!((&recipient["Action"], &recipient["Status"]), (&"failed".into(), &"5.1.1".into()));
    assert_eq!(recipient["Diagnostic-Code"], "smtp; 550 5.1.1 No such user here");
    assert_eq!(recipient["Remote-MTA"], "dns; relay.example");
    assert!(parsed["text"].as_str().unwrap().contains("550 5.1.1 No such user here"));
    let original = parsed["original"].as_str().unwrap();
    assert!(original.contains("Subject: For Bob") && !original.contains("The text itself"));
    assert_eq!(relay.taken_by("alice@example.org").len(), 1, "one notice");
    await_rest(&server, 1);
    assert_eq!(server.status().count("notices"), 1);
}

/// RFC 3461 4.3.
#[test]
fn the_whole_mail_comes_back_to_who_asked_for_it() {
    let relay = Relay::start(&[]);
    let server = plan(&relay).start();
    send(&server, "<full@example.org> RET=FULL", "<refused@example.net>");
    let parsed = parsed_one(&notice_to(&relay, "full@example.org"));
    assert_eq!(parsed["types"][2], "message/rfc822");
    assert!(parsed["original"].as_str().unwrap().contains("The text itself."));
}

/// RFC 3461 6.1, 4.1: nobody is told of mail from nobody, or against its sender's wish.
#[test]
fn nobody_hears_of_the_null_sender_or_against_the_wish() {
    let relay = Relay::start(&[]);
    let server = plan(&relay).start();
    send(&server, "<>", "<refused-null@example.net>");
    send(&server, "<never@example.org>", "<refused-never@example.net> NOTIFY=NEVER");
    send(&server, "<success@example.org>", "<refused-success@example.net> NOTIFY=SUCCESS");
    await_rest(&server, 3);
    // A notice that itself fails has no sender to tell.
    send(&server, "<refused-sender@example.org>", "<refused@example.net>");
    await_rest(&server, 5);
    assert_eq!(server.status().count("notices"), 1);
    for sender in ["never@example.org", "success@example.org"] {
        assert!(relay.taken_by(sender).is_empty(), "{sender}");
    }
}

/// RFC 3461 5.2.2: beyond a hop without DSN nobody tells; `relayed` says so.
#[test]
fn success_is_told_where_the_next_hop_will_not() {
    let relay = Relay::start(&[]);
    let server = plan(&relay).start();
    send(&server, "<alice@example.org> RET=FULL ENVID=x", "<bob@example.net> NOTIFY=SUCCESS");
    let parsed = parsed_one(&notice_to(&relay, "alice@example.org"));
    assert_eq!(parsed["recipient"]["Action"], "relayed");
    assert_eq!(parsed["recipient"]["Status"], "2.0.0");
    let taken = relay.taken_by("bob@example.net");
    assert_eq!(taken[0].commands, ["MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.net>"]);
    await_rest(&server, 0);
}

/// RFC 3461 5.2.1: a hop that offers DSN gets the wishes, and with them the duty.
#[test]
fn wishes_go_on_to_a_hop_that_offers_dsn() {
    let relay = Relay::start(&["DSN"]);
    let server = plan(&relay).start();
    send(
        &server,
        "<alice@example.org> ret=full ENVID=QQ+2B1",
        "<bob@example.net> NOTIFY=success,DELAY ORCPT=rfc822;Bob+2Bx@example.net",
    );
    let taken = eventually("the mail", PATIENCE, || relay.taken_by("bob@example.net").pop());
    let expected = [
        "MAIL FROM:<alice@example.org> RET=FULL ENVID=QQ+2B1",
        "RCPT TO:<bob@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bx@example.net",
    ];
    assert_eq!(taken.commands, expected);
    await_rest(&server, 0);
    assert_eq!(server.status().count("notices"), 0);
}

/// The names that a sender gives survive two servers of ours.
#[test]
fn the_second_server_tells_the_sender_by_its_own_names() {
    let relay = Relay::start(&[]);
    let second = plan(&relay).setting("smtp-hostname", "second.example.org").start();
    let first = Server::builder().smarthost(second.smtp()).setting("dsn-notify", "FAILURE").start();
    send(
        &first,
        "<alice@example.org> ENVID=mine",
        "<refused@example.net> NOTIFY=FAILURE ORCPT=rfc822;Bob@example.com",
    );
    let parsed = parsed_one(&notice_to(&relay, "alice@example.org"));
    assert_eq!(parsed["message"]["Reporting-MTA"], "dns; second.example.org");
    assert_eq!(parsed["message"]["Original-Envelope-Id"], "mine");
    assert_eq!(parsed["recipient"]["Original-Recipient"], "rfc822; Bob@example.com");
    await_rest(&first, 0);
}

/// Once, and before the mail itself comes to its end.
#[test]
fn a_late_mail_is_told_of_once() {
    let relay = Relay::start(&[]);
    let server = plan(&relay).setting("dsn-delay", 1).setting("max-delivertime", 6).start();
    send(&server, "<alice@example.org>", "<later@example.net> NOTIFY=DELAY");
    send(&server, "<carol@example.org>", "<later-default@example.net>");
    let parsed = parsed_one(&notice_to(&relay, "alice@example.org"));
    assert_eq!(parsed["recipient"]["Action"], "delayed");
    assert_eq!(parsed["recipient"]["Status"], "4.2.1");
    assert!(parsed["recipient"]["Will-Retry-Until"].is_string());
    server.await_empty_queue(PATIENCE);
    assert_eq!(relay.taken_by("alice@example.org").len(), 1, "once");
    // Whoever asked for nothing hears of the failure alone.
    let notices = relay.taken_by("carol@example.org");
    assert_eq!(notices.len(), 1);
    assert_eq!(parsed_one(&notices[0])["recipient"]["Action"], "failed");
}

/// RFC 3463 3.5, 5.4.7: in the words that were heard last, with the header read back from disk.
#[test]
fn a_mail_that_ages_out_is_told_of() {
    let relay = Relay::start(&[]);
    let server = plan(&relay).setting("retry-interval", 2).setting("max-delivertime", 3).start();
    send(&server, "<alice@example.org>", "<later@example.net>");
    let parsed = parsed_one(&notice_to(&relay, "alice@example.org"));
    assert_eq!(parsed["recipient"]["Status"], "5.4.7");
    assert_eq!(parsed["recipient"]["Diagnostic-Code"], "smtp; 450 4.2.1 Come back later");
    assert!(parsed["original"].as_str().unwrap().contains("Subject: For Bob"));
    server.await_empty_queue(PATIENCE);
}

/// A mail that was never tried has nobody's words; the text comes from disk, over a restart.
#[test]
fn a_mail_that_nobody_could_take_is_told_of_after_a_restart() {
    let nowhere = fresh_port();
    let relay = Relay::start(&[]);
    let plan = plan(&relay).smarthost(nowhere).setting("max-delivertime", 4);
    let mut server = plan.start();
    send(&server, "<alice@example.org>", "<bob@example.net>");
    server.kill9();
    drop(server);
    let server = plan.start();
    eventually("a notice in the queue", PATIENCE, || {
        (server.status().count("notices") == 1).then_some(())
    });
    drop(server);
    let server = plan.smarthost(relay.address()).setting("max-delivertime", 3600).start();
    let parsed = parsed_one(&notice_to(&relay, "alice@example.org"));
    assert_eq!(parsed["recipient"]["Status"], "5.4.7");
    assert!(parsed["original"].as_str().unwrap().contains("Subject: For Bob"));
    server.await_empty_queue(PATIENCE);
}

/// Many recipients of one message end at the same time: each is told of, from a few readings of its text.
#[test]
fn each_recipient_of_a_crowd_is_told_of() {
    const CROWD: usize = 600;
    let relay = Relay::start(&[]);
    let server = plan(&relay).setting("retry-interval", 2).setting("max-delivertime", 3).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<alice@example.org>").unwrap().require(250).unwrap();
    for number in 0..CROWD {
        let command = format!("RCPT TO:<later{number}@example.net>");
        client.command(&command).unwrap().require(250).unwrap();
    }
    client.command("DATA").unwrap().require(354).unwrap();
    client.send(TEXT).unwrap();
    client.command(".").unwrap().require(250).unwrap();
    server.await_empty_queue(PATIENCE);
    let notices = relay.taken_by("alice@example.org");
    let told: std::collections::BTreeSet<&str> = notices
        .iter()
        .filter_map(|notice| notice.text.lines().find(|line| line.starts_with("Final-Recipient")))
        .collect();
    assert_eq!((notices.len(), told.len()), (CROWD, CROWD));
    assert!(notices.iter().all(|notice| notice.text.contains("Subject: For Bob")));
}

/// RFC 6533: a sender of UTF-8 reads UTF-8.
#[test]
fn a_mail_in_utf8_is_told_of_in_utf8() {
    let relay = Relay::start(&[]);
    let server = plan(&relay).start();
    // The relay takes no SMTPUTF8, so the mail fails here; the notice needs none.
    send(&server, "<alice@example.org> SMTPUTF8", "<bøb@example.net> ORCPT=utf-8;bøb@example.net");
    let parsed = parsed_one(&notice_to(&relay, "alice@example.org"));
    assert_eq!(parsed["types"][1], "message/global-delivery-status");
    assert_eq!(parsed["recipient"]["Final-Recipient"], "utf-8; bøb@example.net");
    assert_eq!(parsed["recipient"]["Original-Recipient"], "utf-8; b\\x{F8}b@example.net");
    assert_eq!(parsed["recipient"]["Status"], "5.6.7");
}

/// The notice and the outcome are durable as one: a kill at any moment doubles a notice at most.
#[test]
fn no_kill_loses_a_notice() {
    const MAILS: usize = 40;
    let relay = Relay::start(&[]);
    let plan = plan(&relay);
    let mut server = plan.start();
    for number in 0..MAILS {
        send(
            &server,
            &format!("<s{number}@example.org>"),
            &format!("<refused{number}@example.net>"),
        );
        if number % 10 == 9 {
            server.kill9();
            drop(server);
            server = plan.start();
        }
    }
    for number in 0..MAILS {
        notice_to(&relay, &format!("s{number}@example.org"));
    }
    await_rest(&server, MAILS as u64);
}

/// `dsn-advertise: no`: neither offered nor understood.
#[test]
fn dsn_can_be_switched_off() {
    let relay = Relay::start(&[]);
    let server = plan(&relay).setting("dsn-advertise", "no").start();
    let mut client = SmtpClient::connect(server.smtp()).unwrap();
    client.reply().unwrap().require(220).unwrap();
    let offered = client.command("EHLO client.example").unwrap().require(250).unwrap();
    assert!(!offered.lines.contains(&"DSN".to_owned()));
    client.command("MAIL FROM:<a@example.org> RET=FULL").unwrap().require(555).unwrap();
    client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    client.command("RCPT TO:<b@example.net> NOTIFY=NEVER").unwrap().require(555).unwrap();
}

/// Every reviewed notice, as others read it.
#[test]
fn parsers_of_others_understand_every_notice() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/notice/golden");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let texts: Vec<String> =
        paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let pairs: Vec<(&Path, &str)> =
        paths.iter().map(PathBuf::as_path).zip(texts.iter().map(String::as_str)).collect();
    let found = parsed(&pairs);
    for (path, parsed) in paths.iter().zip(found) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (action, permanent, temporary) = match name {
            "failed" | "aged-out" => ("failed", 1, 0),
            "utf8" => ("failed", 0, 0),
            "delayed" => ("delayed", 0, 1),
            "relayed" => ("relayed", 0, 0),
            other => panic!("what should others find in {other}?"),
        };
        assert_eq!(parsed["recipient"]["Action"], action, "{name}");
        let count = |kind: &str| parsed["failures"][kind].as_array().map(Vec::len);
        if !parsed["failures"].is_null() {
            assert_eq!(count("permanent"), Some(permanent), "{name}");
            assert_eq!(count("temporary"), Some(temporary), "{name}");
        }
    }
}
