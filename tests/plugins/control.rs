//! Control: who has a step, and what becomes of every way to hand it back.

use super::probe::{Stage, await_status, client, client_in_transaction, say};
use crate::support::{PATIENCE, Server, SmtpClient};

/// A server, a client, and its MAIL, which the script holds.
fn held(stage: &Stage) -> (Server, SmtpClient) {
    let server = stage.start();
    let mut client = client(&server);
    client.send(b"MAIL FROM:<a@example.org>\r\n").expect("the dialogue goes on");
    await_status(&server, "held", 1);
    (server, client)
}

#[test]
fn d_20_a_hand_back_inside_the_hook_is_taken_when_it_returns() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a mailfrom continue true\n10-a rcptto complete true\n");
    let server = stage.start();
    client_in_transaction(&server);
    assert_eq!(
        stage.calls(&["mailfrom", "rcptto"]),
        ["10-a mailfrom", "20-b mailfrom", "10-a rcptto"]
    );
    assert_eq!(server.status().count("held"), 0);
}

#[test]
fn d_21_a_hand_back_and_then_false_counts_and_is_warned_of_once() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a mailfrom complete\n10-a rcptto continue\n");
    let mut server = stage.start();
    client_in_transaction(&server);
    assert_eq!(
        stage.calls(&["mailfrom", "rcptto"]),
        ["10-a mailfrom", "10-a rcptto", "20-b rcptto"]
    );
    assert!(server.terminate().success());
    let said = server.process().stderr.complete();
    assert_eq!(
        said.matches("10-a.so: a hook handed control back and then returned false").count(),
        1,
        "{said}"
    );
}

#[test]
fn d_22_d_25_the_first_of_several_hand_backs_counts() {
    for (words, called) in [("continue complete retry", 1), ("complete continue", 0)] {
        let stage = Stage::new(&["10-a", "20-b"]);
        stage.script("10-a mailfrom hold:go\n");
        let (mut server, mut client) = held(&stage);
        stage.release("go", words);
        client.reply().unwrap().require(250).unwrap();
        server.process().await_complaint(PATIENCE, "control was handed back already");
        assert_eq!(stage.calls(&["mailfrom"]).len(), 1 + called, "{words}");
        // What came too late was not kept for the next step.
        say(&mut client, "RCPT TO:<b@example.org>", 250);
        assert_eq!(stage.calls(&["rcptto"]), ["10-a rcptto", "20-b rcptto"]);
    }
}

#[test]
fn d_23_nobody_hands_back_what_another_holds() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("20-b connect await:foreign\n10-a mailfrom hold:own\n");
    let (mut server, mut client) = held(&stage);
    stage.release("foreign", "continue complete");
    server
        .process()
        .await_complaint(PATIENCE, "20-b.so: MQ_Continue: this plugin is not in control");
    assert_eq!(server.status().count("held"), 1);
    assert_eq!(stage.lines("20-b mailfrom"), [""; 0]);
    stage.release("own", "continue");
    client.reply().unwrap().require(250).unwrap();
    assert_eq!(stage.calls(&["mailfrom"]), ["10-a mailfrom", "20-b mailfrom"]);
}

#[test]
fn d_24_a_hand_back_of_what_was_never_taken_is_ignored() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a connect await:late\n");
    let mut server = stage.start();
    let mut client = client(&server);
    stage.release("late", "complete");
    server
        .process()
        .await_complaint(PATIENCE, "10-a.so: MQ_Complete: this plugin is not in control");
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    assert_eq!(stage.calls(&["mailfrom"]), ["10-a mailfrom", "20-b mailfrom"]);
}

