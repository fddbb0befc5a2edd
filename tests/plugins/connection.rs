//! Incoming connections: which hooks run, with what, and what plugins may say meanwhile.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::probe::{Stage, await_status, client, client_in_transaction, mail, say};
use crate::support::{PATIENCE, SmtpClient};

#[test]
fn d_30_the_banner_waits_for_the_connect_chain() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a connect hold:go\n");
    let server = stage.start();
    let mut client = SmtpClient::connect(server.smtp()).unwrap();
    await_status(&server, "held", 1);
    // A client that does not wait gets the banner first all the same.
    client.send(b"EHLO early.example\r\n").unwrap();
    stage.release("go", "send:220-first%0D%0A continue");
    let banner = client.reply().unwrap().require(220).unwrap();
    assert_eq!((banner.lines.len(), banner.lines[0].as_str()), (2, "first"), "{banner:?}");
    client.reply().unwrap().require(250).unwrap();
    assert_eq!(stage.calls(&["connect"]), ["10-a connect", "20-b connect"]);
}

#[test]
fn d_30_d_31_a_client_that_is_turned_away_is_seen_by_no_plugin() {
    let stage = Stage::new(&["10-a"]).setting("smtp-connections-per-address", 1);
    let mut server = stage.start();
    let first = client(&server);
    let mut second = SmtpClient::connect(server.smtp()).unwrap();
    second.reply().unwrap().require(421).unwrap();
    drop(first);
    assert!(server.terminate().success());
    assert_eq!(stage.calls(&["connect", "close"]), ["10-a connect", "10-a close"]);

    let stage = Stage::new(&["10-a"]).setting("smtp-range", "10.0.0.0/8");
    let mut server = stage.start();
    let mut stranger = SmtpClient::connect(server.smtp()).unwrap();
    stranger.reply().unwrap().require(554).unwrap();
    assert!(server.terminate().success());
    assert_eq!(stage.calls(&["connect", "close"]), [""; 0]);
}

#[test]
fn d_3a_a_client_that_a_plugin_marks_may_relay_at_once() {
    let stage = Stage::new(&["10-a", "20-b"]).setting("smtp-relay-range", "10.0.0.0/8");
    stage.script(
        "10-a connect authenticated\n10-a mailfrom@known authenticate:1\n20-b mailfrom authenticated\n\
         10-a rcptto authenticate:0\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<stranger@example.org>", 250);
    say(&mut client, "RCPT TO:<someone@example.org>", 550);
    say(&mut client, "RSET", 250);
    say(&mut client, "MAIL FROM:<known@example.org>", 250);
    say(&mut client, "RCPT TO:<someone@example.org>", 250);
    // The last value counts, from the moment that it is set.
    say(&mut client, "RCPT TO:<another@example.org>", 550);
    assert_eq!(
        stage.lines("authenticated"),
        ["10-a authenticated 0", "20-b authenticated 0", "20-b authenticated 1"]
    );
}

#[test]
fn d_3b_addresses_come_bare_and_the_null_sender_empty() {
    let stage = Stage::new(&["10-a"]);
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<sender@example.org> SIZE=100 BODY=8BITMIME", 250);
    say(&mut client, "RCPT TO:<@relay.example:someone@example.org>", 250);
    say(&mut client, "RSET", 250);
    say(&mut client, "MAIL FROM:<>", 250);
    let seen: Vec<String> =
        stage.lines("/").iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    assert_eq!(seen, ["sender@example.org/18", "someone@example.org/19", "/0"]);
}

#[test]
fn d_3c_d_55_what_the_host_refuses_itself_reaches_no_plugin() {
    let stage = Stage::new(&["10-a"]).setting("smtp-relay-range", "10.0.0.0/8");
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<sender@example.org> SIZE=999999999999", 552);
    say(&mut client, "MAIL FROM:<not an address>", 501);
    assert_eq!(stage.calls(&["mailfrom"]), [""; 0]);
    say(&mut client, "MAIL FROM:<sender@example.org>", 250);
    say(&mut client, "RCPT TO:<broken@>", 501);
    say(&mut client, "RCPT TO:<someone@example.org>", 550);
    say(&mut client, "DATA", 554);
    assert_eq!(stage.calls(&["mailfrom", "rcptto", "data", "message"]), ["10-a mailfrom"]);
}

