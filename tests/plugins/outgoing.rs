//! Outgoing connections: when plugins are asked, and what the far end does meanwhile.

use super::hop::Hop;
use super::probe::{Stage, await_status, client, mail, say};
use crate::support::{PATIENCE, SmtpClient};

/// A server whose next hop is `hop`, with one mail for it.
fn with_mail(stage: &Stage, hop: &Hop) -> (crate::support::Server, SmtpClient) {
    let server = stage.clone().smarthost(hop.address()).setting("retry-interval", 1).start();
    let mut client = client(&server);
    mail(&mut client, "someone@example.org");
    (server, client)
}

#[test]
fn d_80_plugins_are_asked_after_a_positive_answer_to_data() {
    let stage = Stage::new(&["10-a"]);
    let hop = Hop::listen();
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    assert_eq!(stage.calls(&["out-data"]), [""; 0]);
    visit.say("451 not now");
    await_status(&server, "retried", 1);
    assert_eq!(stage.calls(&["out-data"]), [""; 0], "nor for a refusal");
    // The second attempt.
    visit.expect("RSET");
    visit.say("250 ok");
    visit.mail_to_data();
    visit.say("354 go on");
    assert!(visit.text().ends_with("\r\ntext\r\n.\r\n"));
    assert_eq!(stage.calls(&["out-data"]), ["10-a out-data"]);
    visit.say("250 taken");
    await_status(&server, "delivered", 1);
}

