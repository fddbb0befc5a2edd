//! What plugins answer: refusals, drops and ends of connections, in every step, at once and while held.

use super::probe::{Stage, await_status, client, client_in_transaction, say};
use crate::support::{PATIENCE, Reply, Server, SmtpClient, Tool};

/// What a client does to come to a step, and the hook of that step.
const STEPS: &[(&str, &[&str])] = &[
    ("helo", &["EHLO other.example"]),
    ("mailfrom", &["MAIL FROM:<a@example.org>"]),
    ("rcptto", &["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>"]),
    ("data", &["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA", "text\r\n."]),
    ("message", &["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.org>", "DATA", "text\r\n."]),
];

/// The reply to the last of some commands, all others of which must be accepted.
fn last_reply(client: &mut SmtpClient, commands: &[&str]) -> Reply {
    let (last, before) = commands.split_last().expect("there are commands");
    for command in before {
        let reply = client.command(command).unwrap();
        assert!(reply.code < 400, "{command}\n{}", client.transcript());
    }
    client.command(last).unwrap()
}

fn text(reply: &Reply) -> String {
    format!("{} {}", reply.code, reply.lines.join(" / "))
}

/// Sends a mail to these recipients; the reply to its text.
fn send(client: &mut SmtpClient, recipients: &[&str]) -> String {
    say(client, "MAIL FROM:<a@example.org>", 250);
    for recipient in recipients {
        say(client, &format!("RCPT TO:<{recipient}>"), 250);
    }
    say(client, "DATA", 354);
    text(&client.command("text\r\n.").unwrap())
}

#[test]
fn d_3d_every_step_can_be_refused_for_good_and_for_now_and_nobody_else_is_asked() {
    let stage = Stage::greeting(&["10-a", "20-b"]);
    stage.script("");
    let server = stage.start();
    for (hook, commands) in STEPS {
        for (words, expected) in [
            ("reject", "5"),
            ("defer", "4"),
            ("reject:552,5.2.2,The%20box%20is%20full", "552 5.2.2 The box is full"),
            ("reject:0,-,One%0Aand%20two true continue", "One / 5.7.1 and two"),
            ("defer:450,4.2.0,Wait true complete", "450 4.2.0 Wait"),
        ] {
            let mut client = client(&server);
            let before = stage.lines(&format!("20-b {hook} ")).len();
            stage.script(&format!("10-a {hook} {words}\n"));
            let reply = last_reply(&mut client, commands);
            let said = text(&reply);
            assert!(
                said.starts_with(expected) || said.ends_with(expected),
                "{hook} {words}: {said}"
            );
            assert_eq!(stage.lines(&format!("20-b {hook} ")).len(), before, "{hook} {words}");
            // The dialogue goes on as after any refusal.
            stage.script("");
            if *hook != "rcptto" {
                assert!(send(&mut client, &["b@example.org"]).starts_with("250 "), "{hook}");
            }
        }
    }
}

#[test]
fn d_3d_a_held_step_is_answered_when_it_is_handed_back() {
    let stage = Stage::greeting(&["10-a", "20-b"]);
    stage.script("");
    let server = stage.start();
    for (hook, commands) in STEPS {
        stage.script("");
        let mut client = client(&server);
        stage.script(&format!("10-a {hook} hold:go\n"));
        let (last, before) = commands.split_last().unwrap();
        before.iter().for_each(|command| {
            assert!(client.command(command).unwrap().code < 400);
        });
        client.send(format!("{last}\r\n").as_bytes()).unwrap();
        await_status(&server, "held", 1);
        stage.release("go", "defer:450,4.7.0,Held continue");
        assert_eq!(text(&client.reply().unwrap()), "450 4.7.0 Held", "{hook}");
        await_status(&server, "held", 0);
    }
}

#[test]
fn d_3d_the_connection_is_refused_in_place_of_the_banner() {
    let stage = Stage::new(&["10-a", "20-b"]);
    for (words, expected) in [
        ("reject", "554 5.7.1 This connection is not accepted"),
        ("defer", "421 4.7.0 No connection of yours is accepted now; try again later"),
        ("reject:550,5.7.25,No%20name", "550 5.7.25 No name"),
        ("disconnect", "421 4.7.0 The connection is closed"),
    ] {
        stage.script(&format!("10-a connect {words}\n"));
        let server = stage.start();
        let mut client = SmtpClient::connect(server.smtp()).unwrap();
        assert_eq!(text(&client.reply().unwrap()), expected);
        client.await_close().unwrap();
        // D-4D: whoever could have seen the connection sees its end.
        stage.await_line("20-b close fd");
        assert_eq!(stage.lines("20-b connect"), [""; 0]);
        drop(server);
        stage.forget();
    }
}

