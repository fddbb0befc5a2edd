//! Which host gets a mail: by preference, the next one where one fails, within one attempt.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};

use serde_json::json;

use super::{NameServer, address, await_state, by_mx, listeners, zone};
use crate::limits::hop::{At, Hop, How};
use crate::limits::{await_count, queued};
use crate::support::{PATIENCE, Server, SmtpClient, eventually};

/// Every mail so far was delivered at its first attempt.
fn first_attempts(server: &Server, delivered: u64) {
    await_count(server, "delivered", delivered);
    assert_eq!(server.status().count("retried"), 0);
    assert_eq!(server.status().count("bounced"), 0);
}

/// RFC 5321 5.1: the lowest number first, whatever the order of the records.
#[test]
fn the_best_host_gets_the_mail() {
    let (port, hosts) = listeners(3);
    let hops: Vec<Hop> = hosts.into_iter().map(|host| Hop::on(host, None)).collect();
    let dns = NameServer::start(&zone(&[("example.net", &[30, 10, 20])]));
    let server = by_mx(&dns, port).start();
    (0..5).for_each(|number| drop(queued(&server, &format!("b{number}@example.net"))));
    first_attempts(&server, 5);
    let taken: Vec<usize> = hops.iter().map(|hop| hop.mails().len()).collect();
    assert_eq!(taken, [0, 5, 0]);
}

/// A host that cannot be talked to costs no attempt: the next one has the mail.
#[test]
fn the_next_host_gets_what_the_best_cannot_take() {
    let faults = [
        Some((At::Banner, How::Say("421 4.3.2 not now"))),
        Some((At::Banner, How::Say("554 5.3.2 never"))),
        Some((At::Banner, How::Stall)),
        Some((At::Banner, How::Close)),
        Some((At::Ehlo, How::Close)),
        // Nobody listens.
        None,
    ];
    for fault in faults {
        let (port, mut hosts) = listeners(2);
        let second = Hop::on(hosts.pop().unwrap(), None);
        let first = hosts.pop().unwrap();
        let first = fault.map(|fault| Hop::on(first, Some(fault)));
        let dns = NameServer::start(&zone(&[("example.net", &[10, 20])]));
        let server = by_mx(&dns, port).setting("smtp-out-timeout", 1).start();
        queued(&server, "b@example.net");
        second.await_mail("b@example.net");
        first_attempts(&server, 1);
        assert!(first.is_none_or(|first| first.opened() == 1), "{fault:?}");
    }
}

/// A mail that is lost with its connection goes to the next host, in the same attempt.
#[test]
fn a_mail_that_was_lost_on_the_way_goes_to_the_next_host_at_once() {
    for at in [At::Mail, At::Rcpt, At::Data] {
        for how in [How::Close, How::Stall] {
            let (port, mut hosts) = listeners(2);
            let second = Hop::on(hosts.pop().unwrap(), None);
            let first = Hop::on(hosts.pop().unwrap(), Some((at, how)));
            let dns = NameServer::start(&zone(&[("example.net", &[10, 20])]));
            let server = by_mx(&dns, port)
                .setting("smtp-out-timeout", 1)
                .setting("smtp-out-data-timeout", 1)
                .start();
            queued(&server, "b@example.net");
            second.await_mail("b@example.net");
            first_attempts(&server, 1);
            assert_eq!(first.opened(), 1, "{at:?} {how:?}");
        }
    }
}

/// RFC 5321 4.5.3.2.6: a host that was given the whole text and said nothing may have taken it. Another one
/// would have it twice.
#[test]
fn a_text_that_was_never_answered_waits_and_goes_to_no_other_host() {
    for at in [At::Dot, At::Chunk] {
        for (how, result) in [(How::Close, "lost"), (How::Stall, "timeout")] {
            let (port, mut hosts) = listeners(2);
            let second = Hop::on(hosts.pop().unwrap(), None);
            let first = Hop::on(hosts.pop().unwrap(), Some((at, how)));
            let dns = NameServer::start(&zone(&[("example.net", &[10, 20])]));
            let server = by_mx(&dns, port)
                .setting("smtp-out-dot-timeout", 1)
                .setting("retry-interval", 600)
                .start();
            let id = queued(&server, "b@example.net");
            let mail = await_state(&server, &id, "waiting");
            let attempt = &mail["results"][0];
            assert_eq!(attempt["state"], "message", "{at:?} {how:?} {mail}");
            assert_eq!(attempt["result"], result, "{at:?} {how:?} {mail}");
            assert_eq!((first.opened(), second.opened()), (1, 0), "{at:?} {how:?}");
        }
    }
}

/// Invariant 22: settings that were read again while a lost mail was on its way hold for it too.
#[test]
fn a_mail_that_was_lost_goes_to_no_host_that_a_reload_forbids() {
    let (port, mut hosts) = listeners(2);
    let second = hosts.pop().unwrap();
    let _first = Hop::on(hosts.pop().unwrap(), Some((At::Mail, How::Close)));
    let dns = NameServer::start(&zone(&[("example.net", &[10, 20])]));
    let plan = by_mx(&dns, port).setting("retry-interval", 3600);
    let file = plan.directory().join("config.txt");
    std::fs::write(&file, "").unwrap();
    let server = plan.setting("config-file", file.display()).start();
    let id = queued(&server, "b@example.net");
    second.set_nonblocking(true).unwrap();
    let (stream, _) = eventually("a connection", PATIENCE, || second.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It began under settings that allow it to be in clear.
    std::fs::write(&file, "smtp-out-security: required\n").unwrap();
    assert_eq!(server.plan().order(&["reload"]).code, Some(0));
    let mut lines = BufReader::new(&stream).lines();
    for (reply, expected) in [("220 mx1.test\r\n", "EHLO us.example"), ("250 mx1.test\r\n", "QUIT")]
    {
        (&stream).write_all(reply.as_bytes()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), expected);
    }
    let mail = await_state(&server, &id, "waiting");
    assert_eq!(mail["results"][0]["state"], "mailfrom", "{mail}");
}

