//! Plugins that judge logins: who is asked in what order, and whose word counts.

use super::probe::{Stage, await_status, client, compiled, mail, say};
use crate::login::{self, plain};
use crate::support::{PATIENCE, Sanitizer, Sink, SmtpClient};

/// Users that the server itself knows.
const USERS: &str = "hardcoded://tim@x:geheim";

#[test]
fn d_34_plugins_are_asked_before_the_users_of_the_setting() {
    let stage = Stage::judging(&["10-a", "20-b"]).setting("smtp-auth", USERS);
    stage.script(
        "10-a authenticate@anna authenticate:1\n20-b authenticate@anna authenticated\n\
         10-a authenticate@tim authenticated\n20-b authenticate@tim authenticated\n",
    );
    let server = stage.start();
    // A plugin's word is enough, and the next one sees it.
    say(&mut client(&server), &plain("anna@x", "any"), 235);
    assert_eq!(stage.lines("authenticated"), ["20-b authenticated 1"]);
    // Nobody says anything: the first plugin sees false, as does the next, and the users decide.
    let mut tim = client(&server);
    say(&mut tim, &plain("tim@x", "wrong"), 535);
    say(&mut tim, &plain("tim@x", "geheim"), 235);
    // Nobody knows this one.
    let mut stranger = client(&server);
    say(&mut stranger, &plain("stranger@x", "geheim"), 535);
    say(&mut stranger, "MAIL FROM:<a@example.org>", 250);
    say(&mut stranger, "RCPT TO:<b@example.net>", 530);
    assert_eq!(stage.lines("authenticated 1").len(), 1, "{:?}", stage.journal());
    assert_eq!(
        stage.calls(&["authenticate"]),
        ["10-a authenticate", "20-b authenticate"].repeat(4)
    );
}

#[test]
fn d_34_what_a_plugin_said_before_is_no_answer_to_a_login() {
    let stage = Stage::judging(&["10-a"]).setting("smtp-auth", USERS);
    stage.script("10-a connect authenticate:1\n10-a authenticate authenticated\n");
    let server = stage.start();
    let mut one = client(&server);
    // D-3A: what was set in connect counts at once.
    say(&mut one, "MAIL FROM:<a@example.org>", 250);
    say(&mut one, "RCPT TO:<b@example.net>", 250);
    say(&mut one, "RSET", 250);
    say(&mut one, &plain("tim@x", "wrong"), 535);
    assert_eq!(stage.lines("authenticated"), ["10-a authenticated 0"]);
    // Whoever claims to be somebody, and is not, has lost what it was granted.
    say(&mut one, "MAIL FROM:<a@example.org>", 250);
    say(&mut one, "RCPT TO:<b@example.net>", 530);
}

#[test]
fn d_3a_a_login_that_a_plugin_takes_back_can_be_made_again() {
    let mut stage = Stage::judging(&["10-a"]).setting("local-domains", "here.example");
    stage.script("10-a authenticate authenticate:1\n10-a mailfrom@taken authenticate:0\n");
    let sink = Sink::start(&stage.plan.directory().join("dump"));
    stage.plan = stage.plan.smarthost(sink.address());
    let server = stage.start();
    let mut one = client(&server);
    say(&mut one, &plain("good@x", "any"), 235);
    say(&mut one, "MAIL FROM:<taken@example.org>", 250);
    say(&mut one, "RCPT TO:<b@example.net>", 530);
    say(&mut one, "RSET", 250);
    say(&mut one, &plain("good@x", "any"), 235);
    say(&mut one, &plain("good@x", "any"), 503);
    mail(&mut one, "first@example.net");
    // What the Received field says holds when the mail is accepted.
    stage.script("10-a data authenticate:0\n");
    mail(&mut one, "second@here.example");
    sink.await_count(2, PATIENCE);
    let dumped = String::from_utf8(sink.dumped()).unwrap();
    let words = |word: &str| dumped.matches(word).count();
    assert_eq!((words("with ESMTPA "), words("with ESMTP ")), (1, 1), "{dumped}");
}

