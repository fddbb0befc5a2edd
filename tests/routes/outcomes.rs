//! What becomes of mail whose domain takes none, cannot be found, or leads where nothing may go.

use serde_json::{Value, json};

use super::{NameServer, address, await_state, by_mx, listeners, zone};
use crate::limits::hop::Hop;
use crate::limits::{await_count, id_of, queued};
use crate::support::{PATIENCE, SmtpClient, eventually};

/// One zone, one row a domain: its state, the status (RFC 3463) and a word of the reason.
#[test]
fn a_domain_that_takes_no_mail_fails_for_good_and_says_why() {
    let dns = NameServer::start(&json!({
        "null.test": { "MX": [[0, "."]] },
        "empty.test": {},
        "hosts-without.test": { "MX": [[10, "empty.test"], [20, "nowhere.test"]] },
        "private.test": { "MX": [[10, "inside.test"]] },
        "inside.test": { "A": ["10.0.0.1", "127.0.0.1"], "AAAA": ["::1"] },
        "loop.test": { "MX": [[10, "us.example"], [20, "empty.test"]] },
        "us.example": { "A": ["127.0.0.1"] },
    }));
    let server = by_mx(&dns, 25).setting("dns-private-targets", "").start();
    let rows = [
        ("b@null.test", 556, "5.1.10", "null MX"),
        ("b@nowhere.test", 0, "5.1.2", "does not exist"),
        ("b@empty.test", 0, "5.4.4", "no host"),
        ("b@hosts-without.test", 0, "5.4.4", "no host"),
        ("b@private.test", 0, "5.7.1", "dns-private-targets"),
        ("b@[127.0.0.1]", 0, "5.7.1", "dns-private-targets"),
        ("b@[IPv6:::1]", 0, "5.7.1", "dns-private-targets"),
        ("b@loop.test", 0, "5.4.6", "this server itself"),
    ];
    for (recipient, code, status, reason) in rows {
        let id = queued(&server, recipient);
        let mail = await_state(&server, &id, "failed");
        let attempt = &mail["results"][0];
        assert_eq!(attempt["state"], "dns", "{mail}");
        assert_eq!(
            (&attempt["code"], &attempt["status"]),
            (&json!(code), &json!(status)),
            "{mail}"
        );
        assert!(attempt["description"].as_str().unwrap().contains(reason), "{mail}");
    }
    await_count(&server, "destinations", 0);
}

/// A host that a mail names leads nowhere else than those that MX records name.
#[test]
fn a_mail_that_names_a_host_inside_fails_for_good() {
    let dns = NameServer::start(&json!({ "inside.test": { "A": ["127.0.0.1"] } }));
    let server = by_mx(&dns, 25).setting("dns-private-targets", "").start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let text = b"x-mq-smarthost-hostname: inside.test\r\n\r\nx\r\n";
    let reply = client.mail("a@example.org", "b@example.net", text).unwrap();
    let id = id_of(&reply.require(250).unwrap());
    let attempt = await_state(&server, &id, "failed")["results"][0].take();
    assert_eq!((&attempt["state"], &attempt["status"]), (&json!("dns"), &json!("5.7.1")));
    assert!(attempt["description"].as_str().unwrap().contains("dns-private-targets"), "{attempt}");
}

