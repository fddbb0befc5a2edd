//! What the program says of itself: the manual page, completions, and errors that are said once.

use std::process::Command;

use crate::support::{PATIENCE, Process, Sanitizer, Server, ServerBuilder, compile_plugin};

/// What a subcommand that needs no settings prints.
fn printed(subcommand: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rohrpost"));
    let mut process = Process::spawn("rohrpost", command.args(subcommand));
    assert!(process.wait(PATIENCE).success(), "{process}");
    process.stdout.complete()
}

#[test]
fn the_manual_page_and_completions_are_printed() {
    assert!(printed(&["man"]).contains(".TH ROHRPOST 1"));
    assert!(printed(&["completions", "bash"]).contains("complete -F"));
    assert!(printed(&["status", "--explain"]).contains("| `accepted` |"));
}

#[test]
fn a_second_server_on_the_queue_is_told_once_who_has_it() {
    let plan = Server::builder();
    let mut server = plan.start();
    let (code, said) = plan.start_in_vain();
    assert_eq!(code, Some(75));
    let text = format!("is in use by process {}", server.process().pid());
    assert_eq!(said.matches(&text).count(), 1, "{said}");
}

#[test]
fn an_id_that_is_none_is_wrong_usage_with_and_without_a_server() {
    let plan = Server::builder();
    std::fs::create_dir_all(plan.queue_directory()).unwrap();
    let without = plan.order(&["queue", "show", "not-an-id!"]);
    let _server = plan.start();
    let with = plan.order(&["queue", "show", "not-an-id!"]);
    assert_eq!((without.code, with.code), (Some(64), Some(64)), "{without:?} {with:?}");
    assert_eq!(without.stderr, with.stderr);
    assert_eq!(plan.order(&["queue", "show", "0CR6ZV2GWBC00-0"]).code, Some(1));
}

/// `check --start` on a queue, with more settings.
fn rehearsed(plan: &ServerBuilder, settings: &[String]) -> (Option<i32>, String) {
    let mut words = vec!["check", "--start", "--smtp-ip=127.0.0.1"];
    words.extend(settings.iter().map(String::as_str));
    let said = plan.order(&words);
    (said.code, format!("{}{}", said.stdout, said.stderr))
}

#[test]
fn a_rehearsal_finds_what_a_start_would_and_leaves_nothing() {
    let plan = Server::builder();
    std::fs::create_dir_all(plan.queue_directory()).unwrap();
    let (code, said) = rehearsed(&plan, &["--smtp-port=0".to_owned()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ports: 127.0.0.1:") && said.contains("plugins: none"), "{said}");
    assert_eq!(std::fs::read_dir(plan.queue_directory()).unwrap().count(), 0);

    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let (code, said) = rehearsed(&plan, &[format!("--smtp-port={port}")]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("another server listens there"), "{said}");

    let plugins = plan.directory().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::write(plugins.join("broken.so"), "no plugin").unwrap();
    let directory = format!("--plugin-directory={}", plugins.display());
    let (code, said) = rehearsed(&plan, &["--smtp-port=0".to_owned(), directory]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("broken.so"), "{said}");

    std::fs::remove_file(plugins.join("broken.so")).unwrap();
    let source = plan.directory().join("leaving.c");
    let text = "#include <mailerq.h>\n#include <stdlib.h>\n\
                MQ_EXPORT int mq_version(void) { exit(0); }\n";
    std::fs::write(&source, text).unwrap();
    compile_plugin(&source, &plugins, "leaving", Sanitizer::Off);
    let directory = format!("--plugin-directory={}", plugins.display());
    let (code, said) = rehearsed(&plan, &["--smtp-port=0".to_owned(), directory]);
    assert_ne!(code, Some(0), "a plugin that calls exit(0) is not well: {said}");
    assert!(said.contains("leaving.so") && said.contains("it called exit()"), "{said}");

    let server = plan.start();
    let port = format!("--smtp-port={}", server.smtp().port());
    let (code, said) = rehearsed(&plan, &[port]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("a server runs on this queue"), "{said}");
}