/// Each host once; then the attempt ends with what happened last.
#[test]
fn a_mail_that_every_host_loses_has_tried_each_once() {
    let (port, hosts) = listeners(3);
    let lose = Some((At::Rcpt, How::Close));
    let hops: Vec<Hop> = hosts.into_iter().map(|host| Hop::on(host, lose)).collect();
    let dns = NameServer::start(&zone(&[("example.net", &[10, 10, 20])]));
    let server = by_mx(&dns, port).setting("retry-interval", 600).start();
    let id = queued(&server, "b@example.net");
    let mail = await_state(&server, &id, "waiting");
    assert_eq!(mail["attempts"], 1, "{mail}");
    let attempt = &mail["results"][0];
    assert_eq!((&attempt["state"], &attempt["result"]), (&json!("rcptto"), &json!("lost")));
    assert_eq!(attempt["to"], format!("{}:{port}", address(2)), "{mail}");
    assert!(hops.iter().all(|hop| hop.opened() == 1));
}

/// What a host says of a mail is its answer: no other is asked.
#[test]
fn a_refusal_ends_the_attempt() {
    let (port, hosts) = listeners(2);
    let busy = Some((At::Rcpt, How::Say("450 4.2.1 busy")));
    let hops: Vec<Hop> = hosts.into_iter().map(|host| Hop::on(host, busy)).collect();
    let dns = NameServer::start(&zone(&[("example.net", &[10, 20])]));
    let server = by_mx(&dns, port).start();
    let id = queued(&server, "b@example.net");
    let mail = await_state(&server, &id, "waiting");
    assert_eq!(mail["results"][0]["code"], 450, "{mail}");
    assert_eq!(hops[1].opened(), 0);
}

/// RFC 5321 5.1: hosts of one preference share the load.
#[test]
fn equal_hosts_share_the_load() {
    let (port, hosts) = listeners(3);
    let hops: Vec<Hop> = hosts.into_iter().map(|host| Hop::on(host, None)).collect();
    let dns = NameServer::start(&zone(&[("example.net", &[10, 10, 10])]));
    let server = by_mx(&dns, port).setting("domain-messages", 1).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    for number in 0..60 {
        let to = format!("b{number}@example.net");
        client.mail("a@example.org", &to, b"x\r\n").unwrap().require(250).unwrap();
    }
    first_attempts(&server, 60);
    let shares: Vec<usize> = hops.iter().map(|hop| hop.mails().len()).collect();
    assert!(shares.iter().all(|&share| share > 0), "{shares:?}");
    assert_eq!(shares.iter().sum::<usize>(), 60);
}

/// An address family without a way out, or without a listener, costs nothing but a step.
#[test]
fn both_families_are_tried() {
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), None);
    let dns = NameServer::start(&json!({
        "example.net": { "MX": [[10, "mx.test"]] },
        "mx.test": { "A": ["127.0.0.2"], "AAAA": ["2001:db8::1", "::1"] },
    }));
    let server = by_mx(&dns, port)
        .setting("dns-private-targets", "all")
        .setting("connect-timeout", 2)
        .start();
    queued(&server, "b@example.net");
    hop.await_mail("b@example.net");
    first_attempts(&server, 1);
}

/// RFC 5321 5.1: hosts that are no better than we are would send the mail to us.
#[test]
fn hosts_that_are_no_better_than_we_are_get_nothing() {
    let (port, mut hosts) = listeners(2);
    let worse = Hop::on(hosts.pop().unwrap(), None);
    let dns = NameServer::start(&json!({
        "example.net": { "MX": [[10, "mx0.test"], [20, "us.example"], [30, "mx1.test"]] },
        "mx0.test": { "A": [address(0).to_string()] },
        "mx1.test": { "A": [address(1).to_string()] },
        "us.example": { "A": ["127.0.0.1"] },
    }));
    let server = by_mx(&dns, port).start();
    // Nobody accepts there yet, but it listens; from now on it does.
    let better = Hop::on(hosts.pop().unwrap(), Some((At::Banner, How::Close)));
    let id = queued(&server, "b@example.net");
    let mail = await_state(&server, &id, "waiting");
    assert_eq!(mail["results"][0]["state"], "intro", "{mail}");
    assert_eq!((better.opened(), worse.opened()), (1, 0));
}

/// Hooks and limits are those of any connection: one that carried its share is closed.
#[test]
fn a_connection_to_a_domain_carries_as_many_mails_as_it_may() {
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), None);
    let dns = NameServer::start(&zone(&[("example.net", &[10])]));
    let server =
        by_mx(&dns, port).setting("domain-messages", 2).setting("domain-connections", 1).start();
    let recipients: BTreeSet<String> = (0..6).map(|n| format!("b{n}@example.net")).collect();
    recipients.iter().for_each(|to| drop(queued(&server, to)));
    first_attempts(&server, 6);
    assert!(hop.opened() >= 3, "{}", hop.opened());
}
