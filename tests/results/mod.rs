//! Results in named queues, by the whole program: which mail has one, what it says, and that it is taken
//! at least once, whoever dies in between.
//!
//! **Diagnostics**: a result that does not come in time panics with the queue that it was awaited in.

mod steering;
mod taking;

use serde_json::Value;

use crate::support::{PATIENCE, Server, ServerBuilder, Sink, SmtpClient, eventually};

const TEXT: &[u8] =
    b"From: Alice <alice@example.org>\r\nTo: b@example.net, Carol <c@example.net>\r\n\
    Subject: For Bob\r\n\r\nThe text itself.\r\n";

/// A server that puts results into `all`, and delivers to `sink`.
fn plan(sink: &Sink) -> ServerBuilder {
    let plan = Server::builder().smarthost(sink.address()).setting("queue-results", "all");
    plan.setting("smtp-hostname", "mx.example.org").setting("retry-interval", 1)
}

/// A sink in the test's own directory, with these arguments.
fn sink(directory: &tempfile::TempDir, arguments: &[&str]) -> Sink {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    Sink::start_on(any, &directory.path().join("dump"), arguments)
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// Sends one mail; returns the id that the server gave it.
fn send(server: &Server, header: &str) -> String {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let text = [header.as_bytes(), TEXT].concat();
    let reply = client.mail("alice@example.org", "b@example.net", &text).unwrap();
    let reply = reply.require(250).unwrap();
    reply.lines[0].rsplit_once(' ').unwrap().1.to_owned()
}

/// Takes what is in a named queue now.
fn take(server: &Server, name: &str) -> Vec<Value> {
    let taken = server.plan().report(&["queue", "take", name]);
    taken.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Takes results until there are `count`.
fn await_results(server: &Server, name: &str, count: usize) -> Vec<Value> {
    let mut results = Vec::new();
    eventually(&format!("{count} results in {name}"), PATIENCE, || {
        results.extend(take(server, name));
        (results.len() >= count).then_some(())
    });
    results
}

/// How many results are in a named queue now.
fn count(server: &Server, name: &str) -> u64 {
    let said = server.plan().report(&["queue", "count"]);
    let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |line| line.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn mail_that_arrived_tells_all_of_its_way() {
    let directory = directory();
    let sink = sink(&directory, &[]);
    let server = plan(&sink).setting("queue-success", "good").start();
    let id = send(&server, "");
    let result = await_results(&server, "all", 1).remove(0);
    assert_eq!(result["envelope"], "alice@example.org");
    assert_eq!(result["recipient"], "b@example.net");
    assert_eq!(result["message-id"], id);
    assert_eq!(result["hostname"], "mx.example.org");
    assert_eq!(result["connection"]["remote-ip"], "127.0.0.1");
    assert_eq!(result["connection"]["local-port"], server.smtp().port());
    assert_eq!(result["connection"]["secure"], false);
    assert_eq!(result["extracted"]["from"], "alice@example.org");
    assert_eq!(result["extracted"]["to"], serde_json::json!(["b@example.net", "c@example.net"]));
    assert_eq!(result["extracted"]["subject"], "For Bob");
    assert_eq!(result["extracted"]["recipient"]["domain"], "example.net");
    assert_eq!((&result["attempts"], result.get("mime")), (&1.into(), None));
    let attempts = result["results"].as_array().unwrap();
    assert_eq!(attempts.len(), 1);
    let attempt = &attempts[0];
    assert_eq!((&attempt["state"], &attempt["result"]), (&"message".into(), &"accepted".into()));
    assert_eq!((&attempt["code"], &attempt["to"]), (&250.into(), &"127.0.0.1".into()));
    assert_eq!((&attempt["messages"], &attempt["dsn"]), (&1.into(), &false.into()));
    assert!(attempt["sent"]["data"].as_u64().unwrap() > TEXT.len() as u64, "{attempt}");
    // Into the other queue as well, and out of neither twice.
    assert_eq!(take(&server, "good").len(), 1);
    assert_eq!(take(&server, "all"), [] as [Value; 0]);
    assert_eq!(server.queue_count(), 0);
}

#[test]
fn mail_that_failed_leaves_the_queue_with_its_result() {
    let directory = directory();
    let sink = sink(&directory, &["--refuse", "rcpt=550"]);
    let server = plan(&sink).setting("queue-failure", "bad").start();
    send(&server, "");
    for name in ["all", "bad"] {
        let result = await_results(&server, name, 1).remove(0);
        let attempt = &result["results"][0];
        assert_eq!((&attempt["state"], &attempt["result"]), (&"rcptto".into(), &"error".into()));
        assert_eq!((&attempt["code"], attempt.get("dsn")), (&550.into(), None));
    }
    server.await_empty_queue(PATIENCE);
    let status = server.status();
    assert_eq!((status.count("bounced"), status.count("aged")), (1, 0));
}

#[test]
fn every_attempt_is_told_and_those_before_with_it() {
    let directory = directory();
    let sink = sink(&directory, &["--refuse", "dot=451"]);
    let plan = plan(&sink).setting("queue-retry", "again").setting("max-attempts", 3);
    let server = plan.start();
    send(&server, "");
    let result = await_results(&server, "all", 1).remove(0);
    let attempts = result["results"].as_array().unwrap();
    assert_eq!((attempts.len(), &result["attempts"]), (3, &3.into()));
    for attempt in attempts {
        assert_eq!((&attempt["state"], &attempt["code"]), (&"message".into(), &451.into()));
        assert!(attempt["messages"].is_u64(), "facts are kept: {attempt}");
    }
    let again: Vec<usize> = await_results(&server, "again", 2)
        .iter()
        .map(|result| result["results"].as_array().unwrap().len())
        .collect();
    assert_eq!(again, [1, 2]);
}

/// Nobody takes the result of a retry here, but the last one repeats it.
#[test]
fn what_is_known_of_an_attempt_that_is_not_told_is_told_with_the_last() {
    let directory = directory();
    let sink = sink(&directory, &["--refuse", "dot=451"]);
    let server = plan(&sink).setting("max-attempts", 2).start();
    send(&server, "");
    let result = await_results(&server, "all", 1).remove(0);
    let attempts = result["results"].as_array().unwrap();
    assert_eq!(attempts.len(), 2);
    for attempt in attempts {
        assert!(attempt["messages"].is_u64() && attempt["sent"].is_object(), "{attempt}");
    }
}

/// What a turn may write is less than what is to be told at once.
#[test]
fn results_with_large_texts_are_all_told_and_the_texts_are_whole() {
    let directory = directory();
    let sink = sink(&directory, &["--refuse", "dot=550"]);
    let server = plan(&sink).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<alice@example.org>").unwrap().require(250).unwrap();
    for number in 0..8 {
        let command = format!("RCPT TO:<r{number}@example.net>");
        client.command(&command).unwrap().require(250).unwrap();
    }
    client.command("DATA").unwrap().require(354).unwrap();
    let line = [&b"x".repeat(998)[..], b"\r\n"].concat();
    client.send(&[b"x-mq-keepmime: 1\r\n\r\n", &*line.repeat(2_000)].concat()).unwrap();
    client.command(".").unwrap().require(250).unwrap();
    server.await_empty_queue(PATIENCE);
    // Mail has left the queue when its end is known; what tells of it is there when that is on the disk.
    eventually("8 results", PATIENCE, || (count(&server, "all") == 8).then_some(()));
    // Its lines are longer than those of processes whose output is shown.
    let mut taker = std::process::Command::new(env!("CARGO_BIN_EXE_rohrpost"));
    taker.args(["queue", "take", "all", "--queue-directory"]);
    let taken = taker.arg(server.plan().queue_directory()).output().unwrap();
    let lines: Vec<&[u8]> = taken.stdout.split_inclusive(|octet| *octet == b'\n').collect();
    assert_eq!(lines.len(), 8);
    for line in lines {
        let result: Value = serde_json::from_slice(line).unwrap();
        let text = result["mime"].as_str().unwrap_or_default();
        assert!(text.len() > 2_000_000, "{} octets", text.len());
    }
}

/// Design §5: age-out works in every state; here while no connection came, and while waiting.
#[test]
fn mail_whose_time_is_over_is_told_of() {
    let directory = directory();
    let sink = sink(&directory, &["--refuse", "mail=450"]);
    let nowhere = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    for hop in [sink.address(), nowhere] {
        let plan = plan(&sink).smarthost(hop).setting("retry-interval", 1000);
        let server = plan.start();
        send(&server, "x-mq-maxdelivertime: 2\r\n");
        send(&server, "x-mq-delayed: 1000\r\nx-mq-maxdelivertime: 2\r\n");
        for result in await_results(&server, "all", 2) {
            let last = result["results"].as_array().unwrap().last().unwrap();
            let end = (last["state"].as_str().unwrap(), last["result"].as_str().unwrap());
            // Tried once, it would expire before it could be tried again: told at once.
            assert!([("process", "timeout"), ("mailfrom", "error")].contains(&end), "{result}");
            assert_eq!(result["extracted"]["subject"], "For Bob", "the text was read back");
        }
        server.await_empty_queue(PATIENCE);
    }
}

#[test]
fn without_named_queues_a_failed_mail_is_kept_and_tells_nothing() {
    let directory = directory();
    let sink = sink(&directory, &["--refuse", "rcpt=550"]);
    let server = plan(&sink).setting("queue-results", "").start();
    send(&server, "");
    eventually("a failed mail", PATIENCE, || (server.status().count("failed") == 1).then_some(()));
    assert_eq!(server.status().count("results"), 0);
    assert_eq!(server.queue_count(), 1);
}
