//! Look-ups: how often a name server is asked, and what happens while it says nothing.

use std::net::UdpSocket;

use serde_json::json;

use super::{NameServer, address, await_state, by_mx, listeners, zone};
use crate::limits::hop::Hop;
use crate::limits::{await_count, queued, show};
use crate::support::{PATIENCE, Server, eventually};

/// RFC 1035 3.2.1: an answer is good for its TTL; a destination that is forgotten asks no name server
/// when it comes back.
#[test]
fn answers_are_kept_for_their_time_and_asked_for_again_after_it() {
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), None);
    let dns = NameServer::start(&zone(&[("example.net", &[10]), ("short.test", &[10])]));
    let server = by_mx(&dns, port)
        .setting("smtp-threads", 2)
        .setting("smtp-out-idle-timeout", 0)
        .setting("dns-min-ttl", 1)
        .start();
    for number in 0..5 {
        let recipient = format!("b{number}@example.net");
        queued(&server, &recipient);
        hop.await_mail(&recipient);
        await_count(&server, "destinations", 0);
    }
    assert_eq!(dns.asked("udp MX example.net"), 1);
    assert_eq!(dns.asked("udp A mx0.test"), 1);

    let mut zone = zone(&[("short.test", &[10])]);
    zone["short.test"]["ttl"] = json!(0);
    dns.set(&zone);
    let mut number = 0;
    eventually("a second question when the time is over", PATIENCE, || {
        queued(&server, &format!("c{number}@short.test"));
        number += 1;
        (dns.asked("udp MX short.test") >= 2).then_some(())
    });
    assert!(number >= 2, "dns-min-ttl holds for a second");
}

/// RFC 2308: that there is nothing is known for a while too.
#[test]
fn that_a_domain_does_not_exist_is_asked_once() {
    let dns = NameServer::start(&json!({}));
    let server = by_mx(&dns, 25).start();
    for number in 0..3 {
        let id = queued(&server, &format!("b{number}@nowhere.test"));
        await_state(&server, &id, "failed");
    }
    assert_eq!(dns.asked("udp MX nowhere.test"), 1);
}

/// A name server that says nothing at all: mails say so, age out, and the server stops in time.
#[test]
fn mail_that_waits_for_dns_says_so_and_ages_out() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut server = Server::builder()
        .setting("smarthost", "")
        .setting("smtp-threads", 1)
        .setting("dns-servers", silent.local_addr().unwrap())
        .setting("dns-timeout", 600)
        .setting("dns-capacity", 1)
        .setting("max-delivertime", 4)
        .start();
    let first = queued(&server, "b@example.net");
    let second = queued(&server, "b@example.org");
    let mail = show(server.plan(), &first);
    assert_eq!(mail["why"], "waiting for DNS: the route to example.net", "{mail}");
    let mail = show(server.plan(), &second);
    let room = "waiting for DNS: the route to example.org, when dns-capacity has room";
    assert_eq!(mail["why"], room, "{mail}");
    server.await_empty_queue(PATIENCE);
    assert_eq!(server.status().count("aged"), 2);
    assert!(server.terminate().success(), "{}", server.process());
}

/// Look-ups under way are bounded, and every domain has its turn.
#[test]
fn more_domains_than_look_ups_all_get_their_mail() {
    const DOMAINS: usize = 30;
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), None);
    let domains: Vec<String> = (0..DOMAINS).map(|number| format!("d{number}.test")).collect();
    let rows: Vec<(&str, &[u16])> = domains.iter().map(|domain| (&**domain, &[10][..])).collect();
    let dns = NameServer::start(&zone(&rows));
    let server = by_mx(&dns, port).setting("dns-capacity", 2).start();
    domains.iter().for_each(|domain| drop(queued(&server, &format!("b@{domain}"))));
    await_count(&server, "delivered", DOMAINS as u64);
    assert_eq!(hop.mails().len(), DOMAINS);
}

/// A smarthost by its name, and one whose name cannot be found: that costs no attempt.
#[test]
fn a_smarthost_is_found_by_its_name_and_waited_for_without_an_attempt() {
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), None);
    let mut zone = json!({ "relay.test": { "fault": "servfail", "A": [address(0).to_string()] } });
    let dns = NameServer::start(&zone);
    // What the settings name themselves may be private.
    let server = by_mx(&dns, 25)
        .setting("dns-private-targets", "")
        .setting("smarthost", "relay.test")
        .setting("smarthost-port", port)
        .start();
    let id = queued(&server, "b@example.net");
    let mail = eventually("a reason", PATIENCE, || {
        let mail = show(server.plan(), &id);
        mail["why"].as_str().unwrap().contains("next try in ").then_some(mail)
    });
    assert!(mail["why"].as_str().unwrap().contains("relay.test"), "{mail}");
    assert_eq!((&mail["state"], &mail["attempts"]), (&json!("ready"), &json!(0)), "{mail}");
    zone["relay.test"]["fault"] = json!(null);
    dns.set(&zone);
    hop.await_mail("b@example.net");
    assert_eq!(server.status().count("retried"), 0);
}

/// `smtp-sink-address`: whatever the domain, and no name server is asked.
#[test]
fn a_sink_gets_all_mail_by_its_domains() {
    let (port, mut hosts) = listeners(1);
    let hop = Hop::on(hosts.pop().unwrap(), None);
    let dns = NameServer::start(&json!({}));
    let server = by_mx(&dns, 25)
        .setting("smtp-sink-address", address(0))
        .setting("smtp-sink-port", port)
        .start();
    for recipient in ["b@example.net", "b@nowhere.test", "b@[192.0.2.1]"] {
        queued(&server, recipient);
        hop.await_mail(recipient);
    }
    let rows = server.plan().report(&["queue", "destinations"]);
    assert_eq!(rows.lines().count(), 3, "{rows}");
    assert_eq!(dns.asked("udp MX example.net"), 0);
}
