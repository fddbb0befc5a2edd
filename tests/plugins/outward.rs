//! The steps of outgoing connections beside `mq_smtp_out_data`, and what plugins decide in them.
//!
//! The next hops are played by the tests ([`Hop`]), so that each step is seen at the moment when it
//! comes. **Diagnostics**: as the stage's and the hop's.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use serde_json::Value;

use super::hop::{Hop, Visit};
use super::probe::{Stage, await_status, client, compiled, mail, say};
use crate::support::{PATIENCE, Sanitizer, Server, SmtpClient, eventually};

const OUTWARD: &str = include_str!("c/outward.c");

/// Generations by their `MQ_API_VERSION`.
pub(crate) const G1: u32 = 201;
pub(crate) const G3: u32 = 506;

/// Puts a probe on the stage that takes part in all steps of outgoing connections.
pub(crate) fn add(stage: &Stage, name: &str, version: u32) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/c");
    let mut hasher = DefaultHasher::new();
    OUTWARD.hash(&mut hasher);
    let source = format!(
        "/* {:016x} */\n#define MQ_API_VERSION {version}\n#define PROBE_OUTWARD \"{}\"\n\
         #define PROBE_NAME \"{name}\"\n#include \"{}\"\n",
        hasher.finish(),
        folder.join("outward.c").display(),
        folder.join("probe.c").display(),
    );
    stage.add(name, &compiled(&source, Sanitizer::Off));
}

/// One such probe of the latest generation, and a hop.
pub(super) fn stage() -> (Stage, Hop) {
    let stage = Stage::new(&[]);
    add(&stage, "10-a", G3);
    (stage, Hop::listen())
}

pub(super) fn start(stage: &Stage, hop: &Hop) -> (Server, SmtpClient) {
    let server = stage.clone().smarthost(hop.address()).setting("retry-interval", 1).start();
    let client = client(&server);
    (server, client)
}

/// The same with one mail under way.
pub(super) fn with_mail(stage: &Stage, hop: &Hop) -> (Server, SmtpClient) {
    let (server, mut client) = start(stage, hop);
    mail(&mut client, "someone@example.org");
    (server, client)
}

/// Takes the mail whose envelope is through.
pub(super) fn take(visit: &mut Visit) -> String {
    visit.say("354 go on");
    let text = visit.text();
    visit.say("250 2.0.0 taken");
    text
}

/// The only mail in the queue, as it is shown.
fn only(server: &Server) -> Value {
    eventually("a mail in the queue", PATIENCE, || {
        let listed = server.plan().report(&["queue", "list"]);
        serde_json::from_str(listed.lines().next()?).ok()
    })
}

/// The latest attempt of the only mail in the queue.
pub(super) fn latest(server: &Server) -> Value {
    let id = only(server)["id"].as_str().expect("mails have names").to_owned();
    eventually("an attempt", PATIENCE, || {
        let shown: Value =
            serde_json::from_str(&server.plan().report(&["queue", "show", &id])).ok()?;
        shown["results"].as_array()?.last().cloned()
    })
}

const STEPS: [&str; 7] =
    ["out-connect", "out-secure", "out-message", "out-data", "out-sent", "out-result", "out-close"];

#[test]
fn each_step_comes_in_its_order_to_plugins_of_both_generations() {
    // G1 has no mq_smtp_out_sent: a function of that name is not called there.
    let stage =
        Stage::new(&[]).setting("smarthost-messages", 2).setting("smarthost-connections", 1);
    add(&stage, "10-a", G1);
    add(&stage, "20-b", G3);
    let hop = Hop::listen();
    let (server, mut client) = start(&stage, &hop);
    for count in 1..=2 {
        mail(&mut client, "someone@example.org");
        await_status(&server, "accepted", count);
    }
    let mut visit = hop.accept_to_data();
    take(&mut visit);
    visit.mail_to_data();
    take(&mut visit);
    visit.expect("QUIT");
    visit.say("221 bye");
    await_status(&server, "delivered", 2);
    await_status(&server, "outgoing_connections", 0);
    let a_mail = [
        "10-a out-message",
        "20-b out-message",
        "10-a out-data",
        "20-b out-data",
        "20-b out-sent",
        "10-a out-result",
        "20-b out-result",
    ];
    let opens = ["10-a out-connect", "20-b out-connect"];
    let closes = ["10-a out-close", "20-b out-close"];
    assert_eq!(stage.calls(&STEPS), [&opens[..], &a_mail, &a_mail, &closes].concat());
    // RFC 3463: the status is no part of the text.
    assert_eq!(stage.lines("10-a result"), ["10-a result 250 taken/5,0"; 2]);
}

