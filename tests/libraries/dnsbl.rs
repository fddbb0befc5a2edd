//! `dnsbl.c`: c-ares with its sockets and timeouts in `MQ_ioWatch` and `MQ_startTimer`.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use serde_json::json;

use crate::{
    examples::{mail_to, with_plugins},
    login::plain,
    routes::name_server::NameServer,
    support::{
        PATIENCE, Reply, Sanitizer, Server, ServerBuilder, SmtpClient, eventually, fresh_port,
    },
};

fn asking(name_server: impl ToString, sanitizer: Sanitizer) -> ServerBuilder {
    with_plugins(&["dnsbl"], sanitizer)
        .environment("DNSBL_ZONES", "bl.example,other.example")
        .environment("DNSBL_SERVERS", name_server.to_string())
        .environment("DNSBL_SECONDS", "60")
}

/// Some lists, on which clients stand by the last octet of 127.0.0.x.
fn lists() -> NameServer {
    NameServer::start(&json!({
        "2.0.0.127.bl.example": { "A": ["127.0.0.2"] },
        "3.0.0.127.bl.example": { "A": ["127.255.255.254"] },
        "4.0.0.127.bl.example": { "A": ["192.0.2.1"] },
        "5.0.0.127.other.example": { "A": ["192.0.2.1", "127.0.0.4"] },
        "6.0.0.127.bl.example": { "fault": "servfail" },
        "7.0.0.127.bl.example": { "fault": "drop" },
        "8.0.0.127.bl.example": { "fault": "truncate", "A": ["127.0.0.2"] },
        "9.0.0.127.bl.example": { "fault": "drop" },
        "9.0.0.127.other.example": { "A": ["127.0.0.4"] },
    }))
}

fn client(server: &Server, octet: u8) -> SmtpClient {
    let own = IpAddr::from(Ipv4Addr::new(127, 0, 0, octet));
    SmtpClient::connect_from(own, server.smtp()).and_then(SmtpClient::greeted).unwrap()
}

/// What is said of a recipient.
fn judged(client: &mut SmtpClient) -> Reply {
    client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    client.command("RCPT TO:<b@example.net>").unwrap()
}

/// RFC 5782 2.1, 2.3: an address within 127/8 lists, any other does not, and what a list says of itself
/// does not either. D-3D: the reason is told.
#[test]
fn d_3d_listed_clients_are_refused_and_hear_why() {
    let lists = lists();
    let mut server = asking(lists.address(), Sanitizer::Off).setting("smtp-threads", 2).start();
    for (octet, expected) in [
        (1, None),
        (2, Some("bl.example")),
        (3, None),
        (4, None),
        (5, Some("other.example")),
        (6, None),
        // Too long for a datagram: asked again over TCP.
        (8, Some("bl.example")),
        // One list is enough, whatever the other does.
        (9, Some("other.example")),
    ] {
        let mut client = client(&server, octet);
        let reply = judged(&mut client);
        match expected {
            None => assert_eq!(reply.code, 250, "127.0.0.{octet}: {reply:?}"),
            Some(list) => {
                let text = format!("5.7.1 127.0.0.{octet} is listed at {list}");
                assert_eq!((reply.code, &*reply.lines), (550, &[text][..]));
                // Each recipient hears it.
                client.command("RCPT TO:<c@example.net>").unwrap().require(550).unwrap();
            }
        }
    }
    server.process().await_complaint(PATIENCE, "no answer about 127.0.0.6 from bl.example");
    assert_eq!(lists.asked("udp A 1.0.0.127.other.example"), 1);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// Who has logged in is not judged by an address.
#[test]
fn clients_that_have_logged_in_may_be_listed() {
    let lists = lists();
    let plan = asking(lists.address(), Sanitizer::Off)
        .setting("smtp-auth", "hardcoded://tim:geheim")
        .setting("smtp-relay-range", "127.0.0.0/8")
        .setting("smtp-auth-plaintext", "127.0.0.0/8");
    let mut server = plan.start();
    let mut client = client(&server, 2);
    assert_eq!(judged(&mut client).code, 550);
    client.command("RSET").unwrap().require(250).unwrap();
    client.command(&plain("tim", "geheim")).unwrap().require(235).unwrap();
    mail_to(&mut client, "a@example.org", &["b"]);
    assert!(server.terminate().success());
}

/// Name servers that say nothing, or are not there, cost time and no mail.
#[test]
fn without_an_answer_mail_passes() {
    let lists = lists();
    let mut server =
        asking(lists.address(), Sanitizer::Address).environment("DNSBL_SECONDS", "0.5").start();
    assert_eq!(judged(&mut client(&server, 7)).code, 250);
    server
        .process()
        .await_complaint(PATIENCE, "no answer about 127.0.0.7 from bl.example: Timeout");
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());

    let mut server = asking(fresh_port(), Sanitizer::Address).start();
    assert_eq!(judged(&mut client(&server, 2)).code, 250);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// Name servers that say nothing are tried one after the other: that is their time, not the client's.
#[test]
fn a_recipient_waits_once_however_many_name_servers_are_silent() {
    let silent: Vec<_> = (0..8).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let address = |socket: &UdpSocket| socket.local_addr().unwrap().to_string();
    let servers = silent.iter().map(address).collect::<Vec<_>>().join(",");
    // The host's own limit is above what is promised, and below what all of them take.
    let mut server = asking(servers, Sanitizer::Address)
        .environment("DNSBL_SECONDS", "1")
        .setting("plugin-timeout", 4)
        .start();
    let mut client = client(&server, 1);
    assert_eq!(judged(&mut client).code, 250);
    server.process().await_complaint(PATIENCE, "no answer about 127.0.0.1 in time");
    client.command("RCPT TO:<c@example.net>").unwrap().require(250).unwrap();
    assert_eq!(server.status().count("plugin_revoked"), 0);
    drop(client);
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}

/// D-49: many clients at a time on several workers, of which some leave while their questions are open,
/// each get their own answer; a stop finds questions open. AddressSanitizer watches.
#[test]
fn d_49_clients_are_kept_apart_under_load_and_asan() {
    const THREADS: usize = 12;
    let lists = lists();
    let mut server = asking(lists.address(), Sanitizer::Address).setting("smtp-threads", 3).start();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let address = server.smtp();
            std::thread::spawn(move || {
                for octet in [1, 2, 4, 5, 1, 2, 5, 8] {
                    let own = IpAddr::from(Ipv4Addr::new(127, 0, 0, octet));
                    let connect = || SmtpClient::connect_from(own, address);
                    drop(connect().unwrap());
                    let mut client = connect().and_then(SmtpClient::greeted).unwrap();
                    let expected = if [2, 5, 8].contains(&octet) { 550 } else { 250 };
                    assert_eq!(judged(&mut client).code, expected, "127.0.0.{octet}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    eventually("the end of all connections", PATIENCE, || {
        (server.status().count("incoming_connections") == 0).then_some(())
    });
    drop(client(&server, 7));
    let status = server.terminate();
    assert!(status.success(), "{status}\n{}", server.process());
}