#[test]
fn d_3e_d_3f_what_a_plugin_sends_goes_out_before_the_reply_of_its_step() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script(
        "10-a mailfrom send:299%20one%0D%0A send:299%20two%0D%0A\n20-b mailfrom send:299%20three%0D%0A\n\
         10-a rcptto send:299%20before%0D%0A hold:go\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    let first = client.command("MAIL FROM:<a@example.org>").unwrap();
    assert_eq!((first.code, first.lines[0].as_str()), (299, "one"));
    for (code, text) in [(299, "two"), (299, "three"), (250, "2.1.0")] {
        let reply = client.reply().unwrap().require(code).unwrap();
        assert!(reply.lines[0].starts_with(text), "{reply:?}");
    }
    // While a step is held it goes out at once, and again before the reply.
    assert_eq!(client.command("RCPT TO:<b@example.org>").unwrap().lines, ["before"]);
    stage.release("go", "send:299%20after%0D%0A continue");
    assert_eq!(client.reply().unwrap().lines, ["after"]);
    client.reply().unwrap().require(250).unwrap();
    assert_eq!(
        stage.lines("sent 9").len() + stage.lines("sent 1").len(),
        5,
        "{:?}",
        stage.lines("sent")
    );
}

#[test]
fn d_40_the_output_of_a_client_that_does_not_read_is_bounded() {
    const FULL: usize = 16 << 20;
    let stage = Stage::new(&["10-a"]);
    stage.script(&format!("10-a mailfrom send-many:{FULL} send-many:1\n10-a rcptto send-many:1\n"));
    let server = stage.start();
    let mut stream = BufReader::new(TcpStream::connect(server.smtp()).unwrap());
    stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).unwrap();
    stream.get_mut().write_all(b"HELO x.example\r\nMAIL FROM:<a@example.org>\r\n").unwrap();
    stage.await_lines("10-a sent", 2);
    assert_eq!(stage.lines("10-a sent"), [format!("10-a sent {FULL}"), "10-a sent 0".to_owned()]);
    line.clear();
    stream.read_until(b'\n', &mut line).unwrap();
    let mut sent = vec![0; FULL];
    stream.read_exact(&mut sent).unwrap();
    assert!(sent.iter().all(|byte| *byte == b'x'), "all of it arrives");
    line.clear();
    stream.read_until(b'\n', &mut line).unwrap();
    assert!(line.starts_with(b"250 "), "{}", line.escape_ascii());
    // There is room again.
    stream.get_mut().write_all(b"RCPT TO:<b@example.org>\r\n").unwrap();
    line.clear();
    stream.read_until(b'\n', &mut line).unwrap();
    assert!(line.starts_with(b"x250 "), "{}", line.escape_ascii());
}

#[test]
fn d_41_the_data_hook_gets_the_whole_unstuffed_text_before_the_reply() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a data hold:go\n");
    let server = stage.start();
    let mut client = client_in_transaction(&server);
    say(&mut client, "DATA", 354);
    assert_eq!(stage.calls(&["data"]), [""; 0], "not at the command");
    client.send(b"Subject: x\r\n\r\n..dot\r\n").unwrap();
    client.send(b"\x00end\r\n.\r\n").unwrap();
    let line = stage.await_line("10-a data");
    assert!(line.ends_with("Subject:%20x%0D%0A%0D%0A.dot%0D%0A%00end%0D%0A"), "{line}");
    assert_eq!(stage.lines("mime-end"), ["10-a mime-end 0"]);
    assert_eq!(
        server.status().count("committing") + server.queue_count(),
        0,
        "nothing is published yet"
    );
    stage.release("go", "continue");
    client.reply().unwrap().require(250).unwrap();
}

#[test]
fn d_42_chunks_come_to_the_same_hook_once() {
    let stage = Stage::new(&["10-a"]);
    let server = stage.start();
    let mut client = client_in_transaction(&server);
    client.send(b"BDAT 6\r\n.one\r\n").unwrap();
    client.reply().unwrap().require(250).unwrap();
    assert_eq!(stage.calls(&["data"]), [""; 0]);
    client.send(b"BDAT 5 LAST\r\ntwo\r\n").unwrap();
    client.reply().unwrap().require(250).unwrap();
    let lines = stage.lines("10-a data");
    assert!(lines.len() == 1 && lines[0].ends_with(" .one%0D%0Atwo%0D%0A"), "{lines:?}");
}

