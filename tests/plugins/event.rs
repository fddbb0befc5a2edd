//! The loop: timers and watches of plugins on a worker that serves mail.

use super::probe::{Stage, await_status, client, say};
use crate::support::{PATIENCE, Server, SmtpClient};

/// A server and a client whose MAIL has run `words`.
fn after(stage: &Stage, words: &str, more: &str) -> (Server, SmtpClient) {
    stage.script(&format!("10-a mailfrom {words}\n{more}"));
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    (server, client)
}

/// What `text` is found in, without the plugin's name.
fn seen(stage: &Stage, text: &str) -> Vec<String> {
    stage.lines(text).iter().map(|line| line["10-a ".len()..].to_owned()).collect()
}

#[test]
fn d_90_d_91_a_fired_timer_cannot_be_stopped_or_reset() {
    let stage = Stage::new(&["10-a"]).setting("log-level", "debug");
    let script =
        "10-a timer-first stop reset:0.01 timer:0.001:second\n10-a timer-second say:done\n";
    let (mut server, _client) = after(&stage, "timer:0.001:first", script);
    stage.await_line("10-a done");
    server.process().await_complaint(
        PATIENCE,
        "10-a.so: MQ_TimerStop: the timer given has fired or was stopped",
    );
    server.process().await_complaint(
        PATIENCE,
        "10-a.so: MQ_TimerReset: the timer given has fired or was stopped",
    );
    assert_eq!(seen(&stage, "timer ").len(), 2, "each fires once");
}

#[test]
fn d_92_d_93_odd_timeouts_have_a_meaning_and_none_is_early() {
    let stage = Stage::new(&["10-a"]);
    let words = "timer:0.03:third timer:1e30:never timer:nan:nan timer:-1:first timer:0:second timer:0.06:last \
                 timer:3600:soon reset:0.045 timer:0.01:stopped stop";
    let (mut server, _client) = after(&stage, words, "");
    stage.await_line("timer last");
    let expected = [
        "timer nan refused",
        "timer first early=0",
        "timer second early=0",
        "timer third early=0",
        "timer soon early=1",
        "timer last early=0",
    ];
    // `soon` was told to come early, by its reset.
    assert_eq!(seen(&stage, "timer "), expected);
    server.process().await_complaint(PATIENCE, "10-a.so: MQ_TimerStart: timeout is not a number");
}

#[test]
fn d_94_watches_are_level_triggered_and_hang_ups_come_as_what_was_asked_for() {
    let stage = Stage::new(&["10-a"]);
    // Two bytes, read one by one; then both directions; then the other end goes.
    let script = "10-a watch-1 read:1 unwatch:9\n10-a watch-2 unwatch:2 shut:2 pair:3 shut:3 watch:3:1\n10-a watch-3 unwatch:3 say:done\n";
    let (_server, _client) =
        after(&stage, "pipe:1 write:1 watch:1:1 pair:2 write:2 await:next", script);
    stage.await_lines("watch 1 events=1 same=1", 2);
    stage.release("next", "unwatch:1 watch:2:3");
    stage.await_line("10-a done");
    let both = seen(&stage, "watch 2 ");
    assert!(both.len() == 1 && both[0] == "watch 2 events=3 same=1", "both bits at once: {both:?}");
    assert_eq!(seen(&stage, "watch 3 "), ["watch 3 events=1 same=1"]);
    assert_eq!(seen(&stage, "watch 1 ").len(), 2, "an empty pipe is not ready");
}

#[test]
fn d_95_a_watch_without_a_known_event_is_refused() {
    let stage = Stage::new(&["10-a"]);
    let (mut server, _client) =
        after(&stage, "pipe:1 watch:1:0 watch:1:4 write:1 watch:1:5", "10-a watch-1 unwatch:1\n");
    stage.await_line("watch 1 events=1");
    assert_eq!(seen(&stage, "watch 1 refused").len(), 2);
    server
        .process()
        .await_complaint(PATIENCE, "10-a.so: MQ_IOWatch: events has neither MQ_READ nor MQ_WRITE");
}

#[test]
fn d_96_several_watches_of_one_descriptor_are_called_in_their_order() {
    let stage = Stage::new(&["10-a"]);
    let words = "pair:1 same:2:1 same:3:1 watch:1:1 watch:2:2 watch:3:1 await:on";
    let script =
        "10-a watch-1 unwatch:1\n10-a watch-2 unwatch:2\n10-a watch-3 unwatch:3 say:done\n";
    let (_server, _client) = after(&stage, words, script);
    stage.await_line("watch 2 events=2");
    assert_eq!(seen(&stage, "events=").len(), 1, "the others wait for something to read");
    stage.release("on", "write:1");
    stage.await_line("10-a done");
    assert_eq!(
        seen(&stage, "events="),
        ["watch 2 events=2 same=1", "watch 1 events=1 same=1", "watch 3 events=1 same=1"]
    );
}

#[test]
fn d_97_a_descriptor_that_was_closed_gives_one_last_callback_and_a_warning() {
    let stage = Stage::new(&["10-a"]);
    // Nothing is noticed before the set is changed: the close and the watch come in one callback.
    let (mut server, mut client) = after(
        &stage,
        "pipe:1 watch:1:1 close:1",
        "10-a timer-on say:done\n10-a rcptto timer:0.05:on\n",
    );
    stage.await_line("watch 1 events=1 same=1");
    server.process().await_complaint(PATIENCE, "10-a.so: descriptor");
    // Mail still flows, and no further callback comes.
    say(&mut client, "RCPT TO:<b@example.org>", 250);
    stage.await_line("10-a done");
    assert_eq!(seen(&stage, "watch 1 ").len(), 1);
}