/// RFC 5321 5.1: without MX the domain itself is the host; an alias is followed; literals need no MX;
/// a domain of any script is looked up by its A-labels.
#[test]
fn a_domain_without_mx_gets_its_mail_at_its_address() {
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), None);
    let here = json!({ "A": [address(0).to_string()] });
    let dns = NameServer::start(&json!({
        "implicit.test": here,
        "alias.test": { "CNAME": "implicit.test" },
        "xn--bcher-kva.test": here,
        "mx-alias.test": { "MX": [[10, "alias.test"]] },
        "large.test": { "fault": "truncate", "MX": [[10, "implicit.test"]] },
    }));
    let server = by_mx(&dns, port).start();
    let plain =
        ["b@implicit.test", "b@alias.test", "b@MX-Alias.TEST", "b@[127.0.0.2]", "b@large.test"];
    for recipient in plain {
        queued(&server, recipient);
        hop.await_mail(&recipient.to_ascii_lowercase());
    }
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<a@example.org> SMTPUTF8").unwrap().require(250).unwrap();
    client.command("RCPT TO:<b@bücher.test>").unwrap().require(250).unwrap();
    client.command("DATA").unwrap().require(354).unwrap();
    client.command("Subject: x\r\n\r\nx\r\n.").unwrap().require(250).unwrap();
    // The hop does not offer SMTPUTF8; that it is asked at all shows that it was found.
    await_count(&server, "bounced", 1);
    assert!(dns.asked("udp MX xn--bcher-kva.test") >= 1);
    assert!(dns.asked("tcp MX large.test") >= 1, "what is cut off is asked for again over TCP");
}

/// SERVFAIL is temporary, with its own state and status; healed, the mail arrives.
#[test]
fn a_name_server_that_fails_costs_an_attempt_until_it_is_well_again() {
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), None);
    for fault in ["servfail", "refused", "drop"] {
        let mut zone = zone(&[("example.net", &[10])]);
        zone["example.net"]["fault"] = json!(fault);
        let dns = NameServer::start(&zone);
        let server = by_mx(&dns, port)
            .setting("retry-interval", 1)
            .setting("dns-timeout", 1)
            .setting("dns-interval", "200ms")
            .setting("dns-attempts", 2)
            .start();
        let recipient = format!("after-{fault}@example.net");
        let id = queued(&server, &recipient);
        let mail = eventually("an attempt that failed", PATIENCE, || {
            let mail = crate::limits::show(server.plan(), &id);
            (mail["attempts"].as_u64() >= Some(1)).then_some(mail)
        });
        let attempt = &mail["results"][0];
        let result = if fault == "drop" { "timeout" } else { "error" };
        let told = [&attempt["state"], &attempt["result"], &attempt["status"]];
        assert_eq!(told, [&json!("dns"), &json!(result), &json!("4.4.3")], "{mail}");
        assert!(attempt["description"].as_str().unwrap().contains("MX of example.net"), "{mail}");
        zone["example.net"]["fault"] = Value::Null;
        dns.set(&zone);
        hop.await_mail(&recipient);
        assert_eq!(server.status().count("bounced"), 0);
    }
}

/// A host without an answer does not matter while another has one.
#[test]
fn one_host_without_an_answer_keeps_no_mail_from_the_other() {
    let (port, mut hosts) = listeners(2);
    let second = Hop::on(hosts.pop().unwrap(), None);
    let mut zone = zone(&[("example.net", &[10, 20])]);
    zone["mx0.test"]["fault"] = json!("servfail");
    let dns = NameServer::start(&zone);
    let server = by_mx(&dns, port).start();
    queued(&server, "b@example.net");
    second.await_mail("b@example.net");
    assert_eq!(server.status().count("retried"), 0);
}

/// RFC 3461 4.1: a host that gives no answer at all is what delays most. Told once, however many attempts
/// end without a connection.
#[test]
fn a_delay_is_told_of_a_host_that_cannot_be_reached() {
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), None);
    let dead = json!({ "A": [address(7).to_string()] });
    let well = json!({ "A": [address(0).to_string()] });
    let dns = NameServer::start(&json!({ "dead.test": dead, "example.org": well }));
    let server = by_mx(&dns, port)
        .setting("dsn-notify", "FAILURE,DELAY")
        .setting("dsn-delay", 1)
        .setting("retry-interval", 1)
        .start();
    let id = queued(&server, "b@dead.test");
    hop.await_mail("a@example.org");
    eventually("one more attempt", PATIENCE, || {
        let attempts = || crate::limits::show(server.plan(), &id)["attempts"].as_u64().unwrap();
        (attempts() > 3).then_some(())
    });
    assert_eq!(server.status().count("notices"), 1, "once");
}
