//! Bounds of one connection, one mail, one client and the whole server: each refuses by its own reply.

use std::net::SocketAddr;

use super::{
    TEXT, await_count, await_status,
    hop::{At, Hop, How},
    queued, show,
};
use crate::support::{PATIENCE, Server, SmtpClient, eventually};

/// smtp-errors: the last error that is allowed is answered, the next closes with 421.
#[test]
fn too_many_errors_close_the_connection() {
    let server = Server::builder().setting("smtp-errors", 3).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let mut codes = Vec::new();
    while codes.last() != Some(&421) && codes.len() < 10 {
        codes.push(client.command("NONSENSE").unwrap().code);
    }
    assert_eq!(codes, [500, 500, 500, 421], "{}", client.transcript());
    client.await_close().unwrap();
    await_count(&server, "incoming_connections", 0);
}

/// RFC 5321 4.5.3.1.10: 1,000 recipients, the next is answered 452 and the mail goes to the others.
#[test]
fn a_thousand_recipients_and_no_more() {
    let hop = Hop::start(None);
    let server = Server::builder().smarthost(hop.address()).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<a@example.org>").unwrap();
    let rcpt = |number| format!("RCPT TO:<r{number}@example.net>\r\n");
    let all: String = (0..1001).map(rcpt).collect();
    client.send(all.as_bytes()).unwrap();
    for number in 0..1000 {
        let reply = client.reply().unwrap();
        assert_eq!(reply.code, 250, "recipient {number}");
    }
    let beyond = client.reply().unwrap();
    assert_eq!((beyond.code, &beyond.lines[0][..6]), (452, "4.5.3 "));
    client.command("DATA").unwrap().require(354).unwrap();
    client.send(TEXT).unwrap();
    client.command(".").unwrap().require(250).unwrap();
    eventually("1,000 mails", PATIENCE, || (hop.mails().len() == 1000).then_some(()));
    await_count(&server, "queued", 0);
}

/// RFC 5321 4.5.3.1.4: a command line without an end costs no memory, is answered once, and the
/// connection goes on.
#[test]
fn a_command_line_without_an_end_costs_no_memory() {
    const LINE_BYTES: usize = 64 << 20;
    let mut server = Server::builder().start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let before = resident_kib(server.process().pid());
    let block = vec![b'x'; 1 << 20];
    for _ in 0..LINE_BYTES / block.len() {
        client.send(&block).unwrap();
    }
    let reply = client.command("").unwrap();
    assert_eq!(reply.code, 500, "{reply:?}");
    client.command("NOOP").unwrap().require(250).unwrap();
    let grown = resident_kib(server.process().pid()).saturating_sub(before);
    assert!(grown < LINE_BYTES as u64 / 1024 / 4, "{grown} KiB more");
}

/// RFC 1870 6: larger than allowed, announced or not.
#[test]
fn a_mail_that_is_too_large_is_refused() {
    let server = Server::builder().setting("smtp-maxsize", 65536).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let announced = client.command("MAIL FROM:<a@example.org> SIZE=70000");
    assert_eq!(announced.unwrap().code, 552);
    let large = [&[b'x'; 62][..], b"\r\n"].concat().repeat(2000);
    let reply = client.mail("a@example.org", "b@example.net", &large);
    let reply = reply.unwrap();
    assert_eq!((reply.code, &reply.lines[0][..6]), (552, "5.3.4 "));
    let reply = client.mail("a@example.org", "b@example.net", TEXT);
    reply.unwrap().require(250).unwrap();
    assert_eq!(server.queue_count(), 1);
    // A mail that is ours keeps its memory until its first attempt; the refused one keeps none.
    let used = server.status().count("memory_used");
    assert!(used <= 512 << 10, "{used} octets");
}

/// Opens connections until one is turned away; those that stay, and what it was told.
fn fill(address: SocketAddr) -> (Vec<SmtpClient>, String) {
    let mut open = Vec::new();
    loop {
        let mut client = SmtpClient::connect(address).unwrap();
        let banner = client.line().unwrap();
        if !banner.starts_with("220 ") {
            client.await_close().unwrap();
            return (open, banner);
        }
        open.push(client);
        assert!(open.len() < 100, "no limit");
    }
}