#[test]
fn d_26_other_threads_hand_back_and_log_but_do_nothing_else() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script(
        "10-a connect misuse-elsewhere context-data data\n10-a mailfrom hold:go\n\
         10-a rcptto continue-later-elsewhere true\n10-a data complete-elsewhere true\n20-b message retries:1 true\n",
    );
    let (mut server, mut client) = held(&stage);
    let nothing = [
        "10-a elsewhere context-data=0 data=0 sent=0 fd=-1 timer=0",
        "10-a context-data 0",
        "10-a kept 0",
    ];
    assert_eq!(
        stage
            .journal()
            .into_iter()
            .skip_while(|line| !line.contains("elsewhere"))
            .take(3)
            .collect::<Vec<_>>(),
        nothing
    );
    for complaint in
        ["10-a.so: MQ_SmtpSend: called on a thread that does not own", "10-a logs from elsewhere"]
    {
        server.process().await_complaint(PATIENCE, complaint);
    }
    stage.release("go", "continue-elsewhere");
    client.reply().unwrap().require(250).unwrap();
    // One that overtakes the end of its hook, and one that comes after it.
    say(&mut client, "RCPT TO:<b@example.org>", 250);
    say(&mut client, "DATA", 354);
    say(&mut client, "text\r\n.", 250);
    let expected = [
        "10-a mailfrom",
        "20-b mailfrom",
        "10-a rcptto",
        "20-b rcptto",
        "10-a data",
        "10-a message",
        "20-b message",
        "10-a message",
        "20-b message",
    ];
    assert_eq!(stage.calls(&["mailfrom", "rcptto", "data", "message"]), expected);
    await_status(&server, "held", 0);
}

/// D-28: a plugin that is not asked any more must not have granted anything for good.
#[test]
fn d_27_a_grant_ends_with_the_hold_that_took_too_long() {
    let stage = Stage::new(&["10-a"])
        .setting("plugin-timeout", "100ms")
        .setting("smtp-relay-range", "192.0.2.0/24");
    stage.script("10-a mailfrom@good authenticate:1\n10-a mailfrom@slow true\n");
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<good@example.org>", 250);
    say(&mut client, "RCPT TO:<b@example.net>", 250);
    say(&mut client, "RSET", 250);
    say(&mut client, "MAIL FROM:<slow@example.org>", 451);
    say(&mut client, "MAIL FROM:<evil@example.org>", 250);
    say(&mut client, "RCPT TO:<b@example.net>", 550);
}

#[test]
fn d_27_what_is_held_too_long_is_taken_back_in_every_incoming_step() {
    let stage = Stage::new(&["10-a", "20-b"]).setting("plugin-timeout", "100ms");
    stage.script("10-a mailfrom@held true\n10-a rcptto@held true\n10-a connect keep\n");
    let mut server = stage.start();
    let mut one = client(&server);
    let said = say(&mut one, "MAIL FROM:<held@example.org>", 451);
    assert!(said.starts_with("4.3.0"), "{said}");
    server.process().await_complaint(PATIENCE, "10-a.so: mq_smtp_in_mailfrom was held too long");
    // The session goes on: the command failed, nothing else.
    say(&mut one, "MAIL FROM:<free@example.org>", 250);
    assert_eq!(stage.lines("20-b mailfrom").len(), 1, "only the second");
    say(&mut one, "QUIT", 221);

    for hook in ["data", "message"] {
        stage.script(&format!("10-a {hook} true\n"));
        let mut client = client_in_transaction(&server);
        say(&mut client, "DATA", 354);
        say(&mut client, "text\r\n.", 451);
        server
            .process()
            .await_complaint(PATIENCE, &format!("10-a.so: mq_smtp_in_{hook} was held too long"));
        say(&mut client, "QUIT", 221);
        await_status(&server, "incoming_connections", 0);
    }
    assert_eq!((server.queue_count(), server.status().count("memory_used")), (0, 0));

    stage.script("10-a connect true\n10-a close true\n");
    let mut refused = SmtpClient::connect(server.smtp()).unwrap();
    refused.reply().unwrap().require(421).unwrap();
    refused.await_close().unwrap();
    // A close that is held too long comes to its end too, and the others get theirs.
    await_status(&server, "incoming_connections", 0);
    await_status(&server, "held", 0);
    assert_eq!(server.status().count("plugin_revoked"), 5, "{:?}", stage.journal());
    assert_eq!(stage.lines("20-b close").len(), 4);
}

