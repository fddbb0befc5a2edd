//! Connections that come through a proxy (D-51).

use std::net::SocketAddr;

use super::{NAME, Stage, TEXT, introduced};
use crate::support::{PATIENCE, Server, ServerBuilder, Sink, SmtpClient, eventually};

const HEADER: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4321 25\r\n";

/// Every client of this server must be a proxy.
fn proxied() -> ServerBuilder {
    Server::builder().setting("smtp-proxy", "127.0.0.0/8")
}

fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    header.extend(payload);
    header
}

/// Connects, says `header` and reads the banner.
fn through(address: SocketAddr, header: &[u8]) -> SmtpClient {
    let mut client = SmtpClient::connect(address).unwrap();
    client.send(header).unwrap();
    client.reply().unwrap().require(220).unwrap();
    client
}

#[test]
fn d_51_the_client_is_whom_the_header_names() {
    let plan = proxied().setting("local-domains", "example.net");
    let sink = Sink::start(&plan.directory().join("dump"));
    let server = plan.smarthost(sink.address()).start();
    let v4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x10, 0xe1, 0, 25];
    let tlv: &[u8] = &[4, 0, 2, 7, 7];
    let mut v6 = [0_u8; 36];
    (v6[0], v6[1], v6[2], v6[3], v6[15]) = (0x20, 1, 0xd, 0xb8, 7);
    let rows: [(Vec<u8>, &str); 7] = [
        (HEADER.into(), "[192.0.2.7]"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4321 25\r\n".to_vec(), "[IPv6:2001:db8::7]"),
        (binary(1, 0x11, &[&v4, tlv].concat()), "[192.0.2.7]"),
        (binary(1, 0x21, &v6), "[IPv6:2001:db8::7]"),
        // It does not know: the client could be anybody, and is not the proxy.
        (binary(1, 0, &[]), "[127.0.0.1]"),
        // It speaks for itself: the address of the socket counts.
        (binary(0, 0, &[]), "[127.0.0.1]"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "[127.0.0.1]"),
    ];
    for (number, (header, shown)) in rows.iter().enumerate() {
        let mut client = introduced(through(server.smtp(), header));
        let foreign = client.mail("a@example.org", "b@example.com", TEXT).unwrap();
        // Who may relay is decided by the client's address, not the proxy's.
        let relays = *header == binary(0, 0, &[]);
        assert_eq!(foreign.code, if relays { 250 } else { 550 }, "{}", client.transcript());
        client.command("RSET").unwrap().require(250).unwrap();
        let to = format!("b{number}@example.net");
        client.mail("a@example.org", &to, TEXT).unwrap().require(250).unwrap();
        eventually("the mail", PATIENCE, || (sink.count_with(&to) == 1).then_some(()));
        let dumped = String::from_utf8(sink.dumped()).unwrap();
        let line = dumped.lines().find(|line| line.contains(&to)).unwrap();
        assert!(line.contains(&format!("client.example ({shown})")), "{line}");
    }
}

#[test]
fn d_30_range_and_limits_hold_for_whom_the_header_names() {
    let plan = proxied()
        .setting("smtp-range", "127.0.0.0/8;192.0.2.0/24")
        .setting("smtp-connections-per-address", 2)
        .setting("smtp-threads", 1);
    let server = plan.start();
    let mut stranger = SmtpClient::connect(server.smtp()).unwrap();
    stranger.send(b"PROXY TCP4 203.0.113.9 198.51.100.1 4321 25\r\n").unwrap();
    stranger.reply().unwrap().require(554).unwrap();
    stranger.await_close().unwrap();
    let _first: Vec<SmtpClient> =
        (0..2).map(|_| through(server.smtp(), HEADER.as_bytes())).collect();
    let mut third = SmtpClient::connect(server.smtp()).unwrap();
    third.send(HEADER.as_bytes()).unwrap();
    third.reply().unwrap().require(421).unwrap();
    // The proxy itself is not at its limit, and neither are its other clients.
    for number in 8..12 {
        let header = format!("PROXY TCP4 192.0.2.{number} 198.51.100.1 4321 25\r\n");
        through(server.smtp(), header.as_bytes());
    }
}

#[test]
fn what_is_no_header_ends_the_connection() {
    let server = proxied().start();
    let rows: [&[u8]; 5] = [
        b"EHLO client.example\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4321\r\n",
        &[b'x'; 5000],
        &binary(1, 0x11, &[1; 4090]),
        &binary(3, 0x11, &[1; 12]),
    ];
    for bytes in rows {
        let mut client = SmtpClient::connect(server.smtp()).unwrap();
        client.send(bytes).unwrap();
        client.await_close().unwrap();
    }
    let mut half = SmtpClient::connect(server.smtp()).unwrap();
    half.send(&HEADER.as_bytes()[..20]).unwrap();
    half.half_close().unwrap();
    half.await_close().unwrap();
    // One that comes in pieces is a header all the same.
    let mut pieces = SmtpClient::connect(server.smtp()).unwrap();
    for piece in HEADER.as_bytes().chunks(7) {
        pieces.send(piece).unwrap();
    }
    pieces.reply().unwrap().require(220).unwrap();
}

/// The deadline is no setting: a proxy knows its client before it connects.
#[test]
fn a_proxy_that_says_nothing_is_not_waited_for() {
    let server = proxied().setting("smtp-timeout", 600).start();
    let mut silent = SmtpClient::connect(server.smtp()).unwrap();
    let mut half = SmtpClient::connect(server.smtp()).unwrap();
    half.send(b"PROXY ").unwrap();
    silent.await_close().unwrap();
    half.await_close().unwrap();
}

#[test]
fn who_is_no_proxy_may_send_no_header() {
    let server = Server::builder().setting("smtp-proxy", "192.0.2.0/24").start();
    let mut client = SmtpClient::connect(server.smtp()).unwrap();
    client.reply().unwrap().require(220).unwrap();
    client.command(HEADER.trim_end()).unwrap().require(500).unwrap();
}

#[test]
fn d_30_tls_comes_after_the_header_even_in_one_piece() {
    let stage = Stage::new().setting("smtp-proxy", "127.0.0.0/8");
    let server = stage.plan.start();
    let mut client = SmtpClient::connect(server.smtps()).unwrap();
    client.send(HEADER.as_bytes()).unwrap();
    let mut client = client.handshake(&stage.trusted, NAME).unwrap();
    client.reply().unwrap().require(220).unwrap();
    introduced(client);

    let mut client = SmtpClient::connect(server.smtp()).unwrap();
    // A client that does not wait for the banner: what follows the header is not lost.
    client.send(format!("{HEADER}EHLO client.example\r\n").as_bytes()).unwrap();
    client.reply().unwrap().require(220).unwrap();
    client.reply().unwrap().require(250).unwrap();
    introduced(client.starttls(&stage.trusted, NAME).unwrap());
}
