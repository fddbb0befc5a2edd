//! What `status` says of each plugin.

use crate::plugins::probe::{Stage, client, say};
use crate::support::{PATIENCE, Server, eventually};

fn await_figure(server: &Server, plugin: usize, name: &str, value: u64) {
    eventually(&format!("{name} {value} of plugin {plugin}"), PATIENCE, || {
        let rows = server.status().rows("plugins");
        (rows[plugin][name].as_u64() == Some(value)).then_some(())
    });
}

#[test]
fn live_things_holds_and_misuses_are_told_plugin_by_plugin() {
    let stage = Stage::new(&["10-a", "20-b"]);
    stage.script("10-a connect set-data:3 timer:1000:x\n20-b mailfrom hold:go\n");
    let server = stage.start();
    let rows = server.status().rows("plugins");
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["10-a.so", "20-b.so"]);
    let mut client = client(&server);
    client.send(b"MAIL FROM:<a@example.org>\r\n").unwrap();
    await_figure(&server, 0, "connections", 1);
    await_figure(&server, 0, "timers", 1);
    await_figure(&server, 1, "holds", 1);
    stage.release("go", "continue continue");
    client.reply().unwrap().require(250).unwrap();
    await_figure(&server, 1, "holds", 0);
    await_figure(&server, 1, "misuses", 1);
    let rows = server.status().rows("plugins");
    assert_eq!(rows[0]["hold_ms"], serde_json::json!({}));
    let held: u64 =
        rows[1]["hold_ms"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(held, 1, "{rows:?}");
    say(&mut client, "QUIT", 221);
    await_figure(&server, 0, "connections", 0);
}

#[test]
fn d_27_a_hold_that_is_taken_back_counts_with_its_time() {
    let stage = Stage::new(&["10-a"]).setting("plugin-timeout", "60ms");
    stage.script("10-a mailfrom true\n");
    let server = stage.start();
    say(&mut client(&server), "MAIL FROM:<a@example.org>", 451);
    let took = eventually("the time of the hold", PATIENCE, || {
        let rows = server.status().rows("plugins");
        rows[0]["hold_ms_sum"].as_u64().filter(|sum| *sum > 0)
    });
    assert!(took >= 60, "{took}");
}
