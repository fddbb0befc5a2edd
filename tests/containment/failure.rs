//! `plugin-failure`: what becomes of a step that a plugin held for too long (D-27).

use crate::plugins::hop::Hop;
use crate::plugins::probe::{Stage, await_status, client, client_in_transaction, mail, say};
use crate::support::{PATIENCE, SmtpClient};

fn stage(policy: &str) -> Stage {
    Stage::new(&["10-a", "20-b"])
        .setting("plugin-timeout", "100ms")
        .setting("plugin-failure", policy)
}

#[test]
fn d_27_reject_refuses_the_step_for_good() {
    let stage = stage("reject");
    stage.script("10-a mailfrom@held true\n10-a rcptto@held true\n10-a data true\n");
    let mut server = stage.start();
    let mut one = client(&server);
    let said = say(&mut one, "MAIL FROM:<held@example.org>", 554);
    assert!(said.starts_with("5.3.0"), "{said}");
    server.process().await_complaint(PATIENCE, "10-a.so: mq_smtp_in_mailfrom was held too long");
    // D-28: on this connection it is not asked again.
    say(&mut one, "MAIL FROM:<free@example.org>", 250);
    say(&mut one, "QUIT", 221);
    let mut two = client_in_transaction(&server);
    say(&mut two, "DATA", 354);
    say(&mut two, "text\r\n.", 554);
    assert_eq!((server.queue_count(), server.status().count("memory_used")), (0, 0));

    stage.script("10-a connect true\n");
    let mut refused = SmtpClient::connect(server.smtp()).unwrap();
    refused.reply().unwrap().require(554).unwrap();
}

#[test]
fn d_27_d_28_accept_asks_the_next_plugin_and_the_step_goes_on() {
    let stage = stage("accept");
    stage.script("10-a connect true\n10-a close true\n10-a out-data true\n20-b data true\n");
    let hop = Hop::listen();
    let mut server = stage.clone().smarthost(hop.address()).start();
    let mut one = client(&server);
    server.process().await_complaint(PATIENCE, "10-a.so: mq_smtp_in_connect was held too long");
    mail(&mut one, "someone@example.org");
    assert_eq!(stage.calls(&["mailfrom"]), ["20-b mailfrom"], "the late one is passed over");
    say(&mut one, "QUIT", 221);
    // Outgoing as well: the mail leaves as it is.
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    assert!(visit.text().ends_with("\r\ntext\r\n.\r\n"));
    visit.say("250 taken");
    await_status(&server, "delivered", 1);
    await_status(&server, "held", 0);
    assert_eq!(stage.calls(&["out-data"]), ["10-a out-data", "20-b out-data"]);
    // Connect, data, the other's data, and close.
    await_status(&server, "incoming_connections", 0);
    assert_eq!(server.status().count("plugin_revoked"), 4, "{:?}", stage.journal());
}

#[test]
fn d_27_accept_grants_no_login() {
    for (policy, code) in [("accept", 535), ("tempfail", 454), ("reject", 535)] {
        let stage = Stage::judging(&["10-a"])
            .setting("plugin-timeout", "100ms")
            .setting("plugin-failure", policy);
        stage.script("10-a authenticate true\n");
        let server = stage.start();
        let mut client = client(&server);
        // "\0user\0pass"
        say(&mut client, "AUTH PLAIN AHVzZXIAcGFzcw==", code);
        say(&mut client, "MAIL FROM:<a@example.org>", 250);
        say(&mut client, "RCPT TO:<b@example.org>", 530);
    }
}

#[test]
fn d_27_reject_fails_a_mail_that_goes_out() {
    let stage = stage("reject");
    stage.script("10-a out-data true\n");
    let hop = Hop::listen();
    let server = stage.clone().smarthost(hop.address()).start();
    mail(&mut client(&server), "someone@example.org");
    let mut visit = hop.accept_to_data();
    visit.say("354 go on");
    visit.await_end();
    await_status(&server, "bounced", 1);
    await_status(&server, "held", 0);
    let shown = stage.plan.report(&["queue", "list"]);
    assert!(shown.contains("5.3.0") && shown.contains("plugin-timeout"), "{shown}");
}
