//! Loading: what keeps the server from starting, and the order of the first and last calls.

use std::{fs, os::unix::fs::symlink, process::Command};

use rohrpost::control::{self, Request};

use super::probe::{Stage, client, compiled, say};
use crate::support::{PATIENCE, Process, Sanitizer, Server, compile_plugin};

fn plugin_of_version(version: i32) -> std::path::PathBuf {
    let source = format!(
        "__attribute__((visibility(\"default\"))) int mq_version(void) {{ return {version}; }}\n"
    );
    compiled(&source, Sanitizer::Off)
}

#[test]
fn d_01_d_03_a_version_that_is_not_listed_stops_the_start_and_the_settings_add_to_the_list() {
    let stage = Stage::new(&[]);
    stage.add("10-odd", &plugin_of_version(4711));
    let (code, said) = stage.plan.start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    for word in ["10-odd.so", "4711", "201"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    let server = stage.setting("plugin-api-versions", "4711").start();
    drop(server);
}

#[test]
fn d_03_a_missing_version_stops_the_start_and_names_the_file() {
    let stage = Stage::new(&[]);
    stage.add("10-none", &compiled("int nothing;\n", Sanitizer::Off));
    let (code, said) = stage.plan.start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("10-none.so") && said.contains("mq_version"), "{said}");
}

#[test]
fn d_04_what_cannot_be_loaded_stops_the_start_unless_it_is_to_be_skipped() {
    let stage = Stage::new(&["20-b"]);
    let text = stage.plan.directory().join("text");
    fs::write(&text, "no plugin").unwrap();
    stage.add("10-text", &text);
    let (code, said) = stage.plan.start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("10-text.so"), "{said}");
    assert_eq!(stage.journal(), [""; 0], "no plugin was initialized");

    let mut server = stage.clone().setting("plugin-errors", "skip").start();
    server.process().await_complaint(PATIENCE, "10-text.so");
    client(&server);
    stage.await_line("20-b connect");
}

/// A hook that is never called is no plugin's wish.
#[test]
fn an_export_that_looks_like_a_hook_is_warned_of_at_the_start() {
    let stage = Stage::new(&[]);
    let source = "#include <mailerq.h>\n\
        MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
        MQ_EXPORT void mq_smtp_in_rcpto(void) { }\n";
    stage.add("10-odd", &compiled(source, Sanitizer::Off));
    let mut server = stage.start();
    server.process().await_complaint(PATIENCE, "no such hook: mq_smtp_in_rcpto");
}

/// A file of such a kind would have ended the server in the midst of a reload.
#[test]
fn a_plugin_with_a_sanitizer_stops_the_start_and_not_a_server_that_runs() {
    let stage = Stage::new(&["20-b"]);
    let source = "#include <mailerq.h>\n\
        MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n";
    let mut server = stage.start();
    stage.add("10-odd", &compiled(source, Sanitizer::Address));
    let answer = control::ask(&stage.plan.queue_directory(), &Request::Reload, PATIENCE).unwrap();
    let rows: Result<Vec<_>, _> = answer.collect();
    let said = rows.unwrap_err().to_string();
    assert!(said.contains("10-odd.so") && said.contains("__asan_init"), "{said}");
    client(&server);
    stage.await_line("20-b connect");
    server.terminate();
    let (code, said) = stage.plan.start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("10-odd.so") && said.contains("sanitizer"), "{said}");
}

#[test]
fn d_06_which_files_are_plugins_and_in_which_order_they_are_asked() {
    let stage = Stage::new(&["9-b", "10-a"]);
    let plugins = stage.plan.directory().join("plugins");
    // None of these is loaded: each would stop the start.
    fs::write(plugins.join(".5-hidden.so"), "x").unwrap();
    fs::write(plugins.join("5-notes.txt"), "x").unwrap();
    fs::create_dir(plugins.join("5-folder.so")).unwrap();
    let outside = stage.plan.directory().join("linked");
    fs::rename(plugins.join("9-b.so"), &outside).unwrap();
    symlink(&outside, plugins.join("9-b.so")).unwrap();

    let mut server = stage.start();
    server.process().await_complaint(PATIENCE, "plugins: 10-a.so, 9-b.so");
    client(&server);
    assert_eq!(stage.calls(&["connect"]), ["10-a connect", "9-b connect"]);
}

#[test]
fn d_07_a_directory_that_is_missing_is_fatal_only_if_it_was_asked_for() {
    let plan = Server::builder();
    let missing = plan.directory().join("missing");
    let (code, said) = plan.clone().setting("plugin-directory", missing.display()).start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains(&missing.display().to_string()), "{said}");
    let mut server = plan.start();
    server.process().await_complaint(PATIENCE, "plugins: none");
}

