//! Messages: what plugins read of them and change in them, and what becomes of that.

use serde_json::Value;

use super::probe::{Stage, await_status, client, client_in_transaction, mail, say};
use crate::support::{PATIENCE, Sink, eventually};

/// The mails that a sink wrote down, with the host's Received field cut off.
fn sunk(sink: &Sink, count: usize) -> Vec<Value> {
    sink.await_count(count, PATIENCE);
    let text = String::from_utf8(sink.dumped()).expect("a sink writes JSON");
    let mails = text.lines().map(|line| {
        let mut mail: Value = serde_json::from_str(line).expect("a sink writes JSON");
        let body = mail["body"].as_str().expect("the dialogue goes on").to_owned();
        let trace: usize = body
            .split_inclusive('\n')
            .take_while(|line| line.starts_with("Received:") || line.starts_with([' ', '\t']))
            .map(str::len)
            .sum();
        mail["body"] = body[trace..].into();
        mail
    });
    mails.collect()
}

#[test]
fn d_60_a_string_stays_valid_while_the_step_is_held() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a message keep-mime hold:go\n");
    let server = stage.start();
    let mut client = client_in_transaction(&server);
    say(&mut client, "DATA", 354);
    client.send(b"text\r\n.\r\n").unwrap();
    await_status(&server, "held", 1);
    // Other mail passes through the same worker meanwhile.
    stage.script("10-a message mime\n");
    mail(&mut super::probe::client(&server), "other@example.org");
    stage.release("go", "kept-mime continue");
    client.reply().unwrap().require(250).unwrap();
    assert_eq!(stage.lines("kept-mime"), ["10-a kept-mime 1"]);
}

#[test]
fn d_64_values_are_taken_away_with_null() {
    let stage = Stage::new(&["10-a", "20-b"]);
    let sink = stage.sink(&[]);
    let stage = stage.smarthost(sink.address());
    stage.script(
        "10-a message@null forget-envelope\n20-b message@null envelope\n10-a message@empty set-envelope:\n\
         20-b message@empty envelope\n10-a message@nobody forget-recipient\n20-b message recipient\n",
    );
    let mut server = stage.start();
    let mut client = client(&server);
    mail(&mut client, "null@example.org");
    mail(&mut client, "empty@example.org");
    for mail in sunk(&sink, 2) {
        assert_eq!(mail["envelope"], "", "{mail}");
    }
    assert_eq!(stage.lines("20-b envelope"), ["20-b envelope NULL", "20-b envelope "]);
    // D-63: a mail to nobody is not taken.
    let refused = client.mail("a@example.org", "nobody@example.org", b"text\r\n").unwrap();
    assert_eq!(refused.code, 451, "{refused:?}");
    assert_eq!(stage.lines("20-b recipient NULL").len(), 1);
    server.process().await_complaint(PATIENCE, "without a recipient");
    assert_eq!(server.status().count("memory_used"), 0);
}

#[test]
fn d_65_an_invalid_address_is_accepted_and_judged_when_it_is_sent() {
    let stage = Stage::new(&["10-a"]);
    let sink = stage.sink(&[]);
    let stage = stage.smarthost(sink.address());
    stage.script("10-a message@odd set-recipient:not%20an%20address%0D%0Amore\n");
    let server = stage.start();
    let mut client = client(&server);
    mail(&mut client, "odd@example.org");
    await_status(&server, "failed", 1);
    // It holds up nobody, and nothing of it reached the wire.
    mail(&mut client, "even@example.org");
    assert_eq!(sunk(&sink, 1)[0]["recipients"][0], "even@example.org");
}

#[test]
fn d_66_nul_bytes_are_kept_and_sent() {
    let stage = Stage::new(&["10-a", "20-b"]);
    let sink = stage.sink(&[]);
    let stage = stage.smarthost(sink.address());
    stage.script("10-a message set-mime:a%00b%0D%0A\n20-b message mime-is:a\n");
    let server = stage.start();
    mail(&mut client(&server), "someone@example.org");
    assert_eq!(sunk(&sink, 1)[0]["body"], "a\0b\r\n");
    assert_eq!(stage.lines("mime-is"), ["20-b mime-is 1"]);
}

