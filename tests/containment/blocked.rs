//! The watchdog on the whole server (D-9E, P4): who blocks a worker is shown with functions.

use std::fs;
use std::path::Path;

use super::crashing::{Crashing, ask};
use crate::support::{PATIENCE, Sanitizer, Server, ServerBuilder, compile_plugin};

#[test]
fn d_9e_a_plugin_that_blocks_for_a_second_is_shown_once_with_its_functions() {
    let crashing = Crashing::new();
    let mut server = crashing.plan.start();
    assert!(ask(&server, "sleep"));
    let blocked = "10-crashing.so: mq_smtp_in_mailfrom blocked worker";
    server.process().await_complaint(PATIENCE, blocked);
    let status: Vec<serde_json::Value> = server.status().rows("plugins");
    assert_eq!(status[0]["name"], "10-crashing.so");
    let busy = &status[0]["busy"][0];
    assert_eq!(busy["in"], "mq_smtp_in_mailfrom");
    assert!(busy["longest_ms"].as_u64().unwrap() >= 1000, "{busy}");
    assert!(server.terminate().success());
    let said = server.process().stderr.complete();
    let still = "10-crashing.so: mq_smtp_in_mailfrom still blocks worker";
    assert_eq!(said.matches(still).count(), 1, "{said}");
    for function in ["sleep_deeply", "crash", "mq_smtp_in_mailfrom"] {
        let line = format!("[plugin]   {function} (");
        assert!(said.contains(&line), "{function}: {said}");
    }
}

/// Waits in its process hooks: for a moment in the first, as long as the file "NAME" of that hook is there
/// in the others.
const WAITING: &str = r#"
#define MQ_API_VERSION 506
#include <mailerq.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
MQ_EXPORT int mq_version(void) { return MQ_API_VERSION; }
__attribute__((noinline)) static void wait_here(const char *name) {
    char path[4096];
    struct timespec pause = {1, 300000000};
    snprintf(path, sizeof path, "%s/%s", getenv("WAITING"), name);
    while (access(path, F_OK) == 0) nanosleep(&pause, NULL);
}
MQ_EXPORT bool mqx_initialize(MQX_Plugin *self) {
    struct timespec pause = {1, 600000000};
    (void)self;
    nanosleep(&pause, NULL);
    return true;
}
MQ_EXPORT void mqx_reload(MQX_Plugin *self) { (void)self; wait_here("reload"); }
MQ_EXPORT void mq_cleanup(void) { wait_here("cleanup"); }
"#;

fn waiting(hook: &str) -> ServerBuilder {
    let plan = Server::builder();
    let (plugins, source) = (plan.directory().join("plugins"), plan.directory().join("waiting.c"));
    fs::write(&source, WAITING).unwrap();
    compile_plugin(&source, &plugins, "10-waiting", Sanitizer::Off);
    fs::write(plan.directory().join(hook), "").unwrap();
    let directory: &Path = plan.directory();
    let directory = directory.to_owned();
    plan.setting("plugin-directory", plugins.display())
        .setting("shutdown-timeout", "2s")
        .setting("plugin-shutdown-timeout", "2s")
        .environment("WAITING", directory)
}

#[test]
fn a_plugin_that_blocks_the_main_thread_is_shown_and_does_not_outlive_a_sigterm() {
    let plan = waiting("reload");
    let mut server = plan.start();
    let begins = "10-waiting.so: mqx_initialize blocked the main thread for";
    server.process().await_complaint(PATIENCE, begins);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| plan.order(&["reload"]));
        let stays = "10-waiting.so: mqx_reload still blocks the main thread for";
        server.process().await_complaint(PATIENCE, stays);
        server.ask_to_end();
        assert_eq!(server.process().wait(PATIENCE).code(), Some(75));
        assert_ne!(asking.join().unwrap().code, Some(0));
    });
    let said = server.process().stderr.complete();
    assert!(said.contains("[plugin]   wait_here ("), "{said}");
    assert!(said.contains("10-waiting.so: mqx_reload keeps the server from ending"), "{said}");
}

#[test]
fn d_09_a_cleanup_that_blocks_is_named_and_does_not_keep_the_server() {
    let mut server = waiting("cleanup").start();
    server.ask_to_end();
    assert_eq!(server.process().wait(PATIENCE).code(), Some(75));
    let said = server.process().stderr.complete();
    assert!(said.contains("10-waiting.so: mq_cleanup keeps the server from ending"), "{said}");
}
