//! Messages as JSON, by the whole program: what plugins of both libraries change in it counts, and what
//! they add comes back in results; what they note stays with the mail.
//!
//! **Diagnostics**: a result or line that does not come panics with where it was awaited.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Library, PATIENCE, Sanitizer, Server, ServerBuilder, Sink, SmtpClient, compile_plugin_with,
    eventually,
};

const TEXT: &[u8] = b"Subject: octets\r\n\r\n\x80\xff\xfe text\r\n";

/// A server with these plugins, each with its version, and a sink that it delivers to.
struct Stage {
    plan: ServerBuilder,
    sink: Sink,
    directory: TempDir,
}

impl Stage {
    fn new(plugins: &[(&str, u32)], sink_arguments: &[&str]) -> Stage {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let folder = directory.path().join("plugins");
        std::fs::create_dir(&folder).expect("a new directory can be written");
        for (name, version) in plugins {
            let library = if *version >= 500 { Library::Fastjson } else { Library::JsonC };
            let code = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/c/json.c");
            let source = directory.path().join(format!("{name}.c"));
            let text = format!(
                "#define MQ_API_VERSION {version}\n#define PLUGIN_NAME \"{name}\"\n#include \"{}\"\n",
                code.display()
            );
            std::fs::write(&source, text).expect("a new directory can be written");
            compile_plugin_with(&source, &folder, name, Sanitizer::Off, &[library]);
        }
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let sink = Sink::start_on(any, &directory.path().join("dump"), sink_arguments);
        let plan = Server::builder()
            .smarthost(sink.address())
            .setting("plugin-directory", folder.display())
            .setting("queue-results", "all")
            .setting("smtp-hostname", "mx.example.org")
            .setting("retry-interval", 1);
        Stage { plan, sink, directory }
    }

    /// A server that delivers to a sink with other arguments.
    fn with_sink(&mut self, arguments: &[&str]) {
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        self.sink = Sink::start_on(any, &self.directory.path().join("dump-2"), arguments);
        self.plan = self.plan.clone().smarthost(self.sink.address());
    }
}

/// Sends a mail to these words; returns the id that the server gave it.
fn send(server: &Server, words: &str) -> String {
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    let to = format!("{words}@example.net");
    let reply = client.mail("alice@example.org", &to, TEXT).unwrap().require(250).unwrap();
    reply.lines[0].rsplit_once(' ').unwrap().1.to_owned()
}

/// Takes the only result out of a named queue.
fn await_result(plan: &ServerBuilder, name: &str) -> Value {
    eventually(&format!("a result in {name}"), PATIENCE, || {
        let taken = plan.report(&["queue", "take", name]);
        taken.lines().next().map(|line| serde_json::from_str(line).unwrap())
    })
}

/// From the hook at the door to the result that somebody takes, over a restart.
#[test]
fn d_0c_d_62_a_property_that_a_plugin_adds_is_in_the_result_after_a_restart() {
    let stage = Stage::new(&[("10-old", 201), ("20-new", 506)], &[]);
    let mut server = stage.plan.start();
    let id = send(&server, "count+later+mine+keep");
    let show =
        || serde_json::from_str::<Value>(&stage.plan.report(&["queue", "show", &id])).unwrap();
    assert_eq!(show()["state"], "waiting");
    server.kill9();
    let server = stage.plan.start();
    assert_eq!((&show()["state"], stage.sink.count()), (&"waiting".into(), 0));
    stage.plan.report(&["queue", "retry", &id]);
    let result = await_result(&stage.plan, "mine");
    let last = json!({ "n": 2, "last": "20-new", "text": "\u{fc}\"" });
    assert_eq!(result["customer"], last, "each plugin saw what the one before made");
    assert_eq!(result["message-id"], id);
    assert_eq!(result["queues"], json!({ "results": "mine" }));
    assert_eq!(result["nextattempt"], json!({ "time": "2099-01-01 00:00:00" }));
    assert_eq!(result["connection"]["remote-ip"], "127.0.0.1");
    let base64 = result["mime-base64"].as_str().expect("it is no UTF-8");
    assert!(
        base64.len() > TEXT.len() && result["recipient"] == "count+later+mine+keep@example.net"
    );
    server.await_empty_queue(PATIENCE);
    assert_eq!(stage.plan.report(&["queue", "take", "all"]), "");
}

#[test]
fn d_62_what_both_libraries_make_of_a_text_and_a_recipient_is_sent_octet_by_octet() {
    use base64::Engine as _;
    let stage = Stage::new(&[("10-old", 201), ("20-new", 506), ("30-older", 400)], &[]);
    let server = stage.plan.start();
    send(&server, "stamp+keep+redirect");
    let result = await_result(&stage.plan, "all");
    assert_eq!(result["recipient"], "other@example.net");
    let mime = result["mime-base64"].as_str().expect("it is no UTF-8");
    let mime = base64::engine::general_purpose::STANDARD.decode(mime).unwrap();
    // The second was shown a recipient without words.
    let stamped = [b"X-Json: 10-old\r\n", TEXT].concat();
    assert!(mime.ends_with(&stamped) && mime.starts_with(b"Received: "), "{}", mime.escape_ascii());
    assert_eq!(stage.sink.count_with("other@example.net"), 1);
}

