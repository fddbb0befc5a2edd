//! What the program says of itself: the manual page, completions, and errors that are said once.

use std::process::Command;

use crate::support::{PATIENCE, Process, Server};

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
