//! Connections under TLS, and through a proxy, as plugins see them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use rustls::ClientConfig;

use super::probe::{self, await_status, say};
use crate::support::{Authority, PATIENCE, Server, SmtpClient};

const NAME: &str = "mx.example.org";
/// All hooks that a connection without mail can call.
const HOOKS: &[&str] = &["connect", "secured", "mailfrom", "close"];

/// A server with probes and certificates, and a client that trusts those.
fn stage(names: &[&str]) -> (probe::Stage, Arc<ClientConfig>) {
    let stage = probe::Stage::new(names);
    let authority = Authority::new();
    let made = authority.certify(stage.plan.directory(), &[NAME]);
    let stage = stage
        .setting("smtp-certificate", made.chain.display())
        .setting("smtp-key", made.key.display())
        .setting("smtp-secure-port", 0);
    (stage, authority.trusted())
}

fn implicit(server: &Server, trusted: &Arc<ClientConfig>) -> SmtpClient {
    SmtpClient::connect(server.smtps()).unwrap().handshake(trusted, NAME).unwrap()
}

#[test]
fn d_30_d_32_on_the_secure_port_the_order_is_connect_tls_secure_banner() {
    let (stage, trusted) = stage(&["10-a", "20-b"]);
    stage.script("10-a connect secure hold:go\n10-a secured secure hold:on\n20-b secured secure\n");
    let server = stage.start();
    let mut early = SmtpClient::connect(server.smtps()).unwrap();
    await_status(&server, "held", 1);
    // The first octet of TLS waits for the connect chain.
    early.send(&[0x16, 3, 1]).unwrap();
    stage.release("go", "continue");
    drop(early);
    stage.await_lines("close fd", 2);
    // This one gets on: the banner waits for the secure chain.
    stage.script("10-a connect secure\n10-a secured secure hold:on\n20-b secured secure\n");
    let mut client = implicit(&server, &trusted);
    stage.await_line("10-a secured fd");
    stage.release("on", "send:220-under%20TLS%0D%0A continue");
    let banner = client.reply().unwrap().require(220).unwrap();
    assert_eq!(banner.lines[0], "under TLS");
    say(&mut client, "QUIT", 221);
    stage.await_lines("close fd", 4);
    let calls = stage.calls(HOOKS);
    let expected = ["connect", "secured", "close"];
    for (at, hook) in expected.iter().enumerate() {
        let pair = [format!("10-a {hook}"), format!("20-b {hook}")];
        assert_eq!(calls[4 + 2 * at..][..2], pair, "{calls:?}");
    }
    assert_eq!(
        stage.lines(" secure "),
        ["10-a secure 0", "10-a secure 0", "10-a secure 1", "20-b secure 1"],
        "MQ_SmtpSecure is true from the secure hook on"
    );
}

#[test]
fn d_32_starttls_runs_the_secure_chain_before_anything_else_is_parsed() {
    let (stage, trusted) = stage(&["10-a"]);
    stage.script("10-a secured secure hold:go\n10-a mailfrom secure\n10-a close secure\n");
    let server = stage.start();
    let client = SmtpClient::hello(server.smtp()).unwrap();
    let mut client = client.starttls(&trusted, NAME).unwrap();
    // D-47: while the step is held nothing is read.
    client.send(b"EHLO client.example\r\nMAIL FROM:<a@example.org>\r\n").unwrap();
    await_status(&server, "held", 1);
    assert_eq!(stage.calls(HOOKS), ["10-a connect", "10-a secured"]);
    stage.release("go", "continue");
    client.reply().unwrap().require(250).unwrap();
    client.reply().unwrap().require(250).unwrap();
    say(&mut client, "QUIT", 221);
    stage.await_line("10-a close fd");
    assert_eq!(stage.calls(HOOKS), ["10-a connect", "10-a secured", "10-a mailfrom", "10-a close"]);
    // D-50: after the end it is what it was last.
    stage.await_lines("10-a secure 1", 3);
}

#[test]
fn d_33_a_handshake_that_fails_runs_the_close_chain_and_no_secure_chain() {
    let (stage, _) = stage(&["10-a"]);
    stage.script("10-a close secure socket\n");
    let server = stage.start();
    let mut broken = TcpStream::connect(server.smtps()).unwrap();
    broken.write_all(b"EHLO this is no TLS\r\n").unwrap();
    stage.await_lines("10-a close fd", 1);
    let mut refused = SmtpClient::hello(server.smtp()).unwrap();
    say(&mut refused, "STARTTLS", 220);
    drop(refused);
    stage.await_lines("10-a close fd", 2);
    assert_eq!(stage.calls(HOOKS), ["10-a connect", "10-a close", "10-a connect", "10-a close"]);
    // D-4F: the descriptor is open while the chain runs.
    stage.await_lines("10-a socket open=1", 2);
    assert_eq!(stage.lines("10-a secure 0").len(), 2);
}

