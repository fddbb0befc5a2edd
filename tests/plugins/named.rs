//! Holds with a name (`MQX_hold`): released from anywhere, over in time, and harmless when late.

use super::probe::{Stage, await_status, client, client_in_transaction, compiled, say};
use crate::login::plain;
use crate::support::{PATIENCE, Sanitizer};

#[test]
fn a_named_hold_is_released_with_each_verdict_and_from_anywhere() {
    for (words, expected) in [
        ("release:0", &["10-a mailfrom", "20-b mailfrom"][..]),
        ("release:1", &["10-a mailfrom"]),
        ("release-elsewhere", &["10-a mailfrom", "20-b mailfrom"]),
        ("release-later-elsewhere", &["10-a mailfrom", "20-b mailfrom"]),
        // The hook's own way of handing back still works, and ends the hold.
        ("continue release:1", &["10-a mailfrom", "20-b mailfrom"]),
        ("complete", &["10-a mailfrom"]),
    ] {
        let stage = Stage::new(&["10-a", "20-b"]);
        stage.script("10-a mailfrom name:60 hold:go\n");
        let server = stage.start();
        let mut client = client(&server);
        client.send(b"MAIL FROM:<a@example.org>\r\n").unwrap();
        await_status(&server, "held", 1);
        stage.release("go", words);
        client.reply().unwrap().require(250).unwrap();
        assert_eq!(stage.calls(&["mailfrom"]), expected, "{words}");
        assert_eq!(stage.lines("expired"), [""; 0], "{words}");
        await_status(&server, "held", 0);
    }
}

#[test]
fn d_20_a_named_hold_may_be_released_before_its_hook_returns() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script(
        "10-a mailfrom name:60 release:1\n10-a rcptto name:60 reject release-elsewhere\n\
         10-a data name:0 release:2\n10-a message name:60\n20-b message name:60 release-later-elsewhere\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    assert_eq!(stage.calls(&["mailfrom"]), ["10-a mailfrom"]);
    say(&mut client, "RCPT TO:<b@example.org>", 550);
    stage.script("");
    say(&mut client, "RCPT TO:<b@example.org>", 250);
    await_status(&server, "held", 0);
}

#[test]
fn a_named_hold_that_is_over_fails_its_step_unless_the_callback_says_otherwise() {
    for (script, expected) in [
        ("", 451),
        ("10-a expired say:told\n", 451),
        ("10-a expired release:0\n", 250),
        ("10-a expired reject:550,5.7.1,Too%20slow release:0\n", 550),
        ("10-a expired reject:550,5.7.1,Too%20slow\n", 451),
        ("10-a expired fail continue\n", 451),
        ("10-a expired release-elsewhere\n", 451),
    ] {
        let stage = Stage::new(&["10-a", "20-b"]);
        stage.script(&format!("10-a mailfrom@held name:0.05 true\n{script}"));
        let server = stage.start();
        let mut client = client(&server);
        say(&mut client, "MAIL FROM:<held@example.org>", expected);
        assert_eq!(stage.lines("10-a expired same=1").len(), 1, "{script}");
        let asked = stage.lines("20-b mailfrom").len();
        assert_eq!(asked, usize::from(expected == 250), "{script}");
        await_status(&server, "held", 0);
        // Nothing is owed: the plugin is asked again, and its late release is none (D-28).
        say(&mut client, "RSET", 250);
        stage.script("10-a mailfrom release:0 release-elsewhere\n");
        say(&mut client, "MAIL FROM:<free@example.org>", 250);
        assert_eq!(stage.lines("10-a mailfrom").len(), 2, "{script}");
        assert_eq!(stage.lines("10-a released 0").len(), 1, "{script}");
    }
}

#[test]
fn a_late_release_does_not_release_the_next_hold() {
    let stage = Stage::new(&["10-a"]);
    stage.script(
        "10-a mailfrom name:0.05 await:late\n10-a rcptto hold:own\n10-a connect await:last\n",
    );
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 451);
    stage.script("10-a rcptto hold:own\n");
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    client.send(b"RCPT TO:<b@example.org>\r\n").unwrap();
    await_status(&server, "held", 1);
    stage.release("late", "release:0 release-elsewhere");
    stage.await_line("released-elsewhere");
    // The worker has seen it: it serves others.
    say(&mut self::client(&server), "QUIT", 221);
    assert_eq!(server.status().count("held"), 1);
    stage.release("own", "continue");
    client.reply().unwrap().require(250).unwrap();
    assert!(server.terminate().success());
    let said = server.process().stderr.complete();
    assert!(!said.contains("MQX_release"), "what is late is no misuse: {said}");
}