#[test]
fn d_28_a_revoked_plugin_is_passed_over_until_its_late_hand_back_except_in_close() {
    // Long enough for what this test does while the other plugin holds.
    let stage = Stage::new(&["10-a", "20-b"]).setting("plugin-timeout", 5);
    stage.script("10-a mailfrom@held hold:late\n20-b rcptto@second hold:other\n");
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<held@example.org>", 451);
    say(&mut client, "MAIL FROM:<free@example.org>", 250);
    say(&mut client, "RCPT TO:<first@example.org>", 250);
    assert_eq!(
        stage.calls(&["mailfrom", "rcptto"]),
        ["10-a mailfrom", "20-b mailfrom", "20-b rcptto"]
    );

    // The late hand-back does not release what the other plugin holds now, which does it itself.
    client.send(b"RCPT TO:<second@example.org>\r\n").unwrap();
    stage.await_lines("20-b rcptto fd=", 2);
    stage.release("late", "complete");
    let status = server.status();
    let (held, revoked) = (status.count("held"), status.count("plugin_revoked"));
    assert_eq!((held, revoked), (1, 1), "it is still held, and not because it was revoked");
    stage.release("other", "continue");
    client.reply().unwrap().require(250).unwrap();

    say(&mut client, "RCPT TO:<third@example.org>", 250);
    assert_eq!(stage.calls(&["rcptto"])[2..], ["10-a rcptto", "20-b rcptto"], "it is asked again");
}

#[test]
fn d_28_the_close_hook_comes_even_to_who_owes_a_hand_back() {
    let stage = Stage::new(&["10-a"]).setting("plugin-timeout", "100ms");
    stage.script("10-a connect set-data:4\n10-a mailfrom true\n10-a close data\n");
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<held@example.org>", 451);
    say(&mut client, "QUIT", 221);
    stage.await_line("10-a kept 4");
    await_status(&server, "incoming_connections", 0);
}

#[test]
fn d_29_a_retry_loop_ends_as_complete_with_a_critical_line() {
    let stage = Stage::new(&["10-a", "20-b"]).setting("plugin-retries", 5);
    stage.script("10-a mailfrom retry true\n");
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    assert_eq!(stage.calls(&["mailfrom"]), ["10-a mailfrom"; 6], "the first call and five more");
    server.process().await_complaint(PATIENCE, "mq_smtp_in_mailfrom was retried 5 times");
    // The count is the step's.
    say(&mut client, "RSET", 250);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    assert_eq!(stage.calls(&["mailfrom"]).len(), 12);
}

#[test]
fn d_29_without_a_limit_retries_within_the_hook_still_end() {
    let stage = Stage::new(&["10-a"]).setting("plugin-retries", 0);
    stage.script("10-a mailfrom retry true\n");
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    server.process().await_complaint(PATIENCE, "mq_smtp_in_mailfrom was retried 10000 times");
}

#[test]
fn d_2a_retry_restarts_this_step_and_keeps_what_was_changed() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("20-b message set-recipient:other@example.org retries:1 true\n");
    let server = stage.start();
    let mut client = client_in_transaction(&server);
    say(&mut client, "DATA", 354);
    say(&mut client, "text\r\n.", 250);
    let seen: Vec<String> = stage
        .lines("10-a message")
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(seen, ["someone@example.org", "other@example.org"]);
    assert_eq!(
        stage.calls(&["mailfrom", "rcptto", "data"]).len(),
        6,
        "earlier steps are not repeated"
    );
}