#[test]
fn the_last_answer_counts_and_retry_takes_it_back() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script(
        "10-a mailfrom@last discard defer:451,4.1.1,First reject:553,5.1.8,Last\n\
         10-a mailfrom@again reject retries:1 true\n\
         10-a mailfrom@held hold:go\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    let said = say(&mut client, "MAIL FROM:<last@example.org>", 553);
    assert_eq!(said, "5.1.8 Last");
    // The second call is answered as the second says, which answers too.
    say(&mut client, "MAIL FROM:<again@example.org>", 550);
    client.send(b"MAIL FROM:<held@example.org>\r\n").unwrap();
    await_status(&server, "held", 1);
    stage.script("10-a mailfrom@held say:again\n");
    stage.release("go", "reject retry");
    client.reply().unwrap().require(250).unwrap();
    assert_eq!(stage.lines("20-b mailfrom").len(), 1, "{:?}", stage.journal());
}

#[test]
fn an_answer_of_a_step_that_goes_on_is_none_for_the_next() {
    let stage = Stage::new(&["10-a"]).setting("plugin-timeout", "100ms");
    stage.script("10-a mailfrom@held reject true\n");
    let server = stage.start();
    let mut client = client(&server);
    // It was never handed back: the step has failed, whatever was said while it was held.
    let said = say(&mut client, "MAIL FROM:<held@example.org>", 451);
    assert!(said.starts_with("4.3.0"), "{said}");
    say(&mut client, "MAIL FROM:<free@example.org>", 250);
}

#[test]
fn rfc_5321_3_8_who_is_to_go_hears_it_and_nothing_after() {
    for (hook, words, expected) in [
        ("mailfrom", "disconnect", "421 4.7.0 The connection is closed"),
        ("mailfrom", "disconnect reject:554,5.7.1,Go", "554 5.7.1 Go"),
        ("mailfrom", "defer:421,4.7.0,Later", "421 4.7.0 Later"),
        ("rcptto", "reject disconnect true continue", "550 5.7.1 This recipient is not accepted"),
        ("data", "disconnect", "421 4.7.0 The connection is closed"),
        ("message", "disconnect", "421 4.7.0 The connection is closed"),
        ("helo", "disconnect", "421 4.7.0 The connection is closed"),
        ("reset", "disconnect", "421 4.7.0 The connection is closed"),
    ] {
        let stage = Stage::greeting(&["10-a"]);
        stage.script("");
        let server = stage.start();
        let mut client = client(&server);
        stage.script(&format!("10-a {hook} {words}\n"));
        let steps = STEPS.iter().find(|(name, _)| *name == hook);
        let (last, before) = steps.map_or(&["RSET"][..], |(_, steps)| steps).split_last().unwrap();
        before.iter().for_each(|command| {
            assert!(client.command(command).unwrap().code < 400);
        });
        // What is pipelined behind it is not answered.
        client.send(format!("{last}\r\nNOOP\r\nQUIT\r\n").as_bytes()).unwrap();
        assert_eq!(text(&client.reply().unwrap()), expected, "{hook} {words}");
        client.await_close().unwrap();
        await_status(&server, "incoming_connections", 0);
        assert_eq!((server.queue_count(), server.status().count("memory_used")), (0, 0), "{hook}");
    }
}

#[test]
fn what_is_accepted_and_then_to_go_hears_both() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a message@one discard disconnect\n");
    let server = stage.start();
    let mut client = client(&server);
    let said = send(&mut client, &["one@example.org", "two@example.org"]);
    assert!(said.starts_with("250 2.0.0 Queued as "), "{said}");
    client.reply().unwrap().require(421).unwrap();
    client.await_close().unwrap();
    assert_eq!(server.queue_count(), 1);
}