/// 454 says that nobody knows: what a plugin granted before stays.
#[test]
fn d_3a_a_login_that_is_put_off_takes_no_grant_away() {
    let stage = Stage::judging(&["10-a"]);
    let users = login::users_in(stage.plan.directory(), &format!("tim:{}\n", login::SLOW));
    let stage = stage.setting("smtp-auth", users);
    stage.script("10-a connect authenticate:1\n");
    let mut server = stage.start();
    let line = format!("{}\r\n", plain("tim@x", "wrong"));
    // One is computed, 64 wait; the rest hear 454, in no order.
    let mut clients: Vec<_> = (0..70).map(|_| client(&server)).collect();
    for one in &mut clients {
        one.send(line.as_bytes()).unwrap();
    }
    let mut last = clients.pop().unwrap();
    last.reply().unwrap().require(454).unwrap();
    mail(&mut last, "b@example.net");
    server.kill9();
}

#[test]
fn d_35_d_36_exporting_the_hook_makes_a_login_mandatory() {
    let stage = Stage::judging(&["10-a"]).setting("local-domains", "here.example");
    stage.script("10-a authenticate@good authenticate:1\n");
    let server = stage.start();
    let mut one = SmtpClient::connect(server.smtp()).unwrap();
    one.reply().unwrap().require(220).unwrap();
    // D-36: the hook wants the password, so it is these two and no other.
    let hello = one.command("EHLO client.example").unwrap();
    assert!(hello.lines.contains(&"AUTH PLAIN LOGIN".to_owned()), "{hello:?}");
    say(&mut one, "AUTH CRAM-MD5", 504);
    say(&mut one, "MAIL FROM:<a@example.org>", 250);
    say(&mut one, "RCPT TO:<b@example.net>", 530);
    say(&mut one, "RCPT TO:<b@here.example>", 250);
    say(&mut one, "RSET", 250);
    say(&mut one, &plain("good@x", "any"), 235);
    mail(&mut one, "b@example.net");

    let stage = Stage::judging(&["10-a"]).setting("smtp-relay-range", "127.0.0.0/8");
    let server = stage.start();
    mail(&mut client(&server), "b@example.net");
}

#[test]
fn d_37_a_password_in_clear_is_neither_asked_for_nor_taken() {
    let stage = Stage::judging(&["10-a"]).setting("smtp-auth-plaintext", "192.0.2.0/24");
    stage.script("10-a authenticate authenticate:1\n");
    let server = stage.start();
    let mut one = SmtpClient::connect(server.smtp()).unwrap();
    one.reply().unwrap().require(220).unwrap();
    let hello = one.command("EHLO client.example").unwrap();
    assert!(!hello.lines.iter().any(|line| line.starts_with("AUTH")), "{hello:?}");
    say(&mut one, &plain("good@x", "any"), 538);
    say(&mut one, "AUTH LOGIN", 538);
    assert_eq!(stage.calls(&["authenticate"]), [""; 0]);
}

#[test]
fn d_38_both_strings_end_in_a_zero_and_the_password_may_hold_one() {
    let stage = Stage::judging(&["10-a"]);
    stage.script("10-a authenticate authenticate:1\n");
    let server = stage.start();
    let mut one = client(&server);
    say(&mut one, &format!("AUTH LOGIN {}", login::base64(b"j\xc3\xbcrgen@x")), 334);
    say(&mut one, &login::base64(b"pa\0ss"), 235);
    let line = stage.await_line("10-a authenticate");
    assert!(line.ends_with(" jürgen@x/9:pa/5,00"), "{line}");
}

