//! Many destinations beside each other: what one does must not keep the others from theirs.

use serde_json::{Value, json};

use super::{NameServer, await_state, by_mx, listeners, zone};
use crate::limits::hop::{At, Hop, How};
use crate::limits::{await_count, queued, show};
use crate::support::{PATIENCE, Server, SmtpClient, eventually};

fn destinations(server: &Server) -> Vec<Value> {
    let text = server.plan().report(&["queue", "destinations"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn send_many(server: &Server, domain: &str, mails: usize) {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    for number in 0..mails {
        let to = format!("b{number}@{domain}");
        client.mail("a@example.org", &to, b"x\r\n").unwrap().require(250).unwrap();
    }
}

/// One domain's host stalls, one's refuses, one's name server is silent; the fourth gets its mail.
#[test]
fn a_dead_destination_does_not_slow_a_live_one() {
    let (port, mut hosts) = listeners(2);
    let live = Hop::on(hosts.pop().unwrap(), None);
    let _stalled = Hop::on(hosts.pop().unwrap(), Some((At::Banner, How::Stall)));
    let mut zone = json!({
        "live.test": { "MX": [[10, "mx1.test"]] },
        "stalled.test": { "MX": [[10, "mx0.test"]] },
        "refused.test": { "MX": [[10, "mx9.test"]] },
        "silent.test": { "fault": "drop" },
        "mx9.test": { "A": ["127.0.0.99"] },
    });
    for (name, record) in zone_of_hosts() {
        zone[name] = record;
    }
    let dns = NameServer::start(&zone);
    let server = by_mx(&dns, port).setting("dns-timeout", 600).start();
    for domain in ["stalled.test", "silent.test", "refused.test"] {
        send_many(&server, domain, 20);
    }
    send_many(&server, "live.test", 100);
    await_count(&server, "delivered", 100);
    assert_eq!(live.mails().len(), 100);

    // What keeps the others is told, mails or not.
    let rows = destinations(&server);
    let row = |name: &str| {
        let row = rows.iter().find(|row| row["destination"] == name);
        row.unwrap_or_else(|| panic!("no {name} among {rows:?}"))
    };
    let why = |name: &str| row(name)["why"].as_str().unwrap().to_owned();
    assert_eq!(why("silent.test"), "waiting for DNS: the route to silent.test");
    assert_eq!(why("stalled.test"), "a connection to stalled.test is being opened");
    assert_eq!(row("stalled.test")["ready"], 20);
    assert!(row("stalled.test")["connections"].as_u64().unwrap() >= 1);
    assert_eq!(server.plan().report(&["queue", "destinations", "--limit", "2"]).lines().count(), 2);
}

fn zone_of_hosts() -> Vec<(String, Value)> {
    let zone = zone(&[("x.test", &[10, 20])]);
    let zone = zone.as_object().unwrap().clone();
    zone.into_iter().filter(|(name, _)| name != "x.test").collect()
}

/// No host of a domain can be reached: the ready mails end their attempt, all of them, and wait for
/// their next one.
#[test]
fn mail_to_a_domain_that_cannot_be_reached_ends_its_attempt() {
    let (port, hosts) = listeners(2);
    drop(hosts);
    let dns = NameServer::start(&zone(&[("example.net", &[10, 20])]));
    let server = by_mx(&dns, port).start();
    send_many(&server, "example.net", 20);
    let id = queued(&server, "last@example.net");
    let mail = await_state(&server, &id, "waiting");
    let attempt = &mail["results"][0];
    assert_eq!((&attempt["state"], &attempt["result"]), (&json!("connect"), &json!("error")));
    assert!(attempt["description"].as_str().unwrap().contains("refused"), "{mail}");
    await_count(&server, "retried", 21);
    assert_eq!(server.queue_count(), 21);
    // Nothing is left of the destination once it has rested.
    await_count(&server, "destinations", 0);
}

/// Fewer connections than domains: one that is idle makes room for whoever needs it.
#[test]
fn idle_connections_make_room_for_other_domains() {
    const DOMAINS: usize = 12;
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), None);
    let domains: Vec<String> = (0..DOMAINS).map(|number| format!("d{number}.test")).collect();
    let rows: Vec<(&str, &[u16])> = domains.iter().map(|domain| (&**domain, &[10][..])).collect();
    let dns = NameServer::start(&zone(&rows));
    let server = by_mx(&dns, port)
        .setting("smtp-threads", 2)
        .setting("smtp-connections-out", 2)
        .setting("smtp-out-idle-timeout", 3600)
        .start();
    domains.iter().for_each(|domain| drop(queued(&server, &format!("b@{domain}"))));
    await_count(&server, "delivered", DOMAINS as u64);
    assert_eq!(hop.mails().len(), DOMAINS);
    assert!(server.status().count("outgoing_connections") <= 2);
}

/// A domain has no more connections than it may, and its mails wait for those.
#[test]
fn a_domain_has_no_more_connections_than_it_may() {
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), Some((At::Rcpt, How::Stall)));
    let dns = NameServer::start(&zone(&[("example.net", &[10])]));
    let server = by_mx(&dns, port).setting("domain-connections", 3).start();
    send_many(&server, "example.net", 10);
    let id = queued(&server, "last@example.net");
    eventually("all connections busy", PATIENCE, || {
        let mail = show(server.plan(), &id);
        (mail["why"] == "all 3 connections to example.net are busy").then_some(())
    });
    assert_eq!(hop.opened(), 3);
}

/// Mail that is under way to a domain is delivered, or kept, over a stop and a new start.
#[test]
fn a_stop_keeps_what_was_not_delivered() {
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), Some((At::Banner, How::Stall)));
    let dns = NameServer::start(&zone(&[("example.net", &[10])]));
    let plan = by_mx(&dns, port).setting("shutdown-timeout", 1);
    let mut server = plan.start();
    send_many(&server, "example.net", 5);
    eventually("a connection", PATIENCE, || (hop.opened() > 0).then_some(()));
    assert!(server.terminate().success(), "{}", server.process());
    hop.set(None);
    let server = plan.start();
    server.await_empty_queue(PATIENCE);
    assert_eq!(hop.mails().len(), 5);
}
