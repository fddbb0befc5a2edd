//! The watchdog on the whole server (D-9E, P4): who blocks a worker is shown with functions.

use super::crashing::{Crashing, ask};
use crate::support::PATIENCE;

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
