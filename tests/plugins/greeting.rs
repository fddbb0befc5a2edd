//! EHLO, RSET and clients that are lost, where a plugin wants to hear of them; and what plugins may ask.

use super::probe::{Stage, await_status, client, say};
use crate::support::{Authority, PATIENCE, SmtpClient};

const HOOKS: &[&str] = &["helo", "reset", "mailfrom", "rcptto", "lost", "close"];

fn greeted(server: &crate::support::Server) -> SmtpClient {
    let mut client = SmtpClient::connect(server.smtp()).unwrap();
    client.reply().unwrap().require(220).unwrap();
    client
}

#[test]
fn an_introduction_is_shown_held_and_refused() {
    let stage = Stage::greeting(&["10-a", "20-b"]);
    stage.script("10-a helo@bad/3 reject:501,5.5.4,What%20a%20name\n10-a helo@slow/4 hold:go\n");
    let server = stage.start();
    let mut client = greeted(&server);
    assert_eq!(say(&mut client, "EHLO bad", 501), "5.5.4 What a name");
    say(&mut client, "MAIL FROM:<a@example.org>", 503);
    client.send(b"HELO slow\r\n").unwrap();
    await_status(&server, "held", 1);
    stage.release("go", "continue");
    client.reply().unwrap().require(250).unwrap();
    let shown: Vec<String> = stage
        .lines(" helo fd=")
        .iter()
        .map(|line| {
            line.split(' ').filter(|word| !word.starts_with("fd=")).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(shown, ["10-a helo bad/3", "10-a helo slow/4", "20-b helo slow/4"]);
}

#[test]
fn d_52_rset_and_an_ehlo_within_a_mail_are_shown_and_answered_250() {
    let stage = Stage::greeting(&["10-a", "20-b"]);
    stage.script("10-a reset hold:go\n");
    let server = stage.start();
    let mut client = client(&server);
    // Without a transaction EHLO resets nothing.
    say(&mut client, "EHLO again", 250);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    client.send(b"EHLO third\r\nMAIL FROM:<b@example.org>\r\nRSET\r\nNOOP\r\n").unwrap();
    await_status(&server, "held", 1);
    stage.release("go", "complete");
    client.reply().unwrap().require(250).unwrap();
    client.reply().unwrap().require(250).unwrap();
    stage.await_lines("10-a reset", 2);
    stage.release("go", "continue");
    client.reply().unwrap().require(250).unwrap();
    client.reply().unwrap().require(250).unwrap();
    let calls = stage.calls(HOOKS);
    let expected = [
        "10-a helo",
        "20-b helo",
        "10-a helo",
        "20-b helo",
        "10-a mailfrom",
        "20-b mailfrom",
        "10-a helo",
        "20-b helo",
        "10-a reset",
        "10-a mailfrom",
        "20-b mailfrom",
        "10-a reset",
        "20-b reset",
    ];
    assert_eq!(calls, expected);
    say(&mut client, "MAIL FROM:<c@example.org>", 250);
}

#[test]
fn d_4b_every_plugin_hears_once_of_a_client_that_went_while_a_step_is_held() {
    for words in ["say:sad", "continue"] {
        let stage = Stage::greeting(&["10-a", "20-b"]);
        stage.script(&format!("10-a rcptto hold:go\n10-a lost {words}\n20-b lost send:x fail\n"));
        let server = stage.start();
        let mut client = client(&server);
        say(&mut client, "MAIL FROM:<a@example.org>", 250);
        client.send(b"RCPT TO:<b@example.org>\r\n").unwrap();
        await_status(&server, "held", 1);
        client.reset();
        stage.await_line("20-b lost fd");
        if words == "continue" {
            // Nobody waits any more, so nobody is to be asked.
            await_status(&server, "incoming_connections", 0);
        } else {
            assert_eq!(server.status().count("held"), 1);
            stage.release("go", "complete");
            await_status(&server, "incoming_connections", 0);
        }
        let ends = stage.calls(&["lost", "close"]);
        assert_eq!(ends, ["10-a lost", "20-b lost", "10-a close", "20-b close"], "{words}");
        assert_eq!(stage.lines("20-b rcptto"), [""; 0]);
    }
}

/// D-4B: whoever is not waiting for anything is not lost, only gone.
#[test]
fn d_4b_a_client_that_goes_between_steps_is_closed_and_not_lost() {
    let stage = Stage::greeting(&["10-a", "20-b"]);
    stage.script("10-a mailfrom hold:go\n");
    let server = stage.start();
    let mut leaver = client(&server);
    say(&mut leaver, "NOOP", 250);
    leaver.reset();
    // D-49a: one that has only said all it has to say still reads.
    let mut silent = client(&server);
    silent.send(b"MAIL FROM:<a@example.org>\r\n").unwrap();
    silent.half_close().unwrap();
    await_status(&server, "held", 1);
    stage.release("go", "continue");
    silent.reply().unwrap().require(250).unwrap();
    await_status(&server, "incoming_connections", 0);
    assert_eq!(stage.lines(" lost "), [""; 0]);
    // Nor is it while its end is held, when others have freed what they knew of it.
    stage.script("20-b close hold:bye\n");
    self::client(&server).reset();
    await_status(&server, "held", 1);
    stage.release("bye", "continue");
    await_status(&server, "incoming_connections", 0);
    assert_eq!(stage.lines(" lost "), [""; 0]);
}

/// The lines of facts behind a line, without their `NAME fact`.
fn facts(stage: &Stage, after: &str) -> Vec<String> {
    let journal = stage.journal();
    let at = journal.iter().position(|line| line.contains(after)).expect("the line is there");
    journal[at + 1..]
        .iter()
        .map_while(|line| line.strip_prefix("10-a fact "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn d_51_plugins_may_ask_who_the_client_is_behind_a_proxy_and_what_it_calls_itself() {
    let stage = Stage::greeting(&["10-a"]).setting("smtp-proxy", "127.0.0.0/8");
    stage.script(
        "10-a connect facts\n10-a helo@bad/3 facts reject\n10-a helo facts\n10-a mailfrom facts\n",
    );
    let server = stage.start();
    let mut client = SmtpClient::connect(server.smtp()).unwrap();
    client.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 25\r\n").unwrap();
    client.reply().unwrap().require(220).unwrap();
    say(&mut client, "EHLO good.example", 250);
    say(&mut client, "EHLO bad", 550);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    let unknown =
        ["login NULL/0 0", "tls NULL/0 0", "cipher NULL/0 0", "sni NULL/0 0"].map(str::to_owned);
    for (after, helo) in [
        ("connect fd", "helo NULL/0 0"),
        ("helo fd", "helo good.example/12 1"),
        ("bad/3", "helo bad/3 1"),
        // What was refused is not who it is.
        ("mailfrom fd", "helo good.example/12 1"),
    ] {
        let facts = facts(&stage, after);
        assert_eq!(facts[..3], ["peer 192.0.2.7/9 1", "port 4321", helo], "{after}");
        assert_eq!(facts[3..], unknown, "{after}");
    }
    stage.forget();
    let mut nobody = SmtpClient::connect(server.smtp()).unwrap();
    nobody.send(b"PROXY UNKNOWN\r\n").unwrap();
    nobody.reply().unwrap().require(220).unwrap();
    assert_eq!(facts(&stage, "connect fd")[..2], ["peer NULL/0 0", "port 0"]);
}

#[test]
fn plugins_may_ask_about_tls_and_the_login() {
    let stage = Stage::judging(&["10-a"]);
    let authority = Authority::new();
    let made = authority.certify(stage.plan.directory(), &["mx.example.org"]);
    let stage = stage
        .setting("smtp-certificate", made.chain.display())
        .setting("smtp-key", made.key.display());
    stage.script(
        "10-a authenticate facts authenticate:1\n10-a secured facts\n10-a mailfrom@first facts\n\
         10-a mailfrom@second facts\n",
    );
    let server = stage.start();
    let client = client(&server);
    let mut client = client.starttls(&authority.trusted(), "mx.example.org").unwrap();
    say(&mut client, "EHLO again.example", 250);
    // `tim` and `good`.
    say(&mut client, "AUTH PLAIN AHRpbQBnb29k", 235);
    say(&mut client, "MAIL FROM:<first@example.org>", 250);
    let secured = facts(&stage, "secured fd");
    assert_eq!(
        secured[2..5],
        ["helo NULL/0 0", "login NULL/0 0", "tls TLSv1.3/7 1"],
        "{secured:?}"
    );
    assert!(
        secured[5].starts_with("cipher TLS13_") || secured[5].starts_with("cipher TLS_"),
        "{secured:?}"
    );
    assert_eq!(secured[6], "sni mx.example.org/14 1");
    assert_eq!(
        facts(&stage, "authenticate fd")[2..4],
        ["helo again.example/13 1", "login NULL/0 0"]
    );
    assert_eq!(facts(&stage, "mailfrom fd")[3], "login tim/3 1");
}

#[test]
fn d_66_messages_have_a_name_and_parts_with_their_sizes() {
    let stage = Stage::new(&["10-a"]);
    let next = stage.sink(&[]);
    let stage = stage.smarthost(next.address());
    stage.script(
        "10-a message@one message-facts set-mime:a%00b message-facts\n10-a message message-facts\n\
         10-a out-data message-facts\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    say(&mut client, "RCPT TO:<one@example.org>", 250);
    say(&mut client, "RCPT TO:<two@example.org>", 250);
    say(&mut client, "DATA", 354);
    let said = say(&mut client, "text\r\n.", 250);
    let ids: Vec<&str> = said.split(' ').skip(3).collect();
    next.await_count(2, PATIENCE);
    let one = facts(&stage, "message fd");
    let name = format!("id {}/{}", ids[0], ids[0].len());
    let parts = ["attempt 0", "envelope a@example.org/13", "recipient one@example.org/15"];
    assert_eq!(one[..5], [&[name.as_str()][..], &parts, &["mime text/6"]].concat());
    assert_eq!(one[5..], [&[name.as_str()][..], &parts, &["mime a/3"]].concat());
    let journal = stage.journal();
    assert!(
        journal.iter().any(|line| line.contains(&format!("fact id {}/", ids[1]))),
        "{journal:?}"
    );
}
