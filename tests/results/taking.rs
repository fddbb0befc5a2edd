//! Who takes results, and what happens if nobody does, or dies over it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use super::*;
use crate::support::Process;

/// A taker that got rows and is about to die.
fn taker(server: &Server, name: &str, rows: usize) -> (BufReader<UnixStream>, Vec<String>) {
    let socket = server.plan().queue_directory().join("control");
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{{\"request\":\"queue-take\",\"name\":\"{name}\",\"limit\":{rows}}}\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line.starts_with("{\"end\"") {
            return (stream, lines);
        }
        lines.push(line);
    }
}

fn ids(lines: &[String]) -> Vec<Value> {
    let id = |line: &String| serde_json::from_str::<Value>(line).unwrap()["row"]["id"].clone();
    lines.iter().map(id).collect()
}

fn with_results(count: usize) -> (tempfile::TempDir, Sink, Server) {
    let directory = directory();
    let sink = sink(&directory, &[]);
    let server = plan(&sink).start();
    (0..count).for_each(|_| drop(send(&server, "")));
    eventually("results", PATIENCE, || {
        (super::count(&server, "all") == count as u64).then_some(())
    });
    (directory, sink, server)
}

#[test]
fn two_takers_have_different_results_and_what_is_not_acknowledged_stays() {
    let (_directory, _sink, server) = with_results(4);
    let (first, lines) = taker(&server, "all", 2);
    let (mut second, others) = taker(&server, "all", 9);
    assert_eq!((lines.len(), others.len()), (2, 2));
    assert!(ids(&lines).iter().all(|id| !ids(&others).contains(id)));
    // One dies, the other acknowledges one of its two.
    drop(first);
    second.get_mut().write_all(b"{\"ack\":1}\n").unwrap();
    let mut line = String::new();
    second.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"end\":1}\n");
    let taken = await_results(&server, "all", 3);
    assert_eq!(taken.len(), 3);
    assert_eq!(super::count(&server, "all"), 0);
}

/// The results are there after any crash, and what was acknowledged durably does not come back.
#[test]
fn results_outlive_a_server_that_is_killed() {
    let (_directory, _sink, mut server) = with_results(3);
    let (held, lines) = taker(&server, "all", 1);
    server.kill9();
    drop(held);
    let plan = server.plan().clone();
    assert_eq!(plan.report(&["queue", "count"]).lines().count(), 2, "counted without a server");
    let mut server = plan.start();
    assert_eq!(take(&server, "all").len(), 3, "{lines:?}");
    server.terminate();
    let server = plan.start();
    assert_eq!(take(&server, "all"), [] as [Value; 0]);
}

#[test]
fn beyond_the_bound_the_oldest_are_dropped_and_mail_goes_on() {
    let directory = directory();
    let sink = sink(&directory, &[]);
    let server = plan(&sink).setting("queue-results-max", 3).start();
    let ids: Vec<String> = (0..8).map(|_| send(&server, "")).collect();
    sink.await_count(8, PATIENCE);
    eventually("three results", PATIENCE, || {
        let told = server.status().count("results") == 8;
        (told && super::count(&server, "all") == 3).then_some(())
    });
    let kept: Vec<Value> =
        take(&server, "all").into_iter().map(|result| result["message-id"].clone()).collect();
    assert_eq!(kept.len(), 3);
    assert!(!kept.contains(&ids[0].as_str().into()), "the oldest is gone");
}

#[test]
fn a_broken_pipe_loses_no_result() {
    let (_directory, _sink, server) = with_results(2);
    let queue = server.plan().queue_directory();
    let take = format!(
        "exec {} queue take all --queue-directory {} > /dev/full",
        env!("CARGO_BIN_EXE_rohrpost"),
        queue.display()
    );
    let mut command = std::process::Command::new("sh");
    let mut process = Process::spawn("queue take", command.arg("-c").arg(take));
    assert_eq!(process.wait(PATIENCE).code(), Some(75));
    assert!(process.stderr.complete().contains("stay in the queue"));
    assert_eq!(await_results(&server, "all", 2).len(), 2);
}

#[test]
fn without_a_server_nobody_takes() {
    let directory = directory();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rohrpost"));
    command.args(["queue", "take", "all", "--queue-directory"]).arg(directory.path());
    let mut process = Process::spawn("queue take", &mut command);
    assert_eq!(process.wait(PATIENCE).code(), Some(75));
    assert!(process.stderr.complete().contains("start it"));
}
