//! Misuse: whatever a plugin does with the pointers it was given, the server says so and goes on.

use std::path::Path;

use super::probe::{Stage, client, compiled, mail, say};
use crate::support::{PATIENCE, Sanitizer, asan_library};

/// Each kind of misuse, with what the log says of it: function and start of the reason.
const KINDS: &[(&str, &[(&str, &str)])] = &[
    (
        "null",
        &[
            ("MQ_Continue", "MQ_Context is NULL"),
            ("MQ_TimerStart", "MQ_Context is NULL"),
            ("MQ_ContextData", "MQ_Context is NULL"),
            ("MQ_SmtpSend", "MQ_Connection is NULL"),
            ("MQ_SmtpFileDescriptor", "MQ_Connection is NULL"),
            ("MQ_SmtpData", "MQ_Connection is NULL"),
            ("MQ_Mime", "MQ_Message is NULL"),
            ("MQ_SetMime", "MQ_Message is NULL"),
            ("MQ_IOUnwatch", "MQ_IOWatcher is NULL"),
            ("MQ_TimerStop", "MQ_Timer is NULL"),
        ],
    ),
    (
        "kind",
        &[
            ("MQ_Continue", "a pointer to MQ_Connection was given"),
            ("MQ_SmtpSend", "a pointer to MQ_Context was given"),
            ("MQ_Mime", "a pointer to MQ_Connection was given"),
            ("MQ_IOUnwatch", "a pointer to MQ_Context was given"),
            ("MQ_TimerStop", "a pointer to MQ_IOWatcher was given"),
        ],
    ),
    (
        "stale",
        &[
            ("MQ_Continue", "the MQ_Context given no longer exists"),
            ("MQ_SmtpSend", "the MQ_Connection given no longer exists"),
            ("MQ_Mime", "the MQ_Message given no longer exists"),
            ("MQ_SetMime", "the MQ_Message given no longer exists"),
            ("MQ_IOUnwatch", "the MQ_IOWatcher given no longer exists"),
        ],
    ),
    (
        "address",
        &[
            ("MQ_Continue", "the pointer given as MQ_Context is none"),
            ("MQ_SmtpData", "the pointer given as MQ_Connection is none"),
            ("MQ_SetMime", "the pointer given as MQ_Message is none"),
            ("MQ_TimerStop", "the pointer given as MQ_Timer is none"),
        ],
    ),
    (
        "foreign",
        &[
            ("MQ_Continue", "the MQ_Context given belongs to another plugin"),
            ("MQ_SmtpSend", "the MQ_Connection given belongs to another plugin"),
            ("MQ_SetMime", "the MQ_Message given belongs to another plugin"),
        ],
    ),
    (
        "doubled",
        &[
            ("MQ_IOUnwatch", "the MQ_IOWatcher given no longer exists"),
            ("MQ_TimerStop", "the timer given has fired or was stopped"),
            ("MQ_Continue", "control was handed back already"),
            ("MQ_Complete", "control was handed back already"),
        ],
    ),
    (
        "thread",
        &[
            ("MQ_SmtpSend", "called on a thread that does not own the MQ_Connection"),
            ("MQ_ContextData", "called on a thread that does not own the MQ_Context"),
            ("MQ_Mime", "called on a thread that does not own the MQ_Message"),
            ("MQ_TimerStart", "called on a thread that does not own the MQ_Context"),
            ("MQ_IOUnwatch", "called on a thread that does not own the MQ_IOWatcher"),
        ],
    ),
    (
        "argument",
        &[
            ("MQ_TimerStart", "timeout is not a number"),
            ("MQ_TimerStart", "callback is NULL"),
            ("MQ_IOWatch", "fd is negative"),
            ("MQ_IOWatch", "events has neither"),
            ("MQ_IOWatch", "callback is NULL"),
            ("MQ_SmtpSend", "buffer is NULL"),
            ("MQ_SetMime", "size is beyond"),
        ],
    ),
    (
        "unheld",
        &[
            ("MQ_Retry", "the context given names no connection"),
            ("MQ_Complete", "this plugin is not in control"),
        ],
    ),
    (
        "closed",
        &[
            ("MQ_SetSmtpAuthenticated", "the MQ_Connection given no longer exists"),
            ("MQ_SmtpSend", "the MQ_Connection given no longer exists"),
            ("MQ_Complete", "the MQ_Context given no longer exists"),
        ],
    ),
];

