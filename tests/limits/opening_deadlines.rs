//! A client that stalls or drips before it can send mail: in the header of a proxy, in the TLS handshake, in
//! the exchange of a login. Design, section 5: every wait has a deadline, and its slot is free after it.

use std::io::Write;

use super::{await_count, client_deadlines::Slow};
use crate::support::{Authority, Server, ServerBuilder};

/// What a client says before it falls silent, or says an octet at a time for ever.
struct Row {
    name: &'static str,
    /// Commands that are answered, one by one.
    lines: &'static [&'static str],
    /// What is dripped, again and again; nothing for silence.
    drips: &'static [u8],
    /// How the last thing begins that the server says; empty where it can say nothing.
    last: &'static str,
}

const EHLO: &str = "EHLO slow.example\r\n";

fn impatient() -> ServerBuilder {
    Server::builder()
        .setting("smtp-timeout", 1)
        .setting("smtp-tls-timeout", 1)
        .setting("smtp-auth", "hardcoded://tim:geheim")
        .setting("smtp-auth-plaintext", "127.0.0.0/8")
}

/// Plays all rows at a time; each must end by the server, and no slot be left.
fn play(server: &Server, address: std::net::SocketAddr, rows: &[Row]) {
    std::thread::scope(|scope| {
        for row in rows {
            scope.spawn(move || {
                // Where nothing is answered not even a greeting can be awaited.
                let slow = if row.lines.is_empty() {
                    Slow::connect(address)
                } else {
                    Slow::lockstep(address, row.lines)
                };
                let last = if row.drips.is_empty() { slow.end() } else { slow.drip(row.drips) };
                assert!(last.starts_with(row.last), "{}: {last:?}", row.name);
            });
        }
    });
    await_count(server, "incoming_connections", 0);
    await_count(server, "memory_used", 0);
}

/// RFC 4954 4: the exchange is a command like others; RFC 3207: behind the 220 there is the handshake.
#[test]
fn a_login_or_a_handshake_that_does_not_go_on_ends() {
    let plan = impatient();
    let made = Authority::new().certify(plan.directory(), &["mx.example.org"]);
    let server = plan
        .setting("smtp-certificate", made.chain.display())
        .setting("smtp-key", made.key.display())
        .setting("smtp-secure-port", 0)
        .start();
    let (quiet, told) = ("", "421 4.4.2 ");
    let row = |name, lines, drips, last| Row { name, lines, drips, last };
    let rows = [
        row("silent behind 334 of LOGIN", &[EHLO, "AUTH LOGIN\r\n"], b"", told),
        row("drips behind 334 of LOGIN", &[EHLO, "AUTH LOGIN\r\n"], b"d", told),
        row("silent before the password", &[EHLO, "AUTH LOGIN\r\n", "dGlt\r\n"], b"", told),
        row("drips behind 334 of PLAIN", &[EHLO, "AUTH PLAIN\r\n"], b"A", told),
        row("silent behind STARTTLS", &[EHLO, "STARTTLS\r\n"], b"", "220 "),
        row("drips a handshake", &[EHLO, "STARTTLS\r\n"], b"\x16\x03\x01\x02\x00\x01", "220 "),
    ];
    play(&server, server.smtp(), &rows);
    let rows = [
        row("silent on the secure port", &[], b"", quiet),
        row("drips on the secure port", &[], b"\x16\x03\x01\x02\x00\x01", quiet),
    ];
    play(&server, server.smtps(), &rows);
}

/// D-51: the header comes first, and soon.
#[test]
fn a_header_of_a_proxy_that_does_not_go_on_ends() {
    let server = impatient().setting("smtp-proxy", "127.0.0.0/8").start();
    let row = |name, drips| Row { name, lines: &[], drips, last: "" };
    let rows = [
        row("silent instead of a header", b""),
        row("drips version 1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2"),
        row("drips version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x07\xff"),
    ];
    play(&server, server.smtp(), &rows);
    // And behind the header everything is as it is without one.
    let mut slow = Slow::connect(server.smtp());
    slow.stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nNOO").unwrap();
    assert!(slow.end().starts_with("421 4.4.2 "));
    await_count(&server, "incoming_connections", 0);
}