#[test]
fn d_6d_d_67_out_sent_comes_before_the_answer_and_changes_nothing() {
    let (stage, hop) = stage();
    stage.script(
        "10-a out-sent mime set-mime:late%0D%0A mime-is:late%0D%0A set-recipient:x@y.example recipient\n",
    );
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    assert!(visit.text().ends_with("\r\ntext\r\n.\r\n"));
    stage.await_line("recipient x@y.example");
    assert_eq!(stage.lines("mime NULL").len() + stage.lines("mime-is 1").len(), 2);
    assert_eq!(stage.calls(&["out-result"]), [""; 0]);
    visit.say("250 2.0.0 taken");
    await_status(&server, "delivered", 1);
}

#[test]
fn a_text_does_not_go_ahead_of_the_replies_where_out_sent_is_asked() {
    let stage = Stage::new(&[]);
    add(&stage, "10-a", G3);
    let hop = Hop::listen();
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_offering("250-PIPELINING\r\n250-CHUNKING\r\n250 SIZE");
    for line in ["MAIL FROM:", "RCPT TO:", "DATA"] {
        visit.expect(line);
    }
    visit.say("250 ok\r\n250 ok");
    take(&mut visit);
    await_status(&server, "delivered", 1);
}

#[test]
fn d_82_a_250_that_comes_while_out_sent_is_held_counts_even_if_the_connection_goes() {
    for stays in [true, false] {
        let (stage, hop) = stage();
        stage.script("10-a out-sent hold:go\n");
        let (server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept_to_data();
        visit.say("354 go on");
        visit.text();
        stage.await_line("out-sent");
        await_status(&server, "held", 1);
        visit.say("250 2.0.0 taken");
        let visit = stays.then_some(visit);
        // It is not acted upon: a step of the connection is held, and they are serial.
        assert_eq!(stage.calls(&["out-result"]), [""; 0]);
        assert_eq!(server.status().count("delivered"), 0);
        stage.release("go", "continue");
        await_status(&server, "delivered", 1);
        assert_eq!(stage.calls(&["out-result"]), ["10-a out-result"]);
        server.await_empty_queue(PATIENCE);
        assert!(hop.is_lonely(), "it is not sent again");
        drop(visit);
    }
}

#[test]
fn d_82_a_refusal_waits_for_the_held_step_as_well() {
    let (stage, hop) = stage();
    stage.script("10-a out-sent hold:go\n");
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    visit.text();
    await_status(&server, "held", 1);
    visit.say("554 5.6.0 not this");
    stage.release("go", "continue");
    await_status(&server, "bounced", 1);
    assert_eq!(latest(&server)["description"], "not this");
}

#[test]
fn d_83_d_81_the_time_for_an_answer_runs_on_while_out_sent_is_held() {
    let (stage, hop) = stage();
    let stage = stage.setting("smtp-out-dot-timeout", 1);
    stage.script("10-a out-sent hold:go\n");
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    visit.text();
    await_status(&server, "retried", 1);
    stage.script("");
    assert_eq!(server.status().count("held"), 1, "the memory stays until the hand-back");
    let attempt = latest(&server);
    assert_eq!((&attempt["state"], &attempt["result"]), (&"message".into(), &"timeout".into()));
    let mut next = hop.accept_to_data();
    take(&mut next);
    await_status(&server, "delivered", 1);
    stage.release("go", "bounce continue");
    await_status(&server, "held", 0);
    assert_eq!(stage.lines("10-a bounce"), ["10-a bounce 0"]);
    // Who wants to know how it ended is told, though nothing can be done about it any more.
    stage.await_line("result 0 the far end did not answer in time");
}

#[test]
fn d_27_out_sent_that_is_held_too_long_does_not_end_a_delivery() {
    // The far end may have the mail: to end the attempt would send it twice.
    let (stage, hop) = stage();
    let stage = stage.setting("plugin-timeout", "200ms");
    stage.script("10-a out-sent hold:late\n");
    let (mut server, mut client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    visit.text();
    server.process().await_complaint(PATIENCE, "10-a.so: mq_smtp_out_sent was held too long");
    stage.script("");
    visit.say("250 2.0.0 taken");
    await_status(&server, "delivered", 1);
    // D-28: it is not asked on this connection any more, so no other mail may use that.
    visit.expect("QUIT");
    mail(&mut client, "another@example.org");
    let mut next = hop.accept_to_data();
    take(&mut next);
    await_status(&server, "delivered", 2);
    assert_eq!(stage.calls(&["out-message"]).len(), 2);
}

#[test]
fn a_host_that_a_plugin_keeps_waiting_is_told_nothing_until_it_goes_on() {
    let (stage, hop) = stage();
    stage.script(
        "10-a out-connect data set-data:7 hold:go\n10-a out-message data\n10-a out-close data\n",
    );
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.greet();
    stage.await_line("kept 0");
    await_status(&server, "held", 1);
    stage.release("go", "send:NOOP%0D%0A continue");
    // Its own words come first.
    visit.expect("NOOP");
    visit.say("250 ok");
    // A reply that nobody asked for would be taken for the one to EHLO, were it a server's.
    drop(visit);
    await_status(&server, "outgoing_connections", 0);
    // D-84: the data of the connection is there until its last step.
    stage.await_lines("kept 7", 1);
}

#[test]
fn d_27_a_connection_that_is_held_too_long_before_ehlo_is_no_attempt() {
    let (stage, hop) = stage();
    let stage = stage.setting("plugin-timeout", "200ms");
    stage.script("10-a out-connect hold:late\n");
    let (mut server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.greet();
    server.process().await_complaint(PATIENCE, "10-a.so: mqx_smtp_out_connect was held too long");
    visit.await_end();
    stage.script("");
    let mut next = hop.accept_to_data();
    take(&mut next);
    await_status(&server, "delivered", 1);
    assert_eq!(server.status().count("retried"), 0);
}

#[test]
fn an_envelope_that_is_changed_before_mail_goes_over_the_wire_alone() {
    let (stage, hop) = stage();
    stage.script(
        "10-a out-message set-envelope:other@example.org set-recipient:else@example.net \
         set-mime:made%0Ahere recipient\n",
    );
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept();
    assert!(visit.expect("MAIL FROM:<other@example.org> SIZE=").contains("SIZE=10"));
    visit.say("250 ok");
    visit.expect("RCPT TO:<else@example.net>");
    visit.say("451 4.2.0 later");
    await_status(&server, "retried", 1);
    assert_eq!(only(&server)["recipient"], "someone@example.org");
    stage.script("10-a out-message set-envelope: set-mime:made%0Ahere\n");
    visit.expect("RSET");
    visit.say("250 ok");
    visit.expect("MAIL FROM:<>");
    visit.say("250 ok");
    visit.expect("RCPT TO:<someone@example.org>");
    visit.say("250 ok");
    visit.expect("DATA");
    assert_eq!(take(&mut visit), "made\r\nhere\r\n.\r\n");
    await_status(&server, "delivered", 1);
}

#[test]
fn d_65_an_address_that_a_plugin_broke_never_reaches_the_wire() {
    for address in ["a@b%0D%0ARCPT%20TO:<c@d>", "no-address@", "%FF@example.org"] {
        let (stage, hop) = stage();
        stage.script(&format!("10-a out-message set-recipient:{address}\n"));
        let (server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept();
        await_status(&server, "retried", 1);
        stage.script("");
        assert_eq!(latest(&server)["result"], "invalid", "{address}");
        visit.mail_to_data();
        take(&mut visit);
        await_status(&server, "delivered", 1);
    }
}

#[test]
fn a_mail_is_bounced_before_anything_is_said_of_it_and_nobody_else_is_asked() {
    let stage = Stage::new(&[]);
    add(&stage, "10-a", G1);
    add(&stage, "20-b", G3);
    stage.script(
        "10-a out-message@bad bounce-as:554:5.7.9:Not%20this%0A%20one state\n\
         10-a out-message@plain hold:go\n",
    );
    let hop = Hop::listen();
    let (server, mut client) = start(&stage, &hop);
    mail(&mut client, "bad@example.org");
    let mut visit = hop.accept();
    await_status(&server, "bounced", 1);
    let attempt = latest(&server);
    assert_eq!(
        (&attempt["state"], &attempt["result"], &attempt["code"], &attempt["status"]),
        (&"mailfrom".into(), &"plugin".into(), &554.into(), &"5.7.9".into())
    );
    assert_eq!(attempt["description"], "Not this / one");
    assert_eq!(stage.calls(&["out-message"]), ["10-a out-message"]);
    assert_eq!(stage.lines("state"), ["10-a state NULL"], "it is not known yet");
    // Both are told how it ended.
    assert_eq!(stage.calls(&["out-result"]), ["10-a out-result", "20-b out-result"]);
    // The connection is as good as before. What is not said is left to the host.
    mail(&mut client, "plain@example.org");
    stage.release("go", "bounce continue");
    await_status(&server, "bounced", 2);
    mail(&mut client, "good@example.org");
    visit.mail_to_data();
    take(&mut visit);
    await_status(&server, "delivered", 1);
    assert!(hop.is_lonely());
    let listed = server.plan().report(&["queue", "list"]);
    assert!(listed.contains("550") && listed.contains("refused by the plugin 10-a.so"), "{listed}");
}

/// More than one turn has steps for: the rest is gone on with.
#[test]
fn mail_after_mail_is_bounced_over_one_connection() {
    const MAILS: usize = 300;
    let (stage, hop) = stage();
    let stage = stage.setting("smarthost-connections", 1);
    stage.script("10-a out-message bounce\n");
    let (server, mut client) = start(&stage, &hop);
    say(&mut client, "MAIL FROM:<sender@example.org>", 250);
    for number in 0..MAILS {
        say(&mut client, &format!("RCPT TO:<r{number}@example.net>"), 250);
    }
    say(&mut client, "DATA", 354);
    say(&mut client, "text\r\n.", 250);
    let mut visit = hop.accept();
    await_status(&server, "bounced", MAILS as u64);
    stage.script("");
    mail(&mut client, "someone@example.org");
    visit.mail_to_data();
    take(&mut visit);
    await_status(&server, "delivered", 1);
}

#[test]
fn a_mail_is_put_off_before_mail_without_an_attempt() {
    let (stage, hop) = stage();
    stage.script("10-a out-message retry-in:0\n");
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept();
    await_status(&server, "retried", 1);
    stage.script("");
    let attempt = latest(&server);
    assert_eq!(
        (&attempt["state"], &attempt["result"], &attempt["description"]),
        (&"mailfrom".into(), &"plugin".into(), &"put off by the plugin 10-a.so".into())
    );
    assert_eq!(only(&server)["attempts"], 0);
    visit.mail_to_data();
    take(&mut visit);
    await_status(&server, "delivered", 1);
}

#[test]
fn a_time_that_a_plugin_chose_survives_a_restart() {
    let (stage, hop) = stage();
    // Far beyond the retry-interval of a second.
    stage.script("10-a out-result retry-in:3600\n");
    let (mut server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("451 4.2.0 later");
    await_status(&server, "retried", 1);
    let waits = |server: &Server| {
        let why = only(server)["why"].as_str().unwrap_or_default().to_owned();
        let left =
            why.strip_prefix("the next attempt is in ").and_then(|rest| rest.strip_suffix(" s"));
        left.and_then(|left| left.parse::<u64>().ok())
            .is_some_and(|left| (3_000..=3_600).contains(&left))
    };
    assert!(waits(&server), "{}", only(&server));
    assert_eq!(only(&server)["attempts"], 1);
    drop(visit);
    assert!(server.terminate().success());
    let server = server.plan().start();
    assert!(waits(&server), "{}", only(&server));
    let attempt = latest(&server);
    assert_eq!((&attempt["code"], &attempt["description"]), (&451.into(), &"later".into()));
}

#[test]
fn a_time_beyond_the_life_of_a_mail_leaves_it_a_last_attempt() {
    let (stage, hop) = stage();
    let stage = stage.setting("max-delivertime", 5);
    stage.script("10-a out-message retry-in:1e30\n");
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept();
    await_status(&server, "retried", 1);
    stage.script("");
    visit.mail_to_data();
    take(&mut visit);
    await_status(&server, "delivered", 1);
}

#[test]
fn behind_the_354_a_mail_is_given_up_with_its_connection() {
    for (words, number, state) in [("bounce", "bounced", "data"), ("retry-in:0", "retried", "data")]
    {
        let (stage, hop) = stage();
        stage.script(&format!("10-a out-data {words}\n"));
        let (server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept_to_data();
        visit.say("354 go on");
        visit.await_end();
        await_status(&server, number, 1);
        stage.script("");
        let attempt = latest(&server);
        assert_eq!((&attempt["state"], &attempt["result"]), (&state.into(), &"plugin".into()));
        if number == "retried" {
            assert_eq!(only(&server)["attempts"], 1);
            let mut next = hop.accept_to_data();
            take(&mut next);
            await_status(&server, "delivered", 1);
        }
    }
}

#[test]
fn a_mail_is_led_to_another_host_from_each_step_that_may() {
    for step in ["out-message", "out-data", "out-result"] {
        let other = Hop::listen();
        let (stage, hop) = stage();
        let stage = stage.setting("dns-private-targets", "127.0.0.0/8");
        let port = other.address().port();
        stage.script(&format!("10-a {step} hold:go\n"));
        let (server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept();
        if step != "out-message" {
            visit.mail_to_data();
            visit.say(if step == "out-data" { "354 go on" } else { "550 5.7.1 not from you" });
        }
        await_status(&server, "held", 1);
        stage.script("");
        stage.release("go", &format!("route:127.0.0.1:{port} continue"));
        let mut next = other.accept_to_data();
        take(&mut next);
        await_status(&server, "delivered", 1);
        let status = server.status();
        assert_eq!(
            (status.count("retried"), status.count("bounced")),
            (0, 0),
            "{step}: one attempt"
        );
        assert!(hop.is_lonely() && other.is_lonely());
    }
}

#[test]
fn hosts_that_lead_to_each_other_do_so_for_a_while_only() {
    let (stage, hop) = stage();
    let stage = stage.setting("dns-private-targets", "127.0.0.0/8").setting("retry-interval", 60);
    stage.script(&format!("10-a out-message route:127.0.0.1:{}\n", hop.address().port()));
    let server = stage.clone().smarthost(hop.address()).start();
    mail(&mut client(&server), "someone@example.org");
    // The smarthost's and the one that it is led to are connections of their own.
    let _visits = (hop.accept(), hop.accept());
    await_status(&server, "retried", 1);
    assert_eq!(stage.lines("10-a route 1").len(), 11);
    let told = latest(&server)["description"].to_string();
    assert!(told.contains("more than 10 times in one attempt"), "{told}");
}

#[test]
fn no_plugin_leads_a_mail_to_this_server_or_into_its_network() {
    for (allowed, own, status) in [("", false, "5.7.1"), ("127.0.0.0/8", true, "5.4.6")] {
        let (stage, hop) = stage();
        let stage = stage.setting("dns-private-targets", allowed);
        stage.script("10-a out-message hold:go\n");
        let (server, _client) = with_mail(&stage, &hop);
        let _visit = hop.accept();
        await_status(&server, "held", 1);
        let other = Hop::listen();
        let port = if own { server.smtp().port() } else { other.address().port() };
        stage.release("go", &format!("route:127.0.0.1:{port} continue"));
        await_status(&server, "bounced", 1);
        assert_eq!(latest(&server)["status"], status);
        assert!(other.is_lonely());
    }
}

#[test]
fn a_failure_is_made_final_or_mended_and_a_delivery_stays_one() {
    let rows = [
        ("451 4.7.1 greylisted", "bounce", "bounced", "1", "4.7.1"),
        ("451 4.7.1 greylisted", "bounce-as:550:5.7.9:no", "bounced", "1", "5.7.9"),
        ("550 5.1.1 nobody", "retry-in:0", "retried", "1", "5.1.1"),
        ("354 go on", "bounce", "delivered", "0", ""),
        ("354 go on", "retry-in:5", "delivered", "0", ""),
        ("354 go on", "route:127.0.0.1:25", "delivered", "0", ""),
    ];
    for (reply, words, number, answer, status) in rows {
        let (stage, hop) = stage();
        stage.script(&format!("10-a out-result state {words}\n"));
        let (mut server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept_to_data();
        visit.say(reply);
        if reply.starts_with("354") {
            visit.text();
            visit.say("250 2.0.0 taken");
        }
        await_status(&server, number, 1);
        let word = words.split(':').next().unwrap();
        assert_eq!(
            stage.lines(&format!("10-a {word} ")),
            [format!("10-a {word} {answer}")],
            "{words}"
        );
        let reached = if status.is_empty() { "message" } else { "data" };
        assert_eq!(stage.lines("state"), [format!("10-a state {reached}")]);
        if answer == "0" {
            server
                .process()
                .await_complaint(PATIENCE, "nothing can be decided of this message now");
            server.await_empty_queue(PATIENCE);
        } else {
            assert_eq!(latest(&server)["status"], status, "{words}");
        }
        stage.script("");
        if number == "retried" {
            visit.expect("RSET");
            visit.say("250 ok");
            visit.mail_to_data();
            take(&mut visit);
            await_status(&server, "delivered", 1);
        }
    }
}

#[test]
fn a_delivery_does_not_wait_for_a_plugin_that_holds_its_result() {
    let (stage, hop) = stage();
    stage.script("10-a out-result hold:go\n");
    let (server, mut client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    take(&mut visit);
    await_status(&server, "delivered", 1);
    await_status(&server, "held", 1);
    server.await_empty_queue(PATIENCE);
    // D-88: the connection counts as busy until then.
    mail(&mut client, "another@example.org");
    stage.script("");
    stage.release("go", "bounce continue");
    assert_eq!(stage.lines("10-a bounce"), ["10-a bounce 0"]);
    await_status(&server, "held", 0);
    // On whichever connection it comes.
    drop(client);
}

#[test]
fn d_27_what_was_decided_of_a_failure_holds_when_the_step_is_taken_back() {
    for stops in [false, true] {
        let (stage, hop) = stage();
        let stage = stage.setting("plugin-timeout", if stops { "60s" } else { "200ms" });
        let stage = stage.setting("plugin-shutdown-timeout", 600).setting("shutdown-timeout", 1);
        stage.script("10-a out-result bounce hold:late\n");
        let (mut server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept_to_data();
        visit.say("451 4.7.1 greylisted");
        stage.await_line("10-a bounce 1");
        if stops {
            await_status(&server, "held", 1);
            server.terminate();
            stage.script("");
            server = stage.clone().smarthost(hop.address()).start();
        } else {
            await_status(&server, "bounced", 1);
        }
        let told = latest(&server);
        assert_eq!((&told["status"], &only(&server)["state"]), (&"4.7.1".into(), &"failed".into()));
    }
}

#[test]
fn d_85_a_mail_that_is_lost_is_told_of_as_lost() {
    let (stage, hop) = stage();
    let (server, _client) = with_mail(&stage, &hop);
    let visit = hop.accept_to_data();
    drop(visit);
    await_status(&server, "retried", 1);
    assert_eq!(stage.lines("result 0 ").len(), 1);
    let mut next = hop.accept_to_data();
    take(&mut next);
    await_status(&server, "delivered", 1);
    assert_eq!(stage.calls(&["out-message"]).len(), 2, "its hooks run again");
}

#[test]
fn d_84_the_last_step_keeps_the_connection_until_it_is_over() {
    let (stage, hop) = stage();
    stage.script("10-a out-message set-data:7\n10-a out-close data socket send:x hold:go\n");
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    take(&mut visit);
    await_status(&server, "delivered", 1);
    visit.say("421 bye");
    drop(visit);
    await_status(&server, "held", 1);
    assert_eq!(stage.lines("kept"), ["10-a kept 7"]);
    assert!(stage.lines("socket open=1").len() == 1 && stage.lines("sent 0").len() == 1);
    assert_eq!(server.status().count("outgoing_connections"), 1);
    stage.release("go", "data continue");
    await_status(&server, "outgoing_connections", 0);
    assert_eq!(stage.lines("kept"), ["10-a kept 7"; 2]);
    assert_eq!(stage.calls(&["out-close"]).len(), 1);
}

#[test]
fn d_53_a_stop_takes_every_step_back() {
    for step in ["out-connect", "out-message", "out-sent", "out-result", "out-close"] {
        let (stage, hop) = stage();
        let stage = stage.setting("plugin-shutdown-timeout", 1).setting("smtp-out-dot-timeout", 3);
        stage.script(&format!("10-a {step} true\n"));
        let (mut server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.greet();
        if step != "out-connect" {
            visit.expect("EHLO ");
            visit.say("250 hop.example");
        }
        if !["out-connect", "out-message"].contains(&step) {
            visit.mail_to_data();
            visit.say("354 go on");
            visit.text();
            if step != "out-sent" {
                visit.say("250 2.0.0 taken");
            }
        }
        if step == "out-close" {
            await_status(&server, "delivered", 1);
            drop(visit);
        }
        await_status(&server, "held", 1);
        assert!(server.terminate().success(), "{step}");
        assert_eq!(stage.calls(&["context-cleanup"]), ["10-a context-cleanup"]);
        let left = if ["out-result", "out-close"].contains(&step) { 0 } else { 1 };
        let count = server.plan().report(&["queue", "count"]);
        assert_eq!(count.lines().next(), Some(left.to_string().as_str()), "{step}");
    }
}

#[test]
fn results_say_which_plugin_decided_and_what() {
    let (stage, hop) = stage();
    let stage = stage.setting("queue-results", "all");
    stage.script("10-a out-message bounce-as:0::no\n");
    let (server, _client) = with_mail(&stage, &hop);
    let _visit = hop.accept();
    await_status(&server, "bounced", 1);
    let result: Value = eventually("a result", PATIENCE, || {
        let taken = server.plan().report(&["queue", "take", "all"]);
        taken.lines().next().and_then(|line| serde_json::from_str(line).ok())
    });
    let attempt = &result["results"][0];
    assert_eq!(attempt["plugin"]["name"], "10-a.so");
    assert_eq!(attempt["plugin"]["decision"], "bounce");
    assert_eq!(
        (&attempt["result"], &attempt["code"], &attempt["status"]),
        (&"plugin".into(), &550.into(), &"5.7.1".into())
    );
}

#[test]
fn a_plugin_turns_a_host_down_and_the_mail_waits_for_another() {
    let (stage, hop) = stage();
    stage.script("10-a out-connect disconnect\n");
    let (mut server, _client) = with_mail(&stage, &hop);
    hop.greet().await_end();
    server.process().await_complaint(PATIENCE, "the plugin 10-a.so does not want this host");
    stage.script("");
    let mut visit = hop.accept_to_data();
    take(&mut visit);
    await_status(&server, "delivered", 1);
    assert_eq!(server.status().count("retried"), 0, "that was no attempt");
    assert_eq!(stage.calls(&["out-close"]), ["10-a out-close"], "of the first one");
}

#[test]
fn a_step_that_a_plugin_failed_is_worth_what_the_settings_say() {
    // What it decided before it failed is worth nothing.
    let rows = [
        ("out-message", "", "tempfail", "retried"),
        ("out-message", "bounce", "tempfail", "retried"),
        ("out-message", "", "reject", "bounced"),
        ("out-message", "", "accept", "delivered"),
        ("out-message", "bounce", "accept", "delivered"),
        ("out-data", "", "tempfail", "retried"),
        ("out-data", "bounce", "tempfail", "retried"),
        ("out-data", "", "reject", "bounced"),
        ("out-data", "retry-in:0", "reject", "bounced"),
        ("out-data", "bounce", "accept", "delivered"),
        ("out-sent", "", "reject", "delivered"),
        ("out-result", "", "reject", "delivered"),
    ];
    for (step, words, failure, number) in rows {
        let (stage, hop) = stage();
        let stage = stage.setting("plugin-failure", failure);
        stage.script(&format!("10-a {step} {words} fail\n"));
        let (server, _client) = with_mail(&stage, &hop);
        let mut visit = hop.accept();
        if step != "out-message" || failure == "accept" {
            visit.mail_to_data();
            visit.say("354 go on");
        }
        if number == "delivered" {
            visit.text();
            visit.say("250 2.0.0 taken");
        }
        await_status(&server, number, 1);
        assert!(!stage.lines("10-a failed 1").is_empty(), "{step} {words} {failure}");
        if number != "delivered" {
            let told = latest(&server)["description"].clone();
            let expected = "the plugin 10-a.so failed, as it says itself";
            assert_eq!(told, expected, "{step} {words} {failure}");
        }
    }
}

#[test]
fn plugins_are_told_where_a_mail_goes_and_how_often_it_was_tried() {
    let (stage, hop) = stage();
    stage.script("10-a out-message facts host message-facts\n");
    let (server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    visit.say("451 later");
    await_status(&server, "retried", 1);
    let id = only(&server)["id"].as_str().expect("mails have names").to_owned();
    visit.expect("RSET");
    visit.say("250 ok");
    visit.mail_to_data();
    take(&mut visit);
    await_status(&server, "delivered", 1);
    for line in [
        "fact peer 127.0.0.1/9 1".to_owned(),
        format!("fact port {}", hop.address().port()),
        "fact helo hop.example/11 1".to_owned(),
        "fact login NULL/0 0".to_owned(),
        "fact tls NULL/0 0".to_owned(),
        "host 127.0.0.1/9".to_owned(),
        format!("fact id {id}/{}", id.len()),
        "fact recipient someone@example.org/19".to_owned(),
    ] {
        assert_eq!(stage.lines(&format!("10-a {line}")).len(), 2, "{line}: {:?}", stage.journal());
    }
    assert_eq!(stage.lines("fact attempt"), ["10-a fact attempt 1", "10-a fact attempt 2"]);
}

#[test]
fn a_hold_with_a_name_and_a_time_of_its_own_works_on_the_way_out_too() {
    let (stage, hop) = stage();
    // What it decides when its time is over is done: it releases the step itself.
    stage.script("10-a out-message@late name:0.05\n10-a expired bounce release:1\n");
    let (server, mut client) = start(&stage, &hop);
    mail(&mut client, "late@example.org");
    let _visit = hop.accept();
    await_status(&server, "bounced", 1);
    assert_eq!(stage.lines("10-a bounce 1").len(), 1);
    await_status(&server, "held", 0);
}

#[test]
fn decisions_about_what_is_none_of_theirs_are_misuse() {
    let (stage, hop) = stage();
    stage.script(
        "10-a message bounce retry-in:1 route:a.example:1 state\n\
         10-a out-message bounce-as:450::x bounce-as:0:4.7.1:x retry-in:nan route:a%20b:25 route:a:70000\n",
    );
    let (mut server, _client) = with_mail(&stage, &hop);
    let mut visit = hop.accept_to_data();
    take(&mut visit);
    await_status(&server, "delivered", 1);
    let said = ["bounce 0", "retry-in 0", "route 0", "state NULL"];
    let wrong = ["bounce-as 0", "bounce-as 0", "retry-in 0", "route 0", "route 0"];
    let words = stage.journal().into_iter().filter_map(|line| {
        let line = line.strip_prefix("10-a ")?.to_owned();
        ["bounce", "retry-in", "route", "state"]
            .iter()
            .any(|word| line.starts_with(word))
            .then_some(line)
    });
    assert_eq!(words.collect::<Vec<_>>(), [&said[..], &wrong].concat());
    for complaint in [
        "MQX_bounce: the message is not an outgoing one",
        "MQX_bounce: code is neither 0 nor 500 to 559",
        "MQX_bounce: status is not like 5.7.1",
        "MQX_retryAt: unix_seconds is not a number",
        "MQX_route: host is neither a name nor an address",
        "MQX_route: port is not 0 to 65535",
    ] {
        server.process().await_complaint(PATIENCE, complaint);
    }
}
