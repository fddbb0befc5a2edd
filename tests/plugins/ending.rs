//! The end of incoming connections: every way to it leads through one close hook.

use std::net::TcpStream;
use std::time::Duration;

use super::probe::{Stage, await_status, client, client_in_transaction, mail, say};
use crate::support::{PATIENCE, Server, SmtpClient};

/// A raw connection that was greeted and said hello, to be reset.
fn raw_client(server: &Server) -> TcpStream {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(server.smtp()).expect("the dialogue goes on");
    stream.set_read_timeout(Some(PATIENCE)).expect("the dialogue goes on");
    stream.write_all(b"HELO raw.example\r\n").expect("the dialogue goes on");
    let mut said = Vec::new();
    let mut byte = [0];
    while said.iter().filter(|byte| **byte == b'\n').count() < 2 {
        stream.read_exact(&mut byte).expect("the dialogue goes on");
        said.extend(byte);
    }
    stream
}

/// Ends a connection so that the other side sees a reset, not an end.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))
        .expect("a socket can be told how to end");
}

fn send(stream: &mut TcpStream, text: &str) {
    std::io::Write::write_all(stream, text.as_bytes()).expect("the dialogue goes on");
}

#[test]
fn d_49_a_peer_that_goes_while_a_step_is_held_drops_the_rest_after_the_hand_back() {
    for verdict in ["continue", "complete", "retry", "continue-elsewhere"] {
        let stage = Stage::new(&["10-a", "20-b"]);
        stage.script("10-a mailfrom hold:go\n10-a close send:x\n");
        let server = stage.start();
        let mut stream = raw_client(&server);
        send(&mut stream, "MAIL FROM:<a@example.org>\r\n");
        await_status(&server, "held", 1);
        reset(stream);
        // Somebody else is served in the meantime, so that the worker has seen the reset.
        say(&mut client(&server), "QUIT", 221);
        await_status(&server, "incoming_connections", 1);
        assert_eq!(server.status().count("held"), 1);
        assert_eq!(stage.calls(&["close"]), ["10-a close", "20-b close"], "of the other one");
        stage.release("go", verdict);
        await_status(&server, "incoming_connections", 0);
        await_status(&server, "held", 0);
        assert_eq!(stage.calls(&["mailfrom"]), ["10-a mailfrom"], "{verdict}");
        assert_eq!(stage.lines("10-a close").len(), 2, "{verdict}");
        assert_eq!(stage.lines("20-b close").len(), 2, "{verdict}");
    }
}

#[test]
fn d_49_d_43_a_message_whose_client_is_gone_is_not_published() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a message@second hold:go\n");
    let server = stage.start();
    let mut stream = raw_client(&server);
    send(
        &mut stream,
        "MAIL FROM:<a@example.org>\r\nRCPT TO:<first@example.org>\r\nRCPT TO:<second@example.org>\r\nDATA\r\n",
    );
    send(&mut stream, "text\r\n.\r\n");
    await_status(&server, "held", 1);
    assert!(server.status().count("memory_used") > 0);
    reset(stream);
    // Somebody else is served in the meantime, so that the worker has seen the reset.
    say(&mut client(&server), "QUIT", 221);
    stage.release("go", "continue");
    stage.await_lines("10-a close", 2);
    await_status(&server, "incoming_connections", 0);
    // Behind what may have been handed over.
    mail(&mut client(&server), "marker@example.org");
    assert_eq!(server.queue_count(), 1, "the marker alone");
    assert_eq!(server.status().count("accepted"), 1);
}

#[test]
fn d_4a_a_gone_peer_that_is_never_handed_back_is_freed_by_the_timeout() {
    // Long enough for the reset to come first.
    let stage = Stage::new(&["10-a", "20-b"]).setting("plugin-timeout", 3);
    stage.script("10-a mailfrom true\n");
    let mut server = stage.start();
    let mut stream = raw_client(&server);
    send(&mut stream, "MAIL FROM:<a@example.org>\r\n");
    stage.await_line("10-a mailfrom");
    reset(stream);
    assert_eq!(server.status().count("plugin_revoked"), 0, "the peer goes while it is held");
    server.process().await_complaint(PATIENCE, "10-a.so: mq_smtp_in_mailfrom was held too long");
    await_status(&server, "incoming_connections", 0);
    assert_eq!(stage.calls(&["close"]), ["10-a close", "20-b close"]);
    assert_eq!(server.status().count("held"), 0);
}