#[test]
fn d_73_what_is_dropped_is_answered_as_what_is_not() {
    let stage = Stage::new(&["10-a"]);
    let next = stage.sink(&[]);
    let stage = stage.smarthost(next.address());
    let rows: &[(&str, &str, &[&str], &[&str])] = &[
        ("all by the sender", "10-a mailfrom discard\n", &[], &["data", "message", "rcptto"]),
        ("one recipient", "10-a rcptto@one discard\n", &["two@example.org"], &[]),
        ("the only recipients", "10-a rcptto discard\n", &[], &["data", "message"]),
        ("all by the text", "10-a data discard\n", &[], &["message"]),
        ("one mail", "10-a message@one discard-message\n", &["two@example.org"], &[]),
        ("one mail by its connection", "10-a message@two discard\n", &["one@example.org"], &[]),
        ("every mail", "10-a message discard true continue\n", &[], &[]),
        ("a held mail", "10-a message@one discard hold:go\n", &["two@example.org"], &[]),
    ];
    for (name, script, kept, unasked) in rows {
        stage.script(script);
        let recipients = ["one@example.org", "two@example.org"];
        let before = recipients.map(|to| next.count_with(to));
        let server = stage.start();
        let mut client = client(&server);
        if *name == "a held mail" {
            say(&mut client, "MAIL FROM:<a@example.org>", 250);
            say(&mut client, "RCPT TO:<one@example.org>", 250);
            say(&mut client, "RCPT TO:<two@example.org>", 250);
            say(&mut client, "DATA", 354);
            client.send(b"text\r\n.\r\n").unwrap();
            await_status(&server, "held", 1);
            stage.release("go", "continue");
            client.reply().unwrap().require(250).unwrap();
        } else {
            let said = send(&mut client, &recipients);
            let ids: Vec<&str> = said.split(' ').skip(4).collect();
            assert!(said.starts_with("250 2.0.0 Queued as ") && ids.len() == 2, "{name}: {said}");
            assert!(ids[0].ends_with("-0") && ids[1].ends_with("-1"), "{name}: {said}");
        }
        server.await_empty_queue(PATIENCE);
        await_status(&server, "delivered", kept.len() as u64);
        for (to, before) in recipients.iter().zip(before) {
            let arrived = next.count_with(to) - before;
            assert_eq!(arrived, usize::from(kept.contains(to)), "{name}: {to}");
        }
        assert_eq!(server.status().count("discarded"), 2 - kept.len() as u64, "{name}");
        await_status(&server, "memory_used", 0);
        for hook in *unasked {
            assert_eq!(stage.lines(&format!("10-a {hook} ")), [""; 0], "{name}");
        }
        drop(server);
        stage.forget();
    }
}

#[test]
fn d_73_a_drop_is_logged_with_its_plugin_and_ends_with_its_mail() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a mailfrom@spam discard\n");
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<spam@example.org>", 250);
    server.process().await_complaint(PATIENCE, "10-a.so drops mail in mq_smtp_in_mailfrom");
    say(&mut client, "RSET", 250);
    assert!(send(&mut client, &["b@example.org"]).starts_with("250 "));
    assert_eq!(server.queue_count(), 1);
    // The server itself refuses first (D-3C), so that no drop looks like an open relay.
    say(&mut client, "MAIL FROM:<spam@example.org>", 250);
    say(&mut client, "RCPT TO:<bad", 501);
}

/// D-43: a message has one answer, whichever of its recipients' chains gives it.
#[test]
fn d_43_one_recipient_refused_refuses_the_message_for_all() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a message@two reject:550,5.7.0,Not%20this\n");
    let server = stage.start();
    let mut client = client(&server);
    let said = send(&mut client, &["one@example.org", "two@example.org", "three@example.org"]);
    assert_eq!(said, "550 5.7.0 Not this");
    assert_eq!((server.queue_count(), server.status().count("memory_used")), (0, 0));
    assert_eq!(stage.calls(&["message"]), ["10-a message", "20-b message", "10-a message"]);
}

