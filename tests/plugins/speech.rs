//! What plugins say with `MQ_log`, as it stands in the application log.

use super::probe::{Stage, client, say};
use crate::support::PATIENCE;

/// A server whose probe says two lines at MAIL.
fn talking(name: &str) -> Stage {
    let stage = Stage::new(&["10-a"]).setting("plugin-log-name", name);
    stage.script("10-a mailfrom log:first%0Asecond%0A\n");
    stage
}

#[test]
fn d_b0_the_tag_is_literal_and_the_file_is_named_if_that_is_set() {
    // D-B3: a plugin of G1 has it too. D-B1: a line each, with the same prefix.
    for (name, before) in [("no", "[plugin] "), ("yes", "[plugin] (10-a.so) ")] {
        let stage = talking(name);
        let mut server = stage.start();
        say(&mut client(&server), "MAIL FROM:<a@example.org>", 250);
        for line in ["first", "second"] {
            server.process().await_complaint(PATIENCE, &format!("{before}{line}"));
        }
        assert!(server.terminate().success());
        let said = server.process().stderr.complete();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(before)).collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines.iter().all(|line| line.starts_with("[Warning] [20")), "{said}");
    }
}

#[test]
fn d_b2_without_a_log_nothing_is_said() {
    let stage = talking("no").setting("application-log", "");
    let mut server = stage.start();
    say(&mut client(&server), "MAIL FROM:<a@example.org>", 250);
    assert!(server.terminate().success());
    assert_eq!(server.process().stderr.complete(), "");
}