fn file_name(place: usize, kind: &str) -> String {
    format!("{}-{kind}", 10 + place)
}

/// Runs every kind of misuse side by side, on one worker.
fn survives(stage: Stage, sanitizer: Sanitizer) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/c/misuse.c");
    let text = std::fs::read_to_string(&source).expect("the source is there");
    for (place, (kind, _)) in KINDS.iter().enumerate() {
        let object = compiled(&format!("#define MISUSE \"{kind}\"\n{text}"), sanitizer);
        stage.add(&file_name(place, kind), &object);
    }
    let sink = stage.sink(&[]);
    let mut server = stage.smarthost(sink.address()).setting("log-level", "debug").start();
    // The first collects, the second misuses, the third shows that all is well.
    for recipient in ["collect@example.org", "misuse@example.org", "after@example.org"] {
        let mut client = client(&server);
        mail(&mut client, recipient);
        say(&mut client, "QUIT", 221);
    }
    sink.await_count(3, PATIENCE);
    for (place, (kind, reasons)) in KINDS.iter().enumerate() {
        for (function, reason) in *reasons {
            let line = format!("{}.so: {function}: {reason}", file_name(place, kind));
            server.process().await_complaint(PATIENCE, &line);
        }
    }
    assert!(!String::from_utf8_lossy(&sink.dumped()).contains("wrong"), "nothing was set");
    assert!(server.terminate().success());
    let said = server.process().stderr.complete();
    assert!(!said.contains("AddressSanitizer"), "{said}");
}

/// One kind alone, on one worker: mail passes while it goes on, and after `sign` was logged.
fn serves_beside(kind: &str, complaint: &str, sign: &str) {
    let stage = Stage::new(&[]);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/c/misuse.c");
    let text = std::fs::read_to_string(&source).expect("the source is there");
    let object = compiled(&format!("#define MISUSE \"{kind}\"\n{text}"), Sanitizer::Off);
    stage.add("10-misuse", &object);
    let sink = stage.sink(&[]);
    let mut server = stage.smarthost(sink.address()).setting("smtp-threads", 1).start();
    for recipient in ["collect@example.org", "misuse@example.org", "meanwhile@example.org"] {
        let mut client = client(&server);
        mail(&mut client, recipient);
        say(&mut client, "QUIT", 221);
    }
    server.process().await_complaint(PATIENCE, &format!("10-misuse.so: {complaint}"));
    server.process().await_complaint(PATIENCE, &format!("[plugin] {sign}"));
    for recipient in ["after@example.org", "and-again@example.org"] {
        let mut client = client(&server);
        mail(&mut client, recipient);
        say(&mut client, "QUIT", 221);
    }
    sink.await_count(5, PATIENCE);
    assert!(server.terminate().success());
    let said = server.process().stderr.complete();
    assert!(said.lines().count() < 2_000, "{} lines were logged", said.lines().count());
}

#[test]
fn d_97_watching_every_number_takes_nothing_from_the_server() {
    serves_beside("numbers", "descriptor ", "let go of every number");
}

#[test]
fn d_97_watching_again_in_the_last_callback_stops_nobody_and_floods_no_log() {
    serves_beside("again", "descriptor 999999 was closed", "watches again and again");
}

#[test]
fn d_96_as_many_watches_as_there_may_be_on_one_descriptor_are_taken_back() {
    serves_beside("many", "MQ_IOWatch: 65536 watches exist", "let go of half");
}

#[test]
fn d_05_the_server_survives_every_misuse_and_names_who_did_it() {
    survives(Stage::new(&[]), Sanitizer::Off);
}

#[test]
fn d_05_the_same_under_the_address_sanitizer() {
    let mut stage = Stage::new(&[]);
    stage.plan = stage
        .plan
        .environment("LD_PRELOAD", asan_library())
        .environment("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1");
    survives(stage, Sanitizer::Address);
}