#[test]
fn d_81_d_85_a_far_end_that_gives_up_while_held_fails_the_attempt_at_once() {
    for news in [Some("451 too slow"), Some("421 bye"), Some("554 never"), None] {
        let stage = Stage::new(&["10-a", "20-b"]);
        stage.script("10-a out-data hold:first\n");
        let hop = Hop::listen();
        let (server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept_to_data();
        visit.say("354 go on");
        await_status(&server, "held", 1);
        // The next attempt is not held, however soon it comes.
        stage.script("");
        if let Some(news) = news {
            visit.say(news);
        }
        drop(visit);
        let (number, count) =
            if news == Some("554 never") { ("bounced", 1) } else { ("retried", 1) };
        await_status(&server, number, count);
        assert_eq!(server.status().count("held"), 1, "the memory stays until the hand-back");
        if number == "retried" {
            // D-85: the next attempt asks again, on a connection of its own, in spite of the held one.
            let mut next = hop.accept_to_data();
            next.say("354 go on");
            next.text();
            next.say("250 taken");
            await_status(&server, "delivered", 1);
            assert_eq!(
                stage.calls(&["out-data"]),
                ["10-a out-data", "10-a out-data", "20-b out-data"]
            );
        }
        stage.release("first", "send:x mime set-mime:late continue");
        await_status(&server, "held", 0);
        assert_eq!(stage.lines("10-a mime "), ["10-a mime NULL"], "{news:?}");
        assert!(stage.calls(&["out-data"]).len() <= 3, "the rest of the chain is dropped");
    }
}

#[test]
fn d_27_an_outgoing_hold_that_takes_too_long_ends_the_attempt() {
    let stage = Stage::new(&["10-a"]).setting("plugin-timeout", "200ms");
    stage.script("10-a out-data hold:late\n");
    let hop = Hop::listen();
    let (mut server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    // Of the first attempt alone: the next may come before the test has looked at all of this.
    stage.await_line("10-a out-data");
    stage.script("");
    visit.await_end();
    server.process().await_complaint(PATIENCE, "10-a.so: mq_smtp_out_data was held too long");
    await_status(&server, "retried", 1);
    await_status(&server, "held", 0);
    let mut next = hop.accept_to_data();
    next.say("354 go on");
    next.text();
    next.say("250 taken");
    await_status(&server, "delivered", 1);
    // The connection of the late one is gone.
    stage.release("late", "continue");
    server
        .process()
        .await_complaint(PATIENCE, "10-a.so: MQ_Continue: the MQ_Context given no longer exists");
}

#[test]
fn d_53_a_stop_revokes_an_outgoing_hold() {
    let stage = Stage::new(&["10-a"]).setting("plugin-shutdown-timeout", 1);
    stage.script("10-a out-data true\n");
    let hop = Hop::listen();
    let (mut server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    await_status(&server, "held", 1);
    assert!(server.terminate().success());
    visit.await_end();
    assert_eq!(
        stage.calls(&["context-cleanup", "cleanup"]),
        ["10-a context-cleanup", "10-a cleanup"]
    );
    // The mail is still there.
    stage.script("");
    let server = server.plan().start();
    let mut next = hop.accept_to_data();
    next.say("354 go on");
    next.text();
    next.say("250 taken");
    await_status(&server, "delivered", 1);
}

#[test]
fn d_86_d_87_raw_bytes_go_out_before_the_text() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a out-data send:X-Raw:%20early%0D%0A hold:go\n");
    let hop = Hop::listen();
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    // While it is held, at once.
    visit.expect("X-Raw: early\r\n");
    stage.release("go", "send:X-Raw:%20late%0D%0A socket continue");
    visit.expect("X-Raw: late\r\n");
    visit.expect("Received: ");
    visit.text();
    visit.say("250 taken");
    await_status(&server, "delivered", 1);
    assert_eq!(stage.lines("socket"), ["10-a socket open=1 peer=1"]);
}

#[test]
fn d_88_a_held_connection_counts_as_active() {
    let stage = Stage::new(&["10-a"]).setting("smarthost-connections", 1);
    stage.script("10-a out-data@someone hold:go\n");
    let hop = Hop::listen();
    let (server, mut client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    await_status(&server, "held", 1);
    mail(&mut client, "another@example.org");
    say(&mut client, "NOOP", 250);
    assert!(hop.is_lonely(), "one connection is the limit");
    assert_eq!(server.status().count("outgoing_connections"), 1);
    stage.release("go", "continue");
    visit.text();
    visit.say("250 taken");
    visit.mail_to_data();
    visit.say("354 go on");
    visit.text();
    visit.say("250 taken");
    await_status(&server, "delivered", 2);
    assert!(hop.is_lonely());
}

#[test]
fn a_farewell_and_the_end_that_come_together_are_both_noticed() {
    // D-81's ground: 421 and the end in one look, with nothing of ours under way.
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a mailfrom@busy await:go\n");
    let hop = Hop::listen();
    let (server, mut client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    visit.text();
    say(&mut client, "MAIL FROM:<busy@example.org>", 250);
    stage.release("go", "block:200");
    visit.say("250 taken");
    drop(visit);
    await_status(&server, "delivered", 1);
    await_status(&server, "outgoing_connections", 0);
}

#[test]
fn d_84_data_of_an_outgoing_connection_lasts_as_long_as_it_does() {
    let stage = Stage::new(&["10-a"]).setting("smarthost-messages", 2);
    stage.script("10-a out-data data set-data:7\n");
    let hop = Hop::listen();
    let server = stage.clone().smarthost(hop.address()).start();
    let mut client = client(&server);
    for count in 1..=3 {
        mail(&mut client, "someone@example.org");
        await_status(&server, "accepted", count);
    }
    let mut visit = hop.accept_to_data();
    for _ in 0..2 {
        visit.say("354 go on");
        visit.text();
        visit.say("250 taken");
        if stage.lines("kept").len() < 2 {
            visit.mail_to_data();
        }
    }
    visit.expect("QUIT");
    visit.say("221 bye");
    let mut other = hop.accept_to_data();
    other.say("354 go on");
    other.text();
    other.say("250 taken");
    await_status(&server, "delivered", 3);
    assert_eq!(stage.lines("kept"), ["10-a kept 0", "10-a kept 7", "10-a kept 0"]);
}
