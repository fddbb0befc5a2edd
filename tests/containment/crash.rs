//! Crashes of plugins on the whole server: named, written down, told at the next start, and counted.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use super::crashing::{Crashing, ask};
use crate::support::{PATIENCE, Sanitizer, compile_plugin, within};

const SIGABRT: i32 = 6;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;

#[test]
fn every_crash_names_the_plugin_on_stderr_in_the_file_and_at_the_next_start() {
    let rows = [
        ("segv", SIGSEGV, "SEGV", "in mq_smtp_in_mailfrom", "write_nowhere"),
        ("abort", SIGABRT, "ABRT", "in mq_smtp_in_mailfrom", "crash"),
        ("divide", SIGFPE, "FPE", "in mq_smtp_in_mailfrom", "crash"),
        ("overflow", SIGABRT, "SEGV", "in mq_smtp_in_mailfrom", "dive"),
        ("exit", SIGABRT, "exit", "in mq_smtp_in_mailfrom", "crash"),
        ("quick", SIGABRT, "exit", "in mq_smtp_in_mailfrom", "crash"),
        ("aside", SIGSEGV, "SEGV", "on a thread of its own", "write_nowhere"),
    ];
    for (way, signal, cause, place, function) in rows {
        let crashing = Crashing::new();
        let mut server = crashing.plan.start();
        assert!(!ask(&server, way), "{way}");
        assert_eq!(server.process().wait(PATIENCE).signal(), Some(signal), "{way}");
        let said = server.process().stderr.complete();
        let report = format!("rohrpost: plugin 10-crashing.so ended the server {place}");
        assert!(said.contains(&report), "{way}: {said}");
        // The frames of plugins are marked, and no others.
        let frames: Vec<&str> = said.lines().filter(|line| line.contains(" #")).collect();
        let marked = |line: &&str| line.starts_with("rohrpost: * #");
        assert!(frames.iter().any(marked), "{way}: {said}");
        let is_plugins = |line: &str| line.contains(" 10-crashing.so+");
        assert!(frames.iter().all(|line| marked(line) == is_plugins(line)), "{way}: {said}");
        let crashes = crashing.crashes();
        assert_eq!(crashes.len(), 1, "{way}: {crashes:?}");
        let words: Vec<&str> = crashes[0].split(' ').collect();
        assert_eq!(words[1], cause, "{way}");
        assert!(words.contains(&"plugin=10-crashing.so"), "{way}: {}", crashes[0]);

        let mut next = crashing.plan.start();
        // It is told beside the start, which does not wait for it.
        next.process().await_complaint(PATIENCE, &format!("[crash] * {function} ("));
        let told = || crashing.lines().contains(&"# told".to_owned()).then_some(());
        within(PATIENCE, told).expect("that it was told is written down");
        assert!(next.terminate().success());
        let said = next.process().stderr.complete();
        assert!(said.contains("[crash] plugin 10-crashing.so ended the server"), "{way}: {said}");
        let frame = format!("[crash] * {function} (");
        assert!(said.contains(&frame) && said.contains("plugin.c:"), "{way}: {said}");
        let mut third = crashing.plan.start();
        assert!(third.terminate().success());
        assert!(!third.process().stderr.complete().contains("[crash]"), "it is told once");
    }
}

const THROWING: &str = r#"
#define MQ_API_VERSION 201
#include <mailerq.h>
#include <stdexcept>
MQ_EXPORT int mq_version() { return MQ_API_VERSION; }
MQ_EXPORT bool mq_smtp_in_mailfrom(MQ_Context *, MQ_SmtpConnection *, const char *, size_t) {
    throw std::runtime_error("nobody catches this");
}
"#;

#[test]
fn d_0a_an_exception_is_named_and_written_down() {
    let crashing = Crashing::new();
    let source = crashing.plan.directory().join("throwing.cpp");
    std::fs::write(&source, THROWING).unwrap();
    let folder = crashing.plan.directory().join("plugins");
    compile_plugin(&source, &folder, "05-throwing", Sanitizer::Off);
    let mut server = crashing.plan.start();
    assert!(!ask(&server, "anybody"));
    assert_eq!(server.process().wait(PATIENCE).signal(), Some(SIGABRT));
    let said = server.process().stderr.complete();
    assert!(
        said.contains("plugin 05-throwing.so: an exception left mq_smtp_in_mailfrom"),
        "{said}"
    );
    let crash = crashing.crashes().remove(0);
    assert!(crash.contains(" exception ") && crash.contains(" plugin=05-throwing.so "), "{crash}");
}

#[test]
fn a_plugin_that_crashes_too_often_keeps_the_server_from_starting_until_it_is_changed() {
    let mut crashing = Crashing::new();
    crashing.plan = crashing.plan.setting("plugin-crash-limit", 2);
    for _ in 0..2 {
        let mut server = crashing.plan.start();
        assert!(!ask(&server, "segv"));
        server.process().wait(PATIENCE);
    }
    let (code, said) = crashing.plan.start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    let named = "plugin 10-crashing.so has ended the server 2 times within a minute, last in \
                 mq_smtp_in_mailfrom (SEGV)";
    assert!(said.contains(named), "{said}");
    assert!(said.contains("plugin-crash-limit: 0"), "{said}");
    let mut bold = crashing.plan.clone().setting("plugin-crash-limit", 0).start();
    assert!(bold.terminate().success());
    // Changed in a later second than the last crash.
    let last: u64 = crashing.crashes().last().unwrap().split(' ').next().unwrap().parse().unwrap();
    let later = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        (now.unwrap().as_secs() > last).then_some(())
    };
    within(Duration::from_secs(10), later).expect("a second passes");
    crashing.install();
    let mut mended = crashing.plan.start();
    assert!(mended.terminate().success());
}

#[test]
fn a_file_of_crashes_that_is_none_costs_a_warning_and_no_start() {
    let crashing = Crashing::new();
    std::fs::create_dir_all(crashing.plan.queue_directory().join("crashes")).unwrap();
    let mut server = crashing.plan.start();
    assert!(!ask(&server, "segv"));
    server.process().wait(PATIENCE);
    let said = server.process().stderr.complete();
    assert!(said.contains("crashes cannot be written down"), "{said}");
    assert!(said.contains("plugin 10-crashing.so ended the server"), "{said}");
}

#[test]
fn an_ordered_end_is_no_crash() {
    let crashing = Crashing::new();
    let mut server = crashing.plan.start();
    assert!(ask(&server, "peaceful"));
    assert!(server.terminate().success());
    assert_eq!(crashing.lines(), [""; 0]);
    let (code, _) = crashing.plan.clone().setting("smtp-threads", 100_000).start_in_vain();
    assert_eq!(code, Some(78));
    assert_eq!(crashing.lines(), [""; 0], "nor is one that never began");
}