#[test]
fn answers_hold_for_pipelined_clients_and_chunks() {
    let stage = Stage::new(&["10-a"]);
    stage.script(
        "10-a mailfrom@bad reject\n10-a rcptto@bad reject\n10-a data reject:554,5.6.0,Bad%20text\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    client
        .send(
            b"MAIL FROM:<bad@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\
              MAIL FROM:<a@example.org>\r\nRCPT TO:<bad@example.org>\r\nRCPT TO:<b@example.org>\r\n\
              BDAT 6\r\ntext\r\nBDAT 3 LAST\r\nx\r\nMAIL FROM:<c@example.org>\r\nQUIT\r\n",
        )
        .unwrap();
    for code in [550, 503, 503, 250, 550, 250, 250, 554, 250, 221] {
        client.reply().unwrap().require(code).unwrap();
    }
    client.await_close().unwrap();
    assert_eq!((server.queue_count(), server.status().count("memory_used")), (0, 0));
}

#[test]
fn no_text_of_a_plugin_forges_a_reply_or_outgrows_one() {
    let stage = Stage::new(&["10-a"]);
    let long = "x".repeat(2000);
    stage.script(&format!(
        "10-a mailfrom@cr reject:0,-,a%0D250%20ok%0D%0A250%20fine%1B%09%FF\n\
         10-a mailfrom@long reject:0,-,{long}\n10-a mailfrom@many reject:0,-,{}\n\
         10-a mailfrom@empty reject:0,-,\n",
        "y%0A".repeat(100)
    ));
    let server = stage.start();
    let mut client = client(&server);
    let said = say(&mut client, "MAIL FROM:<cr@example.org>", 550);
    assert_eq!(said, "5.7.1 a?250 ok\n5.7.1 250 fine???");
    let said = say(&mut client, "MAIL FROM:<long@example.org>", 550);
    assert!((490..=508).contains(&said.len()), "{}", said.len());
    let said = say(&mut client, "MAIL FROM:<many@example.org>", 550);
    assert_eq!(said.lines().count(), 32);
    assert_eq!(say(&mut client, "MAIL FROM:<empty@example.org>", 550), "5.7.1 ");
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
}

#[test]
fn rfc_6531_replies_are_utf_8_for_who_asked_for_it() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a rcptto reject:0,-,gr%C3%BCn\n");
    let server = stage.start();
    for (from, expected) in
        [("<a@example.org>", "5.7.1 gr?n"), ("<a@example.org> SMTPUTF8", "5.7.1 gr\u{fc}n")]
    {
        let mut client = client(&server);
        say(&mut client, &format!("MAIL FROM:{from}"), 250);
        assert_eq!(say(&mut client, "RCPT TO:<b@example.org>", 550), expected);
    }
}

#[test]
fn d_05_what_no_reply_can_have_is_refused_and_changes_nothing() {
    let stage = Stage::greeting(&["10-a"]);
    stage.script(
        "10-a mailfrom reject:250 reject:450 defer:550 reject:560 reject:550,4.7.1 reject:550,5.7 \
         reject:550,5.7.01\n\
         10-a rcptto reject:550,5.1.1,Kept reject:999 true continue\n\
         10-a connect discard\n10-a reset reject defer discard\n10-a close reject discard disconnect\n",
    );
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    assert_eq!(say(&mut client, "RCPT TO:<b@example.org>", 550), "5.1.1 Kept");
    say(&mut client, "RSET", 250);
    say(&mut client, "QUIT", 221);
    await_status(&server, "incoming_connections", 0);
    assert_eq!(stage.lines("rejected 1").len(), 1, "{:?}", stage.journal());
    assert!(stage.lines("ed 0").len() > 10, "{:?}", stage.journal());
    for complaint in [
        "MQX_discard: mq_smtp_in_connect takes no such answer",
        "MQX_reject: code is neither 0 nor 500 to 559",
        "MQX_defer: code is neither 0 nor 400 to 459",
        "MQX_reject: status is not like 5.7.1",
    ] {
        server.process().await_complaint(PATIENCE, complaint);
    }
}

#[test]
fn d_23_nobody_answers_what_another_holds_or_nobody_is_asked() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("20-b connect await:foreign\n10-a mailfrom hold:own\n");
    let mut server = stage.start();
    let mut client = client(&server);
    client.send(b"MAIL FROM:<a@example.org>\r\n").unwrap();
    await_status(&server, "held", 1);
    stage.release("foreign", "reject discard fail");
    server
        .process()
        .await_complaint(PATIENCE, "20-b.so: MQX_reject: this plugin is not in control");
    stage.release("own", "continue");
    client.reply().unwrap().require(250).unwrap();
}

