//! Contexts: one a worker, set up before traffic and cleaned up after it.

use super::probe::{Stage, await_status, client, client_in_transaction, say};
use crate::support::{PATIENCE, SmtpClient};

#[test]
fn d_10_the_context_of_a_hook_hands_back_its_own_connection() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a mailfrom@one hold:one\n10-a mailfrom@two hold:two\n");
    let server = stage.start();
    let (mut one, mut two) = (client(&server), client(&server));
    one.send(b"MAIL FROM:<one@example.org>\r\n").unwrap();
    stage.await_line("mailfrom fd=");
    two.send(b"MAIL FROM:<two@example.org>\r\n").unwrap();
    await_status(&server, "held", 2);
    stage.release("two", "continue");
    two.reply().unwrap().require(250).unwrap();
    assert_eq!(server.status().count("held"), 1, "the other one is still parked");
    stage.release("one", "continue");
    one.reply().unwrap().require(250).unwrap();
    await_status(&server, "held", 0);
}

#[test]
fn d_11_the_context_of_the_start_hands_back_no_connection_and_the_cure_is_said_once() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a mailfrom hold:go\n");
    let mut server = stage.start();
    let mut client = client(&server);
    client.send(b"MAIL FROM:<a@example.org>\r\n").unwrap();
    await_status(&server, "held", 1);
    stage.release("go", "bare-continue bare-continue await:on");
    server.process().await_complaint(PATIENCE, "use the context that was passed to the hook");
    assert_eq!(server.status().count("held"), 1);
    stage.release("on", "continue");
    client.reply().unwrap().require(250).unwrap();
    assert!(server.terminate().success());
    let said = server.process().stderr.complete();
    assert_eq!(said.matches("use the context that was passed").count(), 1, "{said}");
}

#[test]
fn d_12_contexts_differ_but_their_data_is_that_of_the_worker() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script(
        "10-a context set-context-data:7\n10-a connect same-context keep\n10-a mailfrom same-context context-data\n\
         20-b mailfrom context-data\n10-a context-cleanup context-data\n",
    );
    let mut server = stage.start();
    let first = client(&server);
    let mut second = client(&server);
    say(&mut second, "MAIL FROM:<a@example.org>", 250);
    assert_eq!(
        stage.lines("same-context"),
        ["10-a same-context 0", "10-a same-context 0", "10-a same-context 1"]
    );
    assert_eq!(stage.lines(" context-data"), ["10-a context-data 7", "20-b context-data 0"]);
    drop((first, second));
    assert!(server.terminate().success());
    assert_eq!(stage.lines("10-a context-data 7").len(), 2);
}

#[test]
fn d_13_d_18_only_workers_have_contexts_and_a_connection_stays_with_one() {
    let stage = Stage::new(&["10-a"]).setting("smtp-threads", 3);
    let steps = ["connect", "mailfrom", "rcptto", "data", "message", "close"];
    let script: String = steps.iter().map(|step| format!("10-a {step} thread\n")).collect();
    stage.script(&script);
    let server = stage.start();
    let contexts = stage.lines("10-a context ");
    assert_eq!(contexts.len(), 3);
    assert!(contexts.iter().all(|line| line.ends_with("main=0")), "{contexts:?}");
    for connection in 1..=12 {
        let mut client = client_in_transaction(&server);
        say(&mut client, "DATA", 354);
        say(&mut client, "Subject: x\r\n\r\n.", 250);
        say(&mut client, "QUIT", 221);
        let threads = stage.await_lines("10-a thread ", connection * steps.len());
        let own = &threads[(connection - 1) * steps.len()..];
        assert!(own.iter().all(|thread| *thread == own[0]), "{own:?}");
        let number = own[0].rsplit(' ').next().unwrap();
        assert!(contexts.iter().any(|line| line.contains(&format!("thread={number} "))), "{own:?}");
    }
}

#[test]
fn d_14_no_traffic_before_an_asynchronous_start_is_handed_back() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a context hold:go\n");
    std::thread::scope(|scope| {
        let server = scope.spawn(|| stage.start());
        stage.await_line("10-a context ");
        assert_eq!(stage.lines("20-b context "), [""; 0], "its turn comes after");
        assert!(!server.is_finished());
        stage.release("go", "continue");
        let server = server.join().unwrap();
        assert_eq!(stage.lines("20-b context ").len(), 1);
        client(&server);
    });
}