#[test]
fn d_2b_complete_affects_its_own_step_only() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a mailfrom hold:go\n");
    let (_server, mut client) = held(&stage);
    stage.release("go", "complete");
    client.reply().unwrap().require(250).unwrap();
    say(&mut client, "RCPT TO:<b@example.org>", 250);
    assert_eq!(
        stage.calls(&["mailfrom", "rcptto"]),
        ["10-a mailfrom", "10-a rcptto", "20-b rcptto"]
    );
}

#[test]
fn d_2c_many_recipients_and_immediate_answers_need_no_stack() {
    const RECIPIENTS: usize = 400;
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a message continue true\n20-b message continue true\n");
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    let recipients: String =
        (0..RECIPIENTS).map(|n| format!("RCPT TO:<r{n}@example.org>\r\n")).collect();
    client.send(recipients.as_bytes()).unwrap();
    for _ in 0..RECIPIENTS {
        client.reply().unwrap().require(250).unwrap();
    }
    say(&mut client, "DATA", 354);
    client.send(b"text\r\n.\r\n").unwrap();
    client.reply().unwrap().require(250).unwrap();
    assert_eq!(stage.calls(&["message"]).len(), 2 * RECIPIENTS);
    assert_eq!(server.queue_count(), RECIPIENTS as u64);
}

#[test]
fn d_2d_d_47_while_a_step_is_held_no_other_of_its_connection_begins() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a rcptto@first hold:go\n");
    let server = stage.start();
    let mut client = client(&server);
    client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<first@example.org>\r\nRCPT TO:<second@example.org>\r\nDATA\r\n").unwrap();
    client.reply().unwrap().require(250).unwrap();
    await_status(&server, "held", 1);
    client.send(b"text\r\n.\r\nNOOP\r\nQUIT\r\n").unwrap();
    // Another connection is served meanwhile, on the same worker.
    client_in_transaction(&server);
    assert_eq!(stage.lines("second@"), [""; 0]);
    stage.release("go", "continue");
    for code in [250, 250, 354, 250, 250, 221] {
        client.reply().unwrap().require(code).unwrap();
    }
    client.await_close().unwrap();
}

#[test]
fn d_2f_chains_go_on_in_the_order_of_their_hand_backs() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a mailfrom park\n10-a rcptto await:all\n");
    let server = stage.start();
    let mut clients: Vec<SmtpClient> = Vec::new();
    for n in 0..4 {
        let mut client = client(&server);
        client.send(format!("MAIL FROM:<m{n}@example.org>\r\n").as_bytes()).unwrap();
        await_status(&server, "held", n + 1);
        clients.push(client);
    }
    stage.script("10-a connect await:all\n");
    let mut last = client(&server);
    stage.release("all", "unpark");
    for client in &mut clients {
        client.reply().unwrap().require(250).unwrap();
    }
    let order: Vec<String> = stage
        .lines("20-b mailfrom")
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap()[..2].to_owned())
        .collect();
    assert_eq!(order, ["m3", "m2", "m1", "m0"], "as `unpark` handed back");
    say(&mut last, "NOOP", 250);
}

#[test]
fn d_2e_a_plugin_holds_as_many_steps_as_the_settings_let_it() {
    let stage = Stage::new(&["10-a"]).setting("plugin-holds", 2);
    stage.script("10-a mailfrom hold:go\n");
    let server = stage.start();
    let mut clients: Vec<SmtpClient> = (0..3).map(|_| client(&server)).collect();
    for (client, held) in clients[..2].iter_mut().zip(1..) {
        client.send(b"MAIL FROM:<a@example.org>\r\n").unwrap();
        await_status(&server, "held", held);
    }
    let mut refused = SmtpClient::connect(server.smtp()).unwrap();
    refused.reply().unwrap().require(421).unwrap();
    refused.await_close().unwrap();
    // D-31: no plugin has seen it. Who is there already goes on.
    assert_eq!(stage.calls(&["connect"]).len(), 3);
    say(&mut clients[2], "NOOP", 250);
    stage.release("go", "continue");
    await_status(&server, "held", 1);
    say(&mut client(&server), "NOOP", 250);
}