#[test]
fn a_property_counts_for_one_recipient_alone() {
    let mut stage = Stage::new(&[("10-new", 506)], &["--refuse", "dot=451"]);
    stage.plan = stage.plan.setting("max-attempts", 1).setting("queue-retry", "again");
    let server = stage.plan.start();
    let mut client = SmtpClient::hello(server.smtp()).unwrap();
    client.command("MAIL FROM:<alice@example.org>").unwrap();
    for to in ["twice+mine", "plain"] {
        client.command(&format!("RCPT TO:<{to}@example.net>")).unwrap();
    }
    client.command("DATA").unwrap();
    client.send(b"Subject: x\r\n\r\ntext\r\n.\r\n").unwrap();
    client.reply().unwrap().require(250).unwrap();
    let (own, other) = (await_result(&stage.plan, "mine"), await_result(&stage.plan, "all"));
    assert_eq!((&own["attempts"], &own["retries"]), (&2.into(), &json!([1])));
    assert_eq!((&other["attempts"], other.get("retries")), (&1.into(), None));
}

#[test]
fn d_63_json_that_says_no_mail_is_answered_451_and_named() {
    let stage = Stage::new(&[("10-old", 201), ("20-new", 506)], &[]);
    let mut server = stage.plan.start();
    for (words, why) in [
        (
            "broken",
            "the JSON that 20-new.so left does not say a mail: its property tags means nothing",
        ),
        ("nobody", "left does not say a mail: its property recipient is missing"),
    ] {
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        let to = format!("{words}@example.net");
        let reply = client.mail("alice@example.org", &to, TEXT).unwrap();
        assert_eq!(reply.code, 451, "{words}: {reply:?}");
        server.process().await_complaint(PATIENCE, why);
    }
    assert_eq!((server.queue_count(), server.status().count("memory_used")), (0, 0));
}

#[test]
fn notes_and_changes_on_the_way_out_stay_with_the_mail_over_attempts_and_a_restart() {
    let mut stage = Stage::new(&[("10-new", 506)], &["--refuse", "dot=451"]);
    stage.plan = stage.plan.setting("retry-interval", 3600);
    let mut server = stage.plan.start();
    let id = send(&server, "note+count");
    server.process().await_complaint(PATIENCE, "10-new: note 10-new of 8, before none");
    let show =
        || serde_json::from_str::<Value>(&stage.plan.report(&["queue", "show", &id])).unwrap();
    eventually("an attempt that failed", PATIENCE, || (show()["state"] == "waiting").then_some(()));
    // Without a restart between, then with one.
    stage.plan.report(&["queue", "retry", &id]);
    server.process().await_complaint(PATIENCE, "10-new: note 10-new of 8, before 1");
    eventually("two attempts", PATIENCE, || (show()["attempts"] == 2).then_some(()));
    eventually("it waits", PATIENCE, || (show()["state"] == "waiting").then_some(()));
    assert!(server.terminate().success());
    stage.with_sink(&[]);
    let mut server = stage.plan.start();
    stage.plan.report(&["queue", "retry", &id]);
    server.process().await_complaint(PATIENCE, "10-new: note 10-new of 8, before 2");
    let result = await_result(&stage.plan, "all");
    assert_eq!((&result["attempt"], &result["attempts"]), (&3.into(), &3.into()));
    assert_eq!(result["customer"]["n"], 1);
}

#[test]
fn d_63_more_than_is_kept_of_one_message_is_answered_451_and_named() {
    // One that fits, one that does not: what is kept of all has 20 MiB at most.
    const RECIPIENTS: [(usize, u16); 2] = [(1_000, 250), (1_320, 451)];
    let stage = Stage::new(&[("10-new", 506)], &[]);
    let mut server = stage.plan.setting("smtp-recipients", 2_000).start();
    for (recipients, code) in RECIPIENTS {
        let mut client = SmtpClient::hello(server.smtp()).unwrap();
        client.command("MAIL FROM:<alice@example.org>").unwrap();
        for _ in 0..recipients {
            client.command("RCPT TO:<full@example.net>").unwrap().require(250).unwrap();
        }
        client.command("DATA").unwrap();
        client.send(b"Subject: x\r\n\r\ntext\r\n.\r\n").unwrap();
        client.reply().unwrap().require(code).unwrap();
    }
    let why = "with what the plugin 10-new.so made of a recipient, that of all recipients is more \
               than the 20971520 octets";
    server.process().await_complaint(PATIENCE, why);
    server.await_empty_queue(PATIENCE);
    assert_eq!(server.status().count("memory_used"), 0);
}