#[test]
fn d_27_the_limit_of_the_settings_ends_named_holds_too_and_tells_their_plugin() {
    let stage = Stage::new(&["10-a"]).setting("plugin-timeout", "100ms");
    stage.script("10-a mailfrom name:3600 true\n10-a rcptto name:0 true\n10-a expired say:told\n");
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 451);
    server.process().await_complaint(PATIENCE, "10-a.so: mq_smtp_in_mailfrom was held too long");
    assert_eq!(stage.lines("10-a expired same=1").len(), 1);
    stage.script("10-a rcptto name:0 true\n");
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    say(&mut client, "RCPT TO:<b@example.org>", 451);
    assert_eq!(stage.lines("10-a expired same=1").len(), 2);
    assert_eq!(server.status().count("plugin_revoked"), 2);
}

#[test]
fn a_timeout_of_zero_is_none_where_the_settings_have_none() {
    let stage = Stage::new(&["10-a"]).setting("plugin-timeout", 0);
    stage.script("10-a mailfrom name:0 hold:go\n10-a rcptto name:0.05 true\n");
    let server = stage.start();
    let mut client = client(&server);
    client.send(b"MAIL FROM:<a@example.org>\r\n").unwrap();
    await_status(&server, "held", 1);
    stage.release("go", "release:0");
    client.reply().unwrap().require(250).unwrap();
    say(&mut client, "RCPT TO:<b@example.org>", 451);
}

#[test]
fn d_53_a_stop_tells_who_holds_with_a_name_and_hears_no_release() {
    let stage = Stage::new(&["10-a"]).setting("plugin-shutdown-timeout", "100ms");
    stage.script("10-a mailfrom name:60 true\n10-a expired release:0\n");
    let mut server = stage.start();
    let mut client = client(&server);
    client.send(b"MAIL FROM:<a@example.org>\r\n").unwrap();
    await_status(&server, "held", 1);
    assert!(server.terminate().success());
    client.reply().unwrap().require(421).unwrap();
    assert_eq!(stage.lines("10-a expired same=1").len(), 1);
    assert_eq!(stage.lines("10-a released 0").len(), 1);
}

#[test]
fn d_4a_the_close_hook_may_hold_with_a_name() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a close name:0.05 true\n");
    let server = stage.start();
    say(&mut client(&server), "QUIT", 221);
    stage.await_line("10-a expired same=1");
    stage.await_line("20-b close fd");
    await_status(&server, "incoming_connections", 0);
}

#[test]
fn a_hook_that_names_a_hold_and_returns_false_holds_and_is_warned_of_once() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.add("05-false", &super::probe::compiled(FALSE, crate::support::Sanitizer::Off));
    stage.script("");
    let mut server = stage.start();
    let mut client = client_in_transaction(&server);
    say(&mut client, "RSET", 250);
    assert!(server.terminate().success());
    let said = server.process().stderr.complete();
    assert_eq!(said.matches("05-false.so: a hook called MQX_hold and then").count(), 1, "{said}");
}

const FALSE: &str = "#include <mailerq.h>
static void on_time(void *hold) { MQX_release(hold, MQX_CONTINUE); }
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
static bool hold(MQ_Context *context, MQ_Connection *connection) {
    MQX_Hold *hold = MQX_hold(connection, 60, NULL, NULL);
    if (!hold || MQX_hold(connection, 60, NULL, NULL)) __builtin_abort();
    MQ_startTimer(context, 0, on_time, hold);
    return false;
}
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *context, MQ_Connection *connection, MQ_Address *address) {
    (void)address;
    return hold(context, connection);
}
MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection, MQ_Address *address) {
    (void)address;
    return hold(context, connection);
}
";

#[test]
fn a_hold_is_named_in_a_hook_only_and_for_a_time_that_is_one() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a connect await:later\n10-a mailfrom name:-1\n10-a rcptto name:nan\n");
    let mut server = stage.start();
    let mut client = client(&server);
    stage.release("later", "name:1");
    server.process().await_complaint(PATIENCE, "10-a.so: MQX_hold: this plugin is not in control");
    // The script's word takes control all the same, without a name.
    client.send(b"MAIL FROM:<a@example.org>\r\n").unwrap();
    server.process().await_complaint(PATIENCE, "MQX_hold: timeout is negative or not a number");
    assert_eq!(stage.lines("10-a named 1"), [""; 0]);
}