#[test]
fn d_97_what_the_last_callback_asks_for_is_done() {
    let stage = Stage::new(&["10-a"]);
    stage.script(
        "10-a mailfrom pipe:1 watch:1:1 close:1 true\n10-a watch-1 continue timer:0:after\n",
    );
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    stage.await_line("timer after");
    await_status(&server, "held", 0);
}

#[test]
fn d_98_a_regular_file_is_always_ready() {
    let stage = Stage::new(&["10-a"]);
    let (_server, mut client) = after(&stage, "file:1 watch:1:1 await:stop", "");
    stage.await_lines("watch 1 events=1", 3);
    // It does not starve mail.
    say(&mut client, "NOOP", 250);
    stage.release("stop", "unwatch:1 say:stopped");
    let stopped = stage.journal().iter().position(|line| line == "10-a stopped").unwrap();
    say(&mut client, "NOOP", 250);
    assert!(stage.journal()[stopped..].iter().all(|line| !line.contains("watch 1")));
}

#[test]
fn d_99_a_watch_that_was_taken_back_in_the_same_turn_is_not_called() {
    let stage = Stage::new(&["10-a"]);
    let words = "pipe:1 pipe:2 write:1 write:2 watch:1:1 watch:2:1";
    let script = "10-a watch-1 unwatch:1 unwatch:2 timer:0.03:on\n10-a watch-2 unwatch:1 unwatch:2 timer:0.03:on\n";
    let (_server, _client) = after(&stage, words, script);
    stage.await_line("timer on");
    assert_eq!(seen(&stage, "events=").len(), 1);
}

#[test]
fn d_9a_taking_back_twice_is_warned_of() {
    let stage = Stage::new(&["10-a"]);
    let (mut server, mut client) = after(&stage, "pipe:1 watch:1:1 unwatch:1 unwatch:1", "");
    server.process().await_complaint(
        PATIENCE,
        "10-a.so: MQ_IOUnwatch: the MQ_IOWatcher given no longer exists",
    );
    say(&mut client, "RCPT TO:<b@example.org>", 250);
}

#[test]
fn d_9b_timers_and_watches_outlive_the_connection_that_made_them() {
    let stage = Stage::new(&["10-a"]);
    let script =
        "10-a close timer:0.05:late\n10-a timer-late write:1\n10-a watch-1 unwatch:1 say:done\n";
    let (server, mut client) = after(&stage, "pipe:1 watch:1:1", script);
    say(&mut client, "QUIT", 221);
    await_status(&server, "incoming_connections", 0);
    stage.await_line("timer late");
    stage.await_line("10-a done");
}

#[test]
fn d_9c_interest_can_be_toggled_over_and_over() {
    let stage = Stage::new(&["10-a"]);
    // Writable at once, so each turn swaps the interest; at last something is there to read.
    let toggle = "unwatch:1 watch:1:1 unwatch:1 watch:1:2 ".repeat(8);
    let words = format!("pair:1 same:2:1 {toggle} watch:2:1 await:on");
    let (_server, _client) = after(
        &stage,
        &words,
        "10-a watch-1 unwatch:1 watch:1:1\n10-a watch-2 unwatch:2 say:read\n",
    );
    stage.await_line("watch 1 events=2 same=1");
    stage.release("on", "write:1");
    stage.await_line("10-a read");
}

#[test]
fn d_9d_timers_come_before_descriptors_and_both_before_mail() {
    let stage = Stage::new(&["10-a"]);
    // While the worker is blocked everything becomes ready for one turn.
    stage.script("10-a mailfrom pipe:1 watch:1:1 await:go\n10-a watch-1 unwatch:1\n");
    let server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    stage.release("go", "timer:0.05:due write:1 block:300 say:blocked");
    client.send(b"RCPT TO:<b@example.org>\r\n").unwrap();
    client.reply().unwrap().require(250).unwrap();
    let order = ["10-a blocked", "10-a timer due", "10-a watch 1 ", "10-a rcptto"];
    let journal = stage.journal();
    let places =
        order.map(|start| journal.iter().position(|line| line.starts_with(start)).unwrap());
    assert!(places.is_sorted(), "{journal:?}");
}

#[test]
fn d_9e_who_blocks_is_named_with_plugin_and_place() {
    let stage = Stage::new(&["10-a", "20-b"]).setting("plugin-block-warning", "20ms");
    stage.script("20-b mailfrom block:120 timer:0:slow\n20-b timer-slow block:120\n");
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    server
        .process()
        .await_complaint(PATIENCE, "20-b.so: mq_smtp_in_mailfrom has blocked worker 0 for");
    server.process().await_complaint(PATIENCE, "20-b.so: mq_smtp_in_mailfrom blocked worker 0 for");
    server.process().await_complaint(PATIENCE, "20-b.so: a timer callback blocked worker 0 for");
    assert!(server.terminate().success());
    assert!(
        !server.process().stderr.complete().contains("10-a.so: "),
        "who does not block is not named"
    );
}