/// What the setting says of a step that a plugin fails, by what the client hears.
#[test]
fn d_27_a_plugin_that_fails_a_step_is_dealt_with_as_the_settings_say() {
    for (policy, expected) in [("tempfail", 451), ("reject", 554), ("accept", 250)] {
        let stage = Stage::greeting(&["10-a", "20-b"]).setting("plugin-failure", policy);
        stage.script(
            "10-a mailfrom@bad fail\n10-a mailfrom@held hold:go\n10-a reset fail\n10-a close fail\n",
        );
        let mut server = stage.start();
        let mut client = client(&server);
        say(&mut client, "MAIL FROM:<bad@example.org>", expected);
        server.process().await_complaint(PATIENCE, "10-a.so: mq_smtp_in_mailfrom failed");
        // With `accept` the next plugin is asked; it is never as if it had been passed over for good.
        let asked = stage.lines("20-b mailfrom bad").len() + stage.lines("20-b mailfrom fd").len();
        assert_eq!(asked, usize::from(policy == "accept"), "{policy}: {:?}", stage.journal());
        say(&mut client, "RSET", 250);
        client.send(b"MAIL FROM:<held@example.org>\r\n").unwrap();
        await_status(&server, "held", 1);
        stage.release("go", "fail continue");
        client.reply().unwrap().require(expected).unwrap();
        say(&mut client, "RSET", 250);
        say(&mut client, "MAIL FROM:<good@example.org>", 250);
        say(&mut client, "QUIT", 221);
        await_status(&server, "incoming_connections", 0);
    }
}

/// Before the greeting nothing else would take note of it, and it would end some later command.
#[test]
fn d_27_a_plugin_that_fails_and_is_passed_over_ends_no_connection() {
    for (hook, commands) in [("connect", STEPS[1].1), ("mailfrom", STEPS[1].1)] {
        let stage = Stage::new(&["10-a"]).setting("plugin-failure", "accept");
        stage.script(&format!("10-a {hook} fail disconnect\n"));
        let server = stage.start();
        let mut client = client(&server);
        assert_eq!(last_reply(&mut client, commands).code, 250);
        say(&mut client, "RSET", 250);
        say(&mut client, "NOOP", 250);
    }
}

/// A layer that catches an exception says that its plugin failed, whatever that had said before.
#[test]
fn d_27_a_plugin_that_fails_a_step_has_granted_nothing_in_it() {
    for failed in ["fail", "true", "hold:go"] {
        for (script, code) in [
            ("20-b rcptto set-local:1 FAIL\n", 550),
            ("20-b rcptto authenticate:1 FAIL\n", 550),
            ("20-b mailfrom authenticate:1 FAIL\n", 550),
            // Nor does it take back what another says.
            ("10-a rcptto set-local:1\n20-b rcptto set-local:0 FAIL\n", 250),
            ("10-a rcptto authenticate:1\n20-b rcptto authenticate:1 FAIL\n", 250),
            ("20-b connect authenticate:1\n20-b rcptto authenticate:1 FAIL\n", 250),
            ("20-b rcptto set-local:1 FAIL\n30-c rcptto set-local:1\n", 250),
        ] {
            let stage = Stage::new(&[])
                .setting("plugin-failure", "accept")
                .setting("plugin-timeout", if failed == "true" { "100ms" } else { "60s" })
                .setting("smtp-relay-range", "192.0.2.0/24")
                .probe("10-a", 506)
                .probe("20-b", 506)
                .probe("30-c", 506);
            stage.script(&script.replace("FAIL", failed));
            let server = stage.start();
            let mut client = client(&server);
            for command in ["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>"] {
                client.send(format!("{command}\r\n").as_bytes()).unwrap();
                let step =
                    if command.starts_with("MAIL") { "20-b mailfrom" } else { "20-b rcptto" };
                if failed == "hold:go" && script.contains(step) {
                    await_status(&server, "held", 1);
                    stage.release("go", "fail continue");
                }
                let reply = client.reply().unwrap();
                let expected = if command.starts_with("MAIL") { 250 } else { code };
                assert_eq!(reply.code, expected, "{failed} {script}: {:?}", stage.journal());
            }
        }
    }
}

/// A plugin that fails one step is asked at the next one, unlike one that owes a hand-back (D-28): so what it
/// granted holds.
#[test]
fn d_3a_a_failed_step_ends_no_grant() {
    let stage = Stage::new(&["10-a"]).setting("smtp-relay-range", "192.0.2.0/24");
    stage.script("10-a connect authenticate:1\n10-a data fail\n");
    let server = stage.start();
    let mut client = client(&server);
    assert!(send(&mut client, &["b@example.net"]).starts_with("451 4.3.0 "));
    stage.script("");
    assert!(send(&mut client, &["b@example.net"]).starts_with("250 "));
}