#[test]
fn d_67_d_69_outgoing_text_is_null_until_set_and_the_last_one_wins() {
    let stage = Stage::new(&["10-a", "20-b", "30-c"]);
    let sink = stage.sink(&[]);
    let stage = stage.smarthost(sink.address());
    stage.script(
        "10-a out-data mime set-mime:first%0D%0A\n20-b out-data mime-is:first%0D%0A set-mime:second%0D%0A hold:go\n\
         30-c out-data mime-is:second%0D%0A\n\
         10-a message@in set-mime:one\n20-b message@in mime-is:one set-mime:two%0D%0A\n30-c message@in mime-is:two%0D%0A\n",
    );
    let server = stage.start();
    mail(&mut client(&server), "in@example.org");
    stage.await_line("20-b out-data");
    stage.release("go", "continue");
    assert_eq!(sunk(&sink, 1)[0]["body"], "second\r\n");
    assert_eq!(stage.lines("10-a mime "), ["10-a mime NULL"]);
    let seen = ["20-b mime-is 1", "30-c mime-is 1", "20-b mime-is 1", "30-c mime-is 1"];
    assert_eq!(stage.lines("mime-is"), seen);
}

#[test]
fn d_6a_a_mail_without_text_fails_for_good_unless_a_plugin_makes_one() {
    let stage = Stage::new(&["10-a"]);
    let sink = stage.sink(&[]);
    let stage = stage.smarthost(sink.address());
    stage.script(
        "10-a message@none forget-mime\n10-a message@made forget-mime\n10-a out-data@made set-mime:made%0D%0A\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    mail(&mut client, "none@example.org");
    await_status(&server, "failed", 1);
    mail(&mut client, "made@example.org");
    let mails = sunk(&sink, 1);
    assert_eq!(
        (mails[0]["recipients"][0].as_str(), mails[0]["body"].as_str()),
        (Some("made@example.org"), Some("made\r\n"))
    );
    mail(&mut client, "plain@example.org");
    assert_eq!(sunk(&sink, 2)[1]["body"], "Subject: x\r\n\r\ntext\r\n");
    assert_eq!(server.status().count("bounced"), 1);
}

#[test]
fn d_6b_bare_line_ends_and_dots_of_a_plugin_reach_the_wire_mended() {
    let stage = Stage::new(&["10-a"]);
    let sink = stage.sink(&[]);
    let stage = stage.smarthost(sink.address());
    stage.script(
        "10-a out-data@out set-mime:a%0A.%0AMAIL%20FROM:<smuggled@example.org>%0D.b\n\
         10-a message@in set-mime:a%0A.%0Ab\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    mail(&mut client, "out@example.org");
    assert_eq!(sunk(&sink, 1)[0]["body"], "a\r\n.\r\nMAIL FROM:<smuggled@example.org>\r\n.b\r\n");
    mail(&mut client, "in@example.org");
    assert_eq!(sunk(&sink, 2)[1]["body"], "a\r\n.\r\nb\r\n");
}

#[test]
fn d_6c_each_attempt_asks_again_and_the_text_of_a_plugin_is_not_kept() {
    let stage = Stage::new(&["10-a"]);
    let refusing = stage.sink(&["--refuse=dot=450"]);
    let address = refusing.address();
    let stage = stage.smarthost(address).setting("retry-interval", 1);
    stage.script("10-a out-data mime set-mime:once%0D%0A\n");
    let server = stage.start();
    mail(&mut client(&server), "someone@example.org");
    await_status(&server, "retried", 1);
    stage.script("10-a out-data mime\n");
    refusing.terminate();
    let dump = stage.plan.directory().join("taken");
    let sink = Sink::start_on(address, &dump, &[] as &[&str]);
    assert_eq!(sunk(&sink, 1)[0]["body"], "Subject: x\r\n\r\ntext\r\n");
    assert!(stage.lines("10-a out-data").len() >= 2);
    assert!(
        stage.lines("10-a mime ").iter().all(|line| line == "10-a mime NULL"),
        "{:?}",
        stage.journal()
    );
}

#[test]
fn d_6e_addresses_that_are_set_too_late_are_seen_by_plugins_only() {
    let stage = Stage::new(&["10-a", "20-b"]);
    let sink = stage.sink(&[]);
    let stage = stage.smarthost(sink.address());
    stage.script(
        "10-a out-data set-envelope:other@example.org set-recipient:another@example.org\n\
         20-b out-data envelope recipient\n",
    );
    let server = stage.start();
    mail(&mut client(&server), "someone@example.org");
    let mail = &sunk(&sink, 1)[0];
    assert_eq!(
        (mail["envelope"].as_str(), mail["recipients"][0].as_str()),
        (Some("sender@example.org"), Some("someone@example.org"))
    );
    assert_eq!(stage.lines("20-b envelope"), ["20-b envelope other@example.org"]);
    assert_eq!(stage.lines("20-b recipient"), ["20-b recipient another@example.org"]);
}

#[test]
fn d_6f_a_recipient_that_a_plugin_sets_is_where_the_mail_goes() {
    let stage = Stage::new(&["10-a"])
        .setting("smtp-relay-range", "192.0.2.0/24")
        .setting("local-domains", "here.example");
    stage.script("10-a message@local set-recipient:moved@elsewhere.example\n");
    let sink = stage.sink(&[]);
    let server = stage.clone().smarthost(sink.address()).start();
    let mut client = client(&server);
    // The client may send to local recipients alone; what a plugin makes of them is not its doing.
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    say(&mut client, "RCPT TO:<moved@elsewhere.example>", 550);
    say(&mut client, "RCPT TO:<local@here.example>", 250);
    say(&mut client, "DATA", 354);
    client.send(b"text\r\n.\r\n").unwrap();
    client.reply().unwrap().require(250).unwrap();
    let mails = sunk(&sink, 1);
    assert_eq!(mails[0]["recipients"], serde_json::json!(["moved@elsewhere.example"]));
}

#[test]
fn d_45_a_text_that_the_host_refuses_reaches_no_plugin() {
    let stage = Stage::new(&["10-a"]).setting("smtp-maxsize", "1KiB");
    let server = stage.start();
    let loops = "Received: x\r\n".repeat(51);
    let large = "x".repeat(70) + "\r\n";
    for (text, code) in [(loops, 554), (large.repeat(20), 552), ("a\nb\r\n".into(), 554)] {
        let mut client = client_in_transaction(&server);
        say(&mut client, "DATA", 354);
        client.send(text.as_bytes()).unwrap();
        client.send(b".\r\n").unwrap();
        client.reply().unwrap().require(code).unwrap();
    }
    assert_eq!(stage.calls(&["data", "message"]), [""; 0]);
}

#[test]
fn d_46_what_the_server_writes_itself_passes_no_incoming_hook() {
    let stage = Stage::new(&["10-a"]).setting("dsn-notify", "FAILURE");
    let hop = super::hop::Hop::listen();
    let server = stage.clone().smarthost(hop.address()).start();
    mail(&mut client(&server), "someone@example.org");
    let mut visit = hop.accept();
    visit.expect("MAIL FROM:<sender@example.org>");
    visit.say("250 ok");
    visit.expect("RCPT TO:");
    visit.say("550 5.1.1 nobody");
    // The failed mail is kept, and the notice to its sender is a mail of its own.
    eventually("the notice", PATIENCE, || (server.queue_count() == 2).then_some(()));
    let hooks = ["mailfrom", "rcptto", "data", "message"];
    assert_eq!(stage.calls(&hooks), hooks.map(|hook| format!("10-a {hook}")));
}

#[test]
fn d_44_fields_for_the_server_are_gone_before_the_hook_of_a_recipient() {
    let stage = Stage::new(&["10-a"]).setting("smtp-extract", "yes");
    stage.script("10-a message mime-is:Subject:%20x%0D%0A%0D%0Atext%0D%0A\n");
    let server = stage.start();
    let mut client = client_in_transaction(&server);
    say(&mut client, "DATA", 354);
    client.send(b"x-mq-maxattempts: 7\r\nSubject: x\r\n\r\ntext\r\n.\r\n").unwrap();
    client.reply().unwrap().require(250).unwrap();
    // D-41: the text itself is shown as it came.
    assert!(stage.lines("10-a data")[0].contains("x-mq-maxattempts"), "{:?}", stage.journal());
    assert_eq!(stage.lines("mime-is"), ["10-a mime-is 1"]);
}
