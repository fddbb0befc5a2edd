//! `json_tags.c` with libfastjson: what it puts into a message comes back in its result.

use serde_json::{Value, json};

use crate::examples::with_plugins;
use crate::support::{PATIENCE, Sanitizer, Server, Sink, SmtpClient, eventually};

fn send(server: &Server, header: &str) {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let text = format!("Subject: s\r\n{header}\r\nX-Campaign: in the text\r\n");
    let reply = client.mail("a@example.org", "b@example.net", text.as_bytes()).unwrap();
    reply.require(250).unwrap();
}

#[test]
fn json_tags_marks_mail_for_whoever_takes_its_results() {
    for sanitizer in [Sanitizer::Off, Sanitizer::Address] {
        let directory = tempfile::tempdir().unwrap();
        let sink = Sink::start(&directory.path().join("dump"));
        let plan = with_plugins(&["json_tags"], sanitizer);
        let server = plan.smarthost(sink.address()).setting("queue-results", "all").start();
        let rows = [
            ("X-Campaign: autumn \u{e4}\r\n", json!(["autumn \u{e4}"]), json!("autumn \u{e4}")),
            (
                "x-mq-tag: first\r\nx-campaign:\tautumn\r\n",
                json!(["first", "autumn"]),
                json!("autumn"),
            ),
            ("", Value::Null, Value::Null),
        ];
        for (header, tags, campaign) in rows {
            send(&server, header);
            let result: Value = eventually("a result", PATIENCE, || {
                let taken = server.plan().report(&["queue", "take", "all"]);
                taken.lines().next().map(|line| serde_json::from_str(line).unwrap())
            });
            assert_eq!((&result["tags"], &result["campaign"]), (&tags, &campaign), "{header}");
        }
    }
}