#[test]
fn d_4c_every_ending_calls_the_close_hook_once() {
    let stage = Stage::new(&["10-a", "20-b"]).setting("smtp-timeout", 1).setting("smtp-errors", 3);
    let mut server = stage.start();

    let mut quits = client(&server);
    say(&mut quits, "QUIT", 221);
    quits.await_close().unwrap();

    reset(raw_client(&server));
    drop(client_in_transaction(&server));
    drop(TcpStream::connect(server.smtp()).unwrap());

    let mut wrong = client(&server);
    for code in [500, 500, 500] {
        say(&mut wrong, "NONSENSE", code);
    }
    let mut silent = client(&server);
    wrong.reply().unwrap().require(421).unwrap();
    silent.reply().unwrap().require(421).unwrap();
    silent.await_close().unwrap();
    // One that leaves in the middle of a text, and one whose text is on its way to the disk.
    let mut text = client_in_transaction(&server);
    say(&mut text, "DATA", 354);
    text.send(b"half a te").unwrap();
    drop(text);
    let mut committing = client_in_transaction(&server);
    say(&mut committing, "DATA", 354);
    committing.send(b"text\r\n.\r\n").unwrap();
    drop(committing);
    await_status(&server, "incoming_connections", 0);

    let mut last = client(&server);
    let status = server.terminate();
    assert!(status.success());
    last.reply().unwrap().require(421).unwrap();
    for plugin in ["10-a", "20-b"] {
        assert_eq!(stage.lines(&format!("{plugin} connect")).len(), 9);
        assert_eq!(stage.lines(&format!("{plugin} close")).len(), 9, "{:?}", stage.journal());
    }
}

#[test]
fn d_4d_a_connect_chain_that_was_interrupted_still_ends_in_every_close_hook() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a connect hold:go\n20-b close data\n");
    let server = stage.start();
    let stream = TcpStream::connect(server.smtp()).unwrap();
    await_status(&server, "held", 1);
    reset(stream);
    stage.release("go", "continue");
    await_status(&server, "incoming_connections", 0);
    assert_eq!(stage.calls(&["connect", "close"]), ["10-a connect", "10-a close", "20-b close"]);
    assert_eq!(stage.lines("20-b kept"), ["20-b kept 0"]);
}

#[test]
fn d_4e_d_4f_d_50_a_held_close_keeps_the_connection_but_not_its_output() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a connect set-data:3 authenticate:1\n10-a close hold:bye\n");
    let mut server = stage.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    say(&mut client, "QUIT", 221);
    client.await_close().unwrap();
    await_status(&server, "held", 1);
    assert_eq!(server.status().count("incoming_connections"), 1);
    assert_eq!(stage.lines("20-b close"), [""; 0]);
    stage.release("bye", "data authenticated secure socket send:x continue await:stale");
    await_status(&server, "incoming_connections", 0);
    assert_eq!(stage.lines("20-b close").len(), 1);
    for line in [
        "10-a kept 3",
        "10-a authenticated 1",
        "10-a secure 0",
        "10-a socket open=1",
        "10-a sent 0",
    ] {
        assert_eq!(stage.lines(line).len(), 1, "{line}: {:?}", stage.journal());
    }
    // Now everything of it is stale.
    stage.release("stale", "data send:x");
    server.process().await_complaint(
        PATIENCE,
        "10-a.so: MQ_SmtpSend: the MQ_Connection given no longer exists",
    );
    assert_eq!(stage.await_lines("10-a kept ", 2)[1], "10-a kept 0");
}

#[test]
fn d_53_a_stop_revokes_what_is_held_and_calls_nothing_after_the_cleanup() {
    // Longer than a test waits: it is the plugins' time that counts, for close hooks as well.
    let stage = Stage::new(&["10-a", "20-b"])
        .setting("plugin-shutdown-timeout", 1)
        .setting("shutdown-timeout", 600);
    stage.script("10-a mailfrom hold:late\n20-b rcptto hold:last\n10-a close true\n");
    let mut server = stage.start();
    let mut held = client(&server);
    held.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\n").unwrap();
    await_status(&server, "held", 1);
    let mut idle = client(&server);
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| server.terminate());
        // Who is idle is told at once; who is held after the plugins' time.
        idle.reply().unwrap().require(421).unwrap();
        held.reply().unwrap().require(421).unwrap();
        held.await_close().unwrap();
        assert!(ended.join().unwrap().success());
    });
    let last = ["20-b context-cleanup", "10-a context-cleanup", "20-b cleanup", "10-a cleanup"];
    let ends = stage.calls(&["close", "context-cleanup", "cleanup"]);
    assert_eq!(ends[ends.len() - 4..], last);
    assert_eq!(stage.lines("close fd=").len(), 4, "two connections, two plugins");
    assert!(stage.journal().last().unwrap().starts_with("10-a cleanup"));
}

#[test]
fn d_53_what_is_handed_back_in_time_is_finished_first() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a message hold:go\n");
    let mut server = stage.start();
    let mut idle = client(&server);
    let mut client = client_in_transaction(&server);
    say(&mut client, "DATA", 354);
    client.send(b"text\r\n.\r\n").unwrap();
    await_status(&server, "held", 1);
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| server.terminate());
        // The stop has begun when the idle one is told.
        idle.reply().unwrap().require(421).unwrap();
        stage.release("go", "continue");
        client.reply().unwrap().require(250).unwrap();
        client.reply().unwrap().require(421).unwrap();
        assert!(ended.join().unwrap().success());
    });
    assert_eq!(stage.lines("10-a close").len(), 2);
}