#[test]
fn d_14_complete_and_retry_mean_in_a_start_what_they_mean_in_a_step() {
    for (script, expected) in [
        ("10-a context complete true\n", &["10-a context"][..]),
        (
            "20-b context retries:1 true\n",
            &["10-a context", "20-b context", "10-a context", "20-b context"],
        ),
    ] {
        let stage = Stage::new(&["10-a", "20-b"]);
        stage.script(script);
        let _server = stage.start();
        assert_eq!(stage.calls(&["context"]), expected, "{script}");
    }
}

#[test]
fn d_14_a_start_that_is_never_handed_back_fails_and_names_the_plugin() {
    let stage = Stage::new(&["10-a"]).setting("plugin-start-timeout", 1);
    stage.script("10-a context true\n");
    let (code, said) = stage.plan.start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("10-a.so") && said.contains("mq_context_initialize"), "{said}");
}

#[test]
fn d_15_traffic_waits_for_every_worker() {
    let stage = Stage::new(&["10-a"]).setting("smtp-threads", 2);
    stage.script("10-a context hold:go\n");
    std::thread::scope(|scope| {
        let server = scope.spawn(|| stage.start());
        stage.await_lines("10-a context ", 2);
        stage.release("go", "say:first continue");
        stage.await_line("10-a first");
        assert!(!server.is_finished(), "one worker is not ready yet");
        stage.script("");
        std::fs::write(stage.plan.directory().join("probe/go"), "say:second continue").unwrap();
        client(&server.join().unwrap());
    });
    assert_eq!(stage.calls(&["second", "connect"]), ["10-a second", "10-a connect"]);
}

#[test]
fn d_16_a_worker_ends_after_its_cleanup_was_handed_back() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("20-b context-cleanup hold:bye\n");
    let mut server = stage.start();
    std::thread::scope(|scope| {
        let ended = scope.spawn(|| server.terminate());
        stage.await_line("20-b context-cleanup");
        assert_eq!(stage.lines("10-a context-cleanup"), [""; 0]);
        assert!(!ended.is_finished());
        stage.release("bye", "continue");
        assert!(ended.join().unwrap().success());
    });
    let last = ["20-b context-cleanup", "10-a context-cleanup", "20-b cleanup", "10-a cleanup"];
    assert_eq!(stage.calls(&["context-cleanup", "cleanup"]), last);
}

#[test]
fn d_16_a_cleanup_that_is_never_handed_back_does_not_hold_up_the_end() {
    let stage = Stage::new(&["10-a"]).setting("plugin-shutdown-timeout", 1);
    stage.script("10-a context-cleanup true\n");
    let mut server = stage.start();
    assert!(server.terminate().success());
    let said = server.process().stderr.complete();
    assert!(said.contains("10-a.so: mq_context_cleanup was not handed back"), "{said}");
    assert_eq!(stage.calls(&["cleanup"]), ["10-a cleanup"]);
}

#[test]
fn d_17_no_callback_comes_after_the_cleanup_hooks() {
    let stage = Stage::new(&["10-a", "20-b"]);
    // A watch that is ready all the time, timers that are due, and a cleanup that adds to both.
    stage.script(
        "10-a connect pipe:1 write:1 timer:0.02:early timer:3600:never\n\
         20-b context-cleanup pipe:2 write:2 watch:2:1 timer:0:after\n10-a context-cleanup watch:1:1 timer:-1:after\n",
    );
    let mut server = stage.start();
    client(&server);
    stage.await_line("10-a timer early");
    assert!(server.terminate().success());
    let journal = stage.journal();
    let from = journal.iter().position(|line| line.contains("10-a context-cleanup")).unwrap();
    assert_eq!(journal[from + 1..], ["20-b cleanup main=1", "10-a cleanup main=1"], "{journal:?}");
}

#[test]
fn d_19_a_context_outlives_its_connection_in_all_but_the_hand_back() {
    let stage = Stage::new(&["10-a"]);
    stage.script("10-a connect await:late\n");
    let mut server = stage.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    say(&mut client, "QUIT", 221);
    stage.await_line("10-a close");
    await_status(&server, "incoming_connections", 0);
    stage.release(
        "late",
        "set-context-data:5 context-data pipe:1 watch:1:1 write:1 timer:0:late continue",
    );
    stage.await_line("10-a context-data 5");
    stage.await_line("10-a timer late");
    stage.await_line("10-a watch 1 ");
    server
        .process()
        .await_complaint(PATIENCE, "MQ_Continue: the MQ_Context given no longer exists");
}
