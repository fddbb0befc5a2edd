//! Plugins of several generations in one chain, and what the later ones have: addresses, and local
//! recipients.

use super::probe::{Stage, await_status, client, client_in_transaction, mail, say};
use crate::support::{PATIENCE, Server};

/// G1, G2 and G3, asked in this order.
fn mixed() -> Stage {
    Stage::new(&["10-first"]).probe("20-second", 401).probe("30-third", 506)
}

fn heard(stage: &Stage, name: &str) -> Vec<String> {
    stage.lines(name).into_iter().filter(|line| line.contains("fd=")).collect()
}

#[test]
fn d_02_d_10_each_generation_holds_and_hands_back_in_its_own_way() {
    let stage = mixed();
    stage.script(
        "10-first mailfrom hold:one\n20-second mailfrom hold:two\n30-third mailfrom hold:three\n\
         10-first rcptto continue-elsewhere true\n20-second rcptto continue-elsewhere true\n\
         30-third rcptto complete true\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    client.send(b"MAIL FROM:<from@example.org>\r\n").unwrap();
    for (tag, word) in
        [("one", "continue"), ("two", "retry"), ("one", "continue"), ("two", "continue")]
    {
        await_status(&server, "held", 1);
        stage.release(tag, word);
    }
    await_status(&server, "held", 1);
    stage.release("three", "continue");
    client.reply().unwrap().require(250).unwrap();
    say(&mut client, "RCPT TO:<to@example.org>", 250);
    let asked = |hook: &str| {
        let lines = ["10-first", "20-second", "30-third"]
            .map(|name| heard(&stage, name).iter().filter(|line| line.contains(hook)).count());
        lines.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(asked("mailfrom"), [2, 2, 1], "the retry began with the first again");
    assert_eq!(asked("rcptto"), [1, 1, 1]);
}

#[test]
fn d_43_each_generation_sees_what_the_others_have_set() {
    let stage = mixed();
    let sink = stage.sink(&[]);
    let stage = stage.smarthost(sink.address());
    stage.script(
        "10-first message set-recipient:second@example.org set-envelope:a@example.org\n\
         20-second message recipient envelope set-recipient:third@example.org\n\
         30-third message recipient envelope set-mime:Subject:%20x%0D%0A%0D%0Anew%0D%0A\n",
    );
    let server = stage.start();
    mail(&mut client(&server), "first@example.org");
    sink.await_count(1, PATIENCE);
    let dumped = String::from_utf8(sink.dumped()).expect("a sink writes JSON");
    for part in ["third@example.org", "a@example.org", "new"] {
        assert!(dumped.contains(part), "{part}: {dumped}");
    }
    assert_eq!(stage.lines("20-second recipient"), ["20-second recipient second@example.org"]);
    assert_eq!(stage.lines("30-third envelope"), ["30-third envelope a@example.org"]);
    assert_eq!(stage.lines("30-third recipient"), ["30-third recipient third@example.org"]);
}

#[test]
fn d_3b_the_null_sender_is_empty_in_g1_and_has_no_email_later() {
    let stage = mixed();
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<>", 250);
    say(&mut client, "RSET", 250);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    let seen = |name: &str| {
        let lines = heard(&stage, name).into_iter().filter(|line| line.contains("mailfrom"));
        lines.map(|line| line.rsplit(' ').next().unwrap_or("").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(seen("10-first"), ["/0", "a@example.org/13"]);
    for name in ["20-second", "30-third"] {
        assert_eq!(seen(name), ["NULL", "a@example.org"], "{name}");
    }
}

/// A server that takes mail of strangers for example.org only.
fn closed(stage: Stage) -> (Stage, Server) {
    let stage = stage.setting("smtp-relay-range", "192.0.2.0/24");
    let stage = stage.setting("local-domains", "example.org");
    let server = stage.start();
    (stage, server)
}

#[test]
fn d_71_a_recipient_that_a_plugin_calls_local_is_taken_from_everybody() {
    let stage = mixed();
    stage.script(
        "30-third rcptto@ours local set-local:1 local\n30-third rcptto@theirs set-local:0\n\
         30-third message local\n",
    );
    let (stage, server) = closed(stage);
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<from@example.net>", 250);
    say(&mut client, "RCPT TO:<stranger@example.com>", 550);
    say(&mut client, "RCPT TO:<theirs@example.org>", 550);
    say(&mut client, "RCPT TO:<ours@example.com>", 250);
    // What was said of one address says nothing of the same one in another transaction.
    stage.script("30-third message local\n");
    say(&mut client, "DATA", 354);
    say(&mut client, "text\r\n.", 250);
    assert_eq!(
        stage.lines("30-third local"),
        ["30-third local 0", "30-third local 1", "30-third local 1"]
    );
    say(&mut client, "MAIL FROM:<from@example.net>", 250);
    say(&mut client, "RCPT TO:<ours@example.com>", 550);
}

#[test]
fn d_3c_d_71_without_plugins_that_can_say_so_nobody_is_asked_about_a_recipient_that_is_refused() {
    let stage = Stage::new(&["10-first"]);
    let (stage, server) = closed(stage);
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<from@example.net>", 250);
    say(&mut client, "RCPT TO:<stranger@example.com>", 550);
    say(&mut client, "RCPT TO:<ours@example.org>", 250);
    let asked = heard(&stage, "10-first").iter().filter(|line| line.contains("rcptto")).count();
    assert_eq!(asked, 1);
}

/// One plugin of a later generation must not show relay attempts to those who never saw any, nor let a
/// plugin's answer hide the host's.
#[test]
fn d_3c_the_host_refuses_what_no_plugin_calls_local_whatever_they_answer() {
    let stage = mixed();
    stage.script(
        "10-first rcptto defer:451,4.7.1,Come%20back\n20-second rcptto@later defer\n\
         20-second rcptto@never reject:554,5.1.1,Nobody\n20-second rcptto@drop discard\n\
         20-second rcptto@held hold:go\n20-second rcptto@unknown fail\n\
         30-third rcptto@ours set-local:1\n30-third rcptto@full set-local:1 reject:552,5.2.2,Full\n\
         30-third rcptto@short set-local:1 complete\n30-third rcptto@lost set-local:1 discard\n\
         20-second rcptto@end disconnect\n",
    );
    let (stage, server) = closed(stage);
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<from@example.net>", 250);
    let relaying = "5.7.1 Relaying is not allowed";
    for recipient in ["stranger", "later", "never", "drop"] {
        let said = say(&mut client, &format!("RCPT TO:<{recipient}@example.com>"), 550);
        assert_eq!(said, relaying, "{recipient}");
    }
    client.send(b"RCPT TO:<held@example.com>\r\n").unwrap();
    await_status(&server, "held", 1);
    stage.release("go", "defer continue");
    client.reply().unwrap().require(550).unwrap();
    // D-27: whether it is local cannot be told now.
    say(&mut client, "RCPT TO:<unknown@example.com>", 451);
    assert_eq!(stage.lines("10-first rcptto"), [""; 0]);
    // Called local, it is a recipient as any other, for those who have not been asked as well.
    assert_eq!(say(&mut client, "RCPT TO:<full@example.com>", 552), "5.2.2 Full");
    say(&mut client, "RCPT TO:<short@example.com>", 250);
    say(&mut client, "RCPT TO:<lost@example.com>", 250);
    assert_eq!(stage.lines("10-first rcptto"), [""; 0]);
    assert_eq!(say(&mut client, "RCPT TO:<ours@example.com>", 451), "4.7.1 Come back");
    assert_eq!(stage.lines("10-first rcptto").len(), 1);
    // What the client may send to is shown to all, in their order.
    assert_eq!(say(&mut client, "RCPT TO:<b@example.org>", 451), "4.7.1 Come back");
    assert_eq!(stage.lines("10-first rcptto").len(), 2);
    let said = say(&mut client, "RCPT TO:<end@example.com>", 550);
    assert_eq!(said, relaying);
    client.await_close().unwrap();
}

#[test]
fn d_71_a_login_that_a_plugin_grants_at_rcpt_counts_there() {
    let stage = mixed();
    stage.script("30-third rcptto@friend authenticate:1\n");
    let (_stage, server) = closed(stage);
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<from@example.net>", 250);
    say(&mut client, "RCPT TO:<stranger@example.com>", 550);
    say(&mut client, "RCPT TO:<friend@example.com>", 250);
}

#[test]
fn d_70_d_6f_local_is_by_the_settings_until_a_plugin_says_otherwise() {
    let stage = mixed();
    let file = stage.plan.directory().join("locals");
    std::fs::write(&file, "# ours\nlisted@example.net\n*@whole.example\n").expect("writable");
    let stage = stage.setting("local-addresses", file.display());
    stage.script(
        "20-second message local set-recipient:x@example.com local set-recipient:y@whole.example local\n\
         30-third message set-local:0 local\n",
    );
    let (stage, server) = closed(stage);
    let mut client = client(&server);
    mail(&mut client, "listed@example.net");
    let said = ["20-second local 1", "20-second local 0", "20-second local 1"];
    assert_eq!(stage.lines("20-second local"), said);
    assert_eq!(stage.lines("30-third local"), ["30-third local 0"]);
}

#[test]
fn local_addresses_are_read_again_with_the_settings() {
    let stage = mixed();
    let file = stage.plan.directory().join("locals");
    std::fs::write(&file, "one@example.net\n").expect("writable");
    let (_stage, server) = closed(stage.setting("local-addresses", file.display()));
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<from@example.net>", 250);
    say(&mut client, "RCPT TO:<one@example.net>", 250);
    say(&mut client, "RCPT TO:<two@example.net>", 550);
    std::fs::write(&file, "two@example.net\n").expect("writable");
    assert_eq!(server.plan().order(&["reload"]).code, Some(0));
    say(&mut client, "RCPT TO:<two@example.net>", 250);
    std::fs::write(&file, "nobody\n").expect("writable");
    let refused = server.plan().order(&["reload"]);
    let said = refused.stdout + &refused.stderr;
    assert!(refused.code != Some(0) && said.contains("locals:1: `nobody`"), "{said}");
    say(&mut client, "RCPT TO:<two@example.net>", 250);
}

#[test]
fn d_15_contexts_of_later_generations_may_block_and_traffic_waits_for_all() {
    let stage = mixed().setting("smtp-threads", 2);
    stage.script("20-second context block:200\n30-third context block:50\n");
    let server = stage.start();
    // It has printed that it is ready: all contexts of both workers were initialised before.
    assert_eq!(stage.lines("20-second context").len(), 2);
    assert_eq!(stage.lines("30-third context").len(), 2);
    say(&mut client(&server), "NOOP", 250);
}

#[test]
fn an_address_that_is_over_is_misuse_and_not_read() {
    let stage = mixed();
    stage.script("30-third mailfrom keep email\n30-third data with-kept email\n");
    let mut server = stage.start();
    mail(&mut client(&server), "to@example.org");
    assert_eq!(
        stage.lines("30-third email"),
        ["30-third email sender@example.org", "30-third email NULL"]
    );
    server.process().await_complaint(
        PATIENCE,
        "30-third.so: MQ_email: the pointer given as MQ_Address is none, or",
    );
}

#[test]
fn d_60_an_address_stays_valid_while_its_step_is_held() {
    let stage = mixed();
    stage.script("30-third rcptto hold:go\n");
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<from@example.org>", 250);
    client.send(b"RCPT TO:<to@example.org>\r\n").unwrap();
    await_status(&server, "held", 1);
    stage.script("");
    drop(client_in_transaction(&server));
    stage.release("go", "email continue");
    client.reply().unwrap().require(250).unwrap();
    assert_eq!(stage.lines("30-third email"), ["30-third email to@example.org"]);
}