/// Each limit of connections refuses with 421, and takes new ones when others have gone.
#[test]
fn each_limit_of_connections_answers_421() {
    let rows: &[(&str, &[(&str, u32)])] = &[
        ("all together", &[("smtp-connections", 5)]),
        ("of this direction", &[("smtp-connections", 50), ("smtp-connections-in", 5)]),
        ("of one address", &[("smtp-connections-per-address", 5)]),
    ];
    for (name, settings) in rows {
        let mut plan = Server::builder();
        for (key, value) in *settings {
            plan = plan.setting(key, value);
        }
        let server = plan.start();
        let (open, told) = fill(server.smtp());
        assert_eq!(open.len(), 5, "{name}");
        assert!(told.starts_with("421 4.7.0 "), "{name}: {told}");
        assert_eq!(server.status().count("incoming_connections"), 5, "{name}");
        drop(open);
        await_count(&server, "incoming_connections", 0);
        let (again, _) = fill(server.smtp());
        assert_eq!(again.len(), 5, "{name}, again");
    }
}

/// smtp-connections counts both directions: incoming ones cannot keep mail from going out for ever.
#[test]
fn outgoing_mail_waits_for_a_connection_and_goes_when_there_is_one() {
    let hop = Hop::start(None);
    let server = Server::builder().smarthost(hop.address()).setting("smtp-connections", 3).start();
    let mut clients: Vec<SmtpClient> =
        (0..3).map(|_| SmtpClient::hello(server.smtp()).unwrap()).collect();
    let reply = clients[0].mail("a@example.org", "b@example.net", TEXT);
    reply.unwrap().require(250).unwrap();
    assert_eq!(server.queue_count(), 1);
    assert_eq!(hop.opened(), 0);
    clients.pop();
    hop.await_mail("b@example.net");
    await_count(&server, "queued", 0);
}

/// smtp-range: who is outside hears 554 and nothing else (RFC 5321 3.1).
#[test]
fn a_client_outside_smtp_range_is_refused() {
    let server = Server::builder().setting("smtp-range", "192.0.2.0/24").start();
    let mut client = SmtpClient::connect(server.smtp()).unwrap();
    let banner = client.line().unwrap();
    assert!(banner.starts_with("554 5.7.1 "), "{banner}");
    client.await_close().unwrap();
    assert_eq!(server.status().count("turned_away"), 1);
    assert_eq!(server.status().count("incoming_connections"), 0);
}

/// Design §5: who may relay. Local recipients for everybody, others only from smtp-relay-range.
#[test]
fn only_local_recipients_without_a_right_to_relay() {
    let rows = [
        ("192.0.2.0/24", "local.example", "b@local.example", 250),
        ("192.0.2.0/24", "local.example", "b@LOCAL.Example", 250),
        ("192.0.2.0/24", "local.example", "b@sub.local.example", 550),
        ("192.0.2.0/24", "local.example", "b@example.net", 550),
        ("192.0.2.0/24", "", "b@example.net", 550),
        ("127.0.0.0/8", "", "b@example.net", 250),
    ];
    for (range, local, recipient, code) in rows {
        let server = Server::builder()
            .setting("smtp-threads", 1)
            .setting("smtp-relay-range", range)
            .setting("local-domains", local)
            .start();
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        client.command("MAIL FROM:<a@example.org>").unwrap();
        let reply = client.command(&format!("RCPT TO:<{recipient}>")).unwrap();
        assert_eq!(reply.code, code, "{recipient} from {range}: {reply:?}");
        if code == 550 {
            assert!(reply.lines[0].starts_with("5.7.1 "), "{reply:?}");
            client.command("DATA").unwrap().require(554).unwrap();
        }
    }
}

