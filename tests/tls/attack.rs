//! Clients that do TLS wrong, by mistake or on purpose.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{NAME, Stage, TEXT, introduced};
use crate::support::{PATIENCE, Server, SmtpClient, eventually};

/// The start of a handshake record whose rest never comes.
const HELLO_START: [u8; 5] = [0x16, 3, 1, 2, 0];
/// How often a dripping client sends an octet.
const DRIP: Duration = Duration::from_millis(50);

fn await_nobody(server: &Server) {
    eventually("no connection", PATIENCE, || {
        (server.status().count("incoming_connections") == 0).then_some(())
    });
}

/// CVE-2011-0411: commands that somebody on the line puts behind STARTTLS are not taken for the client's.
#[test]
fn rfc_3207_4_2_what_is_injected_behind_starttls_is_never_used() {
    let stage = Stage::new();
    let server = stage.plan.start();
    let injected: [&[u8]; 2] = [
        b"STARTTLS\r\nEHLO forged\r\nMAIL FROM:<forged@example.org>\r\nRCPT TO:<b@example.net>\r\n",
        b"STARTTLS\r\nMAIL",
    ];
    for bytes in injected {
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        client.send(bytes).unwrap();
        client.reply().unwrap().require(220).unwrap();
        let mut client = client.handshake(&stage.trusted, NAME).unwrap();
        // The greeting is forgotten too, and no answer to what was injected is under way.
        client.command("MAIL FROM:<a@example.org>").unwrap().require(503).unwrap();
        client.command("RSET").unwrap().require(250).unwrap();
        let mut client = introduced(client);
        client.mail("a@example.org", "b@example.net", TEXT).unwrap().require(250).unwrap();
    }
    assert_eq!(server.queue_count(), 2);
}

#[test]
fn a_pipelined_group_before_starttls_is_answered_in_clear_and_then_forgotten() {
    let stage = Stage::new();
    let server = stage.plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.send(b"NOOP\r\nRSET\r\nSTARTTLS\r\n").unwrap();
    for code in [250, 250, 220] {
        client.reply().unwrap().require(code).unwrap();
    }
    introduced(client.handshake(&stage.trusted, NAME).unwrap());
}

#[test]
fn a_handshake_that_stalls_or_drips_ends_by_its_deadline() {
    let stage = Stage::new().setting("smtp-tls-timeout", 1).setting("smtp-timeout", 600);
    let server = stage.plan.start();
    for drips in [false, true] {
        let sockets = [
            {
                let mut client = TcpStream::connect(server.smtp()).unwrap();
                client.write_all(b"STARTTLS\r\n").unwrap();
                client
            },
            TcpStream::connect(server.smtps()).unwrap(),
        ];
        for mut socket in sockets {
            socket.set_nonblocking(true).unwrap();
            let _ = socket.write_all(&HELLO_START);
            let started = Instant::now();
            eventually("the end of a slow handshake", PATIENCE, || {
                if drips && started.elapsed() > DRIP {
                    let _ = socket.write_all(&[0]);
                }
                let mut buffer = [0; 512];
                match socket.read(&mut buffer) {
                    Ok(0) => Some(()),
                    Ok(_) => None,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
                    Err(_) => Some(()),
                }
            });
        }
    }
    await_nobody(&server);
}

#[test]
fn what_is_no_handshake_ends_the_connection_and_nothing_else() {
    let stage = Stage::new();
    let server = stage.plan.start();
    let mut witness = stage.starttls(&server);
    let noise: [&[u8]; 4] =
        [b"EHLO client.example\r\n", b"\0\0\0\0\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n", &[0x16; 200]];
    for bytes in noise {
        let mut client = SmtpClient::connect(server.smtps()).unwrap();
        client.send(bytes).unwrap();
        while client.line().is_ok() {}
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        client.command("STARTTLS").unwrap().require(220).unwrap();
        client.send(bytes).unwrap();
        while client.line().is_ok() {}
    }
    drop(SmtpClient::connect(server.smtps()).unwrap());
    witness.command("NOOP").unwrap().require(250).unwrap();
    drop(witness);
    await_nobody(&server);
}

/// RFC 8446 6.1: an end that is not announced may be somebody else's doing.
#[test]
fn a_text_that_is_cut_off_is_not_taken() {
    let stage = Stage::new();
    let server = stage.plan.start();
    let mut client = stage.starttls(&server);
    client.command("MAIL FROM:<a@example.org>").unwrap().require(250).unwrap();
    client.command("RCPT TO:<b@example.net>").unwrap().require(250).unwrap();
    client.command("DATA").unwrap().require(354).unwrap();
    client.send(b"Subject: half\r\n\r\n.\r").unwrap();
    client.half_close().unwrap();
    while client.line().is_ok() {}
    await_nobody(&server);
    assert_eq!(server.queue_count(), 0);
    assert_eq!(server.status().count("memory_used"), 0);
}

#[test]
fn a_stop_waits_for_no_handshake() {
    let stage = Stage::new().setting("smtp-tls-timeout", 600).setting("shutdown-timeout", 600);
    let mut server = stage.plan.start();
    let mut waiting = SmtpClient::connect(server.smtps()).unwrap();
    waiting.send(&HELLO_START).unwrap();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("STARTTLS").unwrap().require(220).unwrap();
    eventually("two connections", PATIENCE, || {
        (server.status().count("incoming_connections") == 2).then_some(())
    });
    assert!(server.terminate().success());
    assert!(waiting.line().is_err() && client.line().is_err());
}