#[test]
fn d_43_recipients_come_one_by_one_and_nothing_is_published_before_the_last() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script(
        "10-a message@one mime-at set-mime:changed%0D%0A\n20-b message@one mime-is:changed%0D%0A\n\
         10-a message@two mime-at hold:two\n20-b message@two mime-is:text%0D%0A\n10-a message@three hold:three\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    for name in ["one", "two", "three"] {
        say(&mut client, &format!("RCPT TO:<{name}@example.org>"), 250);
    }
    say(&mut client, "DATA", 354);
    client.send(b"text\r\n.\r\n").unwrap();
    stage.await_line("10-a message fd=");
    stage.release("two", "continue");
    stage.await_line("three@example.org");
    assert_eq!(server.status().count("committing") + server.queue_count(), 0);
    stage.release("three", "continue");
    let reply = client.reply().unwrap().require(250).unwrap();
    assert_eq!(server.queue_count(), 3, "{reply:?}");
    let seen: Vec<String> = stage
        .lines(" message fd=")
        .iter()
        .map(|line| format!("{} {}", &line[..4], line.rsplit(' ').next().unwrap()))
        .collect();
    let expected: Vec<String> = ["one", "two", "three"]
        .iter()
        .flat_map(|name| ["10-a", "20-b"].map(|plugin| format!("{plugin} {name}@example.org")))
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(stage.lines("mime-is"), ["20-b mime-is 1", "20-b mime-is 1"]);
    let shared = stage.lines("mime-at");
    assert_eq!(shared[0], shared[1], "one copy for all who do not change it");
}

#[test]
fn d_48_a_client_is_not_timed_out_for_what_a_plugin_holds() {
    let stage = Stage::new(&["10-a"]).setting("smtp-timeout", 1);
    stage.script("10-a mailfrom timer:1.5:slow true\n10-a timer-slow continue\n");
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    // Its own second begins now.
    say(&mut client, "RCPT TO:<b@example.org>", 250);
    client.reply().unwrap().require(421).unwrap();
}

#[test]
fn d_49a_a_half_close_changes_nothing_while_a_plugin_holds() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a mailfrom hold:go\n");
    let server = stage.start();
    let mut client = client(&server);
    client.send(b"MAIL FROM:<a@example.org>\r\n").unwrap();
    await_status(&server, "held", 1);
    client.send(b"RCPT TO:<b@example.org>\r\nDATA\r\ntext\r\n.\r\n").unwrap();
    client.half_close().unwrap();
    stage.release("go", "socket send:299%20hi%0D%0A continue");
    for code in [299, 250, 250, 354, 250] {
        client.reply().unwrap().require(code).unwrap();
    }
    client.await_close().unwrap();
    assert_eq!(stage.await_line("10-a socket"), "10-a socket open=1 peer=1");
    assert_eq!(server.queue_count(), 1);
    assert_eq!(stage.await_lines("10-a close", 1).len(), 1);
}

#[test]
fn d_49a_a_half_close_that_comes_with_the_last_command_is_noticed() {
    let stage = Stage::new(&["10-a"]);
    // The worker is kept busy until both have arrived, so that it sees them at once.
    stage.script("10-a mailfrom await:go\n");
    let server = stage.start();
    let mut busy = client(&server);
    let mut client = client(&server);
    say(&mut busy, "MAIL FROM:<a@example.org>", 250);
    stage.release("go", "block:200");
    client.send(b"NOOP\r\n").unwrap();
    client.half_close().unwrap();
    client.reply().unwrap().require(250).unwrap();
    client.await_close().unwrap();
    await_status(&server, "incoming_connections", 1);
}

#[test]
fn d_52_d_54_data_stays_over_rset_ehlo_and_a_second_message() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script(
        "10-a connect data set-data:1 set-data:2 data\n20-b connect data\n10-a rcptto data\n10-a close data\n\
         20-b close data\n",
    );
    let server = stage.start();
    let mut client = client_in_transaction(&server);
    say(&mut client, "RSET", 250);
    say(&mut client, "EHLO again.example", 250);
    mail(&mut client, "first@example.org");
    mail(&mut client, "second@example.org");
    say(&mut client, "QUIT", 221);
    stage.await_line("20-b close");
    let expected = [
        "10-a kept 0",
        "10-a kept 2",
        "20-b kept 0",
        "10-a kept 2",
        "10-a kept 2",
        "10-a kept 2",
        "10-a kept 2",
        "20-b kept 0",
    ];
    let seen = stage.await_lines(" kept ", expected.len());
    assert_eq!(seen, expected);
    assert_eq!(stage.calls(&["connect", "close"]).len(), 4, "and no hook for the rest");
}