/// RFC 5321 6.3: 50 Received fields are a long way, 51 a loop.
#[test]
fn too_many_received_fields_are_a_loop() {
    let server = Server::builder().start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    for (fields, code) in [(50, 250), (51, 554)] {
        let field =
            "Received: from a.example by b.example;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n";
        let text = [field.repeat(fields).as_bytes(), TEXT].concat();
        let reply = client.mail("a@example.org", "b@example.net", &text);
        let reply = reply.unwrap();
        assert_eq!(reply.code, code, "{fields}: {reply:?}");
        if code == 554 {
            assert!(reply.lines[0].starts_with("5.4.6 "), "{reply:?}");
        }
    }
    assert_eq!(server.queue_count(), 1);
}

/// Design §5: a next hop that is one of our own listeners is a permanent failure, said by name.
#[test]
fn a_smarthost_that_is_this_server_fails_the_mail() {
    for listen in ["127.0.0.1", "0.0.0.0"] {
        let port = crate::support::fresh_port().port();
        let server = Server::builder()
            .setting("smtp-ip", listen)
            .setting("smtp-port", port)
            .setting("smarthost-port", port)
            .setting("smarthost", "127.0.0.1")
            .start();
        let mut client = SmtpClient::hello(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        let reply = client.mail("a@example.org", "b@example.net", TEXT);
        let id = super::id_of(&reply.unwrap().require(250).unwrap());
        let mail = eventually("a mail that failed", PATIENCE, || {
            let mail = show(server.plan(), &id);
            (mail["state"] == "failed").then_some(mail)
        });
        let text = mail["results"][0]["description"].as_str().unwrap();
        assert!(text.contains("is this server itself"), "{listen}: {mail}");
        assert_eq!(server.status().count("failed"), 1, "{listen}");
        assert_eq!(server.status().count("accepted"), 1, "{listen}: it came back");
    }
}

/// The hop's own refusals end in the words of the attempt: 5yz failed, 4yz waits, 421 waits.
#[test]
fn what_a_hop_refuses_is_told_by_queue_show() {
    let rows = [
        (At::Mail, "550 5.7.1 not you", "mailfrom", "failed"),
        (At::Rcpt, "450 4.2.1 not now", "rcptto", "waiting"),
        (At::Data, "554 5.5.0 no", "data", "failed"),
        (At::Dot, "452 4.3.1 full", "message", "waiting"),
        (At::Mail, "421 4.3.2 closing", "mailfrom", "waiting"),
    ];
    for (at, reply, state, place) in rows {
        let hop = Hop::start(Some((at, How::Say(reply))));
        let server = Server::builder().setting("smtp-threads", 1).smarthost(hop.address()).start();
        let id = queued(&server, "b@example.net");
        let mail = eventually("an attempt", PATIENCE, || {
            let mail = show(server.plan(), &id);
            (mail["attempts"] == 1).then_some(mail)
        });
        let attempt = &mail["results"][0];
        assert_eq!(mail["state"], place, "{reply}: {mail}");
        assert_eq!(attempt["state"], state, "{reply}: {mail}");
        assert_eq!(attempt["result"], "error", "{reply}: {mail}");
        assert_eq!(attempt["code"].to_string(), reply[..3], "{reply}: {mail}");
        let text = attempt["description"].as_str().unwrap();
        assert!(reply.contains(text), "{reply}: {mail}");
        await_status(&server, "no connection", |status| status.count("memory_used") == 0);
    }
}

/// Memory that is in use, as the system counts it.
pub(crate) fn resident_kib(pid: i32) -> u64 {
    field_kib(pid, "VmRSS:")
}

/// The most memory that ever was in use.
pub(super) fn resident_kib_max(pid: i32) -> u64 {
    field_kib(pid, "VmHWM:")
}

fn field_kib(pid: i32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap()
}

/// A smarthost name that does not resolve is a reason to wait, and is said.
#[test]
fn a_smarthost_without_an_address_is_told_by_queue_show() {
    let server = Server::builder().setting("smarthost", "nowhere.invalid").start();
    let id = queued(&server, "b@example.net");
    eventually("a mail that says why it waits", PATIENCE, || {
        let mail = show(server.plan(), &id);
        let why = mail["why"].as_str().unwrap();
        (why.contains("nowhere.invalid") && why.contains("cannot be re")).then_some(())
    });
}