/// What its steps are about this plugin has looked up elsewhere; some of it takes too long. It is never told.
const SLOW: &str = "#include <mailerq.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
struct job { MQ_Context *context; MQ_Connection *connection; MQX_Hold *hold; bool bad, login; char file[512]; };
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
static void look(void *data) {
    struct job *job = data;
    char line[600];
    bool noted = true;
    if (access(job->file, F_OK) != 0) { MQ_startTimer(job->context, 0.01f, look, job); return; }
    if (job->login) MQ_setAuthenticated(job->connection, true);
    else if (job->bad) noted = MQX_reject(job->connection, 550, NULL, \"It is bad\");
    bool released = MQX_release(job->hold, MQX_CONTINUE);
    snprintf(line, sizeof line, \"%s noted=%d released=%d\", strrchr(job->file, '/'), noted, released);
    MQ_log(MQ_WARN, line);
    free(job);
}
static bool begin(MQ_Context *context, MQ_Connection *connection, const char *name, bool bad, bool login) {
    struct job *job = calloc(1, sizeof *job);
    job->context = context, job->connection = connection, job->bad = bad, job->login = login;
    snprintf(job->file, sizeof job->file, \"%s/%.*s\", getenv(\"PROBE_DIRECTORY\"), (int)strcspn(name, \"@\"), name);
    job->hold = MQX_hold(connection, strncmp(name, \"slow\", 4) ? 0 : 0.05, NULL, NULL);
    look(job);
    return true;
}
MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *context, MQ_Connection *connection, MQ_Address *address) {
    return begin(context, connection, MQ_email(address), strstr(MQ_email(address), \"bad\") != NULL, false);
}
MQ_EXPORT bool mq_smtp_in_authenticate(MQ_Context *context, MQ_Connection *connection, const char *login,
                                       size_t login_size, const char *password, size_t password_size) {
    (void)login_size, (void)password, (void)password_size;
    return begin(context, connection, login, false, true);
}
";

/// An answer names a connection and no step: the late one for a step that was taken back must not become
/// that of a later one, nor may a later one's be lost.
#[test]
fn d_28_a_late_answer_is_none_for_a_newer_step_that_its_plugin_holds_by_name() {
    let stage = Stage::judging(&[]).setting("smtp-relay-range", "127.0.0.0/8");
    stage.add("10-slow", &compiled(SLOW, Sanitizer::Off));
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    for (held, expected) in [("held-good", 250), ("held-bad", 550)] {
        // The late answer comes while the newer one is held.
        let slow = format!("slow-bad-{expected}");
        say(&mut client, &format!("RCPT TO:<{slow}@example.net>"), 451);
        client.send(format!("RCPT TO:<{held}@example.net>\r\n").as_bytes()).unwrap();
        await_status(&server, "held", 1);
        stage.put(&slow, "");
        let said = format!("/{slow} noted=1 released=0");
        server.process().await_complaint(PATIENCE, &said);
        assert_eq!(server.status().count("held"), 1);
        stage.put(held, "");
        client.reply().unwrap().require(expected).unwrap();
        // It comes never, or too late for anything: the plugin is asked and heard as ever.
        let never = format!("slow-bad-never-{expected}");
        say(&mut client, &format!("RCPT TO:<{never}@example.net>"), 451);
        for (recipient, code) in [("now-bad", 550), ("now-good", 250)] {
            stage.put(recipient, "");
            say(&mut client, &format!("RCPT TO:<{recipient}@example.net>"), code);
            let later = format!("later-{recipient}-{expected}");
            client.send(format!("RCPT TO:<{later}@example.net>\r\n").as_bytes()).unwrap();
            await_status(&server, "held", 1);
            stage.put(&later, "");
            client.reply().unwrap().require(code).unwrap();
        }
        stage.put(&never, "");
        let said = format!("/{never} noted=0 released=0");
        server.process().await_complaint(PATIENCE, &said);
    }
}

#[test]
fn d_28_a_login_that_was_taken_back_is_not_granted_later() {
    let stage = Stage::judging(&[]);
    stage.add("10-slow", &compiled(SLOW, Sanitizer::Off));
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, &plain("slow@x", "any"), 454);
    stage.put("slow", "");
    server.process().await_complaint(PATIENCE, "/slow noted=1 released=0");
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    stage.put("now", "");
    say(&mut client, "RCPT TO:<now@example.net>", 530);
    say(&mut client, "RSET", 250);
    // Another one is judged by itself, though the first was never released.
    say(&mut client, &plain("slow-never@x", "any"), 454);
    stage.put("good", "");
    say(&mut client, &plain("good@x", "any"), 235);
}