/// D-38: nothing of a password is left in the process when a plugin has seen it, and the plugin keeps
/// no copy.
#[test]
fn d_38_nothing_is_left_of_a_password_that_plugins_saw() {
    let stage = Stage::judging(&[]);
    let source = "#define MQ_API_VERSION 201\n#include <mailerq.h>\nMQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
        MQ_EXPORT bool mq_smtp_in_authenticate(MQ_Context *c, MQ_SmtpConnection *s, const char *l, size_t ls,\n\
        const char *p, size_t ps)\n\
        { (void)c, (void)l, (void)ls; MQ_SetSmtpAuthenticated(s, ps == 22 && p[0] == 'g'); return false; }\n";
    stage.add("10-judge", &compiled(source, Sanitizer::Off));
    let mut server = stage.start();
    let mut one = client(&server);
    let password = "geheimnis-des-plugin-1";
    say(&mut one, &plain("tim@x", password), 235);
    mail(&mut one, "b@example.net");
    assert_eq!(login::traces(server.process().pid(), password), [""; 0]);
}

#[test]
fn d_39_the_last_value_decides_and_false_is_final() {
    let stage = Stage::judging(&["10-a", "20-b"]).setting("smtp-auth", USERS);
    stage.script(
        "10-a authenticate@tim authenticate:1\n20-b authenticate@tim authenticate:0\n\
         10-a authenticate@anna authenticate:0\n20-b authenticate@anna authenticate:1\n\
         10-a authenticate@held authenticate:0 hold:go\n",
    );
    let server = stage.start();
    // The users of the setting would take this one.
    say(&mut client(&server), &plain("tim@x", "geheim"), 535);
    say(&mut client(&server), &plain("anna@x", "any"), 235);
    let mut held = client(&server);
    held.send(format!("{}\r\n", plain("held@x", "any")).as_bytes()).unwrap();
    await_status(&server, "held", 1);
    stage.release("go", "authenticate:1 continue");
    held.reply().unwrap().require(235).unwrap();
}

#[test]
fn d_27_d_28_a_login_that_is_held_too_long_is_taken_back() {
    let stage =
        Stage::judging(&["10-a"]).setting("smtp-auth", USERS).setting("plugin-timeout", "200ms");
    stage.script("10-a authenticate authenticate:1 hold:late\n");
    let server = stage.start();
    let mut one = client(&server);
    // It said yes, but it never let go.
    say(&mut one, &plain("stranger@x", "any"), 454);
    say(&mut one, "MAIL FROM:<a@example.org>", 250);
    say(&mut one, "RCPT TO:<b@example.net>", 530);
    say(&mut one, "RSET", 250);
    // D-28: until it hands back it is not asked, and its yes of then is not one of now.
    say(&mut one, &plain("stranger@x", "any"), 535);
    stage.release("late", "authenticate:1 continue authenticated");
    assert_eq!(stage.await_line("authenticated"), "10-a authenticated 0");
    say(&mut one, "MAIL FROM:<a@example.org>", 250);
    say(&mut one, "RCPT TO:<b@example.net>", 530);
    say(&mut one, "RSET", 250);
    say(&mut one, &plain("tim@x", "geheim"), 454);
    assert_eq!(stage.calls(&["authenticate"]).len(), 2);
}

#[test]
fn d_28_a_login_by_the_setting_outlives_a_plugin_that_holds_too_long() {
    let stage = Stage::judging(&["10-a"]).setting("smtp-auth", USERS);
    let stage = stage.setting("plugin-timeout", "200ms");
    stage.script("10-a authenticate@plugin authenticate:1\n10-a rcptto@slow hold:never\n");
    let server = stage.start();
    for (user, then) in [("tim@x", 250), ("plugin@x", 530)] {
        let mut one = client(&server);
        say(&mut one, &plain(user, "geheim"), 235);
        say(&mut one, "MAIL FROM:<a@example.org>", 250);
        say(&mut one, "RCPT TO:<slow@example.net>", 451);
        say(&mut one, "RCPT TO:<b@example.net>", then);
        if then == 530 {
            // It may say again who it is; the plugin that knew is not asked.
            say(&mut one, "RSET", 250);
            say(&mut one, &plain("tim@x", "geheim"), 235);
        }
    }
}