#[test]
fn d_33_a_handshake_that_takes_too_long_ends_the_same_way() {
    let (stage, _) = stage(&["10-a"]);
    let stage = stage.setting("smtp-tls-timeout", 1);
    let server = stage.start();
    let mut silent = SmtpClient::connect(server.smtps()).unwrap();
    stage.await_line("10-a close fd");
    assert_eq!(stage.calls(HOOKS), ["10-a connect", "10-a close"]);
    silent.await_close().unwrap();
}

#[test]
fn d_3e_what_a_plugin_sends_before_tls_goes_out_under_tls() {
    let (stage, trusted) = stage(&["10-a"]);
    stage.script("10-a connect send:220-from%20the%20connect%20hook%0D%0A\n");
    let server = stage.start();
    let banner = implicit(&server, &trusted).reply().unwrap().require(220).unwrap();
    assert_eq!(banner.lines[0], "from the connect hook");
}

#[test]
fn d_30_nothing_goes_out_in_clear_on_the_secure_port() {
    let (stage, _) = stage(&["10-a"]);
    stage.script("10-a connect send:220-in%20clear%0D%0A hold:never\n");
    let stage = stage.setting("plugin-timeout", "300ms");
    let server = stage.start();
    let mut raw = TcpStream::connect(server.smtps()).unwrap();
    raw.set_read_timeout(Some(PATIENCE)).unwrap();
    // The step is taken back: without TLS there is no way to say so.
    let mut said = Vec::new();
    raw.read_to_end(&mut said).unwrap();
    assert_eq!(said.escape_ascii().to_string(), "");
    await_status(&server, "plugin_revoked", 1);
}

/// Both handshakes would have all the time of `smtp-tls-timeout`, whatever `shutdown-timeout` says.
#[test]
fn d_53_a_stop_begins_no_handshake() {
    let (stage, _) = stage(&["10-a"]);
    stage.script("10-a connect say:-\n");
    let stage = stage.setting("smtp-tls-timeout", 600).setting("shutdown-timeout", 600);
    let mut server = stage.start();
    let mut sending = SmtpClient::hello(server.smtp()).unwrap();
    say(&mut sending, "MAIL FROM:<a@example.org>", 250);
    say(&mut sending, "RCPT TO:<b@example.net>", 250);
    say(&mut sending, "DATA", 354);
    stage.script("10-a connect hold:go\n");
    let mut held = TcpStream::connect(server.smtps()).unwrap();
    held.set_read_timeout(Some(PATIENCE)).unwrap();
    await_status(&server, "held", 1);
    server.process().ask_to_end();
    server.process().await_complaint(PATIENCE, "draining");
    sending.send(b"text\r\n.\r\nSTARTTLS\r\n").unwrap();
    sending.reply().unwrap().require(250).unwrap();
    sending.reply().unwrap().require(421).unwrap();
    stage.release("go", "continue");
    assert_eq!(held.read(&mut [0; 1]).unwrap(), 0);
    assert!(server.process().wait(PATIENCE).success());
}

#[test]
fn d_27_a_secure_hook_that_is_held_too_long_ends_the_connection_with_421() {
    let (stage, trusted) = stage(&["10-a"]);
    stage.script("10-a secured true\n");
    let stage = stage.setting("plugin-timeout", 1);
    let server = stage.start();
    let client = SmtpClient::hello(server.smtp()).unwrap();
    let starttls = client.starttls(&trusted, NAME).unwrap();
    for mut client in [starttls, implicit(&server, &trusted)] {
        client.reply().unwrap().require(421).unwrap();
        client.await_close().unwrap();
    }
    await_status(&server, "plugin_revoked", 2);
    stage.await_lines("10-a close fd", 2);
}

#[test]
fn d_49_a_client_that_goes_while_its_secure_hook_is_held_is_closed_after_the_hand_back() {
    let (stage, trusted) = stage(&["10-a", "20-b"]);
    stage.script("10-a secured hold:go\n");
    let server = stage.start();
    let client = implicit(&server, &trusted);
    await_status(&server, "held", 1);
    drop(client);
    stage.release("go", "await:gone continue");
    stage.await_lines("close fd", 2);
    await_status(&server, "incoming_connections", 0);
}

#[test]
fn d_30_d_31_no_plugin_sees_a_client_that_its_proxy_got_refused() {
    let stage = probe::Stage::new(&["10-a"])
        .setting("smtp-proxy", "127.0.0.0/8")
        .setting("smtp-range", "127.0.0.0/8;192.0.2.0/24");
    stage.script("10-a connect socket\n");
    let mut server = stage.start();
    for (client, code) in [("203.0.113.9", 554), ("192.0.2.9", 220)] {
        let mut connection = SmtpClient::connect(server.smtp()).unwrap();
        // D-30: no hook before the header.
        assert!(stage.calls(HOOKS).is_empty());
        connection
            .send(format!("PROXY TCP4 {client} 198.51.100.1 4321 25\r\n").as_bytes())
            .unwrap();
        connection.reply().unwrap().require(code).unwrap();
    }
    assert!(server.terminate().success());
    assert_eq!(stage.calls(HOOKS), ["10-a connect", "10-a close"]);
    // D-51: the socket is still the proxy's.
    stage.await_line("10-a socket open=1 peer=1");
}