/// D-49: a client that has gone hears no answer.
#[test]
fn d_49_an_answer_for_a_client_that_has_gone_is_dropped_with_its_message() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a message hold:go\n");
    let server: Server = stage.start();
    for words in ["reject continue", "discard continue", "fail continue"] {
        let mut client = client_in_transaction(&server);
        say(&mut client, "DATA", 354);
        client.send(b"text\r\n.\r\n").unwrap();
        await_status(&server, "held", 1);
        client.reset();
        stage.release("go", words);
        await_status(&server, "incoming_connections", 0);
    }
    let status = server.status();
    assert_eq!((server.queue_count(), status.count("memory_used")), (0, 0));
    assert_eq!(status.count("discarded"), 0);
}

/// What goes out is dealt with as what comes in: tried again, passed on, or given up.
#[test]
fn d_27_an_outgoing_step_that_fails_or_is_held_too_long_is_dealt_with_as_the_settings_say() {
    for (policy, script, counted) in [
        ("tempfail", "10-a out-data fail\n", "retried"),
        ("reject", "10-a out-data fail\n", "bounced"),
        ("accept", "10-a out-data fail\n", "delivered"),
        ("tempfail", "10-a out-data name:0.05 true\n", "retried"),
        ("tempfail", "10-a out-data name:0.05 true\n10-a expired release:0\n", "delivered"),
        ("tempfail", "10-a out-data name:60 release-later-elsewhere\n", "delivered"),
    ] {
        let stage = Stage::new(&["10-a", "20-b"]).setting("plugin-failure", policy);
        let next = stage.sink(&[]);
        let stage = stage.smarthost(next.address());
        stage.script(script);
        let server = stage.start();
        assert!(send(&mut client(&server), &["b@example.org"]).starts_with("250 "));
        await_status(&server, counted, 1);
        await_status(&server, "held", 0);
        let asked = stage.lines("20-b out-data").len();
        assert_eq!(asked, usize::from(counted == "delivered"), "{policy} {script}");
    }
}

/// Programs that nobody here wrote read what a plugin of the latest generation says.
#[test]
fn d_3d_clients_of_others_understand_what_plugins_say() {
    const PLUGIN: &str = "#include <mailerq.h>
#include <string.h>
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection, MQ_Address *address) {
    const char *recipient = MQ_email(address);
    (void)context;
    if (!strncmp(recipient, \"never\", 5)) MQX_reject(connection, 550, \"5.1.1\", \"No such user\\nhere, nor anywhere\");
    if (!strncmp(recipient, \"later\", 5)) MQX_defer(connection, 450, \"4.2.1\", \"Not now\");
    return false;
}
";
    let stage = Stage::new(&[]);
    stage.add("10-says", &super::probe::compiled(PLUGIN, crate::support::Sanitizer::Off));
    let server = stage.start();
    let port = server.smtp().port();
    for (to, code, words) in [
        ("never@example.org", 24, &["550-5.1.1 No such user", "550 5.1.1 here, nor anywhere"][..]),
        ("later@example.org", 24, &["450 4.2.1 Not now"]),
        ("good@example.org", 0, &["250 2.0.0 Queued as"]),
    ] {
        let mut swaks = Tool::new("swaks")
            .words(&format!(
                "--server 127.0.0.1:{port} --from a@example.org --to {to} --timeout 30"
            ))
            .spawn();
        let ended = swaks.wait(PATIENCE).code();
        let said = swaks.stdout.complete();
        assert_eq!(ended, Some(code), "{said}");
        assert!(words.iter().all(|words| said.contains(words)), "{said}");
    }
    let script = stage.plan.directory().join("refusals.py");
    std::fs::write(&script, SMTPLIB).unwrap();
    let mut python = std::process::Command::new("python3");
    let mut python =
        crate::support::Process::spawn("smtplib", python.arg(&script).arg(port.to_string()));
    assert!(python.wait(PATIENCE).success(), "{python}");
    let said = python.stdout.complete();
    let expected = "{'never@example.org': (550, b'5.1.1 No such user\\n5.1.1 here, nor anywhere'), \
                    'later@example.org': (450, b'4.2.1 Not now')}";
    assert_eq!(said.trim(), expected);
    assert_eq!(server.queue_count(), 2);
}

const SMTPLIB: &str = "import smtplib, sys
client = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=30)
to = ['never@example.org', 'good@example.org', 'later@example.org']
print(client.sendmail('a@example.org', to, 'Subject: x\\r\\n\\r\\ntext\\r\\n'))
client.quit()
";