#[test]
fn d_08_d_09_first_and_last_calls_come_in_order_and_on_their_threads() {
    let stage = Stage::new(&["10-a", "20-b"]).setting("smtp-threads", 2);
    let mut server = stage.start();
    assert!(server.terminate().success());
    let journal = stage.journal();
    let whole = journal.join("\n");
    assert_eq!(journal[0..2], ["10-a initialize main=1", "20-b initialize main=1"], "{whole}");
    let last = journal.len() - 2;
    assert_eq!(journal[last..], ["20-b cleanup main=1", "10-a cleanup main=1"], "{whole}");
    // The workers do theirs at the same time; each in its order.
    for line in stage.lines("10-a context ") {
        let thread = line.split(' ').find(|word| word.starts_with("thread=")).unwrap();
        let own: Vec<&str> = journal
            .iter()
            .filter(|line| line.split(' ').any(|word| word == thread))
            .map(|line| line.split(" thread").next().unwrap())
            .collect();
        let expected =
            ["10-a context", "20-b context", "20-b context-cleanup", "10-a context-cleanup"];
        assert_eq!(own, expected, "{whole}");
    }
}

#[test]
fn d_08_what_fails_for_the_administrator_fails_before_plugins_are_initialized() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let stage = Stage::new(&["10-a"]).setting("smtp-port", port);
    let (code, said) = stage.plan.start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert_eq!(stage.journal(), [""; 0]);
}

#[test]
fn d_0a_an_exception_ends_the_process_and_names_plugin_and_hook() {
    let stage = Stage::new(&[]);
    let source = stage.plan.directory().join("throw.cpp");
    let text = "#define MQ_API_VERSION 201\n#include <mailerq.h>\n\
        MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }\n\
        MQ_EXPORT bool mq_smtp_in_rcptto(MQ_Context *, MQ_SmtpConnection *, const char *, size_t) { throw 1; }\n";
    fs::write(&source, text).unwrap();
    let object = compile_plugin(&source, stage.plan.directory(), "throw", Sanitizer::Off);
    stage.add("10-throw", &object);
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    assert!(client.command("RCPT TO:<b@example.org>").is_err(), "the process is gone");
    let process = server.process();
    assert_eq!(process.wait(PATIENCE).code(), None, "it ended by a signal");
    let said = process.stderr.complete();
    assert!(said.contains("10-throw.so") && said.contains("mq_smtp_in_rcptto"), "{said}");
}

#[test]
fn d_0b_the_program_exports_every_function_of_the_header() {
    let header = include_str!("../../abi/include/mailerq.h");
    let declared: Vec<&str> = header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#']) && line.contains('('))
        .map(|line| line.trim_start_matches("MQX_WEAK "))
        .filter_map(|line| line.split('(').next()?.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("MQ"))
        .collect();
    let documented = declared.iter().filter(|name| name.starts_with("MQ_")).count();
    assert!(documented >= 53, "25 functions of G1, 29 of G3, one of both: {declared:?}");
    let mut command = Command::new("nm");
    command.args(["-D", "--defined-only", env!("CARGO_BIN_EXE_rohrpost")]);
    let mut process = Process::spawn("nm", &mut command);
    assert!(process.wait(PATIENCE).success(), "{process}");
    let symbols = process.stdout.complete();
    for name in declared {
        assert!(symbols.lines().any(|line| line.ends_with(&format!(" T {name}"))), "{name}");
    }
}

#[test]
fn d_0f_a_hook_of_int_is_true_by_its_low_byte() {
    let stage = Stage::new(&["20-b"]);
    let text = "struct c; struct m; void MQ_Complete(struct c *);\n\
        #define OUT __attribute__((visibility(\"default\")))\n\
        OUT int mq_version(void) { return 201; }\n\
        static int completed(struct c *c, int value) { MQ_Complete(c); return value; }\n\
        OUT int mq_smtp_in_mailfrom(struct c *c, struct m *m) { return completed(c, 2); }\n\
        OUT int mq_smtp_in_rcptto(struct c *c, struct m *m) { (void)c; return 256; }\n";
    stage.add("10-int", &compiled(text, Sanitizer::Off));
    let mut server = stage.start();
    let mut client = client(&server);
    say(&mut client, "MAIL FROM:<a@example.org>", 250);
    // 256 is false: nobody waits for a hand-back.
    say(&mut client, "RCPT TO:<b@example.org>", 250);
    assert_eq!(stage.calls(&["mailfrom", "rcptto"]), ["20-b rcptto"]);
    drop(client);
    assert!(server.terminate().success());
    let said = server.process().stderr.complete();
    assert!(!said.contains("returned false"), "2 is true: {said}");
}
