//! Mail that is steered: by what its sender wrote into the header, and by an operator's hand.

use super::*;

/// D-44: the fields are gone from what goes out, and what they asked for holds over a restart.
#[test]
fn what_a_message_asks_for_holds_over_a_restart() {
    let directory = directory();
    let sink = sink(&directory, &[]);
    let mut server = plan(&sink).start();
    let id = send(
        &server,
        "x-mq-delayed: 1000\r\nX-MQ-Tag: first\r\nx-mq-envelope: bounce@example.org\r\n\
         x-mq-results-queue: mine\r\nx-mq-retries: 5,6\r\nx-mq-customer: 12\r\nx-mq-keepmime: 1\r\n",
    );
    let plan = server.plan().clone();
    let show = || serde_json::from_str::<Value>(&plan.report(&["queue", "show", &id])).unwrap();
    assert_eq!(show()["state"], "waiting");
    server.kill9();
    let server = plan.start();
    assert_eq!(
        (&show()["state"], &show()["envelope"]),
        (&"waiting".into(), &"bounce@example.org".into())
    );
    assert_eq!(sink.count(), 0);
    let said = plan.report(&["queue", "retry", &id]);
    assert!(said.contains("\"retried\":1"), "{said}");
    sink.await_count(1, PATIENCE);
    let result = await_results(&server, "mine", 1).remove(0);
    assert_eq!(result["tags"], serde_json::json!(["first"]));
    assert_eq!(result["retries"], serde_json::json!([5, 6]));
    assert_eq!(
        (&result["customer"], &result["envelope"]),
        (&"12".into(), &"bounce@example.org".into())
    );
    let mime = result["mime"].as_str().unwrap();
    assert!(mime.starts_with("Received: ") && mime.ends_with("The text itself.\r\n"), "{mime}");
    for text in [mime, &String::from_utf8(sink.dumped()).unwrap()] {
        assert!(!text.to_ascii_lowercase().contains("x-mq-"), "{text}");
    }
    assert_eq!(take(&server, "all"), [] as [Value; 0]);
}

/// A stranger must not steer our delivery: what it asks for is taken out and means nothing.
#[test]
fn a_stranger_asks_for_nothing() {
    let directory = directory();
    let sink = sink(&directory, &[]);
    let server = plan(&sink)
        .setting("smtp-relay-range", "192.0.2.0/24")
        .setting("local-domains", "example.net")
        .start();
    send(
        &server,
        "x-mq-delayed: 1000\r\nx-mq-results-queue: mine\r\nx-mq-envelope: x@example.org\r\n",
    );
    sink.await_count(1, PATIENCE);
    let dumped = String::from_utf8(sink.dumped()).unwrap();
    assert!(!dumped.contains("x-mq-") && dumped.contains("alice@example.org"), "{dumped}");
    let result = await_results(&server, "all", 1).remove(0);
    assert_eq!(result["envelope"], "alice@example.org");
    assert_eq!(take(&server, "mine"), [] as [Value; 0]);
}

#[test]
fn without_smtp_extract_such_fields_are_text() {
    let directory = directory();
    let sink = sink(&directory, &[]);
    let server = plan(&sink).setting("smtp-extract", "no").start();
    send(&server, "x-mq-delayed: 1000\r\n");
    sink.await_count(1, PATIENCE);
    assert!(String::from_utf8(sink.dumped()).unwrap().contains("x-mq-delayed: 1000"));
}

#[test]
fn a_message_goes_to_the_host_that_it_names() {
    let (here, there) = (directory(), directory());
    let (usual, other) = (sink(&here, &[]), sink(&there, &[]));
    let server = plan(&usual).setting("dns-private-targets", "127.0.0.1").start();
    send(&server, &to(&other, "127.0.0.1"));
    other.await_count(1, PATIENCE);
    send(&server, "");
    usual.await_count(1, PATIENCE);
    assert_eq!((usual.count(), other.count()), (1, 1));
}

/// Fields that send a message to a sink under this name.
fn to(sink: &Sink, host: &str) -> String {
    let port = sink.address().port();
    format!("x-mq-smarthost-hostname: {host}\r\nx-mq-smarthost-port: {port}\r\n")
}

/// Whoever may send could else reach what listens inside, and read its answers in the result. The
/// smarthost of the settings may be named all the same.
#[test]
fn a_message_leads_to_no_private_address_unless_the_settings_do() {
    let (here, there) = (directory(), directory());
    let (usual, other) = (sink(&here, &[]), sink(&there, &[]));
    let server = plan(&usual).start();
    for host in ["127.0.0.1", "[127.0.0.1]", "::ffff:127.0.0.1"] {
        send(&server, &to(&other, host));
        let attempt = await_results(&server, "all", 1).remove(0)["results"][0].take();
        assert_eq!(attempt["status"], "5.7.1", "{attempt}");
        let why = attempt["description"].as_str().unwrap();
        assert!(why.contains("dns-private-targets"), "{why}");
    }
    send(&server, &to(&usual, "127.0.0.1"));
    usual.await_count(1, PATIENCE);
    assert_eq!((usual.count(), other.count()), (1, 0));
}

#[test]
fn mail_is_removed_and_hastened_by_hand() {
    let directory = directory();
    let sink = sink(&directory, &[]);
    let server = plan(&sink).start();
    let ids = [(); 3].map(|()| send(&server, "x-mq-delayed: 1000\r\n"));
    let transaction = ids[0].split_once('-').unwrap().0;
    let removed = server.plan().report(&["queue", "remove", transaction]);
    assert!(removed.contains("\"removed\":1"), "{removed}");
    let result = await_results(&server, "all", 1).remove(0);
    assert_eq!(result["results"][0]["description"], "removed by hand");
    let other = server.plan().report(&["queue", "retry", "--recipient-domain", "example.org"]);
    assert!(other.contains("\"retried\":0"), "{other}");
    let retried = server.plan().report(&["queue", "retry", "--recipient-domain", "Example.NET"]);
    assert!(retried.contains("\"retried\":2"), "{retried}");
    sink.await_count(2, PATIENCE);
    server.await_empty_queue(PATIENCE);
}

/// What would be looked through for fields of ours has a bound, and the server goes on.
#[test]
fn a_header_too_long_for_such_fields_is_refused() {
    let directory = directory();
    let sink = sink(&directory, &[]);
    let server = plan(&sink).start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let text = [&b"x-mq-:\r\n".repeat(140_000)[..], TEXT].concat();
    let reply = client.mail("alice@example.org", "b@example.net", &text).unwrap();
    assert!(reply.require(552).unwrap().lines[0].starts_with("5.3.4 "));
    client.mail("alice@example.org", "b@example.net", TEXT).unwrap().require(250).unwrap();
    sink.await_count(1, PATIENCE);
    assert_eq!(sink.count(), 1);
}