#[test]
fn d_49_a_client_that_leaves_while_its_login_is_held() {
    let stage = Stage::judging(&["10-a"]);
    stage.script("10-a authenticate authenticate:1 hold:go\n");
    let mut server = stage.start();
    let mut one = client(&server);
    one.send(format!("{}\r\n", plain("good@x", "any")).as_bytes()).unwrap();
    await_status(&server, "held", 1);
    drop(one);
    stage.release("go", "continue");
    stage.await_line("10-a close");
    assert!(server.terminate().success());
    assert_eq!(stage.calls(&["authenticate", "close"]), ["10-a authenticate", "10-a close"]);
}

/// A layer that catches an exception says that its plugin failed, whatever that had said before.
#[test]
fn d_27_a_plugin_that_fails_to_judge_a_login_has_granted_nothing() {
    for (policy, expected) in [("tempfail", 454), ("reject", 535), ("accept", 535)] {
        for script in [
            "10-a authenticate authenticate:1 fail\n",
            "10-a authenticate authenticate:1 fail true continue\n",
            "10-a authenticate fail authenticate:1\n",
        ] {
            let stage = Stage::judging(&["10-a"])
                .setting("smtp-auth", USERS)
                .setting("plugin-failure", policy);
            stage.script(script);
            let mut server = stage.start();
            let mut one = client(&server);
            say(&mut one, &plain("stranger@x", "any"), expected);
            say(&mut one, "MAIL FROM:<a@example.org>", 250);
            say(&mut one, "RCPT TO:<b@example.net>", 530);
            // Refused as any other login that fails, 454 as one that nobody judged.
            let failed = u64::from(expected == 535);
            assert_eq!(server.status().count("logins_failed"), failed, "{policy} {script}");
            if failed == 1 {
                server.process().await_complaint(PATIENCE, "failed to log in as \"stranger@x\"");
            }
        }
    }
}

#[test]
fn d_27_what_others_say_of_a_login_outlives_a_plugin_that_fails_and_is_passed_over() {
    for (script, expected) in [
        ("10-a authenticate authenticate:1\n20-b authenticate fail\n", 235),
        ("10-a authenticate authenticate:1\n20-b authenticate authenticate:0 fail\n", 235),
        ("10-a authenticate authenticate:0\n20-b authenticate authenticate:1 fail\n", 535),
        ("10-a authenticate authenticate:1 fail\n20-b authenticate authenticate:0\n", 535),
        ("10-a authenticate authenticate:0 fail\n20-b authenticate authenticate:1\n", 235),
    ] {
        let stage = Stage::judging(&["10-a", "20-b"]).setting("plugin-failure", "accept");
        stage.script(script);
        let server = stage.start();
        let mut one = client(&server);
        say(&mut one, &plain("anna@x", "any"), expected);
        say(&mut one, "MAIL FROM:<a@example.org>", 250);
        say(&mut one, "RCPT TO:<b@example.net>", if expected == 235 { 250 } else { 530 });
    }
    // Nobody is logged in by a plugin before one whose failure puts the login off.
    let stage = Stage::judging(&["10-a", "20-b"]);
    stage.script("10-a authenticate authenticate:1\n20-b authenticate fail\n");
    let server = stage.start();
    let mut one = client(&server);
    say(&mut one, &plain("anna@x", "any"), 454);
    say(&mut one, "MAIL FROM:<a@example.org>", 250);
    say(&mut one, "RCPT TO:<b@example.net>", 530);
}

#[test]
fn d_27_a_login_held_too_long_is_refused_as_others_are_and_its_holder_has_said_nothing() {
    for policy in ["reject", "accept"] {
        let stage = Stage::judging(&["10-a"])
            .setting("smtp-auth", USERS)
            .setting("plugin-failure", policy)
            .setting("plugin-timeout", "100ms");
        stage.script("10-a authenticate authenticate:1 true\n");
        let mut server = stage.start();
        let mut one = client(&server);
        say(&mut one, &plain("stranger@x", "any"), 535);
        assert_eq!(server.status().count("logins_failed"), 1, "{policy}");
        server.process().await_complaint(PATIENCE, "failed to log in as \"stranger@x\"");
        say(&mut one, "MAIL FROM:<a@example.org>", 250);
        say(&mut one, "RCPT TO:<b@example.net>", 530);
    }
}
